"""Nothing that a caller passes on from a stranger can end a line of the request, or leave its field."""

from __future__ import annotations

import pickle

import llmcurl
import pytest

EVIL = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\x00b", "\r\n\r\nGET /evil HTTP/1.1"]


@pytest.mark.parametrize("evil", EVIL)
async def test_header_names_and_values(client, chaos, evil: str) -> None:
    for headers in ({"X-A": evil}, {evil: "x"}, [("X-A", evil)], [(b"X-A", evil.encode())]):
        with pytest.raises(llmcurl.InvalidHeader):
            await client.get(chaos.url("/ok"), headers=headers)
        with pytest.raises(llmcurl.InvalidHeader):
            llmcurl.AsyncClient(headers=headers)
    assert chaos.count() == 0


@pytest.mark.parametrize("method", [*EVIL, "GET /evil", "GET\t", "", "G(T", "GÉT"])
async def test_methods(client, chaos, method: str) -> None:
    with pytest.raises(llmcurl.LocalProtocolError):
        await client.request(method, chaos.url("/ok"))
    assert chaos.count() == 0


@pytest.mark.parametrize("evil", EVIL)
async def test_paths_queries_and_hosts(client, chaos, evil: str) -> None:
    """Refused, or escaped: one request arrives, for one target."""
    for url in (
        chaos.url(f"/ok/{evil}"),
        chaos.url(f"/ok?{evil}"),
        chaos.url("/ok").replace("127.0.0.1", "127.0.0.1" + evil),
    ):
        try:
            await client.get(url)
        except (llmcurl.InvalidURL, llmcurl.TransportError):
            continue
    await client.get(chaos.url("/ok"), params={"q": evil})
    for seen in chaos.requests():
        assert (
            seen.path != "/evil"
            and seen.header("X-Evil") is None
            and seen.raw.count(b"\r\n\r\n") == 1
        )
    assert chaos.requests()[-1].query["q"] == evil.replace("\r\n", "\r\n")


@pytest.mark.parametrize("evil", EVIL)
async def test_cookies_and_credentials(client, chaos, evil: str) -> None:
    try:
        await client.get(chaos.url("/ok"), cookies={"a": evil})
    except (llmcurl.InvalidHeader, ValueError):
        pass
    await client.get(chaos.url("/ok"), auth=("user", evil))  # base64
    with pytest.raises((llmcurl.InvalidHeader, ValueError)):
        await client.get(chaos.url("/ok"), auth=llmcurl.BearerAuth(evil))
    assert all(seen.header("X-Evil") is None for seen in chaos.requests())


@pytest.mark.parametrize("evil", ['a"; filename="b', "a\r\nX-Evil: 1", 'a"\r\n\r\n--boundary'])
async def test_names_in_a_form(client, chaos, evil: str) -> None:
    answer = await client.post(
        chaos.url("/json"), files={evil: (evil, b"content", "text/plain")}, data={evil: "value"}
    )
    head = answer.json()["body"].split("\r\n\r\n")[0]
    lines = head.split("\r\n")
    assert not any(line.startswith("X-Evil") for line in lines)
    assert answer.json()["body"].count('filename="') == 1


@pytest.mark.parametrize("evil", EVIL[:3])
async def test_headers_for_a_proxy(evil: str, http_proxy) -> None:
    with pytest.raises(llmcurl.InvalidHeader):
        llmcurl.Proxy(http_proxy.origin, headers={"X-P": evil})


async def test_a_length_cannot_be_forged(client, chaos) -> None:
    """Content-Length is libcurl's: a wrong one would let the next request be part of this body."""
    answer = await client.post(
        chaos.url("/json"), content=b"GET /evil HTTP/1.1\r\n\r\n", headers={"Content-Length": "0"}
    )
    assert answer.json()["body"].startswith("GET /evil") and chaos.count() == 1
    chunked = await client.post(
        chaos.url("/json"), content=b"body", headers={"Transfer-Encoding": "chunked"}
    )
    assert chunked.json()["body"] == "body"
    names = [name.lower() for name, _ in chunked.json()["headers"]]
    assert not ("transfer-encoding" in names and "content-length" in names)


async def test_pickles_hold_no_stream_and_no_extension_objects(client, chaos) -> None:
    answer = await client.get(chaos.url("/ok"), extensions={"x": print})
    again = pickle.loads(pickle.dumps(answer))
    assert again.json() == {"ok": True} and again.request.extensions == {}
