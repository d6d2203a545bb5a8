"""What goes wrong on the wire has exactly one class; the error says what happened, where and when, and holds no secret."""

from __future__ import annotations

import asyncio
import pickle
import traceback

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.proxies import HttpProxy
from servers.sockets import refused

PROTOCOL = [
    "/cut?after=0", "/cut?after=5", "/cut?after=40", "/cut?body=0", "/cut?body=500", "/cut?body=500&chunked=1", "/cut?body=1005&chunked=1",
    "/chunks?bad=size", "/chunks?bad=negative", "/chunks?bad=huge", "/chunks?bad=crlf",
    "/garbage?sort=binary", "/garbage?sort=http09", "/garbage?sort=http09&close=1", "/garbage?sort=ssh", "/garbage?sort=version",
    "/garbage?sort=code", "/garbage?sort=length", "/garbage?sort=negative", "/garbage?sort=lengths",
    "/headers?bytes=5000000&each=1000",
]  # fmt: skip


@pytest.mark.parametrize("path", PROTOCOL)
async def test_an_answer_against_the_rules_is_a_remote_protocol_error(
    client, chaos: Chaos, path: str
) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(llmcurl.RemoteProtocolError) as caught:
            await client.get(chaos.url(path))
    assert type(caught.value) is llmcurl.RemoteProtocolError
    assert chaos.count() == 1, "a fresh connection that fails is not tried again"
    assert (await client.get(chaos.url("/ok"))).status_code == 200


