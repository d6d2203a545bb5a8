"""HTTP/2 servers that break the protocol, fall silent or leave: what it costs the calls after them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator

import llmcurl
import pytest
from h2.errors import ErrorCodes
from servers.http2 import LIBCURL, TELLS_GOAWAY, Peer, Scripted
from servers.thread import until

PING, GOAWAY, WINDOW_UPDATE = 6, 7, 8


@pytest.fixture
def scripted(authority):
    """A server that follows a script, and a client for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, authority.good))
    context.set_alpn_protocols(["h2"])

    @contextlib.asynccontextmanager
    async def start(script, timeout: float = 10, **options) -> AsyncIterator:
        with Scripted(script, tls=context) as server:
            async with llmcurl.AsyncClient(
                http2=True, verify=str(authority.ca_file), timeout=timeout, **options
            ) as client:
                yield server, client

    return start


@pytest.mark.parametrize("how", ["reset", "goaway"])
async def test_a_refusal_counts_before_the_first_answer_too(scripted, how: str) -> None:
    if how == "goaway" and not TELLS_GOAWAY:
        pytest.skip("libcurl before 8.4 says the same of a request that GOAWAY left out as of any")

    def script(server: Scripted, peer: Peer, stream: int) -> None:
        if peer.number > 1:
            peer.answer(stream)
        elif how == "reset":
            peer.http.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        else:
            peer.http.close_connection(last_stream_id=0)

    async with scripted(script) as (server, client):
        assert (await client.post(server.url("/a"), content=b"x")).text == "/a"
        assert server.connections_of("/a") == [1, 2]


@pytest.mark.parametrize(
    "frame",
    [
        (WINDOW_UPDATE, bytes(4)),
        (WINDOW_UPDATE, b"\x7f\xff\xff\xff"),
        (PING, b"short"),
        (GOAWAY, b""),
    ],
    ids=["window-0", "window-overflow", "ping-short", "goaway-short"],
)
async def test_a_session_that_broke_is_not_used_again(scripted, frame: tuple[int, bytes]) -> None:
    def script(server: Scripted, peer: Peer, stream: int) -> None:
        if server.requests[-1][1] == "/bad":
            peer.raw(*frame)
        peer.answer(stream)

    async with scripted(script) as (server, client):
        assert (await client.get(server.url("/first"))).text == "/first"
        with pytest.raises(llmcurl.TransportError) as caught:
            await client.post(server.url("/bad"), content=b"x")
        assert not isinstance(caught.value, llmcurl.TimeoutException)
        answers = await asyncio.gather(
            *(client.post(server.url(f"/after{i}"), content=b"x") for i in range(3))
        )
        assert [answer.text for answer in answers] == ["/after0", "/after1", "/after2"]
        if LIBCURL >= 0x081600:  # 7.88 takes an ended session for a request that was refused
            assert server.connections_of("/bad") == [1]


@pytest.mark.parametrize("others", [0, 10])
async def test_a_reset_is_no_refusal(scripted, others: int) -> None:
    """The server has taken the request: sent again, it might act on it twice."""

    def script(server: Scripted, peer: Peer, stream: int) -> None:
        if peer.number > 1 or stream == 1:
            peer.answer(stream)
        elif len(server.requests) == 2 + others:
            asyncio.get_running_loop().call_later(0.05, reset, peer.writer)

    def reset(writer: asyncio.StreamWriter) -> None:
        now = struct.pack("ii", 1, 0)  # no FIN, whatever has been read
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
        writer.transport.abort()

    async with scripted(script) as (server, client):
        await client.get(server.url("/first"))
        ends = await asyncio.gather(
            *(client.post(server.url(f"/{i}"), content=b"x") for i in range(others + 1)),
            return_exceptions=True,
        )
        assert all(isinstance(end, llmcurl.TransportError) for end in ends), ends
        assert not any(isinstance(end, llmcurl.TimeoutException) for end in ends), ends
        assert {number for number, _ in server.requests} == {1}


def stalls(server: Scripted, peer: Peer, stream: int) -> None:
    if server.requests[-1][1] != "/stall":
        peer.answer(stream)


