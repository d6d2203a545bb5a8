"""`Deadline`: the moment by which a call is over, whatever it waits for."""

from __future__ import annotations

import math
import time
from typing import Final, Union

from .._arguments import as_float
from .._config import Timeout

__all__ = ["Deadline", "DeadlineTypes", "build_deadline"]

_MAX_MS: Final = 2**31 - 1


class Deadline:
    """A moment on the event loop's clock (`loop.time()`, `time.monotonic()`).

    ``deadline=30`` gives each call 30 s of its own. A `Deadline` is one moment for all calls
    that get it: ``Deadline.after(30)`` for a piece of work of many calls, ``Deadline.at(t)``
    for a time of the loop's clock.

    Attributes:
        when: seconds on that clock.
        seconds: the span it was made from, None for an absolute one; errors name it.

    Raises:
        TypeError, ValueError: no number, or no finite one.
    """

    __slots__ = ("seconds", "when")

    def __init__(self, when: float, seconds: float | None = None) -> None:
        self.when = _number(when)
        self.seconds = None if seconds is None else _number(seconds)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now.

        Raises:
            TypeError, ValueError: not a number, or not above 0.
        """
        span = _number(seconds)
        if span <= 0:
            raise ValueError(f"a deadline must be more than 0 seconds away, got {seconds!r}")
        return cls(time.monotonic() + span, span)

    @classmethod
    def at(cls, when: float) -> Deadline:
        """At this time of the event loop: ``Deadline.at(loop.time() + 30)``.

        Raises:
            TypeError, ValueError: not a number.
        """
        return cls(_number(when))

    def remaining(self) -> float:
        """Seconds left; 0.0 or less when it has passed."""
        return self.when - time.monotonic()

    @property
    def passed(self) -> bool:
        """Nothing is left."""
        return self.remaining() <= 0

    def limit(self, ms: tuple[int, int, int, int, int]) -> tuple[int, int, int, int, int]:
        """Time-outs of a transfer (`Timeout.as_ms`) that end with this deadline."""
        connect, read, write, pool, total = ms
        left = max(1, min(math.ceil(self.remaining() * 1000.0), _MAX_MS))
        return connect, read, write, pool, min(total, left) if total else left

    def timeout(self, timeout: Timeout) -> Timeout:
        """A `Timeout` that ends with this deadline."""
        left = max(self.remaining(), 0.001)
        total = left if timeout.total is None else min(timeout.total, left)
        return Timeout(timeout, total=total)

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"the deadline of {self.seconds:g} s"
        return f"the deadline at {self.when:.3f} of the loop's clock"

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"


#: Seconds for each call, or one moment for all.
DeadlineTypes = Union[float, "Deadline", None]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a deadline is seconds or a Deadline, not {value!r}")
    found = as_float(value)
    if not math.isfinite(found):
        raise ValueError(f"a deadline must be finite, got {value!r}")
    return found


def check_deadline(value: DeadlineTypes) -> DeadlineTypes:
    """The value, if it can be one.

    Raises:
        TypeError, ValueError: it cannot.
    """
    if value is not None and not isinstance(value, Deadline) and _number(value) <= 0:
        raise ValueError(f"a deadline must be more than 0 seconds away, got {value!r}")
    return value


def build_deadline(value: DeadlineTypes) -> Deadline | None:
    """The deadline of a call that starts now.

    Raises:
        TypeError, ValueError: as `Deadline.after`.
    """
    if value is None or isinstance(value, Deadline):
        return value
    return Deadline.after(value)
