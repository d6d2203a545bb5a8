"""From what libcurl and the reactor report to an exception of `_exceptions`.

The rule: the most specific class of httpx's tree, so that code written for httpx (and the
retry rules of the SDKs, which look at classes) does the right thing. libcurl's codes are
described in libcurl-errors(3).
"""

from __future__ import annotations

import errno
import os
from typing import Any

from . import _exceptions as exc
from ._headers import Headers
from ._redact import mask_url, scrub_text
from ._request import Request
from ._urls import URL

__all__ = ["make_error"]

_REASONS: dict[str, type[exc.RequestError]] = {
    "connect_timeout": exc.ConnectTimeout,
    "read_timeout": exc.ReadTimeout,
    "idle_timeout": exc.ReadTimeout,
    "write_timeout": exc.WriteTimeout,
    "pool_timeout": exc.PoolTimeout,
    "total_timeout": exc.TotalTimeout,
    "too_large": exc.ResponseTooLarge,
    "fd_limit": exc.FileDescriptorLimit,
}

_TIMEOUT_BY_PHASE: dict[str, type[exc.TimeoutException]] = {
    "queue": exc.PoolTimeout,
    "resolve": exc.ConnectTimeout,
    "connect": exc.ConnectTimeout,
    "tls": exc.ConnectTimeout,
    "send": exc.WriteTimeout,
    "wait": exc.ReadTimeout,
    "receive": exc.ReadTimeout,
}

# CURLcode -> class. 3, 27, 28, 55 and 56 need a closer look and are handled below; a code
# that is not here becomes TransportError.
_CODES: dict[int, type[exc.RequestError]] = {
    1: exc.UnsupportedProtocol,  # CURLE_UNSUPPORTED_PROTOCOL
    4: exc.UnsupportedProtocol,  # CURLE_NOT_BUILT_IN
    5: exc.ProxyError,  # CURLE_COULDNT_RESOLVE_PROXY
    6: exc.ConnectError,  # CURLE_COULDNT_RESOLVE_HOST
    7: exc.ConnectError,  # CURLE_COULDNT_CONNECT
    8: exc.RemoteProtocolError,  # CURLE_WEIRD_SERVER_REPLY
    16: exc.RemoteProtocolError,  # CURLE_HTTP2
    18: exc.RemoteProtocolError,  # CURLE_PARTIAL_FILE
    26: exc.WriteError,  # CURLE_READ_ERROR: our body could not be read for sending
    35: exc.ConnectError,  # CURLE_SSL_CONNECT_ERROR
    45: exc.ConnectError,  # CURLE_INTERFACE_FAILED: local_address cannot be used
    27: exc.RemoteProtocolError,  # CURLE_OUT_OF_MEMORY: see make_error
    47: exc.TooManyRedirects,  # CURLE_TOO_MANY_REDIRECTS
    52: exc.RemoteProtocolError,  # CURLE_GOT_NOTHING
    53: exc.ConnectError,  # CURLE_SSL_ENGINE_NOTFOUND
    54: exc.ConnectError,  # CURLE_SSL_ENGINE_SETFAILED
    58: exc.ConnectError,  # CURLE_SSL_CERTPROBLEM
    59: exc.ConnectError,  # CURLE_SSL_CIPHER
    60: exc.ConnectError,  # CURLE_PEER_FAILED_VERIFICATION
    61: exc.DecodingError,  # CURLE_BAD_CONTENT_ENCODING
    63: exc.ResponseTooLarge,  # CURLE_FILESIZE_EXCEEDED
    64: exc.ConnectError,  # CURLE_USE_SSL_FAILED
    65: exc.WriteError,  # CURLE_SEND_FAIL_REWIND
    66: exc.ConnectError,  # CURLE_SSL_ENGINE_INITFAILED
    77: exc.ConnectError,  # CURLE_SSL_CACERT_BADFILE
    80: exc.CloseError,  # CURLE_SSL_SHUTDOWN_FAILED
    82: exc.ConnectError,  # CURLE_SSL_CRL_BADFILE
    83: exc.ConnectError,  # CURLE_SSL_ISSUER_ERROR
    90: exc.ConnectError,  # CURLE_SSL_PINNEDPUBKEYNOTMATCH
    91: exc.ConnectError,  # CURLE_SSL_INVALIDCERTSTATUS
    92: exc.RemoteProtocolError,  # CURLE_HTTP2_STREAM
    95: exc.RemoteProtocolError,  # CURLE_HTTP3
    96: exc.ConnectError,  # CURLE_QUIC_CONNECT_ERROR
    97: exc.ProxyError,  # CURLE_PROXY
    98: exc.ConnectError,  # CURLE_SSL_CLIENTCERT
    99: exc.NetworkError,  # CURLE_UNRECOVERABLE_POLL
    100: exc.RemoteProtocolError,  # CURLE_TOO_LARGE: headers beyond libcurl's ceiling
    101: exc.ConnectError,  # CURLE_ECH_REQUIRED
}

