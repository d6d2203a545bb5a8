"""What is done while one call after another is made to fail (drive.py).

A scenario makes its calls through `trial.call(...)`, which gives the answer, or None and remembers the error. It must not
assume that a call works; what it does get must be right. `async with trial.client()` ends with a call that nothing disturbs:
the client works on, in the same loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import llmcurl
from llmcurl import _native
from servers.chaos import Chaos
from servers.nginx import Nginx
from servers.proxies import HttpProxy, SocksProxy
from servers.sockets import blackhole, refused
from servers.tls import Authority

from fault.faults import Faults

SCENARIOS: dict[str, Callable] = {}
SYNC: set[str] = set()


class World:
    """The peers, for all trials of a process."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.stack = contextlib.ExitStack()
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.authority = Authority(folder / "tls")
        self.chaos = self.stack.enter_context(Chaos())
        self.other = self.stack.enter_context(Chaos())
        self.tls = self.stack.enter_context(
            Chaos(tls=self.authority.server_context(self.authority.good))
        )
        self.mtls = self.stack.enter_context(
            Chaos(tls=self.authority.server_context(self.authority.good, client_certs=True))
        )
        self.proxy = self.stack.enter_context(HttpProxy())
        self.socks = self.stack.enter_context(SocksProxy(names={"there.example": "127.0.0.1"}))
        self.nginx = Nginx(folder / "nginx", *self.authority.good).start()
        self.stack.callback(self.nginx.stop)
        self.ca = str(self.authority.ca_file)

    def trial(self) -> Trial:
        for server in (self.chaos, self.other, self.tls, self.mtls):
            server.reset_log()
        return Trial(self)

    def stop(self) -> None:
        self.stack.close()


class Trial:
    def __init__(self, world: World) -> None:
        self.world = world
        self.errors: list[Exception] = []
        self.fired: str | None = None
        self.sites: list = []
        self.calls = 0
        self._armed = True

    def disarm(self) -> None:
        """Nothing fails from here on; keeps what the switches counted."""
        if self._armed:
            self._armed = False
            faults = self.world.faults
            self.fired, self.sites, self.calls = faults.fired(), faults.sites(), faults.count()
            faults.arm()

    async def call(
        self, make: Callable[[], Awaitable[Any]], right: Callable[[Any], object] = bool
    ) -> Any:
        try:
            result = await make()
            good = right(result)
        except Exception as error:
            self.errors.append(error)
            return None
        assert good, (
            f"a wrong answer: {result!r} {getattr(result, '_body', None)!r} {getattr(result, '_head', None)!r}"[
                :600
            ]
        )
        return result

    async def fails(self, make: Callable[[], Awaitable[Any]], *kinds: type[BaseException]) -> None:
        """A call that has one of these errors anyway; another one counts as a failure."""
        try:
            result = await make()
        except kinds:
            return
        except Exception as error:
            self.errors.append(error)
            return
        raise AssertionError(f"no error but {result!r}")

    @contextlib.asynccontextmanager
    async def client(self, **options: Any):
        async with llmcurl.AsyncClient(**options) as client:
            yield client
            self.disarm()
            answer = await client.get(self.world.chaos.url("/ok?after"), timeout=30)
            assert answer.status_code == 200


def scenario(function: Callable) -> Callable:
    SCENARIOS[function.__name__] = function
    return function


async def outcomes(calls: list) -> list:
    """What became of Calls; without gather, which may itself fail half-way."""
    results = []
    for call in calls:
        try:
            results.append(await call)
        except (Exception, asyncio.CancelledError) as error:
            results.append(error)
    return results


def start(trial: Trial, client: llmcurl.AsyncClient, *urls: str, **options: Any) -> list:
    """Calls that are under way, as far as they could be started."""
    calls = []
    for url in urls:
        try:
            calls.append(client.get(url, **options))
        except Exception as error:
            trial.errors.append(error)
    return calls


def ok(response: llmcurl.Response) -> bool:
    return response.status_code == 200 and response.json() == {"ok": True}


@scenario
def module(trial: Trial) -> None:
    """The import, with a module state of its own."""
    try:
        spec = importlib.util.spec_from_file_location("llmcurl._native", _native.__file__)
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        assert made.curl_info()["version"] and made._live()
    except Exception as error:
        trial.errors.append(error)
    made = None
    gc.collect()


