"""The official SDKs and frameworks on our transport, with the lines of docs/sdks.md, against MockLLM: plain, streamed, cancelled
after five tokens. What is not installed here is run by `make test-sdks`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable

import pytest
from llmcurl import _native
from llmcurl.transports._shared import CurlTransport

from .sdks import BLOCKS, SDKS, environment

TEXT = "One two three four five six seven eight nine ten. " * 20

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.leaves_traces,  # the SDKs keep threads and caches of their own
]


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.__name__)
def sdk(request, mock_llm, monkeypatch):
    for name, value in environment(mock_llm).items():
        monkeypatch.setenv(name, value)
    return request.param()


def test_every_block_is_run():
    assert set(BLOCKS) == {sdk.block for sdk in SDKS}


@pytest.fixture
def ways(monkeypatch):
    """The requests that went through our transport."""
    passed = []
    original = CurlTransport.handle_async_request

    async def handle(self, request):
        passed.append(request)
        return await original(self, request)

    monkeypatch.setattr(CurlTransport, "handle_async_request", handle)
    return passed


async def test_plain(sdk, mock_llm, ways):
    mock_llm.script(TEXT)
    async with sdk.client() as names:
        assert (await sdk.plain(names)).strip() == TEXT.strip()
        assert await sdk.plain(names)  # over the kept connection
    assert len(mock_llm.requests) == len(ways) == 2


async def test_streamed(sdk, mock_llm, ways):
    mock_llm.script(TEXT)
    async with sdk.client() as names:
        assert "".join([text async for text in sdk.stream(names)]).strip() == TEXT.strip()
    asked = mock_llm.requests[-1]
    assert asked.json.get("stream") or "stream" in asked.path.lower()
    assert len(ways) == 1


async def until(condition: Callable[[], object], timeout: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + timeout, "did not come true"
        await asyncio.sleep(0.002)
    return time.monotonic() - started


async def test_cancelled_after_five_tokens(sdk, slow_mock, record_property):
    if not sdk.whole:
        pytest.skip("its streams cannot be read piece by piece")
    async with sdk.client() as names:
        assert await sdk.plain(names)
        before = _native._live()
        tokens = []

        async def read() -> None:
            async with contextlib.aclosing(sdk.stream(names)) as stream:
                async for text in stream:
                    tokens.append(text)
                    # more than once: before Python 3.12 asyncio.wait_for, which langchain-openai uses for each chunk,
                    # loses a cancellation when the chunk is there already
                    if len(tokens) >= 5:
                        asyncio.current_task().cancel()

        gone = slow_mock.stats.disconnects
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(read())

        def seen() -> bool:
            if not sdk.closes:
                gc.collect()
            return slow_mock.stats.disconnects > gone

        seen_after = await until(seen, 20)
        record_property("seconds_until_seen", seen_after)
        assert seen_after < 5  # a busy machine's bound; docs/quality.md has the figures
        assert 5 <= len(tokens) < 200  # what has arrived in one piece is read without waiting

        def settled() -> bool:
            gc.collect()
            now = _native._live()
            return now["xfer"] <= before["xfer"] and now["slot"] <= before["slot"]

        await until(settled, 20)
        assert await sdk.plain(names)  # the place is free again


async def test_nothing_stays_alive(sdk, mock_llm):
    """After the client is closed and forgotten, counters are where they were."""
    gc.collect()
    before = _native._live()

    async def use() -> None:
        async with sdk.client() as names:
            await sdk.plain(names)
            async with contextlib.aclosing(sdk.stream(names)) as stream:
                async for _ in stream:
                    if sdk.breaks:
                        break

    await use()

    def settled() -> bool:
        gc.collect()
        return all(count <= before[name] for name, count in _native._live().items())

    await until(settled, 20)
