"""The progress of a batch: tqdm's bar, plain lines, or a function of the user's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from .._arguments import function

if TYPE_CHECKING:
    from ._batch import BatchStats

__all__ = ["ProgressTypes", "build_progress", "summary"]

ProgressTypes = bool | Callable[[Any], Any]

_BAR = 0.1
_CALL = 0.5
_LINE = 10.0
_SHAPE = 100, 20


class Progress(Protocol):
    """What a batch tells."""

    def start(self, stats: BatchStats) -> None: ...
    def update(self, stats: BatchStats, now: Callable[[], BatchStats]) -> None: ...
    def close(self, stats: BatchStats) -> None: ...


def build_progress(given: ProgressTypes, out: TextIO | None = None) -> Progress:
    """Raises: TypeError."""
    if given is False or given is None:
        return _Quiet()
    if given is not True:
        if not callable(given):
            raise TypeError(f"progress must be a bool or a function, not {given!r}")
        return _Told(function("progress", given))
    stream = sys.stderr if out is None else out
    if stream is None:  # a program without a terminal may have none
        return _Quiet()
    if stream.isatty():
        try:
            from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]
        except ImportError:
            return _Lines(stream, "\r", _BAR)
        tqdm.monitor_interval = 0  # it would start a thread
        return _Bar(tqdm, stream)
    return _Lines(stream, "\n", _LINE)


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _extras(stats: BatchStats) -> str:
    """Tokens, cost, errors."""
    parts = []
    tokens = stats.input_tokens + stats.output_tokens
    if tokens:
        parts.append(f"{_short(tokens)} tokens")
        if stats.seconds > 0.0:
            parts[-1] += f" ({_short(tokens / stats.seconds)}/s)"
    if stats.cost:
        parts.append(f"cost {stats.cost:.4g}")
    parts.append(f"{stats.failed} failed")
    return ", ".join(parts)


def summary(stats: BatchStats) -> str:
    """All of it in one line."""
    total = "" if stats.total is None else f"/{stats.total:,}"
    parts = [f"{stats.done:,}{total}"]
    if stats.total:
        parts[0] += f" ({stats.done / stats.total:.0%})"
    if stats.restored:
        parts.append(f"{stats.restored:,} from before")
    parts.append(f"{stats.rate:.1f}/s")
    if (eta := stats.eta) is not None and stats.done < (stats.total or 0):
        parts.append(f"{_clock(eta)} left")
    parts.append(_extras(stats))
    return ", ".join(parts)


class _Quiet:
    def start(self, stats: BatchStats) -> None: ...
    def update(self, stats: BatchStats, now: Callable[[], BatchStats]) -> None: ...
    def close(self, stats: BatchStats) -> None: ...


class _Timed:
    """Shows something now and then."""

    period = _CALL
    _due = 0.0

    def start(self, stats: BatchStats) -> None:
        self._due = time.monotonic() + self.period

    def update(self, stats: BatchStats, now: Callable[[], BatchStats]) -> None:
        at = time.monotonic()
        if at >= self._due:
            self._due = at + self.period
            self.show(now())

    def close(self, stats: BatchStats) -> None:
        self.show(stats)

    def show(self, stats: BatchStats) -> None:
        raise NotImplementedError


class _Told(_Timed):
    """The user's function."""

    def __init__(self, function: Callable[[BatchStats], Any]) -> None:
        self._function = function

    def show(self, stats: BatchStats) -> None:
        self._function(stats)


class _Lines(_Timed):
    """Lines in a log, or one that is written over on a terminal."""

    def __init__(self, out: TextIO, end: str, period: float) -> None:
        self._out = out
        self._end = end
        self.period = period
        self._width = 0

    def show(self, stats: BatchStats) -> None:
        text = summary(stats)
        if self._end == "\r":
            text = text.ljust(self._width)
            self._width = len(text.rstrip())
        self._out.write(text + self._end)
        self._out.flush()

    def close(self, stats: BatchStats) -> None:
        super().close(stats)
        if self._end == "\r":
            self._out.write("\n")
            self._out.flush()


def _columns(out: TextIO) -> int:
    """Of the terminal; 0 where nobody has said it, in a container, say: tqdm would show nothing."""
    try:
        return os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        return 0


class _Bar(_Timed):
    """tqdm's bar."""

    period = _BAR

    def __init__(self, tqdm: Any, out: TextIO) -> None:
        self._tqdm = tqdm
        self._out = out
        self._bar: Any = None
        self._restored = 0

    def start(self, stats: BatchStats) -> None:
        super().start(stats)
        wide = _columns(self._out)
        self._bar = self._tqdm(
            total=stats.total,
            unit="call",
            file=self._out,
            ncols=None if wide else _SHAPE[0],
            nrows=None if wide else _SHAPE[1],
            dynamic_ncols=wide > 0,
            mininterval=0.0,
        )

    def show(self, stats: BatchStats) -> None:
        bar = self._bar
        if stats.restored > self._restored:
            # what was done before says nothing about the rate
            bar.initial = stats.restored
            self._restored = stats.restored
        bar.set_postfix_str(_extras(stats), refresh=False)
        bar.n = stats.done
        bar.refresh()

    def close(self, stats: BatchStats) -> None:
        if self._bar is not None:
            super().close(stats)
            self._bar.close()
