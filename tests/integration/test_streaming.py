"""`client.stream`: the ways to read it, when the chunks arrive, what closes it."""

from __future__ import annotations

import asyncio
import time

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.chaos_scripts import PLAIN
from servers.nginx import Nginx

LINES = ["first", "sécond ☃", "", "long " + "ü" * 3000, "last without end"]


async def collect(iterator) -> list:
    return [item async for item in iterator]


async def test_the_response_is_there_at_the_end_of_the_headers(client, chaos: Chaos) -> None:
    async with asyncio.timeout(20):
        async with client.stream("GET", chaos.url("/stall?at=headers")) as response:
            assert response.status_code == 200 and response.headers["content-length"] == "1000"
            assert not response.is_closed
    await chaos.wait_for_disconnect("/stall")


async def test_aiter_bytes_gives_the_decoded_body(client, chaos: Chaos) -> None:
    for coding in ("gzip", "deflate", "br", "zstd"):
        async with client.stream("GET", chaos.url(f"/encoded?as={coding}&slow=1")) as response:
            assert b"".join(await collect(response.aiter_bytes())) == PLAIN


async def test_aiter_raw_gives_the_bytes_as_they_came(client, chaos: Chaos) -> None:
    async with client.stream("GET", chaos.url("/encoded?as=gzip")) as response:
        raw = b"".join(await collect(response.aiter_raw()))
    assert raw.startswith(b"\x1f\x8b") and response.num_bytes_downloaded == len(raw) < len(PLAIN)


@pytest.mark.parametrize("size", [1, 7, 64, 5000])
async def test_aiter_text_and_lines_survive_any_cut(client, chaos: Chaos, size: int) -> None:
    async with client.stream("GET", chaos.url(f"/lines?size={size}")) as response:
        assert "".join(await collect(response.aiter_text())).splitlines() == LINES
    async with client.stream("GET", chaos.url(f"/lines?size={size}")) as response:
        assert await collect(response.aiter_lines()) == LINES


async def test_chunk_size_cuts_or_joins_the_pieces(client, nginx: Nginx) -> None:
    async with client.stream("GET", nginx.http + "/bytes?n=200001") as response:
        sizes = [len(piece) for piece in await collect(response.aiter_bytes(chunk_size=100_000))]
    assert sizes == [100_000, 100_000, 1]


async def test_aread_keeps_the_body_for_content_text_and_json(client, nginx: Nginx) -> None:
    async with client.stream("GET", nginx.http + "/json") as response:
        with pytest.raises(llmcurl.ResponseNotRead):
            _ = response.content
        assert await response.aread() == response.content
        assert response.json()["ok"] and response.is_closed
        assert await response.aread() == response.content


async def test_each_chunk_is_delivered_at_once(client, chaos: Chaos) -> None:
    """The server sends none before we have told it that the one before is here."""
    got = []
    async with client.stream("GET", chaos.url("/step?n=5"), timeout=20) as response:
        async for line in response.aiter_lines():
            got.append(line)
            await client.get(chaos.url("/ok"))
    assert got == ["0", "1", "2", "3", "4"]


