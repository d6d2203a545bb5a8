"""What a mock can be told to answer: `Reply`, `Failure`, `Raw`, and their JSON form for a mock in another process."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

DEFAULT_TEXT = "The mock answers: all is well, and every token of this sentence arrives in order."

_TOKEN = re.compile(r"\s*\S+|\s+$")


def tokenize(text: str) -> tuple[str, ...]:
    """Split a text the way the mock streams it: one word with the blanks before it at a time."""
    return tuple(_TOKEN.findall(text))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for. `arguments` is JSON text; a mapping is encoded."""

    name: str
    arguments: str = "{}"
    id: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.arguments, Mapping):
            object.__setattr__(
                self, "arguments", json.dumps(dict(self.arguments), separators=(",", ":"))
            )


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer, said once and given in the words of whichever protocol asked.

    `tokens` are the pieces of a stream (default: the words of `text`; alone, they make up the text). Times are in
    seconds from the request: `latency` until a plain answer or the head of a stream, `ttft` until the first event,
    `token_interval` between events; None takes the mock's own setting. Counts left None are estimated.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    finish_reason: FinishReason | None = None
    tokens: tuple[str, ...] | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency: float | None = None
    ttft: float | None = None
    token_interval: float | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "tool_calls", tuple(self.tool_calls))
        put(self, "headers", _pairs(self.headers))
        if self.tokens is not None:
            put(self, "tokens", tuple(self.tokens))
            joined = "".join(self.tokens)
            if self.text is None:
                put(self, "text", joined)
            elif self.text != joined:
                raise ValueError("text and tokens of a Reply differ")
        elif self.text is None:
            put(self, "text", "" if self.tool_calls else DEFAULT_TEXT)
        if self.finish_reason is None:
            put(self, "finish_reason", "tool_calls" if self.tool_calls else "stop")

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text deltas of a stream."""
        return self.tokens if self.tokens is not None else tokenize(self.text or "")

    @property
    def generated(self) -> int:
        """Output tokens reported as usage."""
        if self.output_tokens is not None:
            return self.output_tokens
        extra = sum(1 + len(call.arguments) // 4 for call in self.tool_calls)
        return len(self.pieces) + len(tokenize(self.reasoning)) + extra


FailureKind = Literal[
    "status",
    "cut",
    "reset",
    "stall",
    "malformed_event",
    "error_event",
    "json_error",
    "close",
    "black_hole",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that goes wrong. Use the constructors below; each gives the error in the words of the protocol.

    `after` counts the events that still arrive whole (in a plain answer every kind but "status" and "json_error"
    breaks off in the middle of the body, or before the first byte if `after` is 0). `latency` is in seconds, and
    `keepalive` the seconds between signs of life (comments, pings) in a stream that has stalled; None: silence.
    """

    kind: FailureKind = "status"
    status: int = 500
    message: str | None = None
    code: str | None = None
    retry_after: float | None = None
    after: int = 2
    reply: Reply = dataclasses.field(default_factory=Reply)
    latency: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    keepalive: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", _pairs(self.headers))
        if self.after < 0:
            raise ValueError("after must not be negative")
        if self.keepalive is not None and self.keepalive <= 0:
            raise ValueError("keepalive must be positive")

    @classmethod
    def rate_limit(cls, retry_after: float | None = 1, **more: Any) -> Failure:
        """429 with a Retry-After header in seconds (None: without)."""
        return cls(status=429, retry_after=retry_after, **more)

    @classmethod
    def server_error(cls, status: int = 500, **more: Any) -> Failure:
        """A 5xx answer."""
        return cls(status=status, **more)

    @classmethod
    def overloaded(cls, status: int = 529, **more: Any) -> Failure:
        """529 as Anthropic sends it (the others use 503)."""
        return cls(status=status, **more)

    @classmethod
    def unauthorized(cls, **more: Any) -> Failure:
        """401: the key is wrong."""
        return cls(status=401, **more)

    @classmethod
    def bad_request(cls, message: str | None = None, **more: Any) -> Failure:
        """400: the request is refused."""
        return cls(status=400, message=message, **more)

    @classmethod
    def context_length(cls, **more: Any) -> Failure:
        """400: the prompt does not fit the model's context."""
        return cls(status=400, code="context_length_exceeded", **more)

    @classmethod
    def cut(cls, after: int = 2, **more: Any) -> Failure:
        """The connection closes in the middle of the answer."""
        return cls(kind="cut", after=after, **more)

    @classmethod
    def reset(cls, after: int = 2, **more: Any) -> Failure:
        """The connection is reset in the middle of the answer."""
        return cls(kind="reset", after=after, **more)

    @classmethod
    def stall(cls, after: int = 2, **more: Any) -> Failure:
        """The answer stops in the middle and the connection stays open."""
        return cls(kind="stall", after=after, **more)

    @classmethod
    def no_first_token(cls, keepalive: float | None = None, **more: Any) -> Failure:
        """The head of a stream comes, a token never does; a plain answer never comes."""
        return cls(kind="stall", after=0, keepalive=keepalive, **more)

    @classmethod
    def black_hole(cls) -> Failure:
        """The request is received and nothing ever comes back."""
        return cls(kind="black_hole")

    @classmethod
    def close(cls, **more: Any) -> Failure:
        """The connection is closed when the request has been received, without a byte of an answer."""
        return cls(kind="close", **more)

    @classmethod
    def malformed_event(cls, after: int = 2, **more: Any) -> Failure:
        """One event of the stream is broken JSON; a plain answer is broken JSON as a whole."""
        return cls(kind="malformed_event", after=after, **more)

    @classmethod
    def error_event(cls, after: int = 2, *, status: int = 529, **more: Any) -> Failure:
        """An error object inside a stream that began with 200."""
        return cls(kind="error_event", after=after, status=status, **more)

    @classmethod
    def json_error(cls, status: int = 200, **more: Any) -> Failure:
        """A JSON error object, with this status, where a stream was asked for."""
        return cls(kind="json_error", status=status, **more)


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer given byte for byte, on any path. `chunks` streams; `gap` is the time between them in seconds."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    chunks: tuple[bytes, ...] | None = None
    latency: float | None = None
    gap: float = 0.0

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "headers", _pairs(self.headers))
        if isinstance(self.body, str):
            put(self, "body", self.body.encode())
        if self.chunks is not None:
            put(self, "chunks", tuple(c.encode() if isinstance(c, str) else c for c in self.chunks))