SYNC.add("module")


@scenario
async def plain(trial: Trial) -> None:
    """Methods, bodies, status codes, reuse; the client is closed with the failure still armed."""
    url = trial.world.chaos.url
    async with llmcurl.AsyncClient(headers={"X-A": "b"}) as client:
        await trial.call(lambda: client.get(url("/ok?1")), ok)
        await trial.call(
            lambda: client.post(url("/json"), json={"a": 1}),
            lambda r: r.json()["body"] == '{"a":1}',
        )
        await trial.call(
            lambda: client.put(url("/json"), content=b"x" * 100_000),
            lambda r: len(r.json()["body"]) == 100_000,
        )
        await trial.call(lambda: client.head(url("/ok")), lambda r: r.status_code == 200)
        await trial.call(lambda: client.request("BREW", url("/ok"), timeout=30), ok)
        await trial.call(
            lambda: client.get(url("/encoded?as=gzip")),
            lambda r: r.text.startswith("compressed") or len(r.text) > 10,
        )
        await trial.call(
            lambda: client.get(url("/none")), lambda r: r.status_code == 404 and r.headers
        )  # no query: libcurl 7.88 loses it for want of memory
        # libcurl 7.88 says the same of a header beyond its ceiling and of want of memory
        with contextlib.suppress(MemoryError, llmcurl.RemoteProtocolError):
            assert (await client.get(url("/ok?last"))).timings
            client.stats()


@scenario
async def many(trial: Trial) -> None:
    """Calls at the same time, to two origins, by two clients: at most one of them fails."""
    chaos, other = trial.world.chaos.url, trial.world.other.url
    async with trial.client() as one, llmcurl.AsyncClient() as two:
        calls = [
            (one, chaos),
            (one, chaos),
            (one, other),
            (two, chaos),
            (two, other),
            (one, chaos),
            (two, other),
        ]
        await asyncio.gather(
            *(
                trial.call(lambda c=c, u=u, n=n: c.get(u(f"/ok?{n}&ms=5")), ok)
                for n, (c, u) in enumerate(calls)
            )
        )


@scenario
async def streams(trial: Trial) -> None:
    """Read to the end, against back-pressure, left early, cancelled, forgotten."""
    url = trial.world.chaos.url

    async def read(client: llmcurl.AsyncClient, path: str, stop: int = 10**9) -> int:
        total = 0
        async with client.stream("GET", url(path)) as response:
            async for piece in response.aiter_bytes():
                total += len(piece)
                if total >= stop:
                    break
        return total

    async def slowly(client: llmcurl.AsyncClient) -> int:
        total = 0
        async with client.stream("GET", url("/bytes?n=1500000")) as response:
            await asyncio.sleep(0.02)
            async for piece in response.aiter_raw():
                total += len(piece)
        return total

    # with a read time-out: libcurl 7.88 loses the query for want of memory, and /stall then sends no head
    async with trial.client(timeout=llmcurl.Timeout(60, read=5)) as client:
        await trial.call(lambda: read(client, "/drip?n=4&size=100&ms=2"), lambda n: n == 400)
        await trial.call(
            lambda: slowly(client), lambda n: n in (1_500_000, 1000)
        )  # 1000: the query was lost
        await trial.call(lambda: read(client, "/bytes?n=500000", 1000), lambda n: n >= 1000)
        await trial.fails(lambda: read(client, "/cut?body=300"), llmcurl.RemoteProtocolError)
        task = asyncio.create_task(read(client, "/stall?at=body"))
        await asyncio.sleep(0.02)
        task.cancel()
        await trial.fails(lambda: task, asyncio.CancelledError)
        response = await trial.call(
            lambda: client.send(client.build_request("GET", url("/stall?at=headers")), stream=True)
        )
        del response
        gc.collect()