@pytest.mark.parametrize("at", ["request", "head", "body"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_reset_is_a_read_error(client, chaos: Chaos, at: str, method: str) -> None:
    with pytest.raises(llmcurl.ReadError) as caught:
        await client.request(method, chaos.url(f"/rst?at={at}"))
    assert type(caught.value) is llmcurl.ReadError
    assert chaos.count() == 1


async def test_a_reset_while_the_body_is_sent_is_a_network_error_or_the_early_answer(
    client, chaos: Chaos
) -> None:
    try:
        response = await client.post(chaos.url("/early?then=rst"), content=b"z" * 50_000_000)
    except llmcurl.NetworkError as error:
        assert type(error) in (llmcurl.ReadError, llmcurl.WriteError)
    else:
        assert response.status_code == 413


async def test_a_refused_connection_is_a_connect_error(client) -> None:
    with refused() as nobody:
        for url in (f"http://{nobody}/", f"https://{nobody}/"):
            with pytest.raises(llmcurl.ConnectError) as caught:
                await client.get(url)
            assert type(caught.value) is llmcurl.ConnectError and caught.value.phase == "connect"


async def test_a_name_that_does_not_exist_is_a_connect_error(client) -> None:
    with pytest.raises(llmcurl.ConnectError) as caught:
        await client.get("http://no-such-host.invalid/", timeout=30)
    assert caught.value.phase == "resolve" and "no-such-host.invalid" in str(caught.value)


async def test_many_connections_refused_at_once_are_as_many_errors(client) -> None:
    with refused() as nobody:
        results = await asyncio.gather(
            *(client.get(f"http://{nobody}/") for _ in range(500)), return_exceptions=True
        )
    assert {type(result) for result in results} == {llmcurl.ConnectError}


async def test_an_error_carries_request_code_text_phase_elapsed_and_url(
    client, chaos: Chaos
) -> None:
    with pytest.raises(llmcurl.RemoteProtocolError) as caught:
        await client.post(chaos.url("/cut?body=500"), json={})
    error = caught.value
    assert error.request.method == error.method == "POST" and str(error.request.url) == chaos.url(
        "/cut?body=500"
    )
    assert error.code == 18 and error.curl_text and error.phase == "receive"
    assert 0 < error.elapsed < 30
    assert chaos.authority in str(error)


@pytest.mark.parametrize(
    ("path", "timeout", "phase"),
    [
        ("/stall", dict(read=0.1), "wait"),
        ("/stall?at=body", dict(read=0.1), "receive"),
        ("/stall?at=upload", dict(write=0.1), "send"),
    ],
)
async def test_a_timeout_tells_the_phase_in_which_it_passed(
    client, chaos: Chaos, path: str, timeout: dict, phase: str
) -> None:
    with pytest.raises(llmcurl.TimeoutException) as caught:
        await client.post(
            chaos.url(path),
            content=b"x" * (20_000_000 if phase == "send" else 1),
            timeout=llmcurl.Timeout(**timeout),
        )
    assert caught.value.phase == phase and caught.value.elapsed >= 0.09


def everything_in(error: BaseException) -> str:
    """All text a log may hold of an error and of those behind it."""
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    for name in ("url", "curl_text", "details", "method", "phase"):
        text += repr(getattr(error, name, ""))
    return text


async def test_no_error_text_holds_credentials(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(
        auth=("someone", "hush-1"), headers={"X-Api-Key": "hush-2"}
    ) as client:
        with refused() as nobody:
            urls = [
                f"http://user:hush-3@{nobody}/x?api_key=hush-4",
                chaos.url("/cut?after=5&key=hush-5").replace("http://", "http://user:hush-6@"),
                chaos.url("/stall").replace("http://", "http://hush-7@"),
            ]
            for url in urls:
                with pytest.raises(llmcurl.TransportError) as caught:
                    await client.get(url, timeout=0.3)
                assert "hush" not in everything_in(caught.value), url
    with HttpProxy(fail="502") as proxy:
        async with llmcurl.AsyncClient(
            proxy=proxy.origin.replace("http://", "http://user:hush-8@")
        ) as client:
            with pytest.raises(llmcurl.TransportError) as caught:
                await client.get("https://127.0.0.1:1/")
            assert "hush" not in everything_in(caught.value)


async def test_errors_can_be_pickled(client, chaos: Chaos) -> None:
    with pytest.raises(llmcurl.RemoteProtocolError) as caught:
        await client.get(chaos.url("/cut?after=5"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is llmcurl.RemoteProtocolError and str(copy) == str(caught.value)


async def test_the_tree_is_httpxs(client) -> None:
    for name, base in {
        "ConnectTimeout": "TimeoutException", "ReadTimeout": "TimeoutException", "WriteTimeout": "TimeoutException", "PoolTimeout": "TimeoutException",
        "ConnectError": "NetworkError", "ReadError": "NetworkError", "WriteError": "NetworkError", "CloseError": "NetworkError",
        "RemoteProtocolError": "ProtocolError", "LocalProtocolError": "ProtocolError", "ProxyError": "TransportError",
        "UnsupportedProtocol": "TransportError", "TimeoutException": "TransportError", "NetworkError": "TransportError",
        "ProtocolError": "TransportError", "TransportError": "RequestError", "DecodingError": "RequestError", "TooManyRedirects": "RequestError",
        "RequestError": "HTTPError", "HTTPStatusError": "HTTPError", "StreamConsumed": "StreamError", "StreamClosed": "StreamError",
        "ResponseNotRead": "StreamError", "RequestNotRead": "StreamError",
    }.items():  # fmt: skip
        assert issubclass(getattr(llmcurl, name), getattr(llmcurl, base)), name


# -- at the call site --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "http://host:99999/",
        "http://host:port/",
        "http://[::1/",
        "http://ho st/",
        "http://exa\nmple/",
        5,
    ],
)
async def test_a_bad_url_fails_where_the_call_is_made(client, url: object) -> None:
    with pytest.raises((llmcurl.InvalidURL, llmcurl.UnsupportedProtocol, TypeError)):
        client.get(url)


@pytest.mark.parametrize(
    "url",
    [
        "/path",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "127.0.0.1:80/x",
        "://x",
    ],
)
async def test_an_unsupported_protocol_fails_where_the_call_is_made(client, url: str) -> None:
    with pytest.raises((llmcurl.UnsupportedProtocol, llmcurl.InvalidURL)):
        client.get(url)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_header_injection_fails_where_the_call_is_made(
    client, chaos: Chaos, value: str
) -> None:
    for headers in ({"X-A": value}, {value: "x"}, [("X-A", value)], {b"X-A": value.encode()}):
        with pytest.raises((llmcurl.LocalProtocolError, ValueError)):
            client.get(chaos.url("/ok"), headers=headers)
    with pytest.raises((llmcurl.LocalProtocolError, ValueError)):
        client.request(f"GET {value}", chaos.url("/ok"))
    assert chaos.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"headers": 5}, {"timeout": "soon"}, {"timeout": -1}, {"params": 5}, {"content": 5}, {"content": b"x", "json": {}}, {"auth": 5},
        {"json": object()}, {"follow_redirects": "maybe"}, {"cookies": 5}, {"unknown": 1},
    ],
    ids=lambda options: " and ".join(options),
)  # fmt: skip
async def test_an_option_of_a_wrong_type_fails_where_the_call_is_made(
    client, chaos: Chaos, options: dict
) -> None:
    with pytest.raises((TypeError, ValueError)):
        client.post(chaos.url("/ok"), **options)
    assert chaos.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "/no/such/file.pem"}, {"verify": 5}, {"proxy": "gopher://x"}, {"limits": 5}, {"base_url": 5}, {"max_redirects": -1},
        {"cert": "/no/such/file.pem"}, {"timeout": "x"}, {"http1": False, "http2": False}, {"headers": {"a": "b\nc"}}, {"nonsense": 1},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_a_wrong_constructor_option_fails_in_the_constructor(options: dict) -> None:
    with pytest.raises((TypeError, ValueError, OSError)):
        llmcurl.AsyncClient(**options)


def test_a_call_outside_of_a_running_loop_says_so() -> None:
    client = llmcurl.AsyncClient()
    with pytest.raises(RuntimeError, match="running event loop"):
        client.get("http://127.0.0.1:1/")
