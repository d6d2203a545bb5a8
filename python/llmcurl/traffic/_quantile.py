"""`LatencyWindow`: a running quantile of the latest latencies, those still running included."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable

__all__ = ["LatencyWindow"]

_KEEP = 0.005
"""Seconds that a computed quantile is used again: with thousands of calls each asks for it."""


class LatencyWindow:
    """The quantile of the last `size` latencies, in seconds.

    A call that still runs is known to take longer than it has until now. In a burst the first answers
    are the fastest; without the others the quantile would be far too low. So the calls that run for
    longer than it count as above it, and it is unknown while it lies among them.

    Args:
        quantile: 0 to 1. size: latencies. minimum: latencies before it is known.
    """

    __slots__ = (
        "_clock", "_latest", "_lock", "_ordered", "_running", "_until", "_value", "minimum",
        "quantile", "size",
    )  # fmt: skip

    def __init__(
        self,
        quantile: float,
        size: int = 1000,
        minimum: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.quantile = quantile
        self.size = size
        self.minimum = minimum
        self._clock = clock
        self._lock = threading.Lock()  # loops in several threads may share one
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []
        self._running: dict[object, float] = {}  # call -> start, oldest first
        self._value: float | None = None
        self._until = 0.0

    def __len__(self) -> int:
        return len(self._latest)

    @property
    def running(self) -> int:
        """Calls that have begun and not ended."""
        return len(self._running)

    def begin(self, call: object) -> float:
        """A call begins; the time."""
        with self._lock:
            now = self._running[call] = self._clock()
        return now

    def forget(self, call: object) -> None:
        """A call ended in a way that tells nothing about latency."""
        with self._lock:
            self._running.pop(call, None)

    def end(self, call: object) -> None:
        """A call ends, or is given up: it took at least that long."""
        with self._lock:
            started = self._running.pop(call, None)
            if started is None:
                return
            latest, ordered = self._latest, self._ordered
            if len(latest) >= self.size:
                del ordered[bisect_left(ordered, latest.popleft())]
            latest.append(seconds := self._clock() - started)
            insort(ordered, seconds)

    def value(self) -> float | None:
        """The quantile now, in seconds; None while it is not known."""
        with self._lock:
            now = self._clock()
            if now >= self._until or self._value is None:
                self._value = self._compute(now)
                self._until = now + _KEEP
            return self._value

    def _compute(self, now: float) -> float | None:
        ordered = self._ordered
        if len(ordered) < self.minimum:
            return None
        found: float | None = None
        for _ in range(4):  # each round may find more calls that run for longer; it settles at once
            longer = 0
            if found is not None or self._running:
                bound = ordered[self._rank(0)] if found is None else found
                for started in self._running.values():
                    if now - started < bound:
                        break  # the later ones have run for less
                    longer += 1
            rank = self._rank(longer)
            if rank >= len(ordered):
                return None
            if found == ordered[rank]:
                break
            found = ordered[rank]
        return found

    def _rank(self, longer: int) -> int:
        return max(math.ceil(self.quantile * (len(self._ordered) + longer)) - 1, 0)
