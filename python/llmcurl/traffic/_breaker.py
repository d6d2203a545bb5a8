"""`Breaker`: the circuit breaker of an endpoint."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from .._arguments import function, number, whole

__all__ = ["Breaker", "BreakerStats"]

_log = logging.getLogger("llmcurl.traffic")
_SLICES = 10


class BreakerStats(msgspec.Struct, frozen=True):
    """A breaker as it is now.

    Attributes:
        state: "closed" (calls pass), "open" (none does), "half-open" (a few try).
        calls, failures: in the last `window` seconds.
        opened: how many times it has opened.
        refused: calls that it has not let pass.
        retry_in: seconds until it lets one try; 0.0 unless it is open.
    """

    state: str
    calls: int
    failures: int
    opened: int
    refused: int
    retry_in: float


class Breaker:
    """Keeps calls from an endpoint that fails.

    It opens when, in the last `window` seconds, at least `failures` calls failed and they were at least
    the part `rate` of all. After `cooldown` seconds (or the provider's Retry-After, if that is longer)
    it is half-open: `probes` calls at a time may try. The first that succeeds closes it, the first that
    fails opens it again.

    Args:
        failures: calls, at least 1. rate: 0 to 1. window, cooldown: seconds. probes: calls, at least 1.
        clock: seconds; for tests.

    Raises:
        TypeError, ValueError: an argument that cannot be.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        rate: float = 0.5,
        window: float = 30.0,
        cooldown: float = 15.0,
        probes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = whole("Breaker.failures", failures)
        self.rate = number("Breaker.rate", rate, most=1.0)
        self.window = number("Breaker.window", window, zero=False)
        self.cooldown = number("Breaker.cooldown", cooldown)
        self.probes = whole("Breaker.probes", probes)
        self.name = ""
        self._clock = function("Breaker.clock", clock)
        self._slices: deque[list[float]] = deque()  # [end of the slice, calls, failures]
        self._era = 0  # changes with the state; what belongs to an earlier one is not counted
        self._open_until: float | None = None
        self._half = False
        self._trying = 0
        self._opened = 0
        self._refused = 0

    def fresh(self, name: str = "") -> Breaker:
        """Another one with the same numbers, closed."""
        made = Breaker(
            failures=self.failures,
            rate=self.rate,
            window=self.window,
            cooldown=self.cooldown,
            probes=self.probes,
            clock=self._clock,
        )
        made.name = name
        return made

    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open"."""
        if self._half:
            return "half-open"
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    @property
    def ready(self) -> bool:
        """Whether a call would pass now."""
        state = self.state
        return state == "closed" or state == "half-open" and self._trying < self.probes

    def enter(self) -> int | None:
        """Asks to call: a ticket for one of the three below, None if the breaker refuses."""
        if not self.ready:
            self._refused += 1
            return None
        if self._open_until is not None and not self._half:
            self._half = True
            self._era += 1
            _log.info("circuit of %s is half-open: trying it", self.name)
        if self._half:
            self._trying += 1
        return self._era

    def succeeded(self, ticket: int) -> None:
        """The call of this ticket was answered."""
        if ticket != self._era:
            return
        if self._half:
            self._change(None)
            _log.info("circuit of %s is closed again", self.name)
        self._count(0)

    def failed(self, ticket: int, retry_after: float | None = None) -> None:
        """The call of this ticket failed. retry_after: seconds that the provider asks to wait."""
        if ticket != self._era:
            return
        calls, failures = self._count(1)
        if self._half or failures >= self.failures and failures >= self.rate * calls:
            pause = max(self.cooldown, retry_after or 0.0)
            self._change(self._clock() + pause)
            self._opened += 1
            _log.warning(
                "circuit of %s opens for %.3g s: %d of its last %d calls failed",
                self.name, pause, failures, calls,
            )  # fmt: skip

    def dropped(self, ticket: int) -> None:
        """The call of this ticket was given up by the caller: that says nothing."""
        if ticket == self._era and self._half:
            self._trying -= 1

    def _change(self, open_until: float | None) -> None:
        self._era += 1
        self._open_until = open_until
        self._half = False
        self._trying = 0
        self._slices.clear()

    def _count(self, failed: int) -> tuple[int, int]:
        slices, now = self._slices, self._clock()
        self._forget(now)
        if not slices or now >= slices[-1][0]:
            slices.append([now + self.window / _SLICES, 0, 0])
        slices[-1][1] += 1
        slices[-1][2] += failed
        return self._sums()

    def _forget(self, now: float) -> None:
        while self._slices and self._slices[0][0] <= now - self.window:
            self._slices.popleft()

    def _sums(self) -> tuple[int, int]:
        return int(sum(s[1] for s in self._slices)), int(sum(s[2] for s in self._slices))

    def stats(self) -> BreakerStats:
        """Its numbers now."""
        now = self._clock()
        self._forget(now)
        calls, failures = self._sums()
        state = self.state
        left = (self._open_until or now) - now if state == "open" else 0.0
        return BreakerStats(state, calls, failures, self._opened, self._refused, max(left, 0.0))

    def __getstate__(self) -> Any:
        raise TypeError("a Breaker belongs to its process; make another one with fresh()")

    def __repr__(self) -> str:
        stats = self.stats()
        return f"<Breaker {stats.state}: {stats.failures} of {stats.calls} calls failed>"
