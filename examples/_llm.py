"""Where the examples send to: the built-in mock, or a real provider."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from llmcurl.llm import LLM, Anthropic, Gemini, Ollama, OpenAI
from llmcurl.testing import MockLLM

MODELS = {
    "openai": (OpenAI, "gpt-5-mini"),
    "anthropic": (Anthropic, "claude-sonnet-4-5"),
    "gemini": (Gemini, "gemini-2.5-flash"),
    "ollama": (Ollama, "qwen3:8b"),
}


@contextlib.asynccontextmanager
async def connect(
    options: dict[str, Any] | None = None, **mock_settings: Any
) -> AsyncIterator[tuple[LLM, MockLLM | None]]:
    """A client with these options, and the mock behind it (None with a real provider)."""
    given = options or {}
    name = os.environ.get("LLMCURL_EXAMPLE")
    if name:
        cls, model = MODELS[name]
        async with cls(model=os.environ.get("LLMCURL_MODEL", model), **given) as llm:
            yield llm, None
    else:
        async with MockLLM(**mock_settings) as mock:
            async with OpenAI(base_url=mock.openai_url, model="mock-1", **given) as llm:
                yield llm, mock
