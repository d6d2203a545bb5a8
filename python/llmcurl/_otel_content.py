"""What was said, in the form of OpenTelemetry's GenAI conventions: for `llmcurl.otel`, on request.

Messages become ``{"role": ..., "parts": [...]}`` with parts of text, tool calls and their
results; of anything else (images, audio) only the type is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ._exceptions import HTTPError

__all__ = ["input_messages", "output_messages", "system_instructions"]


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


def _part(item: Any) -> dict[str, Any]:
    """One piece of a message, whatever provider's."""
    if isinstance(item, str):
        return _text(item)
    if not isinstance(item, Mapping):
        return {"type": "unknown"}
    if isinstance(item.get("text"), str):
        return _text(item["text"])
    kind = item.get("type", "")
    call = item.get("functionCall") or item.get("function")
    if isinstance(call, Mapping):
        arguments = call.get("args", call.get("arguments"))
        return {
            "type": "tool_call",
            "id": item.get("id"),
            "name": call.get("name"),
            "arguments": arguments,
        }
    if kind == "tool_use":
        return {
            "type": "tool_call",
            "id": item.get("id"),
            "name": item.get("name"),
            "arguments": item.get("input"),
        }
    if kind == "tool_result":
        return {
            "type": "tool_call_response",
            "id": item.get("tool_use_id"),
            "response": item.get("content"),
        }
    if isinstance(result := item.get("functionResponse"), Mapping):
        return {
            "type": "tool_call_response",
            "id": result.get("name"),
            "response": result.get("response"),
        }
    return {"type": str(kind or next(iter(item), "unknown"))}


def _parts(content: Any) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, (str, Mapping)):
        content = [content]
    return [_part(item) for item in content] if isinstance(content, Iterable) else []


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = str(message.get("role", "user"))
    parts = _parts(message.get("content", message.get("parts")))
    if role == "tool":
        ident = message.get("tool_call_id", message.get("tool_name"))
        return {
            "role": role,
            "parts": [
                {"type": "tool_call_response", "id": ident, "response": message.get("content")}
            ],
        }
    parts += [_part(call) for call in message.get("tool_calls") or ()]
    return {"role": "assistant" if role == "model" else role, "parts": parts}


def input_messages(body: Mapping[str, Any]) -> str | None:
    """gen_ai.input.messages of a request's body; None if it has none."""
    messages = body.get("messages", body.get("contents"))
    if not isinstance(messages, list):
        return None
    return _json([_message(message) for message in messages if isinstance(message, Mapping)])


def system_instructions(body: Mapping[str, Any]) -> str | None:
    """gen_ai.system_instructions, where the provider has them apart from the messages."""
    found = body.get("system", body.get("systemInstruction", body.get("system_instruction")))
    if isinstance(found, Mapping):
        found = found.get("parts")
    return _json(parts) if (parts := _parts(found)) else None


def output_messages(reply: Any) -> str | None:
    """gen_ai.output.messages of a `Reply`; None if it cannot be read."""
    try:
        parts: list[dict[str, Any]] = []
        if reply.reasoning:
            parts.append({"type": "reasoning", "content": reply.reasoning})
        if reply.text:
            parts.append(_text(reply.text))
        for call in reply.tool_calls:
            parts.append(
                {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
            )
        return _json([{"role": "assistant", "parts": parts, "finish_reason": reply.finish_reason}])
    except HTTPError:
        return None