@scenario
async def uploads(trial: Trial) -> None:
    """Bodies made while they are sent, files, early answers, an iterator that raises."""
    url = trial.world.chaos.url

    async def pieces(n: int, size: int, pause: float = 0):
        for _ in range(n):
            await asyncio.sleep(pause)
            yield b"u" * size

    async def broken():
        yield b"first"
        raise KeyError("mine")

    async with trial.client() as client:
        await trial.call(
            lambda: client.post(url("/sink"), content=pieces(5, 50_000, 0.001)),
            lambda r: r.json() == 250_000,
        )
        await trial.call(
            lambda: client.post(
                url("/sink"), content=pieces(3, 1000), headers={"Content-Length": "3000"}
            ),
            lambda r: r.json() == 3000,
        )
        await trial.call(
            lambda: client.post(
                url("/json"), data={"a": "b"}, files={"f": ("n.txt", b"in it", "text/plain")}
            ),
            lambda r: "in it" in r.json()["body"],
        )
        await trial.call(
            lambda: client.post(url("/early?after=10"), content=pieces(20, 20_000)),
            lambda r: r.status_code == 413,
        )
        await trial.fails(lambda: client.post(url("/sink"), content=broken()), KeyError)


@scenario
async def cancels(trial: Trial) -> None:
    """In the queue, while connecting, waiting, twice, by wait_for, through a dropped Call."""
    url = trial.world.chaos.url
    with blackhole() as hole:
        async with trial.client(limits=llmcurl.Limits(max_connections=2)) as client:
            made = start(
                trial,
                client,
                f"http://{hole}/",
                url("/stall"),
                url("/stall?queued"),
                url("/stall?queued2"),
            )
            await asyncio.sleep(0.02)
            for call in made:
                with contextlib.suppress(asyncio.CancelledError):
                    call.cancel("enough")
                    call.cancel()
            await outcomes(made)
            assert all(call.done() for call in made)
            await trial.fails(
                lambda: asyncio.wait_for(client.get(url("/stall?w")), 0.02), TimeoutError
            )
            with contextlib.suppress(MemoryError):
                client.get(url("/stall?dropped")).done()
            await trial.call(lambda: client.get(url("/ok")), ok)


@scenario
async def timeouts(trial: Trial) -> None:
    url = trial.world.chaos.url
    timeout = llmcurl.Timeout(connect=10, read=0.04, write=0.04, pool=0.04, total=10)
    with blackhole() as hole, refused() as nobody:
        async with trial.client(
            timeout=timeout, limits=llmcurl.Limits(max_connections=2)
        ) as client:
            await trial.fails(
                lambda: client.get(f"http://{hole}/", timeout=llmcurl.Timeout(5, connect=0.04)),
                llmcurl.ConnectTimeout,
            )
            await trial.fails(lambda: client.get(f"http://{nobody}/"), llmcurl.ConnectError)
            await trial.fails(lambda: client.get(url("/stall")), llmcurl.ReadTimeout)
            await trial.fails(
                lambda: client.post(url("/stall?at=upload"), content=b"x" * 30_000_000),
                llmcurl.WriteTimeout,
            )
            await trial.fails(
                lambda: client.get(url("/stall"), timeout=llmcurl.Timeout(None, total=0.04)),
                llmcurl.TotalTimeout,
            )
            holding = start(trial, client, url("/stall"), url("/stall"), timeout=10)
            await asyncio.sleep(0.01)
            if len(holding) == 2 and not any(call.done() for call in holding):
                with contextlib.suppress(
                    llmcurl.PoolTimeout
                ):  # a place is free if one of these has failed meanwhile
                    await trial.call(lambda: client.get(url("/ok?pool")), ok)
                trial.errors[:] = [
                    error for error in trial.errors if not isinstance(error, llmcurl.PoolTimeout)
                ]
            for call in holding:
                call.cancel()
            await outcomes(holding)


@scenario
async def driven(trial: Trial) -> None:
    """Redirects, cookies, authentication and hooks: calls of several transfers."""
    url = trial.world.chaos.url
    seen = []

    async def hook(item: object) -> None:
        seen.append(item)

    hooks = {"request": [hook], "response": [hook]}
    async with trial.client(follow_redirects=True, cookies={}, event_hooks=hooks) as client:
        await trial.call(
            lambda: client.get(url("/redirect?to=/ok")), lambda r: ok(r) and len(r.history) == 1
        )
        await trial.call(lambda: client.get(url("/set-cookie?a=1")))
        await trial.call(lambda: client.get(url("/basic"), auth=("user", "s3cret")), ok)
        await trial.fails(lambda: client.get(url("/redirect")), llmcurl.TooManyRedirects)
        call = None
        with contextlib.suppress(MemoryError):
            call = client.get(url("/stall"))
            await asyncio.sleep(0.01)
            call.cancel()
        if call is not None:
            await outcomes([call])