async def test_a_connection_that_fell_silent_is_not_used_again(scripted) -> None:
    async with scripted(stalls, timeout=0.3) as (server, client):
        await client.get(server.url("/first"), timeout=10)
        with pytest.raises(llmcurl.ReadTimeout):
            await client.get(server.url("/stall"))
        await client.post(server.url("/after"), content=b"x", timeout=10)
        assert server.connections_of("/stall") == [1]
        assert server.connections_of("/after") == [2]


async def test_a_limit_of_connections_outweighs_the_distrust(scripted) -> None:
    """Nobody can have another connection as long as a call waits on this one."""
    async with scripted(stalls, limits=llmcurl.Limits(max_connections=1)) as (server, client):
        await client.get(server.url("/first"))
        long = asyncio.ensure_future(client.get(server.url("/stall")))
        await until(lambda: server.connections_of("/stall"))
        with pytest.raises(llmcurl.ReadTimeout):
            await client.get(server.url("/stall"), timeout=0.3)
        await client.get(server.url("/after"))
        assert server.connections_of("/after") == [1] and not long.done()
        long.cancel()


@pytest.mark.skipif(LIBCURL < 0x081600, reason="libcurl 7.88 leaves the other streams waiting")
async def test_what_is_sent_again_keeps_to_the_limit_of_connections(scripted) -> None:
    def script(server: Scripted, peer: Peer, stream: int) -> None:
        if peer.number > 1 or stream == 1:
            peer.answer(stream)
        elif len(server.requests) == 6:
            peer.writer.close()

    async with scripted(script, limits=llmcurl.Limits(max_connections=1)) as (server, client):
        await client.get(server.url("/first"))
        answers = await asyncio.gather(*(client.get(server.url(f"/{i}")) for i in range(5)))
        assert [answer.text for answer in answers] == [f"/{i}" for i in range(5)]
        assert server.connections == 2


async def test_one_silent_stream_leaves_the_connection_to_the_others(scripted) -> None:
    async with scripted(stalls) as (server, client):
        await client.get(server.url("/first"))
        stalled = asyncio.ensure_future(client.get(server.url("/stall"), timeout=0.3))
        await until(lambda: server.connections_of("/stall"))
        while not stalled.done():
            await client.get(server.url("/beside"))
        with pytest.raises(llmcurl.ReadTimeout):
            await stalled
        await client.get(server.url("/after"))
        assert {number for number, _ in server.requests} == {1}


@pytest.mark.parametrize("words", [0, 1], ids=["at-once", "after-ping"])
async def test_close_notify_on_an_idle_connection_is_seen(scripted, words: int) -> None:
    """Its FIN may come much later: the server waits for our own goodbye."""

    def script(server: Scripted, peer: Peer, stream: int) -> None:
        peer.answer(stream)
        peer.flush()
        if peer.number > 1:
            return
        loop = asyncio.get_running_loop()

        def leave() -> None:
            peer.writer.close()
            loop.call_soon(server.done.add, "left")

        if words:
            loop.call_later(0.05, peer.raw, PING, bytes(8))
        loop.call_later(0.1, leave)

    async with scripted(script) as (server, client):
        await client.get(server.url("/first"))
        await until(lambda: server.done)
        assert (await client.post(server.url("/second"), content=b"x")).text == "/second"
        assert server.connections_of("/second") == [2]


@pytest.mark.skipif(LIBCURL < 0x081600, reason="libcurl 7.88 goes on waiting for its upload")
async def test_an_error_answer_before_the_end_of_the_upload_is_an_answer(scripted) -> None:
    def script(server: Scripted, peer: Peer, stream: int) -> None:
        peer.answer(stream, 413)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(20_000)

    async with scripted(script) as (server, client):
        answers = await asyncio.gather(
            *(client.post(server.url(f"/early{i}"), content=body()) for i in range(5))
        )
        assert [answer.status_code for answer in answers] == [413] * 5
        assert [answer.text for answer in answers] == [f"/early{i}" for i in range(5)]
