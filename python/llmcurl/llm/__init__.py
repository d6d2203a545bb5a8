"""LLM calls: `OpenAI`, `Anthropic`, `Gemini` and `Ollama` with one surface.

    async with llmcurl.llm.OpenAI(model="gpt-5") as llm:
        reply = await llm.chat("Why is the sky blue?")
        print(reply.text, reply.usage)
        async with llm.stream("And at night?") as stream:
            async for text in stream.text_stream:
                print(text, end="", flush=True)

Server-sent events and NDJSON of any other URL: `aiter_events`, `aiter_ndjson`.
"""

from ._base import LLM
from ._embeddings import Embeddings
from ._errors import (
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    InvalidReply,
    LLMError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    StreamTimedOut,
    ToolError,
    TooManyRounds,
)
from ._events import ServerSentEvent, aiter_events, aiter_ndjson
from ._messages import image
from ._reply import Reply
from ._run import Run
from ._stream import Stream
from ._tools import Tool
from ._types import Choice, Delta, ModelInfo, TokenLogprob, ToolCall, ToolCallDelta, Usage
from .anthropic import Anthropic
from .gemini import Gemini
from .ollama import Ollama
from .openai import OpenAI

__all__ = [
    "LLM",
    "Anthropic",
    "AuthenticationError",
    "BadRequestError",
    "Choice",
    "ContextLengthError",
    "Delta",
    "Embeddings",
    "Gemini",
    "InvalidReply",
    "LLMError",
    "ModelInfo",
    "NotFoundError",
    "Ollama",
    "OpenAI",
    "OverloadedError",
    "PermissionDeniedError",
    "RateLimitError",
    "Reply",
    "Run",
    "ServerError",
    "ServerSentEvent",
    "Stream",
    "StreamInterrupted",
    "StreamTimedOut",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolError",
    "TooManyRounds",
    "Usage",
    "aiter_events",
    "aiter_ndjson",
    "image",
]
