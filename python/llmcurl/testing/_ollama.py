"""Ollama's wire format: chat and generate (plain and NDJSON), embeddings, the list of models."""

from __future__ import annotations

import json
import time
from typing import Any

from ._dialect import (
    Ask,
    count_tokens,
    dumps,
    last_user_text,
    logprob,
    messages_of,
    model_of,
    text_of,
)
from ._embeddings import vector
from ._http import RequestHead
from ._replies import Reply, tokenize

_MESSAGES = {
    401: "unauthorized",
    404: "model not found, try pulling it first",
    429: "too many requests",
    503: "server busy, please try again. maximum pending requests exceeded",
    529: "server busy, please try again. maximum pending requests exceeded",
}

_REASONS = {"stop": "stop", "length": "length", "tool_calls": "stop", "content_filter": "stop"}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())


def _totals(ask: Ask, reply: Reply) -> dict[str, Any]:
    spent = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
    return {
        "done_reason": _REASONS[reply.finish_reason or "stop"],
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": spent,
        "prompt_eval_duration": 1_000_000,
        "eval_count": reply.generated,
        "eval_duration": 3_000_000,
    }


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"function": {"name": call.name, "arguments": json.loads(call.arguments or "{}")}}
        for call in reply.tool_calls
    ]


def _error_text(status: int, message: str | None, code: str | None) -> bytes:
    if message is None and code == "context_length_exceeded":
        message = "input length exceeds maximum context length"
    return dumps(
        {
            "error": message
            or code
            or _MESSAGES.get(status, "an error was encountered while running the model")
        }
    )


class OllamaDialect:
    """/api/chat, and /api/generate where the prompt is one text."""

    name = "ollama"
    id_header = "x-request-id"
    heartbeat = b"\n"
    stream_type = "application/x-ndjson"

    def ask(self, head: RequestHead, body: dict[str, Any]) -> Ask:
        single = not head.path.endswith("/chat")
        messages = [body.get("prompt") or ""] if single else messages_of(body)
        stream = body.get("stream")
        return Ask(
            model_of(body),
            stream is None or bool(stream),
            count_tokens(messages, body.get("system")),
            (single, int(body.get("top_logprobs") or 0) if body.get("logprobs") else -1),
        )

    def last_text(self, body: dict[str, Any]) -> str:
        return text_of(body["prompt"]) if "prompt" in body else last_user_text(messages_of(body))

    @staticmethod
    def _line(
        ask: Ask, reply: Reply, text: str, thinking: str, calls: list[Any], done: bool
    ) -> dict[str, Any]:
        line: dict[str, Any] = {"model": reply.model or ask.model, "created_at": _now()}
        if ask.form[0]:
            line["response"] = text
            target = line
        else:
            target = line["message"] = {"role": "assistant", "content": text}
        if thinking:
            target["thinking"] = thinking
        if calls:
            target["tool_calls"] = calls
        line["done"] = done
        tokens = reply.pieces if done else (text,) if text else ()
        if ask.form[1] >= 0 and text:
            line["logprobs"] = [logprob(token, ask.form[1]) for token in tokens]
        return line

    def full(self, ask: Ask, reply: Reply) -> bytes:
        line = self._line(ask, reply, reply.text or "", reply.reasoning, _calls(reply), True)
        return dumps({**line, **_totals(ask, reply)})

    def events(self, ask: Ask, reply: Reply) -> list[bytes]:
        lines = [
            self._line(ask, reply, "", piece, [], False) for piece in tokenize(reply.reasoning)
        ]
        lines += [self._line(ask, reply, piece, "", [], False) for piece in reply.pieces]
        lines += [self._line(ask, reply, "", "", [call], False) for call in _calls(reply)]
        pieces = [dumps(line) + b"\n" for line in lines]
        last = dumps({**self._line(ask, reply, "", "", [], True), **_totals(ask, reply)}) + b"\n"
        if not pieces:
            return [last]
        pieces[-1] += last
        return pieces

    def error(
        self, status: int, message: str | None, code: str | None, retry_after: float | None
    ) -> bytes:
        return _error_text(status, message, code)

    def error_event(self, ask: Ask, status: int, message: str | None, code: str | None) -> bytes:
        return _error_text(status, message, code) + b"\n"

    def broken_event(self, ask: Ask) -> bytes:
        return b'{"model":"broken","message":{"role":"assistant","content":"tru\n'


def embed(body: dict[str, Any], size: int) -> bytes:
    """`/api/embed`."""
    given = body.get("input")
    texts = given if isinstance(given, list) else [given or ""]
    size = int(body.get("dimensions") or size)
    return dumps(
        {
            "model": model_of(body),
            "embeddings": [vector(str(text), size) for text in texts],
            "total_duration": 2_000_000,
            "load_duration": 1_000_000,
            "prompt_eval_count": count_tokens(texts),
        }
    )


def embed_one(body: dict[str, Any], size: int) -> bytes:
    """`/api/embeddings`, the older form."""
    return dumps({"embedding": vector(text_of(body.get("prompt")), size)})


def tags(names: tuple[str, ...]) -> bytes:
    """`/api/tags`."""
    entries = [
        {
            "name": name,
            "model": name,
            "modified_at": "2025-01-01T00:00:00Z",
            "size": 1_000_000,
            "digest": "0" * 64,
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "mock",
                "families": ["mock"],
                "parameter_size": "1M",
                "quantization_level": "Q4_0",
            },
        }
        for name in names
    ]
    return dumps({"models": entries})