async def test_sse_of_nginx_arrives_event_by_event(client, nginx: Nginx) -> None:
    started, times = time.monotonic(), []
    async with client.stream("POST", nginx.http + "/sse?n=4&ms=300", json={}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                times.append(time.monotonic() - started)
    assert len(times) == 5 and times[-1] >= 1.15 and times[-1] - times[0] >= 0.15


async def test_leaving_the_block_early_closes_the_connection(client, chaos: Chaos) -> None:
    async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")) as response:
        async for _ in response.aiter_bytes():
            break
    assert response.is_closed
    await chaos.wait_for_disconnect("/drip")
    assert (await client.get(chaos.url("/ok"))).status_code == 200
    assert chaos.new_connections == 2


async def test_aclose_is_idempotent_never_drains_and_frees_the_slot(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=llmcurl.Limits(max_connections=1)) as client:
        async with client.stream("GET", chaos.url("/bytes?n=100000000000")) as response:
            started = time.monotonic()
            await response.aclose()
            await response.aclose()
            assert time.monotonic() - started < 10
            assert (await asyncio.wait_for(client.get(chaos.url("/ok")), 20)).status_code == 200
        await chaos.wait_for_disconnect("/bytes")


async def test_a_body_read_to_its_end_gives_the_connection_back(client, chaos: Chaos) -> None:
    for _ in range(3):
        async with client.stream("GET", chaos.url("/bytes?n=300000")) as response:
            assert sum(map(len, await collect(response.aiter_bytes()))) == 300_000
    assert chaos.new_connections == 1


async def test_a_stream_can_be_read_once_and_not_after_its_end(client, chaos: Chaos) -> None:
    async with client.stream("GET", chaos.url("/drip?n=3&ms=1")) as response:
        await collect(response.aiter_bytes())
        with pytest.raises(llmcurl.StreamConsumed):
            await collect(response.aiter_bytes())
    async with client.stream("GET", chaos.url("/drip?n=300&ms=5")) as response:
        pass
    with pytest.raises(llmcurl.StreamClosed):
        await collect(response.aiter_bytes())


async def test_an_exception_in_the_block_closes_the_stream_and_passes(client, chaos: Chaos) -> None:
    with pytest.raises(KeyError):
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")) as response:
            async for _ in response.aiter_bytes():
                raise KeyError
    await chaos.wait_for_disconnect("/drip")


@pytest.mark.parametrize("cut", ["/cut?body=500", "/cut?body=500&chunked=1"])
async def test_a_cut_body_gives_what_came_and_then_the_error(
    client, chaos: Chaos, cut: str
) -> None:
    got = b""
    with pytest.raises(llmcurl.RemoteProtocolError):
        async with client.stream("GET", chaos.url(cut)) as response:
            async for piece in response.aiter_bytes():
                got += piece
    assert 0 < len(got) <= 500 and set(got) == {ord("y")}


async def test_an_error_before_the_headers_is_raised_on_entering(client, chaos: Chaos) -> None:
    entered = False
    with pytest.raises(llmcurl.RemoteProtocolError):
        async with client.stream("GET", chaos.url("/cut?after=10")):
            entered = True
    assert not entered


async def test_a_stream_may_also_come_from_send(client, chaos: Chaos) -> None:
    response = await client.send(
        client.build_request("GET", chaos.url("/drip?n=3&ms=1&size=4")), stream=True
    )
    try:
        assert b"".join(await collect(response.aiter_raw())) == b"x" * 12
    finally:
        await response.aclose()


async def test_redirects_are_followed_before_the_stream_begins(client, chaos: Chaos) -> None:
    async with client.stream(
        "GET", chaos.url("/redirect?to=/drip%3Fn%3D2"), follow_redirects=True
    ) as response:
        assert len(response.history) == 1
        assert await response.aread() == b"x" * 20


async def test_500_streams_at_once_keep_their_bytes_apart(client, nginx: Nginx) -> None:
    async def one(i: int) -> bool:
        async with client.stream("GET", f"{nginx.http}/sse?n={i % 7 + 1}&ms=3") as response:
            lines = [line async for line in response.aiter_lines() if line.startswith("id")]
        return lines == [f"id: {k}" for k in range(1, i % 7 + 2)]

    assert all(await asyncio.gather(*(one(i) for i in range(500))))


async def test_a_stream_left_open_when_the_client_closes_fails_and_never_hangs(
    chaos: Chaos,
) -> None:
    client = llmcurl.AsyncClient()
    stack = client.stream("GET", chaos.url("/stall?at=body"))
    response = await stack.__aenter__()
    await asyncio.wait_for(client.aclose(), 20)
    await chaos.wait_for_disconnect("/stall")
    with pytest.raises((llmcurl.StreamError, llmcurl.TransportError, RuntimeError)):
        await asyncio.wait_for(collect(response.aiter_bytes()), 20)
    await stack.__aexit__(None, None, None)
