"""pytest plugin: the fixture `mock_llm`.

    async def test_answer(mock_llm):
        mock_llm.script("forty-two")
        ...                                     # a client on mock_llm.base_url
        assert mock_llm.requests[0].json["model"] == "mock-1"

The mock runs in a process of its own, started once per session and reset before each test, so that it serves
synchronous and asynchronous tests under any event loop alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._config import MockConfig
    from ._spawn import SpawnedMock


@pytest.fixture(scope="session")
def _mock_llm_process() -> Iterator[SpawnedMock]:
    from ._spawn import SpawnedMock

    with SpawnedMock() as mock:
        yield mock


@pytest.fixture(scope="session")
def _mock_llm_defaults() -> MockConfig:
    from ._config import MockConfig

    return MockConfig()


@pytest.fixture
def mock_llm(_mock_llm_process: SpawnedMock, _mock_llm_defaults: MockConfig) -> SpawnedMock:
    """A mock LLM server that speaks the OpenAI, Anthropic, Gemini and Ollama protocols; as new for each test."""
    import dataclasses

    mock = _mock_llm_process
    mock.reset()
    mock.configure(
        **{
            f.name: getattr(_mock_llm_defaults, f.name)
            for f in dataclasses.fields(_mock_llm_defaults)
        }
    )
    return mock
