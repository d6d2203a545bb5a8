"""Tools for testing code that talks to LLMs: `MockLLM`, a server that speaks four providers' protocols.

    async with MockLLM(latency=0.2) as mock:            # in the running loop
        client = llmcurl.AsyncClient(base_url=mock.base_url)

    with MockLLM.spawn(latency=1.0) as mock:            # in a process of its own
        ...

`mock.script(...)` queues replies (`Reply`, `Failure`, `Raw` or a text), `mock.stats` and `mock.requests` tell what it
saw. The pytest fixture `mock_llm` gives a fresh one to each test.
"""

from ._config import MockConfig
from ._replies import Failure, Raw, Reply, ToolCall
from ._server import MockLLM
from ._spawn import SpawnedMock
from ._stats import RecordedRequest, Stats

__all__ = [
    "Failure",
    "MockConfig",
    "MockLLM",
    "Raw",
    "RecordedRequest",
    "Reply",
    "SpawnedMock",
    "Stats",
    "ToolCall",
]
