"""Large bodies in bounded memory: a paused reader stops the sender, a slow server stops the generator, 1 GB each way."""

from __future__ import annotations

import asyncio
import os

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.nginx import BIG, Nginx
from servers.thread import until

MB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = b"z" * (256 * 1024)
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])  # a gigabyte tells as much on one loop
# the sanitizers keep freed memory for a while: resident memory says nothing there
resident = pytest.mark.no_asan


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class Watch:
    """The most memory seen above the start."""

    def __init__(self) -> None:
        self.start = self.top = rss()
        self.calls = 0

    def look(self) -> None:
        self.calls += 1
        if self.calls % 64 == 0:
            self.top = max(self.top, rss())

    @property
    def grown(self) -> int:
        self.top = max(self.top, rss())
        return self.top - self.start


async def settled(value) -> int:
    """The value of `value()` once it has not changed for 100 ms."""
    last = value()
    for _ in range(200):
        await asyncio.sleep(0.1)
        now = value()
        if now == last:
            return now
        last = now
    raise AssertionError(f"never came to rest, last {last}")


async def test_a_paused_reader_stops_the_sender_and_goes_on_later(client, chaos: Chaos) -> None:
    async with client.stream("GET", chaos.url("/bytes?n=200000000")) as response:
        pieces = response.aiter_bytes()
        got = len(await anext(pieces))
        before = rss()
        seen = chaos.requests()[0]
        sent = await settled(lambda: seen.sent)
        assert sent < 40 * MB and rss() - before < 16 * MB
        async for piece in pieces:
            got += len(piece)
    assert got == 200_000_000


async def test_a_paused_stream_does_not_stop_the_others(client, nginx: Nginx, chaos: Chaos) -> None:
    async with client.stream("GET", nginx.http + "/big") as response:
        pieces = response.aiter_bytes()
        await anext(pieces)
        for url in (nginx.http + "/json", chaos.url("/ok")):
            assert all(
                r.status_code == 200
                for r in await asyncio.gather(*(client.get(url) for _ in range(50)))
            )
        assert len(await anext(pieces)) > 0


@resident
async def test_two_hundred_paused_streams_hold_little_memory(client, nginx: Nginx) -> None:
    async def hold(release: asyncio.Event, holding: list) -> None:
        async with client.stream("GET", nginx.http + "/big") as response:
            await anext(response.aiter_bytes())
            holding.append(response)
            await release.wait()

    before, release, holding = rss(), asyncio.Event(), []
    tasks = [asyncio.ensure_future(hold(release, holding)) for _ in range(200)]
    await until(lambda: len(holding) == 200, 20, "200 streams")
    await settled(lambda: rss() // MB)
    assert rss() - before < 200 * MB // 2  # half a megabyte each
    release.set()
    await asyncio.gather(*tasks)


async def test_a_paused_reader_is_no_read_timeout(chaos: Chaos, nginx: Nginx) -> None:
    async with llmcurl.AsyncClient(timeout=llmcurl.Timeout(read=1.2)) as client:
        async with client.stream("GET", nginx.http + "/big") as response:
            pieces = response.aiter_bytes()
            await anext(pieces)
            await asyncio.sleep(1.4)
            got = 0
            async for piece in pieces:
                got += len(piece)
                if got > 50 * MB:
                    break


async def test_a_generator_is_not_drained_ahead_of_the_server(client, chaos: Chaos) -> None:
    made = 0

    async def parts():
        nonlocal made
        while True:
            made += len(BLOCK)
            yield BLOCK

    before = rss()
    call = asyncio.ensure_future(client.post(chaos.url("/stall?at=upload"), content=parts()))
    await chaos.wait_for_request("/stall")
    assert await settled(lambda: made) < 40 * MB
    assert rss() - before < 24 * MB
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await chaos.wait_for_disconnect("/stall")


async def test_a_slow_server_slows_the_upload_and_gets_it_whole(client, chaos: Chaos) -> None:
    async def parts():
        for _ in range(100):
            yield b"y" * 10_000

    response = await client.post(
        chaos.url("/sink?rate=100000"), content=parts(), headers={"Content-Length": "1000000"}
    )
    assert response.text == "1000000"
    assert (await client.post(chaos.url("/sink"), content=parts())).text == "1000000"


@one_loop
@resident
async def test_a_gigabyte_comes_down_in_bounded_memory(client, nginx: Nginx) -> None:
    watch, got = Watch(), 0
    async with client.stream("GET", nginx.http + "/big") as response:
        async for piece in response.aiter_bytes():
            got += len(piece)
            watch.look()
    assert got == BIG and watch.grown < 32 * MB


@one_loop
@resident
async def test_a_gigabyte_comes_down_over_tls_in_bounded_memory(nginx: Nginx, authority) -> None:
    watch, got = Watch(), 0
    async with llmcurl.AsyncClient(verify=str(authority.ca_file)) as client:
        async with client.stream("GET", nginx.https + "/big") as response:
            async for piece in response.aiter_raw():
                got += len(piece)
                watch.look()
    assert got == BIG and watch.grown < 32 * MB


@one_loop
@resident
async def test_a_gigabyte_goes_up_from_a_generator_in_bounded_memory(client, nginx: Nginx) -> None:
    watch = Watch()

    async def parts():
        for _ in range(BIG // len(BLOCK)):
            watch.look()
            yield BLOCK

    response = await client.post(
        nginx.http + "/upload", content=parts(), headers={"Content-Length": str(BIG)}
    )
    assert int(response.text) == BIG and watch.grown < 32 * MB


@one_loop
@resident
async def test_a_quarter_of_a_gigabyte_goes_up_chunked_from_a_plain_iterator_in_bounded_memory(
    client, chaos: Chaos
) -> None:
    watch = Watch()

    def parts():
        for _ in range(BIG // 4 // len(BLOCK)):
            watch.look()
            yield BLOCK

    response = await client.post(chaos.url("/sink"), content=parts())
    assert int(response.text) == BIG // 4 and watch.grown < 32 * MB


@one_loop
@resident
async def test_a_file_of_a_gigabyte_goes_up_as_multipart_in_bounded_memory(
    client, nginx: Nginx, tmp_path
) -> None:
    with open(tmp_path / "big", "wb") as file:
        file.truncate(BIG)
    watch = Watch()

    async def look() -> None:
        while True:
            watch.top = max(watch.top, rss())
            await asyncio.sleep(0.02)

    looking = asyncio.ensure_future(look())
    with open(tmp_path / "big", "rb") as file:
        response = await client.post(nginx.http + "/upload", files={"file": file})
    looking.cancel()
    assert int(response.text) > BIG and watch.grown < 32 * MB
