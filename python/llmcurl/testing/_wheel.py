"""Timers for many thousands of delayed answers: one wake-up of the loop per tick, however many are due.

A `loop.call_later` per answer costs a heap entry, a handle and a context run each. Here deadlines are rounded up to a
grid of 5 ms and all entries of one grid point share a single timer. Nothing fires early; it may fire one tick late.
Entries are not removed: the target gets the token back and ignores it when it has moved on.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from typing import Protocol

TICK = 0.005
"""Width of one grid step, in seconds."""


class Target(Protocol):
    """Whatever waits on the wheel."""

    def on_timer(self, token: int) -> None:
        """Called once per `add`, with the token given there. Must not raise."""


class Wheel:
    """Deadlines on a grid, for one running event loop. Not thread-safe."""

    __slots__ = ("_loop", "_slots", "_order", "_handle", "_armed", "_tick")

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: float = TICK) -> None:
        self._loop = loop
        self._tick = tick
        self._slots: dict[int, list[tuple[Target, int]]] = {}
        self._order: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed = 0

    def add(self, deadline: float, target: Target, token: int) -> None:
        """Call `target.on_timer(token)` at `deadline` (seconds on `loop.time()`'s clock) or up to one tick later."""
        slot = math.ceil(deadline / self._tick)
        entries = self._slots.get(slot)
        if entries is not None:
            entries.append((target, token))
            return
        self._slots[slot] = [(target, token)]
        heapq.heappush(self._order, slot)
        if self._handle is None or slot < self._armed:
            self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = self._order[0]
        self._handle = self._loop.call_at(self._armed * self._tick, self._fire)

    def _fire(self) -> None:
        self._handle = None
        # The loop may call early by its clock's resolution; what is not due after all is armed again.
        now = self._loop.time() / self._tick + 1e-4
        order = self._order
        while order and order[0] <= now:
            for target, token in self._slots.pop(heapq.heappop(order)):
                target.on_timer(token)
        if order and self._handle is None:
            self._arm()

    def close(self) -> None:
        """Forget every entry."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()
        self._order.clear()
