"""A progress bar: tqdm's if it is installed, else one line of our own on a terminal and nothing in a file."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

_WIDTH = 40
_PERIOD = 0.1


class Bar(Protocol):
    """What the commands use of a progress bar."""

    def update(self, count: int = 1) -> object:
        """So many more are done."""

    def close(self) -> object:
        """Draw the last state and end the line."""


class LineBar:
    """Redraws one line at most ten times a second."""

    def __init__(self, total: int, unit: str, out: TextIO) -> None:
        self._total = total
        self._unit = unit
        self._out = out
        self._done = 0
        self._start = time.monotonic()
        self._next = 0.0
        self._shown = out.isatty()

    def update(self, count: int = 1) -> None:
        self._done += count
        if self._shown and (now := time.monotonic()) >= self._next:
            self._next = now + _PERIOD
            self._draw(now)

    def close(self) -> None:
        if self._shown:
            self._draw(time.monotonic())
            self._out.write("\n")
            self._out.flush()
            self._shown = False

    def _draw(self, now: float) -> None:
        part = self._done / self._total if self._total else 1.0
        bar = "#" * round(part * _WIDTH)
        spent = now - self._start
        self._out.write(
            f"\r{part:4.0%} [{bar:<{_WIDTH}}] {self._done:,}/{self._total:,} {self._unit}s  {spent:.1f} s"
        )
        self._out.flush()


def progress(total: int, unit: str = "call", out: TextIO | None = None) -> Bar:
    """A bar for `total` units on `out` (default: stderr)."""
    stream = sys.stderr if out is None else out
    if not stream.isatty():
        return LineBar(total, unit, stream)
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return LineBar(total, unit, stream)
    tqdm.monitor_interval = 0  # no watchdog thread in a process that is being measured
    bar: Bar = tqdm(total=total, unit=unit, file=stream, mininterval=_PERIOD)
    return bar