Outcome = Reply | Failure | Raw


def as_outcome(value: Any) -> Outcome:
    """A `Reply`, `Failure` or `Raw` from what a user gives: one of these or a plain text. TypeError otherwise."""
    if isinstance(value, (Reply, Failure, Raw)):
        return value
    if isinstance(value, str):
        return Reply(value)
    raise TypeError(f"a scripted reply is a str, Reply, Failure or Raw, not {type(value).__name__}")


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The JSON form of an outcome, as `/__mock__/script` takes it."""
    fields: dict[str, Any] = {"type": type(outcome).__name__}
    for field in dataclasses.fields(outcome):
        value = getattr(outcome, field.name)
        if field.name == "tool_calls":
            value = [dataclasses.asdict(call) for call in value]
        elif field.name == "reply":
            value = to_json(value)
        elif field.name == "body":
            value = value.decode("latin-1")
        elif field.name == "chunks" and value is not None:
            value = [chunk.decode("latin-1") for chunk in value]
        fields[field.name] = value
    return fields


def from_json(value: Any) -> Outcome:
    """The inverse of `to_json`; a string is a text reply, an object without "type" a Reply. ValueError if neither."""
    if isinstance(value, str):
        return Reply(value)
    if not isinstance(value, dict):
        raise ValueError("a scripted reply is a string or an object")
    fields = dict(value)
    kind = fields.pop("type", "Reply")
    try:
        if kind == "Reply":
            fields["tool_calls"] = tuple(
                ToolCall(**call) for call in fields.get("tool_calls") or ()
            )
            return Reply(**fields)
        if kind == "Failure":
            if "reply" in fields:
                inner = from_json(fields["reply"])
                if not isinstance(inner, Reply):
                    raise ValueError("the reply of a Failure must be a Reply")
                fields["reply"] = inner
            return Failure(**fields)
        if kind == "Raw":
            fields["body"] = fields.get("body", "").encode("latin-1")
            if fields.get("chunks") is not None:
                fields["chunks"] = tuple(chunk.encode("latin-1") for chunk in fields["chunks"])
            return Raw(**fields)
    except TypeError as exc:
        raise ValueError(f"not a {kind}: {exc}") from None
    raise ValueError(f"unknown type of reply: {kind!r}")


def _pairs(headers: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(headers, Mapping):
        headers = headers.items()
    return tuple((str(name), str(value)) for name, value in headers)
