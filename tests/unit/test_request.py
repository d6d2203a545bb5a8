"""Request: headers are added where they lack, mistakes are found before anything is sent."""

from __future__ import annotations

import io
import pickle
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from llmcurl._content import BodySource
from llmcurl._exceptions import InvalidHeader, InvalidURL, LocalProtocolError, RequestNotRead
from llmcurl._headers import Headers
from llmcurl._models import Request
from llmcurl._urls import URL

URL_ = "https://example.com:8443/a?x=1"


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("GET", {}), ("POST", {}), ("get", {}), ("DELETE", {}), ("PUT", {"content": b""}), ("POST", {"content": b"abc"}), ("POST", {"content": "ü"}),
        ("POST", {"json": {"a": 1}}), ("POST", {"data": {"a": "b"}}), ("GET", {"content": b"x"}), ("POST", {"json": 1, "headers": {"content-type": "x/y"}}),
        ("POST", {"content": b"x", "headers": {"Content-Length": "1"}}), ("GET", {"headers": {"host": "other"}}), ("GET", {"headers": [("A", "1"), ("a", "2")]}),
        ("POST", {"content": iter([b"a"])}), ("POST", {"content": iter([b"a"]), "headers": {"Content-Length": "1"}}), ("GET", {"cookies": {"a": "b"}}),
    ],
)  # fmt: skip
def test_the_headers_are_those_of_httpx(method: str, options: dict[str, Any]) -> None:
    ours, theirs = Request(method, URL_, **options), httpx.Request(method, URL_, **options)
    assert ours.method == theirs.method
    assert sorted(ours.headers.multi_items()) == sorted(theirs.headers.multi_items())
    assert next(iter(ours.headers)) == "host"


def test_parameters_are_merged_into_the_url() -> None:
    assert (
        str(Request("GET", URL_, params={"y": 2, "x": [3, 4]}).url)
        == "https://example.com:8443/a?y=2&x=3&x=4"
    )


async def test_a_multipart_request_uses_the_boundary_of_its_header() -> None:
    request = Request(
        "POST",
        URL_,
        files={"f": b"x"},
        headers={"Content-Type": "multipart/form-data; boundary=own"},
    )
    body = await request.aread()
    assert body.startswith(b"--own\r\n") and request.headers["content-length"] == str(len(body))


def test_a_declared_length_holds_for_an_iterator_and_must_fit_other_bodies() -> None:
    request = Request("POST", URL_, content=iter([b"a"]), headers={"Content-Length": "1"})
    assert (
        isinstance(request.body, BodySource)
        and request.body.length == 1
        and "transfer-encoding" not in request.headers
    )
    for content, length in (
        (b"abc", "2"),
        (b"abc", "x"),
        (iter([b"a"]), "-1"),
        (io.BytesIO(b"abc"), "4"),
        (None, "1"),
        (b"abc", "3, 3"),
    ):
        with pytest.raises(LocalProtocolError, match="Content-Length"):
            Request("POST", URL_, content=content, headers={"Content-Length": length})


async def test_a_streamed_body_is_read_once_and_kept() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    request = Request("POST", URL_, content=chunks())
    assert (
        isinstance(request.body, BodySource) and request.headers["transfer-encoding"] == "chunked"
    )
    with pytest.raises(RequestNotRead):
        request.content  # noqa: B018
    with pytest.raises(RuntimeError):
        request.read()
    assert (
        await request.aread() == await request.aread() == request.content == request.read() == b"ab"
    )
    assert Request("POST", URL_, content=io.BytesIO(b"file")).read() == b"file"
    assert [chunk async for chunk in request.stream] == [b"ab"]
    assert [chunk async for chunk in Request("GET", URL_).stream] == []
    assert [chunk async for chunk in Request("POST", URL_, content=[b"x"]).stream] == [b"x"]


@pytest.mark.parametrize(
    "method", ["", "GET ", "G\r\nET", "GET\0", "GÜT", "G" * 65, "GET /x HTTP/1.1\r\nHost: evil"]
)
def test_a_method_must_be_a_token(method: str) -> None:
    with pytest.raises(LocalProtocolError):
        Request(method, URL_)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"url": "http://"}, InvalidURL), ({"url": 5}, TypeError), ({"headers": {"a": "b\n"}}, InvalidHeader), ({"headers": 5}, TypeError),
        ({"content": b"", "json": 1}, TypeError), ({"params": 5}, TypeError), ({"method": 5}, TypeError), ({"cookies": 5}, TypeError),
    ],
)  # fmt: skip
def test_mistakes_are_found_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Request(**{"method": "GET", "url": URL_, **options})


async def test_requests_are_pickled_without_streams_and_extensions() -> None:
    request = Request("POST", URL_, json={"a": 1}, extensions={"x": lambda: 1})
    again = pickle.loads(pickle.dumps(request))
    assert (again.method, again.url, again.headers, again.content) == (
        request.method,
        request.url,
        request.headers,
        b'{"a":1}',
    )
    assert again.extensions == {}
    again = pickle.loads(pickle.dumps(Request("POST", URL_, content=iter([b"a"]))))
    with pytest.raises(RequestNotRead):
        again.content  # noqa: B018
    with pytest.raises(RequestNotRead):
        await again.aread()


def test_a_request_of_checked_parts_is_taken_as_it_is() -> None:
    url, headers = URL(URL_), Headers({"A": "1"})
    request = Request._make("GET", url, headers, b"x")
    assert (
        request.url is url
        and request.headers is headers
        and request.content == b"x"
        and request.extensions == {}
    )


def test_the_repr_has_no_credentials() -> None:
    assert (
        repr(Request("GET", "https://u:hush@h.example/?key=hush"))
        == "<Request('GET', 'https://h.example/?key=***')>"
    )
