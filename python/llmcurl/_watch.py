"""Who blocks the loop: one thread that looks whether the loops serve their reactors.

The thread is the interpreter's only one of ours. It sleeps in C (`csrc/core/watch.c`) without the
GIL, and comes to Python only when a loop is late: then it looks at the stack of that loop's thread.
It starts with the first reactor that is to be watched and ends with the last. A loop that is in
time costs it a look every 50 ms while calls are in flight, and nothing else.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import sysconfig
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from ._native import Reactor, Watch

__all__ = ["DEFAULT_THRESHOLD", "LoopBlock", "attach", "threshold_of"]

logger = logging.getLogger("llmcurl.loop")

DEFAULT_THRESHOLD = 0.1
"""Seconds that a loop may be late untold: asyncio's own `slow_callback_duration`."""

_SAY_WHILE = 1.0  # a block this long is reported before it is over
_REPEAT = 10.0  # seconds between two log records about the same line

_STDLIB = os.path.join(os.path.realpath(sysconfig.get_path("stdlib")), "")
_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_LOOP_FILES = frozenset({asyncio.base_events.__file__, asyncio.events.__file__})
_LOOP_FUNCTIONS = frozenset({"_run_once", "_run", "run_forever"})


@dataclass(frozen=True, slots=True)
class LoopBlock:
    """A time in which an event loop did not serve what was ready for it.

    Attributes:
        duration: seconds that our events had been ready by then: what held the loop may have begun
            up to 50 ms earlier.
        file, line, function: the innermost line of code on the loop's stack that is neither Python's
            own nor an installed package's, if there is one. "" and 0 when no code was running on the
            loop: another thread had the GIL, or the process got no CPU.
        stack: (file, line, function) of all that the loop was running, the outermost first.
        thread: name of the loop's thread.
        over: False in a report about a block that still lasts.
    """

    duration: float
    file: str
    line: int
    function: str
    stack: tuple[tuple[str, int, str], ...]
    thread: str
    over: bool = True

    def __str__(self) -> str:
        held = "held up for" if self.over else "being held up for more than"
        if not self.stack:
            return (
                f"the event loop of {self.thread} was {held} {self.duration:.2f} s while none of its "
                "callbacks ran: another thread kept the GIL, or the process got no CPU"
            )
        inner = self.stack[-1]
        where = f"{self.file}:{self.line} in {self.function}"
        if inner != (self.file, self.line, self.function):
            where += f" (in {os.path.basename(inner[0])}:{inner[1]} in {inner[2]})"
        return f"the event loop of {self.thread} was {held} {self.duration:.2f} s by {where}"


def threshold_of(watch: bool | float | None) -> float | None:
    """Seconds, or None for no watching: what `AsyncClient(watch=...)` and LLMCURL_WATCH mean.

    Raises:
        TypeError, ValueError: it is neither a bool nor a number above 0.
    """
    if watch is None:
        text = os.environ.get("LLMCURL_WATCH", "").strip().lower()
        if text in ("0", "off", "no", "false"):
            return None
        if text in ("", "1", "on", "yes", "true"):
            return DEFAULT_THRESHOLD
        try:
            watch = float(text)
        except ValueError:
            raise ValueError(f"LLMCURL_WATCH must be 0, 1 or seconds, not {text!r}") from None
    if isinstance(watch, bool):
        return DEFAULT_THRESHOLD if watch else None
    if not isinstance(watch, (int, float)):
        raise TypeError(f"watch must be a bool or seconds, not {watch!r}")
    if not 0.001 <= watch < 1e6:
        raise ValueError(f"watch must be at least 0.001 s, not {watch}")
    return float(watch)


def _kind(file: str) -> int:
    """2: the user's own code, 1: an installed package, 0: Python's or ours."""
    if file.startswith((_OURS, "<frozen")):
        return 0
    if f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file:
        return 1
    return 0 if file.startswith(_STDLIB) or os.path.realpath(file).startswith(_STDLIB) else 2


Line = tuple[str, int, str]


def _stack_of(frame: FrameType | None) -> list[Line]:
    """Outermost first."""
    lines: list[Line] = []
    while frame is not None:
        code: CodeType = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        lines.append((code.co_filename, frame.f_lineno or 0, name))
        frame = frame.f_back
    lines.reverse()
    return lines


def _inside(stack: list[Line], depth: int | None) -> tuple[Line, ...]:
    """The part of a stack that the loop runs; () when it waits for events."""
    for index in range(len(stack) - 1, -1, -1):
        file, _, name = stack[index]
        if file in _LOOP_FILES and name.rpartition(".")[2] in _LOOP_FUNCTIONS:
            inner = stack[index + 1 :]
            break
    else:
        if depth is None:
            return ()
        inner = stack[depth:]
    if inner and os.path.basename(inner[0][0]) == "selectors.py":
        return ()
    return tuple(inner)


def _culprit(stack: tuple[Line, ...]) -> Line:
    if not stack:
        return ("", 0, "")
    # the innermost of the best kind
    return max(enumerate(stack), key=lambda item: (_kind(item[1][0]), item[0]))[1]


@dataclass(eq=False, slots=True)
class _Watched:
    """What is known of one loop."""

    loop: weakref.ref[asyncio.AbstractEventLoop]
    reactor: weakref.ref[Reactor]
    depth: int | None = None
    samples: list[tuple[Line, ...]] = field(default_factory=list)
    listeners: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    begun: bool = False
    said: dict[Line, tuple[float, int]] = field(default_factory=dict)

    def note_depth(self) -> None:
        """Run by a loop that is not asyncio's own: how deep the stack is where it runs things."""
        self.depth = len(_stack_of(sys._getframe().f_back))


