"""Anthropic's wire format: messages (plain and SSE), token counts, models."""

from __future__ import annotations

import json
from typing import Any

from ._dialect import (
    Ask,
    BadAsk,
    bundle,
    count_tokens,
    dumps,
    fragments,
    last_user_text,
    messages_of,
    model_of,
    sse,
)
from ._http import RequestHead
from ._plan import ID_TEXT
from ._replies import Reply, ToolCall, tokenize

_TYPES = {
    400: ("invalid_request_error", "Your request was malformed."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key may not use the specified resource."),
    404: ("not_found_error", "The requested resource was not found."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    529: ("overloaded_error", "Overloaded"),
}

_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def _error(status: int, message: str | None, code: str | None) -> bytes:
    kind, usual = _TYPES.get(status, ("api_error", "Internal server error"))
    if code == "context_length_exceeded":
        usual = "prompt is too long: 200001 tokens > 200000 maximum"
        code = None
    error = {"type": code or kind, "message": message or usual}
    return dumps({"type": "error", "error": error, "request_id": f"req_{ID_TEXT}"})


def _tool_id(number: int, call: ToolCall) -> str:
    return call.id or f"toolu_{ID_TEXT}{number}"


def _parsed(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments or "{}")
    except ValueError:
        return {"_raw": call.arguments}


class AnthropicDialect:
    """Messages."""

    name = "anthropic"
    id_header = "request-id"
    heartbeat = b'event: ping\ndata: {"type": "ping"}\n\n'
    stream_type = "text/event-stream; charset=utf-8"

    def ask(self, head: RequestHead, body: dict[str, Any]) -> Ask:
        messages = messages_of(body)
        if "max_tokens" not in body:
            raise BadAsk("max_tokens: Field required")
        return Ask(
            model_of(body), bool(body.get("stream")), count_tokens(messages, body.get("system"))
        )

    def last_text(self, body: dict[str, Any]) -> str:
        return last_user_text(messages_of(body))

    @staticmethod
    def _usage(ask: Ask, reply: Reply, made: int) -> dict[str, Any]:
        spent = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
        return {
            "input_tokens": spent,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": made,
            "service_tier": "standard",
        }

    def _message(
        self, ask: Ask, reply: Reply, content: list[Any], stop: str | None, made: int
    ) -> dict[str, Any]:
        return {
            "id": f"msg_{ID_TEXT}",
            "type": "message",
            "role": "assistant",
            "model": reply.model or ask.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": self._usage(ask, reply, made),
        }

    def full(self, ask: Ask, reply: Reply) -> bytes:
        content: list[dict[str, Any]] = []
        if reply.reasoning:
            content.append(
                {"type": "thinking", "thinking": reply.reasoning, "signature": "bW9jaw=="}
            )
        if reply.text or not reply.tool_calls:
            content.append({"type": "text", "text": reply.text})
        for number, call in enumerate(reply.tool_calls):
            content.append(
                {
                    "type": "tool_use",
                    "id": _tool_id(number, call),
                    "name": call.name,
                    "input": _parsed(call),
                }
            )
        stop = _STOP[reply.finish_reason or "stop"]
        return dumps(self._message(ask, reply, content, stop, reply.generated))

    def events(self, ask: Ask, reply: Reply) -> list[bytes]:
        def event(name: str, **fields: Any) -> bytes:
            return sse(dumps({"type": name, **fields}), name)

        middle: list[bytes] = []
        opened = b""  # events that wait for the next delta
        index = 0

        def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
            nonlocal opened, index
            pending = opened + event("content_block_start", index=index, content_block=start)
            if index == 0:
                pending += event("ping")
            for delta in deltas:
                middle.append(pending + event("content_block_delta", index=index, delta=delta))
                pending = b""
            opened = pending + event("content_block_stop", index=index)
            index += 1

        if reply.reasoning:
            thoughts = [
                {"type": "thinking_delta", "thinking": piece} for piece in tokenize(reply.reasoning)
            ]
            signed = {"type": "signature_delta", "signature": "bW9jaw=="}
            block({"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signed])
        if reply.text or not reply.tool_calls:
            block(
                {"type": "text", "text": ""},
                [{"type": "text_delta", "text": piece} for piece in reply.pieces],
            )
        for number, call in enumerate(reply.tool_calls):
            parts = [
                {"type": "input_json_delta", "partial_json": part}
                for part in ["", *fragments(call.arguments)]
            ]
            block(
                {"type": "tool_use", "id": _tool_id(number, call), "name": call.name, "input": {}},
                parts,
            )
        first = event("message_start", message=self._message(ask, reply, [], None, 1))
        delta = {"stop_reason": _STOP[reply.finish_reason or "stop"], "stop_sequence": None}
        last = opened + event(
            "message_delta", delta=delta, usage={"output_tokens": reply.generated}
        )
        return bundle(first, middle, last + event("message_stop"))

    def error(
        self, status: int, message: str | None, code: str | None, retry_after: float | None
    ) -> bytes:
        return _error(status, message, code)

    def error_event(self, ask: Ask, status: int, message: str | None, code: str | None) -> bytes:
        return sse(_error(status, message, code), "error")

    def broken_event(self, ask: Ask) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_del\n\n'


def count(body: dict[str, Any]) -> bytes:
    """`/v1/messages/count_tokens`."""
    return dumps({"input_tokens": count_tokens(messages_of(body), body.get("system"))})


def _model(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}


def models(names: tuple[str, ...]) -> bytes:
    """`/v1/models` in Anthropic's form."""
    entries = [_model(name) for name in names]
    return dumps({"data": entries, "has_more": False, "first_id": names[0], "last_id": names[-1]})


def model(name: str) -> bytes:
    """`/v1/models/{name}` in Anthropic's form."""
    return dumps(_model(name))
