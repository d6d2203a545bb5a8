"""`StreamTimeout`: the time-outs of a stream as its reader means them; `Watch` keeps one stream's.

No timer per event: before each wait for bytes the reactor is told how long it may take
(`BodyStream._expect`), which is one field and no system call. Time in which the reader does
something else does not count.
"""

from __future__ import annotations

import math
import time
from typing import Any

from .._config import _seconds
from .._exceptions import ReadTimeout, TimeoutException, TotalTimeout
from .._native import DeltaParser
from ..llm._http import Milliseconds
from ._deadline import Deadline

__all__ = ["WORDS", "StreamTimeout", "Watch", "WatchedParser", "timed_out"]

_MAX_MS = 2**31 - 1

#: What each limit means; {0}: its seconds, {1}: the deadline.
WORDS = {
    "first_byte": "no answer within {0:g} s after the request",
    "first_token": "no content within {0:g} s after the request",
    "idle": "no content for {0:g} s",
    "min_rate": "less than {0:g} tokens per second",
    "deadline": "{1} passed",
    "read": "the server sent nothing for Timeout.read",
    "write": "the server took nothing for Timeout.write",
    "total": "it was not over within Timeout.total",
}


class StreamTimeout:
    """Time-outs of a streamed reply, in seconds; None means none. What fires raises
    `StreamTimedOut`, whose `which` is the name here (`connect`: `ConnectTimeout`).

    Content is text, reasoning and pieces of tool calls. Comments, pings, role-only deltas and
    empty texts are none: they keep a connection alive, not a user waiting.

    Args:
        connect: name, TCP, TLS; instead of `Timeout.connect`, if that is longer.
        first_byte: from when the request could be sent to the head of the answer.
        first_token: from then to the first content.
        idle: between two pieces of content.
        min_rate: tokens per second, at least, in each `rate_window` after the first content.
            Counted are deltas, or four characters each if that is more.
        rate_window: seconds over which `min_rate` is taken.

    Raises:
        TypeError, ValueError: a value that cannot be; the text names it.
    """

    __slots__ = ("connect", "first_byte", "first_token", "idle", "min_rate", "rate_window")

    def __init__(
        self,
        *,
        connect: float | None = None,
        first_byte: float | None = None,
        first_token: float | None = None,
        idle: float | None = None,
        min_rate: float | None = None,
        rate_window: float = 10.0,
    ) -> None:
        self.connect = _seconds("StreamTimeout.connect", connect)
        self.first_byte = _seconds("StreamTimeout.first_byte", first_byte)
        self.first_token = _seconds("StreamTimeout.first_token", first_token)
        self.idle = _seconds("StreamTimeout.idle", idle)
        self.min_rate = _seconds("StreamTimeout.min_rate", min_rate)
        window = _seconds("StreamTimeout.rate_window", rate_window)
        if not window:
            raise ValueError(f"StreamTimeout.rate_window must be above 0, got {rate_window!r}")
        self.rate_window = window

    def __repr__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}"
            for name in self.__slots__
            if getattr(self, name) is not None
        ]
        return f"StreamTimeout({', '.join(given)})"


