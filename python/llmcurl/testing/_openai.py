"""OpenAI's wire format: chat completions (plain and SSE), embeddings, models. Used by every compatible server too."""

from __future__ import annotations

import time
from typing import Any

from ._dialect import (
    Ask,
    bundle,
    count_tokens,
    dumps,
    fragments,
    last_user_text,
    logprob,
    messages_of,
    model_of,
    sse,
)
from ._embeddings import as_base64, vector
from ._http import RequestHead
from ._plan import ID_TEXT
from ._replies import Reply, ToolCall, tokenize

_CODES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("server_error", "overloaded"),
    529: ("server_error", "overloaded"),
}

_MESSAGES = {
    401: "Incorrect API key provided.",
    404: "The model does not exist or you do not have access to it.",
    429: "Rate limit reached for requests per min. Please try again later.",
    503: "The engine is currently overloaded, please try again later.",
    529: "The engine is currently overloaded, please try again later.",
}

_CONTEXT = (
    "This model's maximum context length is 8192 tokens. Please reduce the length of the messages."
)


def _error(status: int, message: str | None, code: str | None) -> dict[str, Any]:
    kind, usual = _CODES.get(status, ("server_error", None))
    if message is None:
        fallback = "The server had an error while processing your request."
        message = _CONTEXT if code == "context_length_exceeded" else _MESSAGES.get(status, fallback)
    return {"error": {"message": message, "type": kind, "param": None, "code": code or usual}}


def _tool_call(number: int, choice: int, call: ToolCall) -> dict[str, Any]:
    ident = call.id or f"call_{ID_TEXT}{choice}{number}"
    return {
        "id": ident,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


class OpenAIDialect:
    """Chat completions."""

    name = "openai"
    id_header = "x-request-id"
    heartbeat = b": keep-alive\n\n"
    stream_type = "text/event-stream; charset=utf-8"

    def ask(self, head: RequestHead, body: dict[str, Any]) -> Ask:
        messages = messages_of(body)
        if "/deployments/" in head.path and "model" not in body:  # Azure: the model is in the path
            model = head.path.partition("/deployments/")[2].partition("/")[0]
        else:
            model = model_of(body)
        options = body.get("stream_options")
        form = (
            int(body.get("n") or 1),
            bool(options and options.get("include_usage")),
            bool(body.get("logprobs")),
            int(body.get("top_logprobs") or 0),
        )
        return Ask(model, bool(body.get("stream")), count_tokens(messages), form)

    def last_text(self, body: dict[str, Any]) -> str:
        return last_user_text(messages_of(body))

    @staticmethod
    def _usage(ask: Ask, reply: Reply) -> dict[str, Any]:
        spent = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
        made = reply.generated * (1 if reply.output_tokens is not None else ask.form[0])
        thought = len(tokenize(reply.reasoning))
        return {
            "prompt_tokens": spent,
            "completion_tokens": made,
            "total_tokens": spent + made,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": thought,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def full(self, ask: Ask, reply: Reply) -> bytes:
        choices = []
        for number in range(ask.form[0]):
            empty = reply.tool_calls and not reply.text
            message: dict[str, Any] = {
                "role": "assistant",
                "content": None if empty else reply.text,
                "refusal": None,
            }
            if reply.reasoning:
                message["reasoning_content"] = reply.reasoning
            if reply.tool_calls:
                message["tool_calls"] = [
                    _tool_call(i, number, call) for i, call in enumerate(reply.tool_calls)
                ]
            else:
                message["annotations"] = []
            probs = (
                {"content": [logprob(t, ask.form[3]) for t in reply.pieces], "refusal": None}
                if ask.form[2]
                else None
            )
            choices.append(
                {
                    "index": number,
                    "message": message,
                    "logprobs": probs,
                    "finish_reason": reply.finish_reason,
                }
            )
        return dumps(
            {
                "id": f"chatcmpl-{ID_TEXT}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": reply.model or ask.model,
                "choices": choices,
                "usage": self._usage(ask, reply),
                "service_tier": "default",
                "system_fingerprint": "fp_mock",
            }
        )

    def events(self, ask: Ask, reply: Reply) -> list[bytes]:
        count, with_usage, with_probs, top = ask.form
        common: dict[str, Any] = {
            "id": f"chatcmpl-{ID_TEXT}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": reply.model or ask.model,
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
        }
        tail = {"usage": None} if with_usage else {}

        def chunk(
            number: int, delta: dict[str, Any], finish: str | None = None, token: str | None = None
        ) -> bytes:
            probs = (
                {"content": [logprob(token, top)], "refusal": None}
                if with_probs and token is not None
                else None
            )
            choice = {"index": number, "delta": delta, "logprobs": probs, "finish_reason": finish}
            return sse(dumps({**common, "choices": [choice], **tail}))

        numbers = range(count)
        first = b"".join(
            chunk(
                n,
                {
                    "role": "assistant",
                    "content": None if reply.tool_calls and not reply.text else "",
                },
            )
            for n in numbers
        )
        middle = [
            chunk(n, {"reasoning_content": piece})
            for piece in tokenize(reply.reasoning)
            for n in numbers
        ]
        middle += [
            chunk(n, {"content": piece}, token=piece) for piece in reply.pieces for n in numbers
        ]
        for index, call in enumerate(reply.tool_calls):
            for n in numbers:
                whole = _tool_call(index, n, call)
                opening = {
                    **whole,
                    "index": index,
                    "function": {"name": call.name, "arguments": ""},
                }
                middle.append(chunk(n, {"tool_calls": [opening]}))
                for part in fragments(call.arguments):
                    middle.append(
                        chunk(
                            n, {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
                        )
                    )
        last = b"".join(chunk(n, {}, reply.finish_reason) for n in numbers)
        if with_usage:
            last += sse(dumps({**common, "choices": [], "usage": self._usage(ask, reply)}))
        last += b"data: [DONE]\n\n"
        return bundle(first, middle, last)

    def error(
        self, status: int, message: str | None, code: str | None, retry_after: float | None
    ) -> bytes:
        return dumps(_error(status, message, code))

    def error_event(self, ask: Ask, status: int, message: str | None, code: str | None) -> bytes:
        return sse(dumps(_error(status, message, code)))

    def broken_event(self, ask: Ask) -> bytes:
        return b'data: {"id":"chatcmpl-broken","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"con\n\n'


def embeddings(body: dict[str, Any], size: int) -> bytes:
    """`/v1/embeddings`: vectors of `size` floats, or of the "dimensions" asked for; base64 if asked for."""
    given = body.get("input")
    many = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = int(body.get("dimensions") or size)
    packed = body.get("encoding_format") == "base64"
    data = []
    used = 0
    for number, item in enumerate(many):
        text = item if isinstance(item, str) else repr(item)
        used += len(text) // 4 + 1
        value = as_base64(text, size) if packed else vector(text, size)
        data.append({"object": "embedding", "index": number, "embedding": value})
    usage = {"prompt_tokens": used, "total_tokens": used}
    return dumps({"object": "list", "data": data, "model": model_of(body), "usage": usage})


def models(names: tuple[str, ...]) -> bytes:
    """`/v1/models`."""
    entries = [
        {"id": n, "object": "model", "created": 1_700_000_000, "owned_by": "mock"} for n in names
    ]
    return dumps({"object": "list", "data": entries})


def model(name: str) -> bytes:
    """`/v1/models/{name}`."""
    return dumps({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "mock"})
