"""The error tree is httpx's, every libcurl result finds its class, and no text holds a secret."""

from __future__ import annotations

import copy
import errno
import pickle
from typing import Any

import httpx
import pytest
from llmcurl import _exceptions as exc
from llmcurl._models import Request, Response

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

URL = "https://bob:hunter2@api.example/v1?model=x&api_key=sk-secret#frag"


def build(
    reason: str = "curl", code: int = 0, text: str = "", phase: str = "connect", **details: Any
) -> Exception:
    return exc.build_error(reason, code, text, phase, URL, "POST", 10.0, details)


@pytest.mark.parametrize("name", [name for name in exc.__all__ if hasattr(httpx, name)])
def test_a_class_that_httpx_has_stands_under_the_same_classes(name: str) -> None:
    ours = {cls.__name__ for cls in getattr(exc, name).__mro__}
    theirs = {cls.__name__ for cls in getattr(httpx, name).__mro__}
    assert theirs <= ours


def test_our_own_classes_stand_where_a_handler_for_httpx_finds_them() -> None:
    assert issubclass(exc.TotalTimeout, exc.TimeoutException)
    assert issubclass(exc.FileDescriptorLimit, exc.ConnectError)
    assert issubclass(exc.InvalidHeader, exc.LocalProtocolError)
    assert issubclass(exc.InvalidHeader, ValueError)
    assert issubclass(exc.InvalidURL, ValueError)
    assert issubclass(exc.ClientClosed, RuntimeError)


@pytest.mark.parametrize(
    ("code", "phase", "cls"),
    [
        (1, "connect", exc.UnsupportedProtocol),
        (1, "receive", exc.RemoteProtocolError),
        (5, "resolve", exc.ProxyError),
        (6, "resolve", exc.ConnectError),
        (7, "connect", exc.ConnectError),
        (8, "receive", exc.RemoteProtocolError),
        (16, "receive", exc.RemoteProtocolError),
        (18, "receive", exc.RemoteProtocolError),
        (28, "queue", exc.PoolTimeout),
        (28, "resolve", exc.ConnectTimeout),
        (28, "connect", exc.ConnectTimeout),
        (28, "tls", exc.ConnectTimeout),
        (28, "send", exc.WriteTimeout),
        (28, "wait", exc.ReadTimeout),
        (28, "receive", exc.ReadTimeout),
        (35, "tls", exc.ConnectError),
        (42, "send", exc.TransportError),
        (43, "connect", exc.TransportError),
        (47, "wait", exc.TooManyRedirects),
        (52, "wait", exc.RemoteProtocolError),
        (55, "send", exc.WriteError),
        (55, "tls", exc.ConnectError),
        (56, "receive", exc.ReadError),
        (56, "tls", exc.ConnectError),
        (60, "tls", exc.ConnectError),
        (61, "receive", exc.DecodingError),
        (63, "receive", exc.ResponseTooLarge),
        (65, "send", exc.WriteError),
        (77, "tls", exc.ConnectError),
        (92, "receive", exc.RemoteProtocolError),
        (97, "connect", exc.ProxyError),
        (9999, "connect", exc.TransportError),
    ],
)
def test_a_curlcode_becomes_its_class(code: int, phase: str, cls: type[Exception]) -> None:
    error = build(code=code, phase=phase, text="words")
    assert type(error) is cls
    assert isinstance(error, exc.RequestError)
    assert (error.code, error.curl_text, error.phase) == (code, "words", phase)


@pytest.mark.parametrize(
    ("reason", "cls"),
    [
        ("connect_timeout", exc.ConnectTimeout),
        ("read_timeout", exc.ReadTimeout),
        ("write_timeout", exc.WriteTimeout),
        ("pool_timeout", exc.PoolTimeout),
        ("total_timeout", exc.TotalTimeout),
        ("too_large", exc.ResponseTooLarge),
        ("fd_limit", exc.FileDescriptorLimit),
        ("stale", exc.RemoteProtocolError),
        ("closed", exc.ClientClosed),
    ],
)
def test_a_reason_of_the_reactor_becomes_its_class(reason: str, cls: type[Exception]) -> None:
    assert type(build(reason)) is cls


@pytest.mark.parametrize(
    ("text", "cls"),
    [
        ("Recv failure: Connection reset by peer", exc.ReadError),
        ("OpenSSL SSL_read: Connection reset by peer, errno 104", exc.ReadError),
        (
            "OpenSSL SSL_read: error:0A000126:SSL routines::unexpected eof while reading, errno 0",
            exc.RemoteProtocolError,
        ),
        ("OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 0", exc.RemoteProtocolError),
        ("Illegal or missing hexadecimal sequence in chunked-encoding", exc.RemoteProtocolError),
        ("Too large response headers: 307200 > 307199", exc.RemoteProtocolError),
        ("CONNECT tunnel failed, response 407", exc.ProxyError),
    ],
)
def test_a_receive_error_is_told_apart_by_its_text(text: str, cls: type[Exception]) -> None:
    assert type(build(code=56, text=text, phase="receive", os_errno=errno.EINPROGRESS)) is cls


