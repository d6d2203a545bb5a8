"""What a server can make us hold in memory has an end: heads, bodies, what they unpack to, lines, events."""

from __future__ import annotations

import gzip
import resource
import zlib

import llmcurl
import pytest
from servers.thread import ThreadedServer


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Packed(ThreadedServer):
    """Answers every request with the same encoded body."""

    def __init__(self, body: bytes, encoding: str) -> None:
        super().__init__()
        self.answer = (
            f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def handle(self, reader, writer) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()


def bomb(mb: int) -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return b"".join([*(pack.compress(bytes(1 << 20)) for _ in range(mb)), pack.flush()])


@pytest.mark.no_asan  # the sanitizers keep freed memory for a while
async def test_a_bomb_is_refused_before_it_goes_off(client) -> None:
    with Packed(bomb(400), "gzip") as server:
        before = peak_mb()
        with pytest.raises(llmcurl.ResponseTooLarge, match="unpacks to more than"):
            await client.get(server.url("/"))
        assert peak_mb() - before < 200
        total = 0
        async with client.stream("GET", server.url("/")) as response:
            async for piece in response.aiter_bytes():  # a caller who reads it piece by piece may
                assert len(piece) <= 256 * 1024
                total += len(piece)
        assert total == 400 << 20
        async with client.stream("GET", server.url("/")) as response:
            with pytest.raises(llmcurl.ResponseTooLarge):
                await response.aread()


async def test_a_bomb_in_a_bomb_is_refused(client) -> None:
    with Packed(gzip.compress(bomb(300)), "gzip, gzip") as server:
        with pytest.raises(llmcurl.ResponseTooLarge):
            await client.get(server.url("/"))
    with Packed(b"x", ", ".join(["gzip"] * 6)) as server:
        with pytest.raises(llmcurl.DecodingError, match="layers"):
            await client.get(server.url("/"))


async def test_the_clients_ceiling_counts_decoded_bytes(chaos) -> None:
    with Packed(gzip.compress(bytes(500_000)), "gzip") as server:
        async with llmcurl.AsyncClient(max_response_bytes=100_000) as client:
            with pytest.raises(llmcurl.ResponseTooLarge):
                await client.get(server.url("/"))
            with pytest.raises(llmcurl.ResponseTooLarge):
                await client.get(server.url("/"), follow_redirects=True)
            async with client.stream("GET", server.url("/")) as response:
                with pytest.raises(llmcurl.ResponseTooLarge):
                    await response.aread()
            async with client.stream("GET", chaos.url("/bytes?n=200000")) as response:
                with pytest.raises(llmcurl.ResponseTooLarge):
                    await response.aread()
            assert len((await client.get(chaos.url("/bytes?n=100000"))).content) == 100_000


@pytest.mark.parametrize("sort", ["headers", "early", "trailers"])
async def test_a_head_that_never_ends_is_an_error(client, endless: str, sort: str) -> None:
    """Fields, 1xx answers, and trailers."""
    with pytest.raises((llmcurl.RemoteProtocolError, llmcurl.ResponseTooLarge)):
        await client.get(f"{endless}/{sort}")
    assert client.stats()["active"] == 0


async def test_a_body_that_never_ends_meets_the_ceiling(endless: str) -> None:
    async with llmcurl.AsyncClient(max_response_bytes=3_000_000) as client:
        with pytest.raises(llmcurl.ResponseTooLarge):
            await client.get(endless + "/body")


async def test_a_line_that_never_ends_is_an_error(client, endless: str, monkeypatch) -> None:
    monkeypatch.setattr("llmcurl._text.MAX_LINE", 2_000_000)
    async with client.stream("GET", endless + "/line") as response:
        with pytest.raises(llmcurl.ResponseTooLarge, match="line"):
            async for _ in response.aiter_lines():
                pass


async def test_an_event_that_never_ends_is_an_error(client, endless: str) -> None:
    async with client.stream("GET", endless + "/line") as response:
        with pytest.raises(llmcurl.ResponseTooLarge):
            async for _ in response.aiter_events(max_event=2_000_000):
                pass
    async with client.stream("GET", endless + "/line") as response:
        with pytest.raises(llmcurl.ResponseTooLarge):
            async for _ in response.aiter_ndjson(max_line=2_000_000):
                pass


@pytest.mark.no_asan
async def test_a_stream_that_nobody_reads_does_not_fill_the_memory(client, endless: str) -> None:
    import asyncio

    before = peak_mb()
    async with client.stream("GET", endless + "/body"):
        await asyncio.sleep(0.3)
    assert peak_mb() - before < 20
