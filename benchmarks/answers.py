"""The answers of the origin: a chat completion, an event stream, embeddings.

Job: the bytes. Not its job: sending them (origin.py).
"""

from __future__ import annotations

import json
import random

SSE_EVENTS = 400
SSE_EVENT_BYTES = 200
EMBEDDINGS_BYTES = 1_500_000


def chat_answer() -> bytes:
    """A chat completion of about 0.9 KB, as the providers send it."""
    words = (
        "The origin answers with a fixed text so that every client can check each byte of it. " * 8
    )
    answer = {
        "id": "chatcmpl-9XbGjQ2wVhN1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "bench-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": words[:600]},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 130, "total_tokens": 250},
        "system_fingerprint": "fp_bench",
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def sse_answer() -> bytes:
    """SSE_EVENTS chat chunks of SSE_EVENT_BYTES bytes each and the closing [DONE]."""

    def event(text: str) -> bytes:
        chunk = {
            "id": "chatcmpl-9XbGjQ2wVhN1",
            "object": "chat.completion.chunk",
            "created": 1760000000,
            "model": "bench-1",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }
        return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"

    pad = "x" * (SSE_EVENT_BYTES - len(event("0000")))
    return b"".join(event(f"{i:04d}{pad}") for i in range(SSE_EVENTS)) + b"data: [DONE]\n\n"


def embeddings_answer() -> bytes:
    """An embeddings answer of about EMBEDDINGS_BYTES bytes: 16 inputs, numbers as text."""
    rng = random.Random(1)
    per_input = EMBEDDINGS_BYTES // 16 // 12
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": [round(rng.uniform(-1, 1), 8) for _ in range(per_input)],
        }
        for i in range(16)
    ]
    answer = {
        "object": "list",
        "data": data,
        "model": "bench-embed",
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    return json.dumps(answer, separators=(",", ":")).encode()
