"""Response: httpx's interface on the native base; whatever costs is made when it is asked for."""

from __future__ import annotations

import copy
import datetime
import gzip
import json
import math
import pickle
from typing import Any

import brotli
import httpx
import msgspec
import pytest
import zstandard
from llmcurl._exceptions import DecodingError, HTTPStatusError, ResponseTooLarge
from llmcurl._models import RawResponse, Request, Response, Timings

HEAD = b"HTTP/1.1 201 Made Up\r\nContent-Type: application/json\r\nX-A: 1\r\nx-a: 2\r\n"


def native(
    head: bytes = HEAD, body: bytes = b"{}", version: str = "HTTP/1.1", status: int = 201
) -> Response:
    """As the native side makes them: without Response.__init__."""
    response = Response.__new__(Response)
    RawResponse.__init__(
        response,
        status,
        head=head,
        body=body,
        url="https://h.example/p?key=hush",
        method="POST",
        http_version=version,
    )
    return response


def test_a_native_response_shows_what_was_received() -> None:
    response = native()
    assert response._extra is None, "nothing is made that nobody asked for"
    assert (response.status_code, response.reason_phrase, response.http_version) == (
        201,
        "Made Up",
        "HTTP/1.1",
    )
    assert response.headers["x-a"] == "1, 2" and response.headers is response.headers
    assert response.url == "https://h.example/p?key=hush"
    assert response.request.method == "POST" and response.request is response.request
    assert response.content == b"{}" and response.json() == {} and response.text == "{}"
    assert response.is_closed and response.is_stream_consumed and response.num_bytes_downloaded == 2
    assert response.history == [] and response.next_request is None
    assert response.extensions == {"http_version": b"HTTP/1.1", "reason_phrase": b"Made Up"}
    assert repr(response) == "<Response [201 Made Up]>"


def test_http_2_has_the_standard_phrase_and_http_1_only_its_own() -> None:
    assert native(b"HTTP/2 404 \r\n", version="HTTP/2", status=404).reason_phrase == "Not Found"
    assert native(b"HTTP/2 799 \r\n", version="HTTP/2", status=799).reason_phrase == ""
    assert native(b"HTTP/1.1 404\r\n", status=404).reason_phrase == ""
    assert native(b"HTTP/1.1 404 \r\n", status=404).reason_phrase == ""
    assert native(b"HTTP/1.1 404 No\xe9l\r\n", status=404).reason_phrase == "Noél"


def test_the_client_attaches_what_it_knows_and_the_request_may_be_made_late() -> None:
    made = []

    def make() -> Request:
        made.append(1)
        return Request("POST", "https://h.example/late")

    response, other = native(), native()
    response._attach(request=make, history=[other])
    assert not made
    assert response.request is response.request and made == [1]
    assert response.history == [other]
    response.request = Request("GET", "https://h.example/set")
    response.history = []
    response.next_request = other.request
    assert (
        response.request.method == "GET"
        and response.history == []
        and response.next_request is other.request
    )


