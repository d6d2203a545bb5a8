"""HTTP/2: negotiated, multiplexed, cancelled stream by stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.nginx import Nginx


@pytest.fixture
async def h2(nginx: Nginx, authority):
    async with llmcurl.AsyncClient(http2=True, verify=str(authority.ca_file)) as client:
        yield client


async def test_http2_is_negotiated_when_asked_for(h2, nginx: Nginx) -> None:
    response = await h2.get(nginx.https2 + "/json")
    assert (response.http_version, response.status_code, response.reason_phrase) in [
        ("HTTP/2", 200, "OK"),
        ("HTTP/2", 200, ""),
    ]
    assert response.json()["ok"]


async def test_http1_is_spoken_when_http2_was_not_asked_for_or_is_not_offered(
    nginx: Nginx, authority, h2
) -> None:
    async with llmcurl.AsyncClient(verify=str(authority.ca_file), http2=False) as client:
        assert (await client.get(nginx.https2 + "/json")).http_version == "HTTP/1.1"
    assert (await h2.get(nginx.https + "/json")).http_version == "HTTP/1.1"
    assert (await h2.get(nginx.http + "/json")).http_version == "HTTP/1.1"


async def test_a_server_that_takes_no_part_in_alpn_gets_a_connection_for_each_call(
    authority,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, authority.good))
    with Chaos(tls=context) as server:
        async with llmcurl.AsyncClient(http2=True, verify=str(authority.ca_file)) as client:
            calls = [client.get(server.url("/stall")) for _ in range(20)]
            everything = asyncio.gather(*calls)
            await server.wait_for_request("/stall", 20)  # none waits for the answer of another
            assert server.new_connections == 20
            everything.cancel()
            with pytest.raises(asyncio.CancelledError):
                await everything


async def test_calls_without_tls_do_not_wait_for_each_other(h2) -> None:
    with Chaos() as server:
        everything = asyncio.gather(*(h2.get(server.url("/stall")) for _ in range(20)))
        await server.wait_for_request("/stall", 20)
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything


async def test_http2_without_tls_is_spoken_when_http1_is_switched_off(nginx: Nginx) -> None:
    async with llmcurl.AsyncClient(http1=False, http2=True) as client:
        assert (await client.get(nginx.h2c + "/json")).http_version == "HTTP/2"


async def test_a_burst_shares_few_connections(h2, nginx: Nginx) -> None:
    before = nginx.accepted()
    responses = await asyncio.gather(
        *(h2.get(f"{nginx.https2}/delay?ms=100&n={i}") for i in range(60))
    )
    assert {response.http_version for response in responses} == {"HTTP/2"}
    assert nginx.accepted() - before <= 2
    await asyncio.gather(*(h2.get(f"{nginx.https2}/delay?ms=50") for _ in range(1000)))
    assert nginx.accepted() - before <= 1000 // 32


async def test_a_thousand_answers_are_each_ones_own(h2, nginx: Nginx) -> None:
    responses = await asyncio.gather(*(h2.get(f"{nginx.https2}/query?n={i}") for i in range(1000)))
    assert [response.text for response in responses] == [f"/query?n={i}" for i in range(1000)]


async def test_bodies_go_both_ways(h2, nginx: Nginx) -> None:
    blob = bytes(range(256)) * 4000
    responses = await asyncio.gather(
        *(h2.post(nginx.https2 + "/echo", content=blob) for _ in range(20))
    )
    assert all(
        response.content == blob and response.headers["x-method"] == "POST"
        for response in responses
    )

    async def parts():
        for _ in range(100):
            yield b"y" * 10_000

    assert (await h2.post(nginx.https2 + "/upload", content=parts())).text == "1000000\n"


async def test_headers_arrive_without_those_that_http2_forbids(h2, nginx: Nginx) -> None:
    got = (
        await h2.get(nginx.https2 + "/headers", headers={"X-Mixed-Case": "yes", "X-Empty": ""})
    ).text.splitlines()
    assert "x-mixed-case: yes" in got and not any(
        line.startswith(("connection:", "transfer-encoding:")) for line in got
    )


async def test_head_204_and_errors_have_no_surprise(h2, nginx: Nginx) -> None:
    assert (await h2.head(nginx.https2 + "/big")).content == b""
    assert (await h2.get(nginx.https2 + "/ready")).status_code == 204
    assert (await h2.get(nginx.https2 + "/status/503")).status_code == 503
    assert (await h2.get(nginx.https2 + "/gzip")).text == "hello world " * 5000
    assert (await h2.get(nginx.https2 + "/redirect?n=2", follow_redirects=True)).json()["ok"]


async def test_a_stream_arrives_line_by_line_beside_others(h2, nginx: Nginx) -> None:
    async def one(i: int) -> int:
        async with h2.stream("GET", f"{nginx.https2}/sse?n={i}&ms=5") as response:
            return len([line async for line in response.aiter_lines() if line.startswith("id")])

    assert await asyncio.gather(*(one(i) for i in range(1, 41))) == list(range(1, 41))


async def test_a_cancelled_stream_leaves_the_others_and_the_connection_alone(
    h2, nginx: Nginx
) -> None:
    await h2.get(nginx.https2 + "/json")
    before = nginx.accepted()
    for _ in range(5):
        calls = [h2.get(f"{nginx.https2}/delay?ms={ms}") for ms in (20_000, 150) * 10]
        await asyncio.sleep(0.03)
        for call in calls[::2]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results[::2]] == [asyncio.CancelledError] * 10
        assert all(result.status_code == 200 for result in results[1::2])
    assert nginx.accepted() - before <= 1


async def test_a_stream_closed_early_leaves_the_others_and_the_connection_alone(
    h2, nginx: Nginx
) -> None:
    """More cancelled bytes than the connection's window has: they must be given back."""
    other = h2.get(nginx.https2 + "/delay?ms=500")
    for _ in range(20):
        async with h2.stream("GET", nginx.https2 + "/big") as response:
            got = 0
            async for piece in response.aiter_raw():
                got += len(piece)
                if got > 2_000_000:
                    break
    assert (await asyncio.wait_for(other, 20)).status_code == 200
    assert (await asyncio.wait_for(h2.get(nginx.https2 + "/json"), 20)).status_code == 200


