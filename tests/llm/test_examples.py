"""The examples do what they say, against the mock; the service under uvicorn on both loops."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from common import until
from llmcurl import AsyncClient
from llmcurl.llm import aiter_events
from llmcurl.testing import Failure, Reply

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.delenv("LLMCURL_EXAMPLE", raising=False)
    return importlib.import_module


async def test_gather(example):
    texts, seconds = await example("gather").main(latency=1.0)
    assert texts == ["Name a river.", "Name a mountain.", "Name a city.", "Name a sea."]
    assert 0.99 <= seconds < 2.9


async def test_candidates(example):
    assert await example("candidates").main() == ("fast", 1)


async def test_batch(example, tmp_path):
    answers, restored = await example("batch").main(tmp_path / "answers.jsonl")
    assert restored == 0 and answers["Name a river."] == "Name a river." and len(answers) == 6
    assert await example("batch").main(tmp_path / "answers.jsonl") == (answers, 6)


async def test_limits(example):
    answers, refused, ended = await example("limits").main()
    assert answers == 30 and refused <= 2
    assert ended[0] == "wait, 1 attempt" and ended[1].startswith("idle, 'The mock")


@pytest.mark.leaves_traces  # the loop keeps the thread of the sync tool
async def test_tools(example, monkeypatch):
    """The two that wait do so at the same time."""
    module, waiting = example("tools"), []

    async def sleep(seconds: float) -> None:
        waiting.append(seconds)
        await until(lambda: len(waiting) == 2)

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    run = await module.main()
    assert [call.name for call, _, failed in run.calls if not failed] == [
        "get_weather",
        "search",
        "population",
    ]
    assert run.text.startswith("Oslo: 21 degrees")


@pytest.fixture(params=["asyncio", "uvloop"])
def service(request, mock_llm):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples")]
    command += ["fastapi_app:app", "--loop", request.param, "--port", str(port)]
    variables = {"OPENAI_BASE_URL": mock_llm.openai_url, "LLMCURL_MODEL": "mock-1"}
    process = subprocess.Popen(
        [*command, "--log-level", "warning"], env={**os.environ, **variables}
    )
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/generate"
    finally:
        process.terminate()
        process.wait(30)


async def test_service(service, mock_llm):
    async with AsyncClient() as client:
        mock_llm.script("Hello there.", Failure.rate_limit(3), Failure.server_error())
        response = await client.post(service, json={"prompt": "Hi"})
        assert response.json()["text"] == "Hello there." and response.json()["tokens"] > 0
        response = await client.post(service, json={"prompt": "Hi"})
        assert response.status_code == 429 and response.headers["retry-after"] == "3"
        response = await client.post(service, json={"prompt": "Hi", "stream": True})
        assert response.status_code == 502 and response.json()["error"]

        mock_llm.script("Hello there.", Failure.cut(after=2))
        for last in ("[DONE]", "error"):
            async with client.stream("POST", service, json={"prompt": "x", "stream": True}) as r:
                events = [event async for event in aiter_events(r)]
            assert last in (events[-1].data, events[-1].event)
            text = "".join(json.loads(e.data).get("text", "") for e in events[:-1])
            assert text == "Hello there." or last == "error"


async def test_a_client_that_leaves_ends_the_call(service, mock_llm):
    mock_llm.script(Reply(" ".join(["word"] * 1000), token_interval=0.02))
    async with AsyncClient() as client:
        async with client.stream("POST", service, json={"prompt": "x", "stream": True}) as r:
            async for event in aiter_events(r):
                assert event.json() == {"text": "word"}
                break
        await until(lambda: mock_llm.stats.disconnects == 1)
    assert mock_llm.stats.in_flight == 0