@scenario
async def proxied(trial: Trial) -> None:
    world = trial.world
    async with llmcurl.AsyncClient(
        proxy=world.proxy.origin.replace("//", "//user:secret@"), verify=world.ca
    ) as client:
        await trial.call(lambda: client.get(world.chaos.url("/ok")), ok)
        await trial.call(lambda: client.get(world.tls.url("/ok")), ok)
    async with llmcurl.AsyncClient(
        proxy=llmcurl.Proxy(world.proxy.origin, headers={"X-P": "q"})
    ) as client:
        await trial.call(lambda: client.get(world.chaos.url("/ok")), ok)
    async with llmcurl.AsyncClient(
        proxy=world.socks.origin.replace("http://", "socks5h://")
    ) as client:
        await trial.call(lambda: client.get(f"http://there.example:{world.chaos.port}/ok"), ok)
    assert all(seen.header("Proxy-Authorization") is None for seen in world.chaos.requests())


@scenario
async def tls(trial: Trial) -> None:
    """A CA file, directory and data; a client certificate; a server that is not trusted never gets the request."""
    world = trial.world
    key = world.authority.client
    async with trial.client(verify=world.ca) as client:
        await trial.call(lambda: client.get(world.tls.url("/ok")), ok)
        await trial.call(
            lambda: client.get(world.tls.url("/ok").replace("127.0.0.1", "localhost")), ok
        )
    async with llmcurl.AsyncClient(
        verify=str(world.authority.ca_directory), cert=tuple(map(str, key))
    ) as client:
        await trial.call(lambda: client.get(world.mtls.url("/ok")), ok)
    before = len(world.tls.requests())
    async with llmcurl.AsyncClient() as client:
        await trial.fails(lambda: client.get(world.tls.url("/ok")), llmcurl.ConnectError)
    async with llmcurl.AsyncClient(verify=str(world.authority.other_ca_file)) as client:
        await trial.fails(lambda: client.get(world.tls.url("/ok")), llmcurl.ConnectError)
    assert len(world.tls.requests()) == before, "sent to a server that is not trusted"


@scenario
async def http2(trial: Trial) -> None:
    nginx = trial.world.nginx
    # with a read time-out: libcurl may forget a stream for want of memory
    async with trial.client(
        http2=True, verify=trial.world.ca, timeout=llmcurl.Timeout(60, read=5)
    ) as client:
        # for want of memory libcurl may not offer HTTP/2
        await trial.call(
            lambda: client.get(nginx.https2 + "/json"),
            lambda r: r.status_code == 200 and r.reason_phrase is not None,
        )
        calls = [
            trial.call(lambda n=n: client.get(f"{nginx.https2}/json"), lambda r: r.json()["ok"])
            for n in range(4)
        ]
        await asyncio.gather(*calls)
        await trial.call(
            lambda: client.post(nginx.https2 + "/echo", content=b"x" * 50_000),
            lambda r: r.status_code == 200,
        )


@scenario
async def kept(trial: Trial) -> None:
    """Kept connections that die: in idleness, under a GET (sent again), under a POST (not sent again)."""
    url = trial.world.chaos.url
    async with trial.client() as client:
        for do in ("idle-fin", "next-fin"):
            await trial.call(lambda do=do: client.get(url(f"/then?do={do}")), ok)
            await asyncio.sleep(0.01)
            await trial.call(lambda: client.get(url("/ok")), ok)
        await trial.call(lambda: client.get(url("/then?do=next-rst")), ok)
        if not trial.errors:
            # an answer only if libcurl, for want of memory, did not keep the connection
            with contextlib.suppress(llmcurl.ReadError, llmcurl.RemoteProtocolError):
                await trial.call(lambda: client.post(url("/ok"), content=b"once"), ok)
                trial.errors[:] = [
                    e
                    for e in trial.errors
                    if not isinstance(e, (llmcurl.ReadError, llmcurl.RemoteProtocolError))
                ]
    assert len([seen for seen in trial.world.chaos.requests() if seen.method == "POST"]) <= 1