@pytest.mark.parametrize(
    "status", [100, 199, 200, 204, 299, 300, 301, 304, 399, 400, 404, 499, 500, 599, 600, 99]
)
def test_the_kind_of_a_status_is_that_of_httpx(status: int) -> None:
    ours, theirs = Response(status), httpx.Response(status)
    for name in (
        "is_informational",
        "is_success",
        "is_redirect",
        "is_client_error",
        "is_server_error",
        "is_error",
        "has_redirect_location",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_redirect_needs_a_location() -> None:
    assert Response(302, headers={"Location": "/x"}).has_redirect_location
    assert (
        not Response(302).has_redirect_location
        and not Response(304, headers={"Location": "/x"}).has_redirect_location
    )


@pytest.mark.parametrize(
    "options",
    [
        {}, {"text": "tüxt"}, {"html": "<p>"}, {"json": {"a": [1]}}, {"content": b"ab"}, {"content": "ü"}, {"content": b""},
        {"content": b"x", "headers": {"Content-Length": "9"}}, {"json": 1, "headers": {"content-type": "a/b"}}, {"headers": [("A", "1"), ("a", "2")]},
    ],
)  # fmt: skip
def test_a_response_made_by_hand_is_that_of_httpx(options: dict[str, Any]) -> None:
    ours, theirs = Response(200, **options), httpx.Response(200, **options)
    assert (
        ours.content == theirs.content
        and ours.text == theirs.text
        and ours.encoding == theirs.encoding
    )
    ours_headers = [item for item in ours.headers.multi_items() if item != ("content-length", "0")]
    assert sorted(ours_headers) == sorted(
        item for item in theirs.headers.multi_items() if item != ("content-length", "0")
    )
    assert (
        ours.reason_phrase == theirs.reason_phrase == "OK"
        and ours.http_version == theirs.http_version
    )
    assert ours.read() == theirs.read()


def test_extensions_and_defaults_may_be_given() -> None:
    response = Response(
        200, extensions={"http_version": b"HTTP/2", "reason_phrase": b"Fine", "x": 1}
    )
    assert (
        response.http_version == "HTTP/2"
        and response.reason_phrase == "Fine"
        and response.extensions["x"] == 1
    )
    old = Response(301)
    assert Response(200, history=[old]).history == [old]
    assert Response(200, content=b"\xe9", default_encoding="latin-1").text == "é"
    assert (
        Response(
            200,
            content=b"\xe9",
            default_encoding=lambda data: "latin-1" if data == b"\xe9" else "utf-8",
        ).text
        == "é"
    )


@pytest.mark.parametrize("status", [300, 301, 404, 500, 100, 600])
def test_raise_for_status_raises_unless_2xx(status: int) -> None:
    request = Request(
        "POST", "https://u:hush@h.example/p?api_key=hush", headers={"Authorization": "hush"}
    )
    response = Response(status, request=request, headers={"Location": "/next?token=hush"})
    with pytest.raises(HTTPStatusError) as caught:
        response.raise_for_status()
    assert caught.value.response is response and caught.value.request is request
    assert (
        str(status) in str(caught.value)
        and "https://h.example/p" in str(caught.value)
        and "hush" not in str(caught.value)
    )
    assert ("/next" in str(caught.value)) == (status == 301)
    fine = Response(204)
    assert fine.raise_for_status() is fine


def test_without_a_request_there_is_none_to_name() -> None:
    response = Response(404)
    for use in (lambda: response.request, lambda: response.url, response.raise_for_status):
        with pytest.raises(RuntimeError, match="request"):
            use()


@pytest.mark.parametrize(
    ("headers", "content", "text", "encoding"),
    [
        ({}, "ü".encode(), "ü", "utf-8"),
        ({"Content-Type": "text/plain; charset=iso-8859-1"}, b"\xfc", "ü", "iso-8859-1"),
        ({"Content-Type": "text/plain; charset=nonsense"}, "ü".encode(), "ü", "utf-8"),
        ({"Content-Type": "text/plain; charset=hex"}, b"ab", "ab", "utf-8"),
        ({"Content-Type": "text/plain"}, b"\xff", "\ufffd", "utf-8"),
        ({}, b"\xef\xbb\xbfbom", "bom", "utf-8"),
    ],
)
def test_text_is_read_in_the_charset(
    headers: dict[str, str], content: bytes, text: str, encoding: str
) -> None:
    response = Response(200, headers=headers, content=content)
    assert response.text == text and response.encoding == encoding


def test_the_encoding_may_be_set_before_text_is_read() -> None:
    response = Response(200, content=b"\xfc")
    response.encoding = "latin-1"
    assert response.text == "ü"
    with pytest.raises(ValueError):
        response.encoding = "utf-8"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": [1, 2.5, null, true, "\\u00fc"]}', b" 1 ", '"ü"'.encode("utf-16"), '"ü"'.encode("utf-32"), b'\xef\xbb\xbf{"a": 1}', b"[NaN, Infinity]",
        b'"\\ud800"', b"123456789012345678901234567890", b"1e999",
    ],
)  # fmt: skip
def test_json_takes_all_that_httpx_takes(data: bytes) -> None:
    ours, theirs = Response(200, content=data).json(), httpx.Response(200, content=data).json()
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b'{"a": 1} x', b"\xff"])
def test_what_is_no_json_raises_what_httpx_raises(data: bytes) -> None:
    with pytest.raises(ValueError) as theirs:
        httpx.Response(200, content=data).json()
    with pytest.raises(ValueError) as ours:
        Response(200, content=data).json()
    assert type(ours.value) is type(theirs.value) and str(ours.value) == str(theirs.value)


def test_json_may_be_typed_or_use_the_options_of_the_standard_library() -> None:
    class Answer(msgspec.Struct):
        a: int

    response = Response(200, content=b'\xef\xbb\xbf{"a": 1}')
    assert response.json(type=Answer) == Answer(1)
    assert Response(200, content=b"1.5").json(parse_float=str) == "1.5"
    with pytest.raises(ValueError):
        Response(200, content=b'{"a": "x"}').json(type=Answer)
    assert math.isnan(Response(200, content=b"NaN").json())
    assert json.loads(Response(200, json={"a": 1}).content) == {"a": 1}


