"""What the four protocols have in common for the mock: the parsed question and the face a protocol shows the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ._http import RequestHead
from ._replies import Reply

loads: Callable[[bytes], Any] = msgspec.json.Decoder().decode
"""Decode JSON. ValueError for what is none."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """Compact JSON, UTF-8; a lone surrogate becomes a question mark."""
    return _encode(value).encode("utf-8", "replace")


class Ask(NamedTuple):
    """A chat request, reduced to what the form of its answer depends on. Hashable."""

    model: str
    stream: bool
    input_tokens: int
    form: tuple[Any, ...] = ()
    """Whatever else the protocol needs to write the answer."""


class BadAsk(Exception):
    """The request is not what the protocol wants; the text goes to the client with status 400."""


class Dialect(Protocol):
    """One protocol's way of writing answers. Stateless; all bytes may contain `ID_SLOT`."""

    name: str
    id_header: str
    stream_type: str
    """Content-Type of a stream."""
    heartbeat: bytes
    """A sign of life in a stream that says nothing."""

    def ask(self, head: RequestHead, body: dict[str, Any]) -> Ask:
        """Read a chat request. BadAsk if something required is missing."""

    def last_text(self, body: dict[str, Any]) -> str:
        """The text of the last user message."""

    def full(self, ask: Ask, reply: Reply) -> bytes:
        """The body of a plain answer."""

    def events(self, ask: Ask, reply: Reply) -> list[bytes]:
        """The pieces of a streamed answer, one for each step in time."""

    def error(
        self, status: int, message: str | None, code: str | None, retry_after: float | None
    ) -> bytes:
        """The body of an error answer."""

    def error_event(self, ask: Ask, status: int, message: str | None, code: str | None) -> bytes:
        """An error inside a stream."""

    def broken_event(self, ask: Ask) -> bytes:
        """A stream event whose JSON is cut short."""


def bundle(first: bytes, middle: Sequence[bytes], last: bytes) -> list[bytes]:
    """Events that come with the first and with the last piece, joined to them."""
    if not middle:
        return [first + last]
    pieces = list(middle)
    pieces[0] = first + pieces[0]
    pieces[-1] += last
    return pieces


def model_of(body: dict[str, Any]) -> str:
    """The "model" field. BadAsk without one."""
    model = body.get("model")
    if type(model) is not str or not model:
        raise BadAsk("you must provide a model parameter")
    return model


def text_of(content: Any) -> str:
    """The text in a message's content: a string, or a list of parts with "text"."""
    if type(content) is str:
        return content
    if isinstance(content, list):
        return "".join(text_of(part) for part in content)
    if isinstance(content, dict):
        text = content.get("text")
        return text if isinstance(text, str) else text_of(content.get("content"))
    return ""


def messages_of(body: dict[str, Any]) -> list[Any]:
    """The "messages" field. BadAsk if it is no list or empty."""
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise BadAsk("messages: at least one message is required")
    return messages


def last_user_text(messages: Sequence[Any]) -> str:
    """The text of the last message with role "user"; of the last message if there is none."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role", "user") == "user":
            return text_of(message.get("content"))
    return text_of(messages[-1]) if messages else ""


def count_tokens(messages: Sequence[Any], *more: Any) -> int:
    """A rough input token count: a quarter of the text's characters, and one."""
    size = 0
    for message in messages:
        content = message.get("content") if type(message) is dict else message
        size += len(content) if type(content) is str else len(text_of(content))
    for extra in more:
        if extra is not None:
            size += len(text_of(extra))
    return size // 4 + 1


def fragments(text: str, size: int = 12) -> list[str]:
    """Cut tool arguments into the pieces a stream gives them in; one empty piece for an empty text."""
    return [text[i : i + size] for i in range(0, len(text), size)] or [""]


def logprob(token: str, top: int) -> dict[str, Any]:
    """A token with a made-up probability and `top` alternatives, as OpenAI and Ollama tell it."""

    def one(token: str, value: float) -> dict[str, Any]:
        spelled = list(token.encode("utf-8", "replace"))
        return {"token": token, "logprob": value, "bytes": spelled}

    others = [one(token if n == 0 else f"{token}~{n}", -0.25 - n) for n in range(top)]
    return {**one(token, -0.25), "top_logprobs": others}


def sse(data: bytes, event: str | None = None) -> bytes:
    """One server-sent event."""
    if event is None:
        return b"data: " + data + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