def test_the_kernels_own_connect_timeout_is_a_connect_timeout() -> None:
    assert type(build(code=7, os_errno=errno.ETIMEDOUT)) is exc.ConnectTimeout
    assert type(build(code=7, os_errno=errno.ECONNREFUSED)) is exc.ConnectError


def test_out_of_memory_is_a_memory_error_and_a_bad_url_an_invalid_url() -> None:
    assert type(build(code=27)) is MemoryError
    assert type(build("no_memory", 27, phase="receive")) is MemoryError
    # what libcurl before 8.6 says to a line of the header beyond its ceiling
    error = build(code=27, text="Out of memory", phase="receive")
    assert type(error) is exc.RemoteProtocolError and "line of the header" in str(error)
    assert type(build(code=3, text="Port number was not a decimal number")) is exc.InvalidURL


def test_a_body_beyond_the_ceiling_names_the_setting() -> None:
    text = "Failure writing output to destination"
    error = build("too_large", 23, text, "receive")
    assert type(error) is exc.ResponseTooLarge and "max_response_bytes" in str(error)


def test_the_text_reads_as_a_sentence() -> None:
    error = build("connect_timeout", 28, "Connection timed out", "connect")
    assert str(error) == (
        "ConnectTimeout after 10.00 s while connecting to https://api.example/v1?model=x&api_key=*** "
        "(POST): Connection timed out [CURLE 28]"
    )


@pytest.mark.parametrize("reason", ["curl", "read_timeout", "stale", "closed", "fd_limit"])
@pytest.mark.parametrize("code", [0, 3, 7, 27, 56])
def test_no_error_text_holds_credentials(reason: str, code: int) -> None:
    error = build(reason, code, "cannot use https://bob:hunter2@proxy.example:1 today")
    everything = f"{error} {error!r} {vars(error)}"
    for secret in ("hunter2", "bob", "sk-secret", "frag"):
        assert secret not in everything


def test_the_descriptor_limit_says_its_value_and_how_to_raise_it() -> None:
    text = str(build("fd_limit", limit=1024))
    for words in (
        "RLIMIT_NOFILE is 1024",
        "ulimit -n",
        "LimitNOFILE",
        "setrlimit",
        "max_connections",
    ):
        assert words in text
    assert type(build(code=7, os_errno=errno.EMFILE)) is exc.FileDescriptorLimit


def test_a_stale_connection_says_why_it_was_not_replayed() -> None:
    text = str(build("stale", 56, "Connection reset by peer", "wait"))
    assert "not sent again" in text and "kept-alive" in text and "Connection reset by peer" in text
    assert "its body is a stream" in str(build("stale", 65))


def test_an_error_knows_its_request_even_if_the_client_adds_nothing() -> None:
    error = build(code=7)
    assert isinstance(error, exc.RequestError)
    assert (
        error.request.method == "POST"
        and str(error.request.url) == URL
        and len(error.request.headers) == 0
    )


def test_headers_beyond_the_ceiling_are_a_protocol_error_and_a_body_is_too_large() -> None:
    assert (
        type(build("too_large", 23, "Failed writing header", "receive")) is exc.RemoteProtocolError
    )
    assert type(build("too_large", 23, "Failed writing body", "receive")) is exc.ResponseTooLarge


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_errors_survive_copy_and_pickle(clone: Any) -> None:
    request = Request("POST", "https://x.example/", content=b"body")
    error = build("read_timeout", 28, "text", "wait", bytes_received=3)
    assert isinstance(error, exc.RequestError)
    error.request = request
    again = clone(error)
    assert type(again) is exc.ReadTimeout and str(again) == str(error)
    assert (again.code, again.phase, again.elapsed, again.url) == (28, "wait", 10.0, error.url)
    assert again.details == {"bytes_received": 3}
    assert again.request.content == b"body"

    status = exc.HTTPStatusError(
        "no", request=request, response=Response(404, json={"a": 1}, request=request)
    )
    again = clone(status)
    assert (
        again.response.json() == {"a": 1} and again.request.method == "POST" and str(again) == "no"
    )

    for cls in (exc.StreamConsumed, exc.StreamClosed, exc.ResponseNotRead, exc.RequestNotRead):
        assert str(clone(cls())) == str(cls())


def test_an_error_without_request_says_so() -> None:
    with pytest.raises(RuntimeError, match="request"):
        exc.ReadError("x").request  # noqa: B018