class Watch:
    """The time-outs of one attempt."""

    __slots__ = (
        "_armed", "_first_due", "_fresh", "_idle_waited", "_limits", "_read_ms", "_rate_waited", "_seen",
        "_since", "_stream", "_tokens",
    )  # fmt: skip

    def __init__(self, limits: StreamTimeout) -> None:
        self._limits = limits
        self._since = time.monotonic()
        self._stream: Any = None
        self._read_ms = -1  # to be set when the head is there
        self._first_due = math.inf
        self._armed = ""
        self._seen = self._fresh = False
        self._idle_waited = 0.0
        self._rate_waited = 0.0
        self._tokens = 0

    def limit(self, times: Milliseconds) -> Milliseconds:
        """The time-outs until the head is there. Waiting for it is silence after the request
        was sent: the read time-out."""
        connect, read, write, pool, total = times
        limits = self._limits
        if limits.connect is not None:
            ms = max(1, math.ceil(limits.connect * 1000))
            connect = min(connect, ms) if connect else ms
        for name in ("first_byte", "first_token"):
            seconds = getattr(limits, name)
            if seconds is None:
                continue
            ms = max(1, math.ceil(seconds * 1000))
            if not read or ms < read:
                if self._read_ms < 0:
                    self._read_ms = read
                read = ms
                self._armed = name
        return connect, read, write, pool, total

    def head(self, stream: Any, sent: float) -> None:
        """The head is there; the request had been sent `sent` seconds after its start."""
        self._stream = stream
        self._armed = ""
        if self._limits.first_token is not None:
            self._first_due = self._since + max(sent, 0.0) + self._limits.first_token

    def content(self, tokens: int) -> None:
        """So much content has arrived."""
        self._seen = self._fresh = True
        self._idle_waited = 0.0
        self._tokens += tokens

    def arm(self) -> float:
        """Before waiting for bytes. Returns the time, for `waited`."""
        now = time.monotonic()
        limits = self._limits
        due, self._armed = math.inf, ""
        self._fresh = False
        if not self._seen:
            if self._first_due < math.inf:
                due, self._armed = self._first_due - now, "first_token"
        else:
            if limits.idle is not None:
                due, self._armed = limits.idle - self._idle_waited, "idle"
            if limits.min_rate is not None:
                window = limits.rate_window
                left = window - self._rate_waited
                if self._tokens >= limits.min_rate * window:
                    left += window  # this window is all right: the next one may fail
                if left < due:
                    due, self._armed = left, "min_rate"
        if hasattr(self._stream, "_expect") and (self._armed or self._read_ms >= 0):
            wait = 0 if due == math.inf else max(1, min(math.ceil(due * 1000), _MAX_MS))
            self._stream._expect(wait, self._read_ms)
            self._read_ms = -1
        return now

    def waited(self, since: float) -> bool:
        """After the wait. False: it has been too slow."""
        limits = self._limits
        if not self._seen:
            return True
        span = time.monotonic() - since
        if not self._fresh:
            self._idle_waited += span  # what ended with content is over
        self._rate_waited += span
        if limits.min_rate is not None and self._rate_waited >= limits.rate_window:
            needed = limits.min_rate * limits.rate_window
            if self._tokens < needed:
                self._armed = "min_rate"
                return False
            # A wait may have been longer than a window.
            windows = math.floor(self._rate_waited / limits.rate_window)
            self._rate_waited -= windows * limits.rate_window
            self._tokens = 0
        return True

    def which(
        self, error: TimeoutException | None, deadline: Deadline | None
    ) -> tuple[str, float | None]:
        """The limit that a time-out of the transfer was, and its seconds. None: `waited`."""
        found = "read" if error is None else timed_out(error, deadline)
        if found == "read" and self._armed:
            found = self._armed
        return found, getattr(self._limits, found, None)


def timed_out(error: TimeoutException, deadline: Deadline | None) -> str:
    """ "deadline", "total", "read" or "write"."""
    if isinstance(error, TotalTimeout):
        passed = deadline is not None and deadline.remaining() < 0.002
        return "deadline" if passed else "total"
    return "read" if isinstance(error, ReadTimeout) else "write"


class WatchedParser:
    """A `DeltaParser` that tells a `Watch` of the content in what it parses."""

    __slots__ = ("_parser", "_watch")

    def __init__(self, parser: DeltaParser, watch: Watch) -> None:
        self._parser = parser
        self._watch = watch

    @property
    def usage(self) -> bytes | None:
        return self._parser.usage

    def feed(self, data: bytes) -> list[Any]:
        return self._look(self._parser.feed(data))

    def finish(self) -> list[Any]:
        return self._look(self._parser.finish())

    def _look(self, items: list[Any]) -> list[Any]:
        texts = [item for item in items if type(item) is str and item]
        if texts:
            self._watch.content(max(len(texts), sum(map(len, texts)) // 4))
        return items