class _Watcher:
    """The thread, and the loops it looks after."""

    def __init__(self) -> None:
        self._native = Watch()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._latest: threading.Thread | None = None  # may have ended
        self._stopped = False
        self._watched: dict[int, _Watched] = {}

    def add(
        self, reactor: Reactor, loop: asyncio.AbstractEventLoop, seconds: float, listener: Any
    ) -> None:
        with self._lock:
            number = self._native.add(reactor, seconds)
            if not number:
                return
            found = self._watched.get(number)
            if found is None:
                for key, old in list(self._watched.items()):
                    if old.reactor() is None:
                        del self._watched[key]
                found = _Watched(weakref.ref(loop), weakref.ref(reactor))
                self._watched[number] = found
                if not isinstance(loop, asyncio.BaseEventLoop):
                    loop.call_soon(found.note_depth)
            if listener is not None:
                found.listeners.add(listener)
            self._start()

    def _start(self) -> None:
        """With the lock."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="llmcurl-watch", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # no more threads, or an interpreter that has no daemon threads
            logger.debug("the loop is not watched: %s", error)
            return
        self._thread = self._latest = thread

    def stop(self) -> None:
        """At the interpreter's end, and before a fork: Python 3.12 warns of forks beside threads."""
        self._stopped = True
        self._native.stop(True)
        thread = self._latest
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def go_on(self) -> None:
        """After a fork, in the parent: the loops start the thread again when they run."""
        self._stopped = False
        self._native.stop(False)
        with self._lock:
            loops = [watched.loop() for watched in self._watched.values()]
        for loop in loops:
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(self._start_again)
            except RuntimeError:
                pass  # it is closed

    def _start_again(self) -> None:
        with self._lock:
            if self._native.count():
                self._start()

    def _run(self) -> None:
        while True:
            try:
                if not self._round():
                    return
            except MemoryError:
                continue  # the next report has better luck

    def _round(self) -> bool:
        """Waits for one report; False when nothing is left to be watched."""
        found = self._native.wait()
        if found is None:
            with self._lock:
                if self._native.count() == 0:
                    self._watched.clear()
                elif not self._stopped:
                    return True  # a reactor has come meanwhile
                self._thread = None
                return False
        number, over, seconds, thread = found
        watched = self._watched.get(number)
        if watched is not None:
            try:
                self._look(number, watched, over, seconds, thread)
            except Exception:
                logger.exception("a blocked loop could not be reported")
        return True

    def _look(self, number: int, watched: _Watched, over: bool, seconds: float, ident: int) -> None:
        if not over:
            loop = watched.loop()
            frame = sys._current_frames().get(ident)
            if loop is None or frame is None or not loop.is_running():
                return
            stack = _inside(_stack_of(frame), watched.depth)
            del frame, loop
            # This thread had to wait for the GIL, too. If the loop got it first, neither of them had
            # it, and what the loop does now held nothing up.
            watched.samples.append(stack if self._native.late(number) else ())
            if seconds < _SAY_WHILE:
                return
        if not watched.samples:
            return
        # lines change while a function runs: the one seen most often stands for it
        seen = Counter(_culprit(stack) for stack in watched.samples)
        line = max(seen, key=lambda key: (bool(key[0]), seen[key]))
        stack = next(stack for stack in watched.samples if _culprit(stack) == line)
        if over:
            watched.samples = []
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        block = LoopBlock(seconds, *line, stack, names.get(ident, str(ident)), over)
        self._tell(watched, line, block)

    def _tell(self, watched: _Watched, line: Line, block: LoopBlock) -> None:
        with self._lock:
            listeners = list(watched.listeners)
        for listener in listeners:
            try:
                listener.loop_blocked(block)
            except Exception:
                logger.exception("an observer failed in loop_blocked")
        level = logging.WARNING if block.stack else logging.INFO
        if not logger.isEnabledFor(level):
            return
        now = time.monotonic()
        last, unsaid = watched.said.get(line, (-_REPEAT, 0))
        # whoever heard that it lasts is to hear of its end
        begun, watched.begun = watched.begun, not block.over
        if not begun and now - last < _REPEAT:
            watched.said[line] = (last, unsaid + 1)
            watched.begun = False
            return
        if len(watched.said) > 256:
            watched.said.clear()
        watched.said[line] = (now, 0)
        more = f" ({unsaid} more times since the last report)" if unsaid else ""
        logger.log(level, "%s%s", block, more, extra={"block": block})


_watcher: _Watcher | None = None
_stopping = False
_making = threading.Lock()


def attach(
    reactor: Reactor,
    loop: asyncio.AbstractEventLoop,
    seconds: float | None,
    listener: Any = None,
) -> None:
    """Watches a reactor until it is closed, unless `seconds` is None. `listener.loop_blocked(
    LoopBlock)` is called in the watcher's thread as long as the listener lives."""
    global _watcher
    if seconds is None:
        return
    with _making:
        if _stopping:
            return
        if _watcher is None:
            _watcher = _Watcher()
    _watcher.add(reactor, loop, seconds, listener)


def _forget() -> None:
    """In a forked child: the thread is the parent's, and its lock may be held for ever."""
    global _watcher, _making
    _watcher = None
    _making = threading.Lock()


def _before_fork() -> None:
    if _watcher is not None:
        _watcher.stop()


def _after_fork() -> None:
    if _watcher is not None:
        _watcher.go_on()


def _stop() -> None:
    global _stopping
    _stopping = True
    if _watcher is not None:
        _watcher.stop()


atexit.register(_stop)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget)
