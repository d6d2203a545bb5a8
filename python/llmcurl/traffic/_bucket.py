"""The arithmetic of a `RateLimit` in one process: buckets, adaption, what is under way."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._feedback import Said

__all__ = ["Bucket", "Gate", "Settings"]

#: Statuses that refuse for want of capacity.
REFUSED = frozenset({429, 529})
#: After a refusal the limits are multiplied by this...
DECREASE = 0.7
#: ...and by and by raised again: this part of the limit per second.
INCREASE = 0.02
LEAST = 0.05
#: Part of a minute's budget that may be used at once.
BURST = 0.01
#: After a refusal no more than this time's budget, for so many seconds: the server may count over
#: shorter times than a minute, and what was saved in a pause that it asked for would come at once.
CALM = 0.05
CALM_FOR = 60.0


class Settings(NamedTuple):
    """What a limit was told. `burst` is a part of a minute's budget."""

    rpm: float | None
    tpm: float | None
    concurrency: int | None
    burst: float


class Bucket:
    """An amount that is used up and fills again. May be below zero: what costs more than the
    bucket holds passes when it is full, and is paid off afterwards."""

    __slots__ = ("_at", "calm_until", "level", "rate", "size")

    def __init__(self, per_minute: float, burst: float, now: float) -> None:
        self.rate = per_minute / 60.0
        self.size = max(per_minute * burst, 1.0)
        self.level = self.size
        self.calm_until = -math.inf
        self._at = now

    def wait(self, now: float, amount: float, factor: float) -> float:
        """Seconds until `amount` is there."""
        rate = self.rate * factor
        size = self.size
        if now < self.calm_until:
            size = min(size, max(self.rate * CALM, 1.0))
        if now > self._at:
            self.level = min(self.level + (now - self._at) * rate, size)
            self._at = now
        missing = min(amount, size) - self.level
        return missing / rate if missing > 1e-9 * size else 0.0

    def add(self, amount: float) -> None:
        """Gives back, or takes away if it is negative."""
        self.level = min(self.level + amount, self.size)


class Gate:
    """Says who may pass. Not locked: its `RateLimit` does that. Times: `time.monotonic()`."""

    def __init__(self, settings: Settings, adapt: bool, now: float) -> None:
        self.settings = settings
        self.adapt = adapt
        burst = settings.burst
        self.requests = None if settings.rpm is None else Bucket(settings.rpm, burst, now)
        self.tokens = None if settings.tpm is None else Bucket(settings.tpm, burst, now)
        self.in_flight = 0
        self.not_before = 0.0
        self._factor = 1.0
        self._cut_at = -math.inf
        self._raised_at = now
        self._window = math.inf  # where there is no concurrency to adapt

    def factor(self, now: float) -> float:
        """Which part of the limits is used: 1 unless the server refused lately."""
        if self._factor < 1.0:
            self._factor = min(1.0, self._factor + (now - self._raised_at) * INCREASE)
        self._raised_at = now
        return self._factor

    def room(self, factor: float) -> float:
        """How many may be under way."""
        concurrency = self.settings.concurrency
        if concurrency is not None:
            return max(1.0, concurrency * factor)
        return self._window

    def take(self, now: float, tokens: float) -> float:
        """0.0: passed, and counted. Else seconds to wait; inf: until one comes back."""
        if now < self.not_before:
            return self.not_before - now
        factor = self.factor(now)
        if self.in_flight + 1 > self.room(factor):
            return math.inf
        wait = 0.0 if self.requests is None else self.requests.wait(now, 1.0, factor)
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait(now, tokens, factor))
        if wait > 0.0:
            return wait
        self.in_flight += 1
        if self.requests is not None:
            self.requests.add(-1.0)
        if self.tokens is not None:
            self.tokens.add(-tokens)
        return 0.0

    def give_back(self, requests: float, tokens: float) -> None:
        """One is no longer under way. What it had taken, but not used, comes back."""
        self.in_flight -= 1
        if self.requests is not None and requests:
            self.requests.add(requests)
        if self.tokens is not None and tokens:
            self.tokens.add(tokens)

    def succeeded(self) -> None:
        """An answer came: one more may be under way, once as many as now have come."""
        if self._window < math.inf:
            self._window += 1.0 / self._window

    def refused(self, now: float, taken_at: float, retry_after: float | None) -> None:
        """429 or 529. All that was under way at a refusal tells the same: one cut for it."""
        if retry_after is not None:
            self.not_before = max(self.not_before, now + retry_after)
        if not self.adapt or taken_at < self._cut_at:
            return
        self._factor = max(self.factor(now) * DECREASE, LEAST)
        self._cut_at = now
        if self.requests is not None:
            self.requests.calm_until = now + CALM_FOR
        settings = self.settings
        if settings.rpm is None and settings.tpm is None and settings.concurrency is None:
            self._window = max(1.0, min(self._window, self.in_flight + 1) * DECREASE)

    def told(self, now: float, said: Said) -> None:
        """The server says what is left."""
        if said.requests is not None:
            if said.requests < 1.0 and said.requests_in is not None:
                self.not_before = max(self.not_before, now + said.requests_in)
            elif self.requests is not None and said.requests < self.requests.level:
                self.requests.level = said.requests
        if said.tokens is not None:
            if said.tokens < 1.0 and said.tokens_in is not None:
                # One token does not help: time for what an ordinary call needs would be a
                # guess, and the refusal, if it comes, says how long.
                self.not_before = max(self.not_before, now + said.tokens_in)
            elif self.tokens is not None and said.tokens < self.tokens.level:
                self.tokens.level = said.tokens
