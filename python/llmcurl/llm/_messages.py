"""Our one shape of a conversation, before a provider makes its own of it.

A conversation is a text, a message, or a list of messages. A message is a dict with "role"
("system", "user", "assistant", "tool") and "content" (a text or a list of parts), as OpenAI
has it; a `Reply` stands for its message. A message or part that is not of this shape is the
provider's own and passes unchanged.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from ._reply import Reply

__all__ = ["Conversation", "Image", "Message", "call_names", "image", "image_of", "messages_of"]

Message = Union["Mapping[str, Any]", Reply]
Conversation = Union[str, Message, "Sequence[str | Message]"]

_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


class Image(NamedTuple):
    """An image of a message: a URL, or base64 text; its media type, "" if unknown."""

    url: str | None
    data: str
    media_type: str


def _media_type(data: bytes) -> str:
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else "image/png"


def image(source: str | bytes, media_type: str | None = None) -> dict[str, Any]:
    """A part of a message: an image, from its URL (data: too) or its bytes.

    Args:
        source: URL or the image's bytes.
        media_type: of bytes; found out from them if not given.

    Raises:
        TypeError: neither, or a media type for a URL, which tells it by its name.
    """
    if isinstance(source, str):
        if media_type is not None:
            raise TypeError("media_type= goes with bytes; a URL tells its own")
        return {"type": "image_url", "image_url": {"url": source}}
    kind = media_type or _media_type(source)
    url = f"data:{kind};base64,{base64.b64encode(source).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def image_of(part: Mapping[str, Any]) -> Image | None:
    """The image in a part of OpenAI's form, None if it is something else."""
    if part.get("type") != "image_url":
        return None
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str):
        return None
    if url.startswith("data:"):
        kind, _, data = url[5:].partition(",")
        return Image(None, data, kind.partition(";")[0] or "image/png")
    return Image(url, "", mimetypes.guess_type(url.partition("?")[0])[0] or "")


def _one(message: str | Message) -> dict[str, Any]:
    if isinstance(message, str):
        return {"role": "user", "content": message}
    if isinstance(message, Reply):
        return message.message
    if isinstance(message, Mapping):
        return dict(message)
    raise TypeError(f"a message must be a str, dict or Reply, not {type(message).__name__}")


def messages_of(conversation: Conversation) -> list[dict[str, Any]]:
    """The messages of a conversation, as dicts of their own.

    Raises:
        TypeError: something is no message. ValueError: there is none.
    """
    if isinstance(conversation, (str, Mapping, Reply)):
        return [_one(conversation)]
    if not isinstance(conversation, Sequence):
        raise TypeError(
            f"messages must be a str, a message or a list, not {type(conversation).__name__}"
        )
    if not conversation:
        raise ValueError("messages is empty")
    return [_one(message) for message in conversation]


def call_names(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tool call id -> tool name, for providers that want results by name."""
    names = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            names[str(call.get("id"))] = str(call.get("function", {}).get("name", ""))
    return names


def parts_of(content: Any) -> list[dict[str, Any]]:
    """A message's content as a list of parts; strings become text parts."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{"type": "text", "text": p} if isinstance(p, str) else dict(p) for p in content]


def text_of(content: Any) -> str:
    """The text in a message's content."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in parts_of(content))
