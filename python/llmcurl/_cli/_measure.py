"""Measuring the process: CPU, resident memory, and how long the event loop keeps others waiting."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from pathlib import Path
from types import TracebackType

_STATM = Path("/proc/self/statm")


def cpu_seconds() -> float:
    """User and system CPU of this process, all threads, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss_bytes() -> int:
    """Resident memory of this process now; 0 where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class StallMeter:
    """Async context manager: `worst` is the longest time, in seconds, that the loop was late for a 1 ms timer."""

    PERIOD = 0.001

    def __init__(self) -> None:
        self.worst = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0

    async def __aenter__(self) -> StallMeter:
        self._loop = asyncio.get_running_loop()
        self._arm(time.perf_counter())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._note(time.perf_counter())
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self, now: float) -> None:
        self._due = now + self.PERIOD
        self._handle = self._loop.call_later(self.PERIOD, self._tick)

    def _note(self, now: float) -> None:
        self.worst = max(self.worst, now - self._due)

    def _tick(self) -> None:
        now = time.perf_counter()
        self._note(now)
        self._arm(now)


async def sleep_baseline(count: int, seconds: float) -> float:
    """The worst loop stall, in seconds, of gathering `count` calls of `asyncio.sleep(seconds)`."""
    async with StallMeter() as meter:
        await asyncio.gather(*(asyncio.sleep(seconds) for _ in range(count)))
    return meter.worst
