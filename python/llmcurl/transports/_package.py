"""What the shared transport has to know of the package it serves (httpx or httpx2)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from .. import _exceptions as exc

__all__ = ["Package"]

#: Ours that the package lacks, and what code written for it expects instead.
_STAND_INS = {
    "TotalTimeout": "TimeoutException",
    "FileDescriptorLimit": "ConnectError",
    "ResponseTooLarge": "RemoteProtocolError",
    "InvalidHeader": "LocalProtocolError",
}

# CURLcodes that the reference's classes see differently than ours do.
_UNKNOWN_PROXY = 5  # CURLE_COULDNT_RESOLVE_PROXY
_ABORTED = 42  # our refusal to send again what an old connection may have delivered
_CONNECT, _RECEIVE = 7, 56  # a tunnel that does not come about, in newer and older libcurls
#: The proxy has not refused: it closed, or spoke no HTTP.
_NO_PROXY_ANSWER = ("CONNECT aborted", "response 0")


class Package:
    """The classes of one package.

    Attributes:
        Response, ByteStream, LocalProtocolError, UnsupportedProtocol, ConnectError,
            ConnectTimeout, Proxy: the package's own.
        certifi: whether ``verify=True`` means certifi's certificates there, not the system's.
        url_key: something hashable that tells the package's URLs apart.
    """

    def __init__(self, module: Any, *, certifi: bool) -> None:
        self.module = module
        self.certifi = certifi
        self.Response = module.Response
        self.ByteStream = module.ByteStream
        self.Proxy = module.Proxy
        self.LocalProtocolError = module.LocalProtocolError
        self.UnsupportedProtocol = module.UnsupportedProtocol
        self.ConnectError = module.ConnectError
        self.ConnectTimeout = module.ConnectTimeout
        self.url_key = _url_key(module.URL)
        self._errors: dict[type[BaseException], type[Exception]] = {}
        for name in exc.__all__:
            ours = getattr(exc, name)
            theirs = getattr(module, _STAND_INS.get(name, name), None)
            if isinstance(ours, type) and issubclass(ours, exc.HTTPError) and theirs is not None:
                self._errors[ours] = theirs

    def error(self, error: exc.HTTPError | exc.ClientClosed, request: Any) -> Exception:
        """The package's exception for one of ours, with the request it belongs to."""
        kind: Any = self._errors.get(type(error), self.module.TransportError)
        if isinstance(error, exc.ClientClosed):
            kind = self.module.ReadError  # the reference's sockets are closed under their readers
        elif isinstance(error, exc.RequestError):
            if error.code == _UNKNOWN_PROXY:
                kind = self.ConnectError  # as for any other host
            elif error.code == _ABORTED and kind is not self.ConnectError:
                kind = self.module.RemoteProtocolError
            elif error.code in (_CONNECT, _RECEIVE) and error.curl_text.endswith(_NO_PROXY_ANSWER):
                kind = self.module.RemoteProtocolError
        made: Exception = kind(str(error), request=request)
        return made


def _url_key(url_class: Any) -> Callable[[Any], Any]:
    """The parts of a URL where they can be had: putting them together into a text costs more than
    all else that is done with it. They are not public, so they are looked at first."""
    parts = attrgetter("_uri_reference")
    texts = ("http://a/b?c#d", "https://a/b?c#d", "http://a:1/b?c", "http://b/b?c", "http://a/?c",
             "http://a/b", "http://a/b?c#e", "http://u@a/b?c#d")  # fmt: skip
    try:
        different = {parts(url_class(text)) for text in (*texts, *texts)}
    except (AttributeError, TypeError):
        return str
    return parts if len(different) == len(texts) else str
