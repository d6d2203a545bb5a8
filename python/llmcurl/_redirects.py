"""Redirects: the request that follows a 3xx answer (RFC 9110 15.4)."""

from __future__ import annotations

from ._exceptions import InvalidURL, RemoteProtocolError
from ._headers import Headers
from ._models import Response
from ._redact import SECRET_HEADERS
from ._request import Request
from ._urls import URL, check_url, origin

__all__ = ["redirect_request"]


def redirect_request(request: Request, response: Response) -> Request:
    """The next request.

    The method becomes GET as browsers do it (302 and 303 but for HEAD, 301
    after POST);
    Authorization, Cookie and the key headers of the LLM providers do not leave their origin.

    Raises:
        RemoteProtocolError: Location cannot be used.
        UnsupportedProtocol: it leads to another scheme.
    """
    url = _location(request, response)
    method = request.method
    if response.status_code in (302, 303) and method != "HEAD":
        method = "GET"
    elif response.status_code == 301 and method == "POST":
        method = "GET"
    headers = _headers(request, url, method)
    body = request.body if method == request.method else b""
    if not isinstance(body, bytes):
        body.rewind()
    return Request._make(method, url, headers, body, request.extensions)


def _location(request: Request, response: Response) -> URL:
    location = response.headers["location"]
    try:
        url = URL(location)
        if url.scheme and not url.host:
            url = url.copy_with(host=request.url.host)
        if url.is_relative_url:
            url = request.url.join(url)
    except InvalidURL as error:
        failure = RemoteProtocolError(f"The redirect leads nowhere: {error}")
        failure.request = request
        raise failure from None
    if request.url.fragment and not url.fragment:
        url = url.copy_with(fragment=request.url.fragment)
    return check_url(url)


def _headers(request: Request, url: URL, method: str) -> Headers:
    headers = Headers(request.headers)
    if origin(url) != origin(request.url):
        if not _is_upgrade(request.url, url):
            for name in SECRET_HEADERS:
                headers.pop(name, None)
        headers["Host"] = url.netloc.decode("ascii")
    if method != request.method:
        for name in ("Content-Length", "Transfer-Encoding", "Content-Type"):
            headers.pop(name, None)
    headers.pop("Cookie", None)
    return headers


def _is_upgrade(old: URL, new: URL) -> bool:
    """From http to https on the same host and the default ports."""
    return origin(old) == ("http", old.host, 80) and origin(new) == ("https", old.host, 443)
