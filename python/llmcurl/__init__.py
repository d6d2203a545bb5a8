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
from ._watch import LoopBlock

if _TYPE_CHECKING:
    from ._observe import Hooks, Totals
    from ._preflight import raise_fd_limit
    from .llm import (
        Anthropic,
        AuthenticationError,
        BadRequestError,
        ContextLengthError,
        Gemini,
        InvalidReply,
        LLMError,
        NotFoundError,
        Ollama,
        OpenAI,
        OverloadedError,
        PermissionDeniedError,
        RateLimitError,
        ServerError,
        ServerSentEvent,
        StreamInterrupted,
        StreamTimedOut,
    )
    from .traffic import (
        Attempt,
        BatchResult,
        BatchStats,
        Breaker,
        CallRecord,
        CircuitOpen,
        Deadline,
        DeadlineExceeded,
        FailedBefore,
        Fallback,
        Hedge,
        LimitUnavailable,
        Observer,
        RateLimit,
        Retry,
        RetryBudget,
        StreamTimeout,
        batch,
        best_of,
        first_of,
    )

__all__ = [
    "Anthropic",
    "AsyncClient",
    "Attempt",
    "Auth",
    "AuthenticationError",
    "BadRequestError",
    "BasicAuth",
    "BatchResult",
    "BatchStats",
    "BearerAuth",
    "Breaker",
    "Call",
    "CallRecord",
    "CircuitOpen",
    "ClientClosed",
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "ContextLengthError",
    "CookieConflict",
    "Cookies",
    "Deadline",
    "DeadlineExceeded",
    "DecodingError",
    "FailedBefore",
    "Fallback",
    "FileDescriptorLimit",
    "FunctionAuth",
    "Gemini",
    "HTTPError",
    "HTTPStatusError",
    "Headers",
    "Hedge",
    "Hooks",
    "InvalidHeader",
    "InvalidReply",
    "InvalidURL",
    "LLMError",
    "LimitUnavailable",
    "Limits",
    "LocalProtocolError",
    "LoopBlock",
    "NetworkError",
    "NotFoundError",
    "Observer",
    "Ollama",
    "OpenAI",
    "OverloadedError",
    "PermissionDeniedError",
    "PoolTimeout",
    "ProtocolError",
    "Proxy",
    "ProxyError",
    "QueryParams",
    "RateLimit",
    "RateLimitError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "RequestNotRead",
    "Response",
    "ResponseNotRead",
    "ResponseTooLarge",
    "Retry",
    "RetryBudget",
    "ServerError",
    "ServerSentEvent",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "StreamInterrupted",
    "StreamTimedOut",
    "StreamTimeout",
    "Timeout",
    "TimeoutException",
    "Timings",
    "TooManyRedirects",
    "TotalTimeout",
    "Totals",
    "TransportError",
    "URL",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "__version__",
    "batch",
    "best_of",
    "first_of",
    "raise_fd_limit",
]

_LLM = frozenset(
    {
        "Anthropic",
        "AuthenticationError",
        "BadRequestError",
        "ContextLengthError",
        "Gemini",
        "InvalidReply",
        "LLMError",
        "NotFoundError",
        "Ollama",
        "OpenAI",
        "OverloadedError",
        "PermissionDeniedError",
        "RateLimitError",
        "ServerError",
        "ServerSentEvent",
        "StreamInterrupted",
        "StreamTimedOut",
    }
)
_TRAFFIC = frozenset(
    {
        "Attempt",
        "BatchResult",
        "BatchStats",
        "Breaker",
        "CallRecord",
        "CircuitOpen",
        "Deadline",
        "DeadlineExceeded",
        "FailedBefore",
        "Fallback",
        "Hedge",
        "LimitUnavailable",
        "Observer",
        "RateLimit",
        "Retry",
        "RetryBudget",
        "StreamTimeout",
        "batch",
        "best_of",
        "first_of",
    }
)
_OBSERVE = frozenset({"Hooks", "Totals"})


def __getattr__(name: str) -> object:
    """Loads providers and traffic control when asked for: a plain HTTP client starts without
    them."""
    if name in _LLM:
        from . import llm

        return getattr(llm, name)
    if name in _TRAFFIC:
        from . import traffic

        return getattr(traffic, name)
    if name in _OBSERVE:
        from . import _observe

        return getattr(_observe, name)
    if name == "raise_fd_limit":
        from ._preflight import raise_fd_limit

        return raise_fd_limit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
