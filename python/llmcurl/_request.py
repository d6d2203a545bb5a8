"""`Request`: what is asked, as in httpx."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ._content import BodySource, RequestData, RequestFiles, encode_request
from ._cookies import Cookies, CookieTypes
from ._exceptions import LocalProtocolError, RequestNotRead
from ._headers import Headers, HeaderTypes
from ._urls import URL, QueryParamTypes, URLTypes, merge_params, parse_url

if TYPE_CHECKING:
    from ._native import HeaderList

__all__ = ["Request", "check_method", "plain_request"]

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")


def check_method(method: str) -> str:
    """The method in upper case.

    Raises:
        TypeError: not a str. LocalProtocolError: not a token (RFC 9110 9.1).
    """
    if method in _METHODS:
        return method
    if not isinstance(method, str):
        raise TypeError(f"method must be str, not {type(method).__name__}")
    if _TOKEN.fullmatch(method) is None:
        raise LocalProtocolError(f"{method[:64]!r} cannot be a request method")
    return method.upper()


class Request:
    """A request.

    Args:
        method: e.g. "POST".
        url: absolute, or relative if a client with a base_url sends it.
        params: put into the query of `url`; names there are replaced.
        headers: Host, Content-Type, Content-Length and Transfer-Encoding are added if absent.
        cookies: sent unless `headers` has a Cookie.
        content, data, files, json: the body, see `encode_request`.
        extensions: e.g. {"timeout": Timeout(...).as_dict()}.

    Attributes:
        body: bytes, or a `BodySource` that makes them while they are sent.

    Raises:
        InvalidURL, InvalidHeader, LocalProtocolError, TypeError: before anything is sent.
    """

    __slots__ = ("__weakref__", "body", "extensions", "headers", "method", "url")

    method: str
    url: URL
    headers: Headers
    body: bytes | BodySource
    extensions: dict[str, Any]

    def __init__(
        self,
        method: str,
        url: URLTypes,
        *,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        content: Any = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        self.method = check_method(method)
        self.url = merge_params(parse_url(url), params)
        self.headers = Headers(headers)
        self.extensions = {} if extensions is None else dict(extensions)
        boundary = None
        if files:
            from ._multipart import boundary_of

            boundary = boundary_of(self.headers.get("content-type"))
        extra, self.body = encode_request(content, data, files, json, boundary)
        self._add_defaults(extra)
        if cookies:
            Cookies(cookies).set_cookie_header(self)

    @classmethod
    def _make(
        cls,
        method: str,
        url: URL,
        headers: Headers,
        body: bytes | BodySource = b"",
        extensions: dict[str, Any] | None = None,
    ) -> Request:
        """A request of parts that are checked already; nothing is copied or added."""
        self = cls.__new__(cls)
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.extensions = {} if extensions is None else extensions
        return self

    def _add_defaults(self, extra: dict[str, str]) -> None:
        """Host first (RFC 9112 3.2), then what the body asks for."""
        headers = self.headers
        if "host" not in headers and self.url.raw_host:
            host = Headers([("Host", self.url.netloc.decode("ascii"))])
            host._list.extend(headers._list)
            self.headers = headers = host
        for name, value in extra.items():
            headers.setdefault(name, value)
        if "transfer-encoding" in headers:
            return
        body = self.body
        length = len(body) if isinstance(body, bytes) else body.length
        declared = headers.get("content-length")
        if declared is not None:
            number = int(declared) if declared.isascii() and declared.isdigit() else -1
            if length is None and number >= 0 and isinstance(body, BodySource):
                # The caller knows how much the iterator will give: no need for chunks.
                body.length = number
            elif number != length:
                raise LocalProtocolError(
                    f"Content-Length is {declared[:20]!r}, but the body has {length} bytes"
                )
        elif length is None:
            headers["Transfer-Encoding"] = "chunked"
        elif length or self.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(length)

    @property
    def content(self) -> bytes:
        """The body.

        Raises:
            RequestNotRead: it is a stream that was not read.
        """
        if isinstance(self.body, bytes):
            return self.body
        raise RequestNotRead()

    @property
    def stream(self) -> BodySource:
        """The body as an async iterable of bytes."""
        return _BytesSource(self.body) if isinstance(self.body, bytes) else self.body

    def read(self) -> bytes:
        """Reads a body made of files or a sync iterable, and keeps it as bytes.

        Raises:
            RuntimeError: it is an async stream: use `aread`.
        """
        if not isinstance(self.body, bytes):
            self.body = b"".join(self.body.blocks())
        return self.body

    async def aread(self) -> bytes:
        """Reads a streamed body and keeps it as bytes."""
        if not isinstance(self.body, bytes):
            self.body = b"".join([chunk async for chunk in self.body.chunks()])
        return self.body

    def __repr__(self) -> str:
        return f"<Request({self.method!r}, {self.url.masked!r})>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A stream belongs to this process, and extensions may hold anything.
        body = self.body if isinstance(self.body, bytes) else None
        return _restore_request, (self.method, self.url, self.headers, body)


def plain_request(method: str, url: str, sent: HeaderList | None, body: bytes | None) -> Request:
    """The request of a plain call, of which only the parts were kept."""
    headers = Headers() if sent is None else Headers(sent.source)
    request = Request._make(method, parse_url(url), headers, body or b"")
    request._add_defaults({})
    return request


class _BytesSource(BodySource):
    """Bytes seen as a stream."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data), True)
        self._data = data

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._data:
            yield self._data


class _LostSource(BodySource):
    """The body of an unpickled request whose body was a stream."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None, False)
        self._used = True

    async def chunks(self) -> AsyncIterator[bytes]:
        self._begin()
        yield b""  # not reached: makes this an async generator

    def rewind(self) -> None:
        raise RequestNotRead("the body of this request was a stream and was not pickled")


def _restore_request(method: str, url: URL, headers: Headers, body: bytes | None) -> Request:
    """Unpickles a Request."""
    return Request._make(method, url, headers, _LostSource() if body is None else body)
