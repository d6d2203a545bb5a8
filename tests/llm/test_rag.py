"""The retrieval example with real Redis and PostgreSQL: what runs at once, what the cache spares, what is left behind."""

from __future__ import annotations

import asyncio
import importlib
import os
from pathlib import Path

import pytest
from servers.databases import postgres, redis
from servers.nginx import Missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def urls():
    for name in ("redis", "asyncpg", "aiofiles"):
        pytest.importorskip(name)
    try:
        with redis() as cache, postgres() as database:
            yield cache, database
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture
def rag(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    module = importlib.import_module("rag")
    monkeypatch.setattr(module, "MODEL_SECONDS", 1.0)
    return module


@pytest.mark.leaves_traces  # the loop keeps the threads that read files
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_pipeline(rag, urls, loop):
    if loop == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop
    else:
        factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        ada, bob, again = runner.run(rag.main(*urls))

    # Each person's passages only, the nearest first.
    assert [Path(path).stem for path in ada.sources] == ["rivers", "lakes"]
    assert ada.text == "I read: The Rhine flows into the North Sea."
    assert [Path(path).stem for path in bob.sources] == ["seas"]
    assert bob.text == "I read: The Baltic Sea is brackish."
    for answer in (ada, bob):
        assert not answer.cached
        first = [answer.steps[name] for name in ("embedding", "cache", "metadata")]
        assert max(start for start, _ in first) < min(end for _, end in first), "all three at once"
        later = [answer.steps[name] for name in ("search", "files", "model", "store")]
        assert later[0][0] >= max(end for _, end in first)
        assert [start for start, _ in later] == sorted(start for start, _ in later)
        assert answer.steps["model"][1] - answer.steps["model"][0] >= 0.99
    # Two askers: their models' times overlap.
    assert (
        ada.steps["model"][0] < bob.steps["model"][1]
        and bob.steps["model"][0] < ada.steps["model"][1]
    )

    assert again.cached and again.text == ada.text
    assert set(again.steps) == {"embedding", "cache", "metadata"}, "no search, no model"