ENCODERS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoded_body_is_decoded_and_the_raw_size_known(name: str) -> None:
    body = ENCODERS[name](b'{"a": "' + b"x" * 1000 + b'"}')
    response = Response(200, headers={"Content-Encoding": name.upper()}, content=body)
    assert response.json() == {"a": "x" * 1000} and response.num_bytes_downloaded == len(body) < 200
    head = b"HTTP/1.1 200 OK\r\nCONTENT-ENCODING: " + name.encode() + b"\r\n"
    for finish in (True, False):
        response = native(head, body)
        if finish:
            response._finish()
        assert len(response.content) == 1009 and response.content is response.content


def test_an_unknown_encoding_passes_through() -> None:
    assert (
        Response(200, headers={"Content-Encoding": "aws-chunked"}, content=b"raw").content == b"raw"
    )


def test_a_body_that_cannot_be_decoded_raises_when_it_is_delivered() -> None:
    response = native(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", b"not gzip")
    with pytest.raises(DecodingError) as caught:
        response._finish()
    assert (
        caught.value.url == "https://h.example/p?key=***"
        and caught.value.method == "POST"
        and caught.value.phase == "receive"
    )
    with pytest.raises(DecodingError):
        response.content  # noqa: B018
    with pytest.raises(DecodingError):
        Response(200, headers={"Content-Encoding": "gzip"}, content=b"not gzip")


def test_a_bomb_is_refused() -> None:
    bomb = gzip.compress(b"\0" * 70 * 1024 * 1024)
    response = native(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", bomb)
    with pytest.raises(ResponseTooLarge):
        response._finish()
    response._attach(max_decoded=100_000_000)
    assert len(response.content) == 70 * 1024 * 1024


def test_an_answer_to_head_has_no_body_to_decode() -> None:
    assert native(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", b"").content == b""


def test_cookies_and_links_are_read_from_the_headers() -> None:
    head = b'HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nLink: </p?a=1,2>; rel="next"; title="x, y", <https://z/>\r\n'
    response = native(head)
    assert dict(response.cookies) == {"a": "1", "b": "2"} and response.cookies is response.cookies
    assert response.links == {
        "next": {"url": "/p?a=1,2", "rel": "next", "title": "x, y"},
        "https://z/": {"url": "https://z/"},
    }
    assert native().links == {}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "<>",
        "<a",
        "a>; rel=x",
        "<a>; rel=next, <b>; rel=prev",
        '<a>; rel="n\\"x"',
        "<a>;;; rel = next ;",
        "<a> rel=next",
        ", , <a>",
        "<a>; rel",
        '<a>; title="' + "\\" * 5000,
    ],
)
def test_any_link_header_can_be_read(value: str) -> None:
    links = Response(200, headers={"Link": value}).links
    assert all("url" in link for link in links.values())
    if value.startswith("<a>; rel=next,"):
        assert {key: link["url"] for key, link in links.items()} == {"next": "a", "prev": "b"}


def test_timings_name_what_did_not_happen_none() -> None:
    timings = Timings.from_raw((0.1, -1.0, -1.0, -1.0, 0.2, 0.3, 0.4))
    assert (
        timings == Timings(queued=0.1, sent=0.2, first_byte=0.3, done=0.4) and timings.dns is None
    )


def test_elapsed_is_known_once_the_answer_is_complete() -> None:
    response = Response(200)
    assert response.timings == Timings()
    with pytest.raises(RuntimeError):
        response.elapsed  # noqa: B018
    response._attach(timings=Timings(done=1.5))
    assert response.elapsed == datetime.timedelta(seconds=1.5)
    response.elapsed = datetime.timedelta(seconds=2)
    assert response.elapsed.total_seconds() == 2


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_a_response_survives_copy_and_pickle(clone: Any) -> None:
    class Local:
        pass

    body = gzip.compress(b'{"a": 1}')
    response = native(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nX-A: 1\r\n", body, status=200)
    response._attach(
        request=lambda: Request("POST", "https://h.example/", json={"q": 1}),
        history=[Response(301)],
    )
    response.extensions["unpicklable"] = Local
    again = clone(response)
    assert type(again) is Response and again.json() == {"a": 1} and again.headers["x-a"] == "1"
    assert (
        again.request.content == b'{"q":1}'
        and again.url == response.url
        and again.http_version == "HTTP/1.1"
    )
    assert again.timings == response.timings and again.num_bytes_downloaded == len(body)
    assert [old.status_code for old in again.history] == [301]
    assert clone(Response(200, json=1)).json() == 1


@pytest.mark.parametrize(
    "options",
    [{"headers": {"a": "b\n"}}, {"content": 5}, {"content": {"a": 1}}, {"json": object()}],
)
def test_arguments_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Response(200, **options)
