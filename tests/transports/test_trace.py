"""The `trace` extension and `network_stream`: the reference's events in the reference's order."""

from __future__ import annotations

import asyncio
import socket

import pytest
from servers.sockets import mute, refused


class Recorder:
    """Names of the events, and what some of them tell."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.infos: dict[str, dict] = {}

    async def __call__(self, name: str, info: dict) -> None:
        self.names.append(name)
        self.infos[name] = info

    @property
    def extensions(self) -> dict:
        return {"trace": self}


async def both(package, case, transport=None, **options):
    """The recorders of the reference and of ours, after `case(client, recorder)`."""
    recorders = []
    for kind in (package.reference, package.ours):
        recorder = Recorder()

        async def run(client, recorder=recorder):
            await case(client, recorder)

        seen = await package.observe(run, kind(**(transport or {})), None, **options)
        recorders.append((recorder, seen.error))
    return recorders


class TestEvents:
    async def check(self, package, case, error=None, transport=None, **options):
        (theirs, their_error), (ours, our_error) = await both(package, case, transport, **options)
        assert our_error == their_error == (f"{package.name}.{error}" if error else None)
        assert ours.names == theirs.names
        return ours

    async def test_new_and_kept_connections(self, package, chaos):
        async def case(client, recorder):
            for _ in range(2):
                await client.get(chaos.url("/ok"), extensions=recorder.extensions)

        seen = await self.check(package, case)
        assert (
            seen.names[0] == "connection.connect_tcp.started"
            and seen.names.count("http11.response_closed.complete") == 2
        )

    async def test_a_body(self, package, chaos):
        async def case(client, recorder):
            await client.post(
                chaos.url("/echo"), content=b"x" * 200_000, extensions=recorder.extensions
            )

        await self.check(package, case)

    async def test_a_fed_body(self, package, chaos):
        async def body():
            yield b"one"
            await asyncio.sleep(0.01)
            yield b"two"

        async def case(client, recorder):
            await client.post(chaos.url("/echo"), content=body(), extensions=recorder.extensions)

        await self.check(package, case)

    async def test_head(self, package, chaos):
        async def case(client, recorder):
            await client.head(chaos.url("/ok"), extensions=recorder.extensions)

        await self.check(package, case)

    async def test_tls(self, package, tls):
        async def case(client, recorder):
            await client.get(tls.good.url("/ok"), extensions=recorder.extensions)

        seen = await self.check(package, case, transport={"verify": False})
        assert seen.infos["connection.start_tls.started"]["server_hostname"] == "127.0.0.1"

    async def test_refused(self, package):
        with refused() as address:

            async def case(client, recorder):
                await client.get(f"http://{address}/", extensions=recorder.extensions)

            seen = await self.check(package, case, "ConnectError")
        assert (
            type(seen.infos["connection.connect_tcp.failed"]["exception"]).__name__
            == "ConnectError"
        )

    async def test_tls_stalls(self, package):
        """Which of the two steps it was, libcurl 7.88 does not tell."""
        with mute() as address:
            recorder = Recorder()
            async with package.client(package.ours(), timeout=0.2) as client:
                with pytest.raises(package.module.ConnectTimeout):
                    await client.get(f"https://{address}/", extensions=recorder.extensions)
        assert recorder.names[-1] in (
            "connection.connect_tcp.failed",
            "connection.start_tls.failed",
        )

    async def test_read_timeout(self, package, chaos):
        async def case(client, recorder):
            await client.get(chaos.url("/stall?at=request"), extensions=recorder.extensions)

        await self.check(package, case, "ReadTimeout", timeout=package.module.Timeout(20, read=0.2))

    async def test_broken_body(self, package, chaos):
        async def case(client, recorder):
            await client.get(chaos.url("/cut?body=500"), extensions=recorder.extensions)

        await self.check(package, case, "RemoteProtocolError")

    async def test_closed_early(self, package, chaos):
        async def case(client, recorder):
            async with client.stream(
                "GET", chaos.url("/drip?n=1000&ms=5"), extensions=recorder.extensions
            ):
                pass

        await self.check(package, case)

    async def test_what_is_told(self, package, chaos):
        async def case(client, recorder):
            await client.get(chaos.url("/ok"), extensions=recorder.extensions)

        (theirs, _), (ours, _) = await both(package, case)
        for name in theirs.infos:
            assert set(ours.infos[name]) == set(theirs.infos[name]), name
        name = "http11.receive_response_headers.complete"
        assert ours.infos[name]["return_value"] == theirs.infos[name]["return_value"]
        started = ours.infos["connection.connect_tcp.started"]
        assert (
            started == theirs.infos["connection.connect_tcp.started"]
            and started["port"] == chaos.port
        )


class TestWhen:
    async def test_it_connects_before_it_says_that_it_sends(self, package, chaos):
        """Events come when they happen, not all with the answer."""
        recorder = Recorder()
        async with package.client(package.ours()) as client:
            task = asyncio.create_task(
                client.get(chaos.url("/stall?at=request"), extensions=recorder.extensions)
            )
            async with asyncio.timeout(20):
                while recorder.names[-1:] != ["http11.receive_response_headers.started"]:
                    await asyncio.sleep(0.005)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await chaos.wait_for_disconnect("/stall", timeout=20)

    async def test_an_exception_of_the_callback_passes(self, package, chaos):
        class Mine(Exception):
            pass

        async def trace(name, info):
            if name == "http11.receive_response_headers.complete":
                raise Mine

        async with package.client(package.ours()) as client:
            with pytest.raises(Mine):
                await client.get(chaos.url("/drip?n=1000&ms=5"), extensions={"trace": trace})
            await chaos.wait_for_disconnect("/drip", timeout=20)
            assert (await client.get(chaos.url("/ok"))).status_code == 200

    async def test_it_must_be_async(self, package, chaos):
        async with package.client(package.ours()) as client:
            with pytest.raises(TypeError, match="async"):
                await client.get(chaos.url("/ok"), extensions={"trace": lambda name, info: None})


class TestNetworkStream:
    async def test_addresses(self, package, chaos):
        async def case(client):
            told = []
            for _ in range(2):
                response = await client.get(chaos.url("/ok"))
                stream = response.extensions["network_stream"]
                told.append(
                    (stream.get_extra_info("server_addr"), stream.get_extra_info("client_addr")[0])
                )
                assert (
                    stream.get_extra_info("ssl_object") is None
                    and stream.get_extra_info("nothing") is None
                )
            return told

        theirs, ours = await package.both(case)
        assert ours.error is None and ours.result == theirs.result

    async def test_tls(self, package, tls):
        async def case(client):
            async with client.stream("GET", tls.good.url("/ok")) as response:
                found = response.extensions["network_stream"].get_extra_info("ssl_object")
                return (
                    found.version(),
                    found.cipher()[:2],
                    found.selected_alpn_protocol(),
                    found.server_side,
                )

        theirs, ours = await package.both(case, None, {"verify": False})
        assert ours.error is None and ours.result == theirs.result

    async def test_ipv6(self, package):
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        try:
            server = await asyncio.start_server(answer, "::1", 0)
        except OSError:
            pytest.skip("no IPv6 here")
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with package.client(package.ours()) as client:
                response = await client.get(f"http://[::1]:{port}/")
                assert response.extensions["network_stream"].get_extra_info("server_addr") == (
                    "::1",
                    port,
                )

    async def test_it_cannot_be_read(self, package, chaos):
        async with package.client(package.ours()) as client:
            response = await client.get(chaos.url("/ok"))
            with pytest.raises(RuntimeError):
                await response.extensions["network_stream"].read(1)
            assert response.elapsed.total_seconds() > 0
