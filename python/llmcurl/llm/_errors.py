"""The errors of LLM calls, and how a provider's answer becomes one of them.

The tree::

    HTTPError (llmcurl's, the base of everything)
      LLMError
        BadRequestError         400, 413, 422...
          ContextLengthError    the prompt does not fit the model
        AuthenticationError     401, and no key given
        PermissionDeniedError   403
        NotFoundError           404
        RateLimitError          429
        OverloadedError         503, 529
        ServerError             the other 5xx
        StreamInterrupted       a stream ended before its answer did
          StreamTimedOut        it was too slow (also a TimeoutException)
        InvalidReply            not what the protocol allows
        ToolError               a tool that the model called failed
        TooManyRounds           `run` came to its limit

Transport errors (time-outs, refused connections) of a plain call keep their own classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .._exceptions import HTTPError, TimeoutException
from .._native import EventParser
from .._waits import retry_after_of, wait_of

if TYPE_CHECKING:
    from ._reply import Reply

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ContextLengthError",
    "InvalidReply",
    "LLMError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerError",
    "StreamInterrupted",
    "StreamTimedOut",
    "TooManyRounds",
    "ToolError",
    "error_of_answer",
    "error_of_event",
]


class LLMError(HTTPError):
    """An LLM call failed.

    Attributes:
        provider: "openai", "anthropic", "gemini" or "ollama".
        message: the provider's own words, or ours.
        status: the HTTP status, None if there is none.
        code, type: the provider's, "" if it gives none.
        request_id: the provider's id of the request, "" if unknown.
        retry_after: seconds the provider asks to wait, None if it does not.
        body: what the provider sent, as bytes.
        partial: the reply as far as it had arrived, None if this was no stream.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        code: str = "",
        type: str = "",
        request_id: str = "",
        retry_after: float | None = None,
        body: bytes = b"",
        partial: Reply | None = None,
    ) -> None:
        words = [f"{provider}:"] if provider else []
        if status is not None:
            words.append(str(status))
        if code or type:
            words.append(code or type)
        text = " ".join(words)
        if len(words) > 1:
            text += ":"
        text = f"{text} {message}".strip()
        super().__init__(f"{text} (request {request_id})" if request_id else text)
        self.provider = provider
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call cls(text); the request belongs to this process.
        state = {key: value for key, value in self.__dict__.items() if key != "_request"}
        return _restore, (type(self), self.args, {**state, "_request": None})


def _restore(cls: type[LLMError], args: tuple[Any, ...], state: dict[str, Any]) -> LLMError:
    """Unpickles an LLMError."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class BadRequestError(LLMError):
    """The provider refuses the request as it is; sending it again does not help."""


class ContextLengthError(BadRequestError):
    """The prompt, or prompt and answer, do not fit the model's context."""


class AuthenticationError(LLMError):
    """The API key is missing or wrong."""


class PermissionDeniedError(LLMError):
    """The key may not do this."""


class NotFoundError(LLMError):
    """No such model or endpoint."""


class RateLimitError(LLMError):
    """Too many requests or tokens; `retry_after` says how long to wait, if known."""


class OverloadedError(LLMError):
    """The provider has no capacity now."""


class ServerError(LLMError):
    """The provider failed."""


class StreamInterrupted(LLMError):
    """A stream ended, broke or was left before the answer was complete; `partial` has what
    had arrived, `__cause__` the transport's error if there was one."""


class StreamTimedOut(StreamInterrupted, TimeoutException):  # type: ignore[misc]  # code
    """A stream was too slow; `partial` has what had arrived, with its usage.

    Attributes:
        which: the limit that was passed: "first_byte", "first_token", "idle" or "min_rate" of
            `StreamTimeout`, "deadline", "read", "write" or "total" of `Timeout`.
        seconds: that limit (min_rate: tokens per second), None if it is not known here.
    """

    which: str = ""
    seconds: float | None = None


class InvalidReply(LLMError):
    """The answer is not of the provider's form."""


class ToolError(LLMError):
    """A tool failed; `__cause__` is its exception, `tool` its name."""

    tool: str = ""


class TooManyRounds(LLMError):
    """The model still calls tools after `max_rounds`; `partial` is its last reply."""


