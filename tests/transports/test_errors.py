"""Failures: the class is the reference's, `.request` is set, the next call works."""

from __future__ import annotations

import asyncio
import time

import pytest
from servers.sockets import blackhole, mute, refused

from .conftest import facts

BODY = b"x" * 30_000_000


def name(package, kind: str) -> str:
    return f"{package.name}.{kind}"


PROTOCOL = [
    "/cut?after=0", "/cut?after=9", "/cut?after=40", "/cut?body=0", "/cut?body=500", "/cut?chunked=1&body=0", "/cut?chunked=1&body=500",
    "/chunks?bad=size", "/chunks?bad=crlf",
    "/garbage?sort=binary", "/garbage?sort=http09", "/garbage?sort=ssh", "/garbage?sort=code", "/garbage?sort=length",
    "/garbage?sort=negative",
]  # fmt: skip
RESET = ["/rst?at=request", "/rst?at=head", "/rst?at=body"]


@pytest.mark.parametrize("path", PROTOCOL + RESET)
async def test_broken_answers(package, chaos, path):
    async def case(client):
        return facts(await client.get(chaos.url(path)))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is not None, "the case itself is wrong"
    assert ours.error == theirs.error and ours.error_request == theirs.error_request
    assert len(ours.requests) == len(theirs.requests) == 1


async def test_a_header_line_beyond_all_size(package, chaos):
    """Over 100 KB; libcurl 7.88 says that memory is short."""

    async def case(client):
        for size in (1000, 150_000):  # the second on a connection that was used before
            await client.get(chaos.url(f"/headers?bytes={size}&each={size}"))

    theirs, ours = await package.both(case, chaos)
    assert ours.error == theirs.error == name(package, "RemoteProtocolError")


async def test_another_protocol(package, chaos):
    """A 101 that was asked for; the reference hands out the connection."""
    headers = {"Connection": "upgrade", "Upgrade": "other/1"}

    async def case(client):
        with pytest.raises(package.module.RemoteProtocolError, match="another protocol .101."):
            await client.get(chaos.url("/info?code=101"), headers=headers)
        return (await client.get(chaos.url("/ok"))).status_code

    seen = await package.observe(case, package.ours(), chaos)
    assert seen.result == 200


async def test_a_chunk_beyond_all_size(package, chaos):
    seen = await package.observe(
        lambda c: c.get(chaos.url("/chunks?bad=huge")), package.ours(), chaos
    )
    assert seen.error == name(package, "RemoteProtocolError")  # the reference waits for it to end


@pytest.mark.parametrize("path", ["/cut?body=500", "/rst?at=body", "/cut?chunked=1&body=500"])
async def test_broken_while_streaming(package, chaos, path):
    async def case(client):
        async with client.stream("GET", chaos.url(path)) as response:
            got = b""
            try:
                async for part in response.aiter_raw():
                    got += part
            except package.module.TransportError as error:
                return len(got), type(error).__name__, error.request is response.request

    theirs, ours = await package.both(case, chaos)
    assert ours.result == theirs.result


class TestTimeouts:
    def timeouts(self, package, **given):
        return package.module.Timeout(30.0, **given)

    async def check(self, package, case, kind, server=None, **timeouts):
        started = time.monotonic()
        theirs, ours = await package.both(case, server, timeout=self.timeouts(package, **timeouts))
        assert ours.error == theirs.error == name(package, kind)
        assert ours.error_request == theirs.error_request is not None
        assert time.monotonic() - started < 20

    async def test_connect(self, package):
        with blackhole() as address:
            await self.check(
                package, lambda c: c.get(f"http://{address}/"), "ConnectTimeout", connect=0.2
            )

    async def test_tls(self, package):
        with mute() as address:
            await self.check(
                package, lambda c: c.get(f"https://{address}/"), "ConnectTimeout", connect=0.2
            )

    @pytest.mark.parametrize("at", ["request", "line", "head", "body"])
    async def test_read(self, package, chaos, at):
        await self.check(
            package, lambda c: c.get(chaos.url(f"/stall?at={at}")), "ReadTimeout", chaos, read=0.2
        )

    async def test_write_bytes(self, package, chaos):
        await self.check(
            package,
            lambda c: c.post(chaos.url("/stall?at=upload"), content=BODY),
            "WriteTimeout",
            chaos,
            write=0.2,
            read=20,
        )

    async def test_write_generator(self, package, chaos):
        async def body():
            for _ in range(300):
                yield BODY[:100_000]

        await self.check(
            package,
            lambda c: c.post(chaos.url("/stall?at=upload"), content=body()),
            "WriteTimeout",
            chaos,
            write=0.2,
            read=20,
        )

    async def test_pool(self, package, chaos):
        async def case(client):
            async with client.stream("GET", chaos.url("/stall?at=headers")):
                await client.get(chaos.url("/ok"))

        limits = package.module.Limits(max_connections=1)
        timeout = self.timeouts(package, pool=0.2)
        theirs, ours = await package.both(case, chaos, {"limits": limits}, timeout=timeout)
        assert ours.error == theirs.error == name(package, "PoolTimeout")
        assert ours.error_request == theirs.error_request

    async def test_reads_are_counted_each(self, package, chaos):
        async def case(client):
            return facts(await client.get(chaos.url("/drip?n=12&ms=100")))

        theirs, ours = await package.both(case, chaos, timeout=self.timeouts(package, read=1.0))
        assert theirs.error is None and ours.result == theirs.result

    async def test_none_means_none(self, package, chaos):
        async def case(client):
            return facts(await client.get(chaos.url("/ok?ms=100")))

        theirs, ours = await package.both(case, chaos, timeout=None)
        assert theirs.error is None and ours.result == theirs.result

    async def test_a_transport_without_the_extension(self, package, chaos):
        request = package.module.Request("GET", chaos.url("/ok"))
        async with package.ours() as transport:
            response = await transport.handle_async_request(request)
            assert response.status_code == 200 and await response.aread()

    async def test_zero(self, package):
        with blackhole() as address:
            await self.check(
                package, lambda c: c.get(f"http://{address}/"), "ConnectTimeout", connect=0
            )


