"""Gemini's wire format: generateContent (plain, SSE, JSON array), embeddings, token counts, models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ._dialect import Ask, BadAsk, bundle, dumps, last_user_text, text_of
from ._embeddings import vector
from ._http import RequestHead
from ._plan import ID_TEXT
from ._replies import Reply, tokenize

_STATUS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "The model is not found for API version v1beta."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota."),
    500: ("INTERNAL", "An internal error has occurred."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    529: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}


def _error(status: int, message: str | None, code: str | None, retry_after: float | None) -> bytes:
    name, usual = _STATUS.get(status, ("UNKNOWN", "An unknown error has occurred."))
    if code == "context_length_exceeded":
        usual = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
        code = None
    error: dict[str, Any] = {"code": status, "message": message or usual, "status": code or name}
    if retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{retry_after:g}s"}]
    return dumps({"error": error})


def model_in(path: str) -> str:
    """The model named in a path such as `/v1beta/models/NAME:method`."""
    return path.rpartition("/models/")[2].partition(":")[0]


def _contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise BadAsk("* GenerateContentRequest.contents: contents is not specified")
    return [
        {"role": item.get("role", "user"), "content": item.get("parts")}
        for item in contents
        if isinstance(item, dict)
    ]


def _logprobs(tokens: Sequence[str], top: int) -> dict[str, Any]:
    def one(token: str, value: float) -> dict[str, Any]:
        return {"token": token, "tokenId": len(token), "logProbability": value}

    return {
        "topCandidates": [
            {"candidates": [one(t if n == 0 else f"{t}~{n}", -0.25 - n) for n in range(top)]}
            for t in tokens
        ],
        "chosenCandidates": [one(token, -0.25) for token in tokens],
    }


class GeminiDialect:
    """generateContent and streamGenerateContent."""

    name = "gemini"
    id_header = "x-gemini-request-id"
    heartbeat = b": keep-alive\r\n\r\n"
    stream_type = "text/event-stream"

    def ask(self, head: RequestHead, body: dict[str, Any]) -> Ask:
        messages = _contents(body)
        size = sum(len(text_of(message["content"])) for message in messages)
        system = body.get("systemInstruction") or body.get("system_instruction")
        if isinstance(system, dict):
            size += len(text_of(system.get("parts")))
        stream = "streamGenerateContent" in head.path
        as_sse = "alt=sse" in head.query
        config = body.get("generationConfig") or {}
        count = int(config.get("candidateCount") or 1)
        top = int(config.get("logprobs") or 0) if config.get("responseLogprobs") else -1
        return Ask(model_in(head.path), stream, size // 4 + 1, (as_sse, count, top))

    def last_text(self, body: dict[str, Any]) -> str:
        return last_user_text(_contents(body))

    @staticmethod
    def _answer(
        ask: Ask,
        reply: Reply,
        parts: list[Any],
        finish: str | None,
        made: int,
        tokens: Sequence[str] = (),
    ) -> dict[str, Any]:
        spent = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
        candidates = []
        for index in range(ask.form[1]):
            candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
            candidate["index"] = index
            if finish is not None:
                candidate["finishReason"] = finish
            if ask.form[2] >= 0 and tokens:
                candidate["logprobsResult"] = _logprobs(tokens, ask.form[2])
            candidates.append(candidate)
        made *= ask.form[1]
        return {
            "candidates": candidates,
            "usageMetadata": {
                "promptTokenCount": spent,
                "candidatesTokenCount": made,
                "totalTokenCount": spent + made,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": spent}],
            },
            "modelVersion": reply.model or ask.model,
            "responseId": ID_TEXT,
        }

    @staticmethod
    def _calls(reply: Reply) -> list[dict[str, Any]]:
        parts = []
        for call in reply.tool_calls:
            value: dict[str, Any] = {"name": call.name, "args": json.loads(call.arguments or "{}")}
            if call.id is not None:
                value["id"] = call.id
            parts.append({"functionCall": value})
        return parts

    def full(self, ask: Ask, reply: Reply) -> bytes:
        parts: list[dict[str, Any]] = []
        if reply.reasoning:
            parts.append({"text": reply.reasoning, "thought": True})
        if reply.text or not reply.tool_calls:
            parts.append({"text": reply.text})
        parts += self._calls(reply)
        finish = _FINISH[reply.finish_reason or "stop"]
        return dumps(self._answer(ask, reply, parts, finish, reply.generated, reply.pieces))

    def events(self, ask: Ask, reply: Reply) -> list[bytes]:
        parts: list[dict[str, Any]] = [
            {"text": piece, "thought": True} for piece in tokenize(reply.reasoning)
        ]
        parts += [{"text": piece} for piece in reply.pieces]
        parts += self._calls(reply)
        parts = parts or [{"text": ""}]
        finish = _FINISH[reply.finish_reason or "stop"]
        answers = []
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            made = reply.generated if is_last else min(number, reply.generated)
            said = () if part.get("thought") or "text" not in part else (part["text"],)
            end = finish if is_last else None
            answers.append(dumps(self._answer(ask, reply, [part], end, made, said)))
        if ask.form[0]:
            return [b"data: " + answer + b"\r\n\r\n" for answer in answers]
        return bundle(b"[", [answers[0], *(b"\n,\r\n" + answer for answer in answers[1:])], b"\n]")

    def error(
        self, status: int, message: str | None, code: str | None, retry_after: float | None
    ) -> bytes:
        return _error(status, message, code, retry_after)

    def error_event(self, ask: Ask, status: int, message: str | None, code: str | None) -> bytes:
        error = _error(status, message, code, None)
        return b"data: " + error + b"\r\n\r\n" if ask.form[0] else b",\r\n" + error

    def broken_event(self, ask: Ask) -> bytes:
        broken = b'{"candidates":[{"content":{"parts":[{"te'
        return b"data: " + broken + b"\r\n\r\n" if ask.form[0] else b",\r\n" + broken


def _size(body: dict[str, Any], size: int) -> int:
    config = body.get("embedContentConfig") or {}
    return int(body.get("outputDimensionality") or config.get("outputDimensionality") or size)


def _text(body: dict[str, Any]) -> str:
    content = body.get("content")
    if not isinstance(content, dict):
        raise BadAsk("* EmbedContentRequest.content: contents is not specified")
    return text_of(content.get("parts"))


def embed(body: dict[str, Any], size: int) -> bytes:
    """`:embedContent`."""
    return dumps({"embedding": {"values": vector(_text(body), _size(body, size))}})


def embed_batch(body: dict[str, Any], size: int) -> bytes:
    """`:batchEmbedContents`."""
    requests = body.get("requests")
    if not isinstance(requests, list):
        raise BadAsk("* BatchEmbedContentsRequest.requests: requests is not specified")
    return dumps(
        {"embeddings": [{"values": vector(_text(item), _size(item, size))} for item in requests]}
    )


def count(body: dict[str, Any]) -> bytes:
    """`:countTokens`."""
    size = sum(len(text_of(message["content"])) for message in _contents(body))
    total = size // 4 + 1
    return dumps(
        {"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}
    )


def _model(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": "mock",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "embedContent"],
    }


def models(names: tuple[str, ...]) -> bytes:
    """`/v1beta/models`."""
    return dumps({"models": [_model(name) for name in names]})


def model(name: str) -> bytes:
    """`/v1beta/models/{name}`."""
    return dumps(_model(name))