_CONNECT_PHASES = frozenset({"resolve", "connect", "tls"})
# libcurl reports CONNECT's refusal as a receive error (56), since 8.2x as a failed connect (7).
_PROXY_TEXTS = ("connect tunnel", "proxy connect", "proxytunnel", "from proxy after connect")
# A close without TLS close_notify, a chunk header that is none, headers that are none: the
# peer broke the protocol, the network did not fail.
_PROTOCOL_TEXTS = (
    "unexpected eof",
    "closed abruptly",
    "close notify",
    "errno 0",  # SSL_ERROR_SYSCALL without an error is an end of file
    "chunk",
    "malformed",
    "too large response headers",
    "too many response headers",
    "illegal",
    "invalid",
)

_WHILE: dict[str, str] = {
    "queue": "while waiting for a connection slot to",
    "resolve": "while resolving the name of",
    "connect": "while connecting to",
    "tls": "during the TLS handshake with",
    "send": "while sending to",
    "wait": "while waiting for the answer of",
    "receive": "while receiving from",
}

_HINTS: dict[type[Exception], str] = {
    exc.ConnectTimeout: "no connection within Timeout.connect",
    exc.ReadTimeout: "the server sent nothing for Timeout.read",
    exc.WriteTimeout: "the server took nothing of the body for Timeout.write",
    exc.PoolTimeout: "no slot became free within Timeout.pool",
    exc.TotalTimeout: "the call was not done within Timeout.total",
    exc.ResponseTooLarge: "the answer is larger than allowed",
}


def make_error(
    reason: str,
    code: int,
    text: str,
    phase: str,
    url: str,
    method: str,
    elapsed: float,
    details: dict[str, Any],
) -> Exception:
    """The exception for one failed transfer.

    Args:
        reason: "curl", or why the reactor ended it ("connect_timeout", "stale", "closed"...).
        code: CURLcode, 0 if none.
        text: libcurl's words or the reactor's, "" if none.
        phase: where it was, see `RequestError.phase`.
        url, method: of the request; the URL may hold credentials, the error will not.
        elapsed: seconds since the call was made.
        details: goes to ``RequestError.details``; "os_errno" and "limit" are looked at.

    Returns:
        A `RequestError`, or `InvalidURL`, `ClientClosed` or MemoryError.
    """
    text = scrub_text(text)
    shown = mask_url(url)
    if reason == "closed":
        # libcurl's words would speak of a callback
        return exc.ClientClosed(f"The client was closed during {method} {shown}.")
    if code == 27 and not (reason == "curl" and phase == "receive"):
        return MemoryError(f"{text or 'libcurl ran out of memory'} ({method} {shown})")
    if code == 3 and reason == "curl":
        return exc.InvalidURL(f"libcurl refuses the URL {shown!r}: {text or 'malformed'}")

    cls = _pick(reason, code, text, phase, details)
    if cls is exc.FileDescriptorLimit:
        said = _descriptor_text(details)
    elif reason == "stale":
        said = _stale_text(code, text)
    elif code == 27:
        # libcurl before 8.6 has no other code for a line of the header beyond its ceiling.
        said = "a line of the header is too large (or libcurl ran out of memory)"
    elif code == 23 and reason == "too_large" and cls is exc.ResponseTooLarge:
        said = "the body is larger than max_response_bytes allows; stream it if that is meant to be"
    elif code == 42 and cls is exc.ConnectError:
        said = f"a socket option could not be set: {os.strerror(details['os_errno'])}"
    else:
        said = text or _HINTS.get(cls, "no reason given")
    after = f" after {elapsed:.2f} s"
    where = f" {_WHILE.get(phase, 'at')} {shown}" if shown else ""
    how = f" ({method})" if method else ""
    number = f" [CURLE {code}]" if code else ""
    error = cls(
        f"{cls.__name__}{after}{where}{how}: {said}{number}",
        code=code,
        curl_text=text,
        phase=phase,
        elapsed=elapsed,
        url=shown,
        method=method,
        details=details,
    )
    error.request = _request_of(method, url)
    return error