async def test_a_paused_stream_does_not_block_its_siblings(h2, nginx: Nginx) -> None:
    async with h2.stream("GET", nginx.https2 + "/big") as response:
        await anext(response.aiter_raw())
        await asyncio.sleep(0.1)
        responses = await asyncio.wait_for(
            asyncio.gather(*(h2.get(nginx.https2 + "/gzip") for _ in range(20))), 20
        )
        assert all(answer.status_code == 200 for answer in responses)


async def test_fifty_megabytes_come_down_whole(h2, nginx: Nginx) -> None:
    async with h2.stream("GET", nginx.https2 + "/bytes?n=50000000") as response:
        got = 0
        async for piece in response.aiter_bytes():
            got += len(piece)
    assert got == 50_000_000


async def test_no_lane_ever_needed_the_rescue(h2, nginx: Nginx) -> None:
    """A transfer that is never served again would be set free by a net below; the net has caught nothing."""
    for _ in range(5):
        await asyncio.wait_for(
            asyncio.gather(*(h2.get(nginx.https2 + "/delay?ms=20") for _ in range(500))), 20
        )
    assert h2.stats()["rescues"] == 0


def segments_sent(port: int) -> Iterator[int]:
    """Segments with data sent on this process's connections to a port: tcpi_data_segs_out of
    struct tcp_info in linux/tcp.h."""
    for path in list(Path("/proc/self/fd").iterdir()):
        if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
            continue
        with socket.socket(fileno=os.dup(int(path.name))) as sock, contextlib.suppress(OSError):
            if sock.family == socket.AF_INET and sock.getpeername()[1] == port:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
                yield struct.unpack_from("I", info, 156)[0]


async def test_requests_that_start_together_share_segments(h2, nginx: Nginx) -> None:
    """libcurl sends each by itself; the kernel is asked to wait for the last of them."""
    await h2.get(nginx.https2 + "/json")
    port = int(nginx.https2.rpartition(":")[2])
    sent = []
    for _ in range(5):  # a busy machine cuts the start of some into pieces
        (before,) = segments_sent(port)
        answers = await asyncio.gather(*(h2.get(nginx.https2 + "/json") for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}
        (after,) = segments_sent(port)
        sent.append(after - before)
    # 2 with libcurl 7.88, 10 with 8.22, which updates windows; 16 to 56 without the cork
    assert min(sent) < 13
