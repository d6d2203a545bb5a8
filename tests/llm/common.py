"""The four providers against the mock, and what differs between them in tests."""

from __future__ import annotations

import asyncio
from typing import Any

from llmcurl.llm import LLM, Anthropic, Gemini, Ollama, OpenAI

PROVIDERS = ["openai", "anthropic", "gemini", "ollama"]
KEY = "sk-very-secret-key"


def make(provider: str, mock: Any, **options: Any) -> LLM:
    """A client of the provider that talks to the mock."""
    options = {"model": "mock-1", "api_key": KEY, **options}
    if provider == "openai":
        return OpenAI(base_url=mock.openai_url, **options)
    cls = {"anthropic": Anthropic, "gemini": Gemini, "ollama": Ollama}[provider]
    return cls(base_url=mock.base_url, **options)


async def until(condition: Any, timeout: float = 20.0) -> None:
    """Waits until the condition holds."""
    end = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not come true in time"
        await asyncio.sleep(0.01)