_BY_STATUS: dict[int, type[LLMError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
    503: OverloadedError,
    529: OverloadedError,
}

# Where a stream has begun there is no status any more: the provider's words stand for it.
_BY_WORD: dict[str, type[LLMError]] = {
    "authentication_error": AuthenticationError,
    "invalid_api_key": AuthenticationError,
    "unauthenticated": AuthenticationError,
    "permission_error": PermissionDeniedError,
    "permission_denied": PermissionDeniedError,
    "not_found_error": NotFoundError,
    "not_found": NotFoundError,
    "model_not_found": NotFoundError,
    "rate_limit_error": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": RateLimitError,
    "resource_exhausted": RateLimitError,
    "overloaded_error": OverloadedError,
    "overloaded": OverloadedError,
    "unavailable": OverloadedError,
    "invalid_request_error": BadRequestError,
    "invalid_argument": BadRequestError,
    "request_too_large": BadRequestError,
    "api_error": ServerError,
    "server_error": ServerError,
    "internal": ServerError,
    "internal_error": ServerError,
}

_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size_error|context (length|window|size|limit)"
    r"|prompt is too long|input token count.{0,40} exceeds|max_new_tokens`? must be <=",
    re.IGNORECASE,
)


def _retry_after(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds, from the headers or from Google's RetryInfo."""
    wait = retry_after_of(headers)
    if wait is not None:
        return wait
    try:
        for detail in error.get("details") or ():
            if "retryDelay" in detail:
                return wait_of(str(detail["retryDelay"]).rstrip("s"))
    except TypeError:
        pass  # details that are none
    return None


def _error_object(body: bytes) -> dict[str, Any]:
    """The error as the provider describes it: {} if the body says nothing. The four
    providers, and the servers compatible with them, differ only in where they put it."""
    try:
        if body.startswith((b"data:", b"event:")):  # an error in the form of a stream
            events = EventParser().feed(body + b"\n\n")
            body = events[0][1] if events else b""
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    error = value.get("error") or _error_of_choice(value) or value
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return {}
    if "message" not in error and "detail" in error:
        error = {**error, "message": error["detail"]}
    if "request_id" in value:
        error = {"request_id": value["request_id"], **error}
    return error


def _error_of_choice(value: dict[str, Any]) -> Any:
    """The error within the first answer, where OpenRouter puts it."""
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _class_of(status: int | None, code: str, kind: str, message: str) -> type[LLMError]:
    """The status decides; the provider's words where there is none, or it is a general one."""
    found = _BY_STATUS.get(status or 0)
    if found is not None:
        return found
    if _CONTEXT.search(f"{code} {kind} {message}"):
        return ContextLengthError
    word = _BY_WORD.get(code.lower()) or _BY_WORD.get(kind.lower()) or LLMError
    if status is None:
        return word
    if status >= 500:
        return OverloadedError if word is OverloadedError else ServerError
    if message.startswith("API key not valid"):  # Google's 400
        return AuthenticationError
    return BadRequestError if word in (LLMError, ServerError, OverloadedError) else word


def _build(
    provider: str,
    status: int | None,
    headers: Mapping[str, str],
    body: bytes,
    clean: Callable[[str], str],
    partial: Reply | None,
) -> LLMError:
    error = _error_object(body)
    message = error.get("message")
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode() if message else ""
    code, kind = error.get("code"), _word(error.get("type")) or _word(error.get("status"))
    if status is None and type(code) is int and 400 <= code < 600:
        status = code  # Gemini's and OpenRouter's code is the HTTP status
    code = str(code) if isinstance(code, str) else ""
    if not message:
        text = body[:200].decode("utf-8", "replace").strip()
        message = text if not error and text else "no description was given"
    cls = _class_of(status, code, kind, message)
    return cls(
        clean(message),
        provider=provider,
        status=status,
        code=code,
        type=kind,
        request_id=headers.get("x-request-id")
        or headers.get("request-id")
        or headers.get("x-gemini-request-id")
        or _word(error.get("request_id")),
        retry_after=_retry_after(headers, error),
        body=clean(body.decode("utf-8", "replace")).encode(),
        partial=partial,
    )


def error_of_answer(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    clean: Callable[[str], str],
) -> LLMError:
    """The error that an answer means. `clean` takes secrets out of a text."""
    # A 200 with an error in it says nothing by its status.
    return _build(provider, status if status >= 400 else None, headers, body, clean, None)


def error_of_event(
    provider: str,
    headers: Mapping[str, str],
    data: bytes,
    clean: Callable[[str], str],
    partial: Reply | None,
) -> LLMError:
    """The error that an event inside of a stream means."""
    return _build(provider, None, headers, data, clean, partial)