class TestConnecting:
    async def test_refused(self, package):
        with refused() as address:
            theirs, ours = await package.both(lambda c: c.get(f"http://{address}/"))
        assert ours.error == theirs.error == name(package, "ConnectError")
        assert ours.error_request == theirs.error_request

    async def test_unknown_name(self, package):
        theirs, ours = await package.both(lambda c: c.get("http://does-not-exist.invalid/"))
        assert ours.error == theirs.error == name(package, "ConnectError")

    async def test_no_tls_there(self, package, nginx):
        theirs, ours = await package.both(lambda c: c.get(f"https://127.0.0.1:{nginx.http_port}/"))
        assert ours.error == theirs.error == name(package, "ConnectError")

    async def test_retries(self, package):
        with refused() as address:
            started = time.monotonic()
            seen = await package.observe(
                lambda c: c.get(f"http://{address}/"), package.ours(retries=2)
            )
            assert seen.error == name(package, "ConnectError")
            assert 0.4 < time.monotonic() - started < 20  # 0 and 0.5 s between the attempts

    async def test_retries_are_for_connecting_only(self, package, chaos):
        case = lambda c: c.post(chaos.url("/cut?after=0"), content=b"x")  # noqa: E731
        theirs, ours = await package.both(case, chaos, {"retries": 3})
        assert ours.error == theirs.error == name(package, "RemoteProtocolError")
        assert len(ours.requests) == 1


class TestKeptConnections:
    @pytest.mark.parametrize("do", ["idle-fin", "idle-rst", "idle-408"])
    async def test_a_stale_one_is_replaced(self, package, chaos, do):
        async def case(client):
            await client.post(chaos.url(f"/then?do={do}"), content=b"x")
            await chaos.wait_closed()
            return facts(await client.post(chaos.url("/json"), content=b"y"))["status"]

        theirs, ours = await package.both(case, chaos)
        assert ours.error == theirs.error is None and ours.result == 200
        assert [r.path for r in ours.requests] == ["/then", "/json"]

    @pytest.mark.parametrize("do", ["next-fin", "next-rst", "next-half"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_nothing_is_sent_twice(self, package, chaos, do, method):
        async def case(client):
            await client.get(chaos.url(f"/then?do={do}"))
            return await client.request(method, chaos.url("/ok"))

        theirs, ours = await package.both(case, chaos)
        assert (
            [r.path for r in ours.requests] == [r.path for r in theirs.requests] == ["/then", "/ok"]
        )
        assert ours.error == name(package, "RemoteProtocolError")
        # libcurl does not tell how the old connection ended before it asks for a new one
        assert theirs.error == name(
            package, "ReadError" if do == "next-rst" else "RemoteProtocolError"
        )
        assert ours.error_request == theirs.error_request

    async def test_no_keepalive(self, package, chaos):
        async def case(client):
            for _ in range(3):
                await client.get(chaos.url("/ok"))

        limits = package.module.Limits(max_keepalive_connections=0)
        theirs, ours = await package.both(case, chaos, {"limits": limits})
        assert (
            len({r.connection for r in ours.requests})
            == len({r.connection for r in theirs.requests})
            == 3
        )

    async def test_expiry(self, package, chaos):
        async def case(client):
            for _ in range(2):
                await client.get(chaos.url("/ok"))
                await asyncio.sleep(0.4)

        limits = package.module.Limits(keepalive_expiry=0.2)
        theirs, ours = await package.both(case, chaos, {"limits": limits})
        assert (
            len({r.connection for r in ours.requests})
            == len({r.connection for r in theirs.requests})
            == 2
        )

    async def test_max_connections(self, package, chaos):
        async def case(client):
            await asyncio.gather(*(client.get(chaos.url("/ok?ms=20")) for _ in range(20)))
            return chaos.new_peak

        limits = package.module.Limits(max_connections=3)
        theirs, ours = await package.both(case, chaos, {"limits": limits})
        assert ours.error is None and ours.result == theirs.result == 3
