"""What is received: status, headers, text, decoding, informational answers, bodies that must not be there, facts about the call."""

from __future__ import annotations

import asyncio
import time

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.chaos_scripts import PLAIN
from servers.nginx import Nginx


async def test_an_answer_of_nginx_has_status_headers_json_and_version(client, nginx: Nginx) -> None:
    response = await client.get(nginx.http + "/json")
    assert response.status_code == 200 and response.is_success
    assert response.reason_phrase == "OK"
    assert (
        response.headers["content-type"] == response.headers["CONTENT-TYPE"] == "application/json"
    )
    assert response.json() == {"ok": True, "text": "café", "numbers": [1, 2, 3]}
    assert response.http_version == "HTTP/1.1"


@pytest.mark.parametrize("status", [200, 201, 299, 301, 400, 404, 418, 429, 500, 503, 599])
async def test_every_status_is_an_answer_and_raise_for_status_makes_it_an_error(
    client, chaos: Chaos, status: int
) -> None:
    response = await client.get(chaos.url(f"/ok?status={status}"))
    assert response.status_code == status and response.reason_phrase == "Whatever"
    if status >= 300:
        with pytest.raises(llmcurl.HTTPStatusError) as caught:
            response.raise_for_status()
        assert caught.value.response is response
    else:
        assert response.raise_for_status() is response


async def test_headers_keep_duplicates_empty_values_and_latin1(client, chaos: Chaos) -> None:
    headers = (await client.get(chaos.url("/duplicate"))).headers
    assert headers.get_list("X-Twice") == ["one", "two"]
    assert headers["x-twice"] == "one, two"
    assert headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert headers["x-empty"] == ""
    assert headers["x-latin"] == "café"
    assert headers["x-space"] == "much"
    assert headers["X-Odd-Case"] == "yes"
    assert (b"x-oDD-cAse", b"yes") in headers.raw


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_each_content_encoding_is_decoded(client, chaos: Chaos, coding: str) -> None:
    for extra in ("", "&slow=1"):
        response = await client.get(chaos.url(f"/encoded?as={coding}{extra}"))
        assert response.content == PLAIN
        assert response.headers["content-encoding"] == coding
        assert response.num_bytes_downloaded < len(PLAIN)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_spoilt_encoding_is_a_decoding_error(client, chaos: Chaos, coding: str) -> None:
    with pytest.raises(llmcurl.DecodingError):
        await client.get(chaos.url(f"/encoded?as={coding}&bad=1"))
    assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_gzip_of_nginx_is_decoded(client, nginx: Nginx) -> None:
    response = await client.get(nginx.http + "/gzip")
    assert response.headers["content-encoding"] == "gzip" and response.text == "hello world " * 5000


async def test_text_uses_the_charset_of_the_content_type(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/lines?size=5000"))
    assert response.charset_encoding == "utf-8" and "sécond ☃" in response.text


@pytest.mark.parametrize("code", [100, 102, 103])
@pytest.mark.parametrize("n", [1, 3])
async def test_informational_answers_are_skipped(client, chaos: Chaos, code: int, n: int) -> None:
    response = await client.get(chaos.url(f"/info?code={code}&n={n}"))
    assert response.status_code == 200 and response.json() == {"ok": True}
    assert "x-info" not in response.headers


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 204), ("GET", 304), ("POST", 204), ("HEAD", 200), ("HEAD", 404)]
)
async def test_an_answer_without_a_body_ends_at_its_headers_whatever_content_length_says(
    client, chaos: Chaos, method: str, status: int
) -> None:
    for _ in range(2):
        response = await asyncio.wait_for(
            client.request(method, chaos.url(f"/no-body?status={status}")), 20
        )
        assert response.status_code == status and response.content == b""
        assert response.headers["content-length"] == "1000"
    assert chaos.new_connections == 1


async def test_trailers_stay_out_of_the_headers(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/trailers"))
    assert response.content == b"hello" and "x-sum" not in response.headers
    response = await client.get(chaos.url("/byte-by-byte"))
    assert (
        response.content == b"hello!"
        and "x-trailer" not in response.headers
        and response.headers["x-a"] == "b"
    )
    assert chaos.new_connections == 1


async def test_95_kb_of_headers_are_accepted(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/headers?bytes=95000&each=1000"))
    assert len([name for name in response.headers if name.startswith("x-")]) == 95
    response = await client.get(chaos.url("/headers?bytes=60000&each=60000"))
    assert len(response.headers["x-00000"]) == 60000 - 11


async def test_an_http10_answer_ends_with_its_connection(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/http10"))
    assert (response.http_version, response.reason_phrase, response.text) == (
        "HTTP/1.0",
        "Fine",
        "until the end",
    )


async def test_a_body_may_end_by_a_half_closed_connection(client, chaos: Chaos) -> None:
    assert (await client.get(chaos.url("/half-close"))).text == "half closed"
    await chaos.wait_for_disconnect("/half-close")


@pytest.mark.parametrize("then", ["drain", "close", "stall"])
async def test_an_early_answer_is_given_although_the_upload_did_not_end(
    client, chaos: Chaos, then: str
) -> None:
    async with asyncio.timeout(20):
        response = await client.post(chaos.url(f"/early?then={then}"), content=b"z" * 20_000_000)
    assert response.status_code == 413 and response.json() == {"early": True}


async def test_an_early_200_lets_the_upload_end(client, chaos: Chaos) -> None:
    response = await client.post(
        chaos.url("/early?status=200&then=drain"), content=b"z" * 5_000_000
    )
    assert response.status_code == 200
    seen = chaos.requests()[0]
    deadline = time.monotonic() + 20
    while not seen.body_done and seen.gone is None and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    assert (
        seen.body_done or seen.gone
    )  # sent to its end, or the connection is given up: never left half way
    assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_elapsed_and_timings_tell_the_phases_in_order(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/ok?ms=100"))
    assert 0.09 <= response.elapsed.total_seconds() < 30
    t = response.timings
    assert 0 <= t.queued <= t.connect <= t.sent <= t.first_byte <= t.done < 30
    assert t.first_byte >= 0.09


async def test_reused_tells_whether_the_connection_was_there_before(client, chaos: Chaos) -> None:
    assert [(await client.get(chaos.url("/ok"))).reused for _ in range(3)] == [False, True, True]


async def test_uvicorn_answers_all_shapes(client, asgi) -> None:
    assert (await client.get(asgi.url("/a?b=c"))).json() == {
        "method": "GET",
        "path": "/a",
        "query": {"b": "c"},
        "version": "1.1",
    }
    blob = bytes(range(256)) * 4000
    assert (await client.post(asgi.url("/echo"), content=blob)).content == blob
    assert (await client.post(asgi.url("/slow?ms=20"), json={})).json() == {"slow": True}
    assert (await client.get(asgi.url("/sse?n=2"))).text == "data: 0\n\ndata: 1\n\ndata: [DONE]\n\n"


async def test_a_thousand_answers_are_each_ones_own(client, nginx: Nginx) -> None:
    urls = [f"{nginx.http}/query?n={i}" for i in range(1000)]
    responses = await asyncio.gather(*(client.get(url) for url in urls))
    assert [response.text for response in responses] == [f"/query?n={i}" for i in range(1000)]
