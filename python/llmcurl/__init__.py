"""llmcurl: thousands of HTTP and LLM calls in flight on one asyncio loop, on libcurl.

`AsyncClient` has httpx's names and meanings; its methods return a `Call`, which is
awaitable and Future-like. `OpenAI`, `Anthropic`, `Gemini` and `Ollama` speak to models.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._auth import Auth, BasicAuth, BearerAuth, FunctionAuth
from ._client import AsyncClient
from ._config import Limits, Timeout
from ._cookies import Cookies
from ._exceptions import (
    ClientClosed,
    CloseError,
    ConnectError,
    ConnectTimeout,
    CookieConflict,
    DecodingError,
    FileDescriptorLimit,
    HTTPError,
    HTTPStatusError,
    InvalidHeader,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    RequestNotRead,
    ResponseNotRead,
    ResponseTooLarge,
    StreamClosed,
    StreamConsumed,
    StreamError,
    TimeoutException,
    TooManyRedirects,
    TotalTimeout,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from ._headers import Headers
from ._models import Request, Response, Timings
from ._native import Call
from ._proxies import Proxy
from ._query import QueryParams
from ._urls import URL
from ._version import __version__

if _TYPE_CHECKING:
    from .llm import Anthropic, Gemini, Ollama, OpenAI, ServerSentEvent

__all__ = [
    "URL",
    "Anthropic",
    "AsyncClient",
    "Auth",
    "BasicAuth",
    "BearerAuth",
    "Call",
    "ClientClosed",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "Cookies",
    "DecodingError",
    "FileDescriptorLimit",
    "FunctionAuth",
    "HTTPError",
    "HTTPStatusError",
    "Gemini",
    "Headers",
    "InvalidHeader",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "NetworkError",
    "Ollama",
    "OpenAI",
    "PoolTimeout",
    "ProtocolError",
    "Proxy",
    "ProxyError",
    "QueryParams",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "RequestNotRead",
    "Response",
    "ResponseNotRead",
    "ResponseTooLarge",
    "ServerSentEvent",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TimeoutException",
    "Timeout",
    "Timings",
    "TooManyRedirects",
    "TotalTimeout",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "__version__",
]

_LLM = frozenset({"Anthropic", "Gemini", "Ollama", "OpenAI", "ServerSentEvent"})


def __getattr__(name: str) -> object:
    """Loads the providers when one is asked for: a plain HTTP client starts without them."""
    if name in _LLM:
        from . import llm

        return getattr(llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
