"""The errors: httpx's tree under our name, each with what is needed to understand it.

The tree (ours marked with *)::

    HTTPError
      RequestError
        TransportError
          TimeoutException    ConnectTimeout ReadTimeout WriteTimeout PoolTimeout TotalTimeout*
          NetworkError        ConnectError (FileDescriptorLimit*) ReadError WriteError CloseError
          ProtocolError       LocalProtocolError (InvalidHeader*) RemoteProtocolError
          ProxyError  UnsupportedProtocol
        DecodingError  TooManyRedirects  ResponseTooLarge*
      HTTPStatusError
    InvalidURL (ValueError)   CookieConflict
    StreamError (RuntimeError)  StreamConsumed StreamClosed ResponseNotRead RequestNotRead
    ClientClosed* (RuntimeError)

How a libcurl result becomes one of them is in ``_errormap.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._redact import mask_url as mask_url  # the native side finds it here

if TYPE_CHECKING:
    from ._models import Request, Response
    from .traffic import Attempt

__all__ = [
    "ClientClosed",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "DecodingError",
    "FileDescriptorLimit",
    "HTTPError",
    "HTTPStatusError",
    "InvalidHeader",
    "InvalidURL",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestError",
    "RequestNotRead",
    "ResponseNotRead",
    "ResponseTooLarge",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TimeoutException",
    "TooManyRedirects",
    "TotalTimeout",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "build_error",
]


class HTTPError(Exception):
    """Base of everything that can go wrong with a request and its answer.

    Attributes:
        attempts: the history of a call that was under control (`Retry`...), the last one last.
    """

    attempts: tuple[Attempt, ...] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """The request that failed.

        Raises:
            RuntimeError: no request was attached (the error did not come from a client).
        """
        if self._request is None:
            raise RuntimeError("The .request property has not been set.")
        return self._request

    @request.setter
    def request(self, request: Request | None) -> None:
        self._request = request


class RequestError(HTTPError):
    """The request did not end with a usable answer.

    Attributes:
        code: libcurl's CURLcode, 0 if libcurl has no part in it.
        curl_text: libcurl's own words, "" if none.
        phase: "queue", "resolve", "connect", "tls", "send", "wait", "receive" or "".
        elapsed: seconds since the call was made.
        url: the URL without credentials, secret-looking query values replaced by ``***``.
        method: the request method, "" if unknown.
        details: what else is known: limit, os_errno, reused, bytes_received, sent...
    """

    def __init__(
        self,
        message: str,
        *,
        request: Request | None = None,
        code: int = 0,
        curl_text: str = "",
        phase: str = "",
        elapsed: float = 0.0,
        url: str = "",
        method: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self._request = request
        self.code = code
        self.curl_text = curl_text
        self.phase = phase
        self.elapsed = elapsed
        self.url = url
        self.method = method
        self.details: dict[str, Any] = {} if details is None else details


class TransportError(RequestError):
    """Something between us and the server failed."""


class TimeoutException(TransportError):
    """One of the deadlines passed; the class and ``phase`` say which."""


class ConnectTimeout(TimeoutException):
    """No connection (name, TCP, TLS, proxy) within ``Timeout.connect``."""


class ReadTimeout(TimeoutException):
    """The server sent nothing for ``Timeout.read`` seconds."""


class WriteTimeout(TimeoutException):
    """The server took nothing of the body for ``Timeout.write`` seconds."""


class PoolTimeout(TimeoutException):
    """The call waited longer than ``Timeout.pool`` for its turn."""


class TotalTimeout(TimeoutException):
    """The whole call took longer than ``Timeout.total``."""


class NetworkError(TransportError):
    """The network failed."""


class ConnectError(NetworkError):
    """No connection could be made: name not found, refused, TLS handshake failed..."""


class FileDescriptorLimit(ConnectError):
    """No file descriptor is left for a new connection (RLIMIT_NOFILE)."""


class ReadError(NetworkError):
    """The connection broke while the answer was awaited or received."""


class WriteError(NetworkError):
    """The connection broke while the request was sent."""


class CloseError(NetworkError):
    """The connection could not be closed properly."""


class ProxyError(TransportError):
    """The proxy refused, or it could not be talked to."""


class UnsupportedProtocol(TransportError):
    """The URL is neither ``http://`` nor ``https://``, or this libcurl lacks the protocol."""


class ProtocolError(TransportError):
    """One side broke the rules of HTTP."""


class LocalProtocolError(ProtocolError):
    """We were asked to send what HTTP does not allow."""


class InvalidHeader(LocalProtocolError, ValueError):
    """A header name or value that must not be sent. The text never holds the value."""


class RemoteProtocolError(ProtocolError):
    """The server sent what HTTP does not allow, or ended the answer too early."""


class DecodingError(RequestError):
    """The body does not fit its Content-Encoding: corrupt or truncated."""


class TooManyRedirects(RequestError):
    """More redirects than ``max_redirects``."""


class ResponseTooLarge(RequestError):
    """The answer, received or decompressed, crosses a ceiling."""


class HTTPStatusError(HTTPError):
    """``Response.raise_for_status()``: the status is not 2xx.

    Attributes:
        request, response: what was asked and what came back.
    """

    def __init__(self, message: str, *, request: Request, response: Response) -> None:
        super().__init__(message)
        self._request = request
        self.response = response

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call cls(message), which lacks the two keywords.
        return _restore_status_error, (type(self), self.args[0], self._request, self.response)


def _restore_status_error(
    cls: type[HTTPStatusError], message: str, request: Request, response: Response
) -> HTTPStatusError:
    """Unpickles an HTTPStatusError."""
    return cls(message, request=request, response=response)


class InvalidURL(ValueError):
    """The URL cannot be used; the text says why."""


class CookieConflict(Exception):
    """Several cookies of that name; give a domain or a path."""


class StreamError(RuntimeError):
    """The body stream was used in the wrong state: a mistake in the program."""


class StreamConsumed(StreamError):
    """The stream was read before and cannot be read again."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "The body was streamed already and is not kept. Read it once with aread() to "
            "have it in .content, or give a body that can be iterated again."
        )


class StreamClosed(StreamError):
    """The stream was closed before it was read."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "The response was closed before its body was read; read it inside "
            "`async with client.stream(...)`."
        )


class ResponseNotRead(StreamError):
    """``.content`` of a streamed response that was not read."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "This response is streamed: call `await response.aread()` before "
            ".content, .text or .json()."
        )


class RequestNotRead(StreamError):
    """``.content`` of a request whose body is a stream."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "This request's body is a stream: call `await request.aread()` or "
            "`request.read()` before .content."
        )


class ClientClosed(RuntimeError):
    """The client was closed before or during the call."""


def build_error(
    reason: str,
    code: int,
    text: str,
    phase: str,
    url: str,
    method: str,
    elapsed: float,
    details: dict[str, Any],
) -> Exception:
    """The exception for a failed transfer; called by the native side, see `_errormap`."""
    # Imported late: the map imports the classes above, and errors are rare.
    from ._errormap import make_error

    return make_error(reason, code, text, phase, url, method, elapsed, details)