@scenario
async def names(trial: Trial) -> None:
    """Look-ups: one transfer resolves for all; a name that does not exist."""
    port = trial.world.chaos.port
    async with trial.client() as client:
        results = await outcomes(
            start(trial, client, *(f"http://no-such-name.invalid:{port}/{n}" for n in range(3)))
        )
        assert all(
            isinstance(result, (llmcurl.TransportError, MemoryError)) for result in results
        ), results


@scenario
async def crowded(trial: Trial) -> None:
    """One connection for two origins and a queue: an idle connection to the other origin makes room."""
    chaos, other = trial.world.chaos.url, trial.world.other.url
    limits = llmcurl.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=5)
    async with trial.client(limits=limits) as client:
        for _ in range(2):
            await trial.call(lambda: client.get(chaos("/ok")), ok)
            await trial.call(lambda: client.get(other("/ok")), ok)
        await asyncio.gather(
            *(trial.call(lambda n=n: client.get(chaos(f"/ok?{n}")), ok) for n in range(3))
        )


@scenario
async def futures(trial: Trial) -> None:
    """asyncio's view of a Call: gather, wait, shield, as_completed, callbacks, repr; from another thread."""
    url = trial.world.chaos.url
    async with trial.client() as client:
        calls = start(trial, client, url("/ok?g1"), url("/ok?g2"))

        async def gathered() -> bool:
            return all(map(ok, await asyncio.gather(*calls)))

        await trial.call(gathered)
        for call in calls:
            call.cancel()
        await trial.call(lambda: asyncio.shield(client.get(url("/ok?s"))), ok)

        async def several() -> bool:
            call = client.get(url("/ok?w"))
            called: list[object] = []
            for _ in range(3):
                call.add_done_callback(called.append)
            call.add_done_callback(print)
            assert call.remove_done_callback(print) == 1 and call.remove_done_callback(len) == 0
            done, pending = await asyncio.wait([call])
            while len(called) < 3:
                await asyncio.sleep(0)
            assert not pending and called[0] is call and "<Call" in repr(call) and call.get_loop()
            call.add_done_callback(called.append)
            assert ok(call.result()) and "finished" in repr(call) and call.exception() is None
            return True

        await trial.call(several)

        async def elsewhere() -> bool:
            held = [client.get(url("/stall?thread"))]
            held[0].done()
            await asyncio.sleep(0.01)
            thread = threading.Thread(target=held.clear)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.001)
            return True

        await trial.call(elsewhere)


@scenario
async def closing(trial: Trial) -> None:
    """With calls in flight and in the queue; a client that is only forgotten; a pool that goes on another thread."""
    url = trial.world.chaos.url
    client = llmcurl.AsyncClient(limits=llmcurl.Limits(max_connections=1))
    calls = start(trial, client, url("/stall"), url("/stall"))
    await asyncio.sleep(0.01)
    await client.aclose()
    for result in await outcomes(calls):
        assert isinstance(result, (llmcurl.ClientClosed, llmcurl.TransportError, MemoryError)), (
            result
        )
    calls.clear()
    held = [llmcurl.AsyncClient()]
    await trial.call(lambda: held[0].get(url("/ok")), ok)
    gc.collect()
    thread = threading.Thread(target=held.clear)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


@scenario
def parsers(trial: Trial) -> None:
    """Events, lines and deltas, whole and in pieces: what comes out before an error is right."""
    sse = (
        b'event: a\ndata: {"x":1}\nid: 7\nretry: 10\n\ndata: two\ndata: lines\n\n'
        + b"data: "
        + b"y" * 3000
        + b"\n\n"
    )
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"h\\u00e9 \\n"}}]}\n\n'
    last = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    feeds = [
        (lambda: _native.EventParser(), sse),
        (lambda: _native.LineParser(max_line=10_000), b'{"a":1}\n\n{"b":2}\r\n' + b"z" * 3000),
        (lambda: _native.DeltaParser("openai"), chunk * 3 + last),
    ]
    for make, data in feeds:
        for size in (len(data), 7):
            try:
                parser = make()
                for start in range(0, len(data), size):
                    parser.feed(data[start : start + size])
                parser.finish()
                getattr(parser, "usage", None)
            except Exception as error:
                trial.errors.append(error)
            finally:
                parser = None


SYNC.add("parsers")
