"""What the caller sees of an answer: the same as over the package's own transport."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import as_sent, facts

ANSWERS = [
    "/ok", "/ok?status=201", "/ok?status=500", "/ok?status=299", "/duplicate", "/close", "/http10", "/byte-by-byte", "/info?code=103",
    "/info?code=100", "/info?n=5", "/no-body?status=204", "/no-body?status=304", "/trailers", "/headers?bytes=95000", "/bytes?n=0",
    "/bytes?n=300000", "/drip?n=3&ms=1", "/half-close", "/set-cookie?a=1&b=2", "/redirect?to=/ok", "/chunks?bad=none", "/basic",
    "/encoded?as=gzip", "/encoded?as=deflate", "/encoded?as=gzip&slow=1", "/lines",
]  # fmt: skip


@pytest.mark.parametrize("path", ANSWERS)
async def test_answers(package, chaos, path):
    async def case(client):
        return facts(await client.get(chaos.url(path)))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None, "the case itself is wrong"
    assert ours.error is None and ours.result == theirs.result


@pytest.mark.parametrize("path", ["/ok", "/no-body?status=200", "/no-body?status=404"])
async def test_head(package, chaos, path):
    async def case(client):
        first = facts(await client.head(chaos.url(path)))
        return first, facts(await client.get(chaos.url("/ok")))

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None and ours.result == theirs.result


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_the_body_is_left_encoded(package, chaos, coding):
    async def case(client):
        async with client.stream("GET", chaos.url(f"/encoded?as={coding}")) as response:
            raw = b"".join([part async for part in response.aiter_raw()])
            return raw, response.num_bytes_downloaded, response.headers.raw

    theirs, ours = await package.both(case, chaos)
    assert theirs.error is None and ours.result == theirs.result


async def test_chunks_come_at_once(package, chaos):
    async def case(client):
        async with client.stream("GET", chaos.url("/drip?n=5&ms=20")) as response:
            return [part async for part in response.aiter_raw()]

    theirs, ours = await package.both(case, chaos)
    assert ours.result == theirs.result == [b"x" * 10] * 5


async def test_the_head_does_not_wait_for_the_body(package, chaos):
    async def case(client):
        async with client.stream("GET", chaos.url("/stall?at=headers")) as response:
            return response.status_code

    theirs, ours = await package.both(case, chaos)
    assert ours.result == theirs.result == 200
    await chaos.wait_for_disconnect("/stall")


async def test_cookies_and_redirects_are_the_clients(package, chaos):
    async def case(client):
        await client.get(chaos.url("/set-cookie?a=1"))
        return facts(await client.get(chaos.url("/redirect?to=/json")))

    theirs, ours = await package.both(case, chaos, follow_redirects=True)
    assert theirs.error is None
    assert [as_sent(r.raw) for r in ours.requests] == [as_sent(r.raw) for r in theirs.requests]


async def test_a_slow_reader_stops_the_sender(package, chaos):
    async def case(client):
        async with client.stream("GET", chaos.url("/bytes?n=50000000")) as response:
            await asyncio.sleep(0.3)
            sent = chaos.requests("/bytes")[-1].sent
            total = 0
            async for part in response.aiter_raw():
                total += len(part)
            return sent < 20_000_000, total

    seen = await package.observe(case, package.ours(), chaos)
    assert seen.result == (True, 50_000_000)


@pytest.mark.parametrize("where", ["head", "middle"])
async def test_closing_early_drops_the_connection(package, chaos, where):
    async def case(client):
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")) as response:
            if where == "middle":
                async for _ in response.aiter_bytes():
                    break
            await response.aclose()
            await response.aclose()  # idempotent
        await chaos.wait_for_disconnect("/drip", timeout=20)
        return (await client.get(chaos.url("/ok"))).status_code

    theirs, ours = await package.both(case, chaos)
    assert ours.error is None and ours.result == theirs.result == 200
    assert len({r.connection for r in ours.requests}) == 2


async def test_closing_the_client_with_open_streams(package, chaos):
    client = package.module.AsyncClient(transport=package.ours())
    request = client.build_request("GET", chaos.url("/drip?n=1000&ms=5"))
    response = await client.send(request, stream=True)
    await asyncio.wait_for(client.aclose(), 20)
    await chaos.wait_for_disconnect("/drip", timeout=20)
    with pytest.raises(package.module.TransportError):
        async for _ in response.aiter_raw():
            pass
    await response.aclose()


async def test_http2(package, nginx):
    async def case(client):
        got = []
        for method, path, body in (
            ("GET", "/json", None),
            ("POST", "/upload", b"x" * 5000),
            ("HEAD", "/json", None),
        ):
            response = await client.request(method, nginx.https2 + path, content=body)
            got.append((response.status_code, response.http_version, response.reason_phrase, response.content,
                        [pair for pair in response.headers.raw if pair[0] != b"date"], "reason_phrase" in response.extensions))  # fmt: skip
        return got

    pytest.importorskip("h2")
    theirs, ours = await package.both(case, transport={"http2": True, "verify": False})
    assert theirs.error is None and ours.error is None
    assert ours.result == theirs.result and ours.result[0][1] == "HTTP/2"


async def test_http2_request_headers(package, nginx):
    headers = [
        ("X-A", "1"),
        ("x-a", "2"),
        ("X-Empty", ""),
        ("Connection", "keep-alive"),
        ("X-Z", "z"),
    ]

    async def case(client):
        url = nginx.https2 + "/headers"
        answers = [
            await client.get(url, headers=headers),
            await client.put(url, headers=headers),
            await client.post(url, headers={"Host": "other.example"}, content=b""),
        ]
        assert [answer.http_version for answer in answers] == ["HTTP/2"] * 3
        return [answer.text for answer in answers]

    pytest.importorskip("h2")
    theirs, ours = await package.both(case, transport={"http2": True, "verify": False})
    assert theirs.error is None and ours.result == theirs.result


async def test_http2_bodies(package, nginx):
    async def body():
        for _ in range(50):
            yield b"x" * 10_000

    async with package.client(package.ours(http2=True, verify=False)) as client:
        response = await client.post(nginx.https2 + "/upload", content=body())
        assert response.http_version == "HTTP/2" and response.text.strip() == "500000"