def _request_of(method: str, url: str) -> Request | None:
    """What is known of the request, until the client puts in the one it has."""
    try:
        return Request._make(method, URL(url), Headers()) if method and url else None
    except exc.InvalidURL:
        return None


def _pick(
    reason: str, code: int, text: str, phase: str, details: dict[str, Any]
) -> type[exc.RequestError]:
    """The class for a failure that is neither of the special ones in `make_error`."""
    if reason == "too_large" and "header" in text.lower():
        # Not a large answer but a broken one; h11 and h2 see it so, too.
        return exc.RemoteProtocolError
    fixed = _REASONS.get(reason)
    if fixed is not None:
        return fixed
    if reason == "stale":
        return (
            exc.ReadError
            if details.get("reset") or "reset by peer" in text.lower()
            else exc.RemoteProtocolError
        )
    os_errno = details.get("os_errno", 0)
    if os_errno in (errno.EMFILE, errno.ENFILE) and phase in _CONNECT_PHASES:
        return exc.FileDescriptorLimit
    if code == 28:
        return _TIMEOUT_BY_PHASE.get(phase, exc.TimeoutException)
    if code == 7 and os_errno == errno.ETIMEDOUT:
        # The kernel gave up before our own deadline: a timeout all the same.
        return exc.ConnectTimeout
    if code == 1 and phase in ("wait", "receive"):
        # "Received HTTP/0.9 when not allowed", "Unsupported HTTP version in response".
        return exc.RemoteProtocolError
    if code in (55, 56):
        return _broken(code, text, phase)
    if code == 7 and _of_proxy(text):
        return exc.ProxyError
    if code == 42 and os_errno and phase in _CONNECT_PHASES:
        return exc.ConnectError  # setsockopt() failed
    return _CODES.get(code, exc.TransportError)


def _of_proxy(text: str) -> bool:
    return any(words in text.lower() for words in _PROXY_TEXTS)


def _broken(code: int, text: str, phase: str) -> type[exc.RequestError]:
    """CURLE_SEND_ERROR (55) and CURLE_RECV_ERROR (56): who is to blame?"""
    lowered = text.lower()
    if _of_proxy(text):
        return exc.ProxyError
    if phase in _CONNECT_PHASES:
        return exc.ConnectError
    if code == 55:
        return exc.WriteError
    # os_errno cannot decide: libcurl often leaves that of the connect (EINPROGRESS) in it.
    if "reset" not in lowered and any(words in lowered for words in _PROTOCOL_TEXTS):
        return exc.RemoteProtocolError
    return exc.ReadError


def _stale_text(code: int, text: str) -> str:
    """Why the reactor did not simply send the request again on a fresh connection."""
    if code == 65:
        words = (
            "the server did not go on with the connection or the request; it was not sent again "
            "because its body is a stream, of which a part had been read"
        )
    else:
        words = (
            "the server closed the kept-alive connection as the request was sent; it was not sent "
            "again because the server may have acted on it"
        )
    return f"{words} ({text})" if text else words


def _descriptor_text(details: dict[str, Any]) -> str:
    """Names the limit, its value and the ways to raise it."""
    soft: object = details.get("limit")
    hard: object = "unknown"
    try:
        import resource

        now_soft, now_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = soft or now_soft
        hard = "unlimited" if now_hard == resource.RLIM_INFINITY else now_hard
    except (ImportError, OSError, ValueError):  # pragma: no cover - not on Linux
        soft = soft or "unknown"
    return (
        f"no file descriptor is left for a new connection: RLIMIT_NOFILE is {soft} (hard limit "
        f"{hard}). Raise it with `ulimit -n 65536` in the shell, LimitNOFILE=65536 in the "
        "systemd unit, --ulimit nofile=65536:65536 for docker, or resource.setrlimit() in the "
        "program; or use fewer connections with Limits(max_connections=...)"
    )
