"""When a server sees that an SDK's stream was cancelled: every block of docs/sdks.md that is installed.

Job: 20 streams for each, cancelled after five tokens; the time until the mock, in a process of its own, has seen the
disconnect, and whether the counters of native objects are where they were. Not its job: correctness (tests/transports).

    [PYTHONPATH=python .venv-sdks/openai2/bin/]python benchmarks/cancelled.py
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from llmcurl import _native
from llmcurl.testing import SpawnedMock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from transports import sdks  # noqa: E402

STREAMS = 20
KINDS = ("call", "stream", "xfer")  # slots are kept for the next calls


def counters() -> list[int]:
    gc.collect()
    now = _native._live()
    return [now.get(kind, 0) for kind in KINDS]


async def cancelled(sdk: Any, names: Any) -> None:
    count = 0
    async with contextlib.aclosing(sdk.stream(names)) as stream:
        async for _ in stream:
            count += 1
            if count >= 5:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()


async def measure(sdk: Any, mock: SpawnedMock) -> tuple[list[float], bool]:
    """Seconds, and whether the counters came back."""
    found = []
    async with sdk.client() as names:
        await sdk.plain(names)
        before = counters()
        for _ in range(STREAMS):
            gone = mock.stats.disconnects
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.create_task(cancelled(sdk, names))
            started = time.perf_counter()
            if not sdk.closes:
                gc.collect()
            while mock.stats.disconnects <= gone and time.perf_counter() < started + 5:
                await asyncio.sleep(0.001)
            found.append(time.perf_counter() - started)
        last = time.perf_counter() + 3
        while not (back := all(now <= was for now, was in zip(counters(), before, strict=True))):
            if time.perf_counter() > last:
                break
            await asyncio.sleep(0.02)
        return found, back


def main() -> None:
    print(f"{STREAMS} streams each, load {os.getloadavg()[0]:.0f}\n")
    print("| SDK | median ms | worst ms | counters came back |\n|---|---|---|---|")
    with SpawnedMock(token_interval=0.02, reply="word " * 400) as mock:
        os.environ.update(sdks.environment(mock))
        for kind in sdks.SDKS:
            sdk = kind()
            if not sdk.whole:
                continue
            try:
                found, back = asyncio.run(measure(sdk, mock))
            except pytest.skip.Exception:
                continue
            median, worst = statistics.median(found) * 1000, max(found) * 1000
            print(
                f"| {sdk.block} | {median:.0f} | {worst:.0f} | {'yes' if back else 'no'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
