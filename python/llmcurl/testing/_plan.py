"""A plan: the exact bytes of one answer and when they go out. Built once for equal answers, then only replayed."""

from __future__ import annotations

import enum
import http
from collections.abc import Iterable, Sequence

ID_SLOT = b"idMOCKslotID"
"""Stands in built bytes where the id of the single answer goes; the same length as every id."""

ID_TEXT = ID_SLOT.decode()


class End(enum.Enum):
    """What happens after the last byte of a plan."""

    DONE = "done"
    """The answer is complete."""
    CUT = "cut"
    """The connection is closed in the middle of the answer."""
    RESET = "reset"
    """The connection is reset (RST) in the middle of the answer."""
    STALL = "stall"
    """Nothing more comes; the connection stays open."""


def _phrase(status: int) -> str:
    if status == 529:
        return "Overloaded"
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Plan:
    """Bytes and times of one answer. Immutable.

    `delay` (seconds from the request) is when the head goes out, `ttft` when the first event does, `gap` the time
    between two events. Without `streamed` the pieces form one body with a Content-Length. `heartbeat` is what a
    stalled stream goes on to send, and every how many seconds. `tokens` is what a reply costs.
    """

    __slots__ = (
        "delay",
        "ttft",
        "gap",
        "end",
        "instant",
        "steps",
        "first_gap",
        "heartbeat",
        "tokens",
        "_heartbeat",
        "_status",
        "_headers",
        "_pieces",
        "_streamed",
        "_length",
        "_closing",
        "_open_head",
    )

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[str, str]],
        pieces: Sequence[bytes],
        *,
        streamed: bool = False,
        delay: float = 0.0,
        ttft: float = 0.0,
        gap: float = 0.0,
        end: End = End.DONE,
        length: int | None = None,
        connection: str = "chunked",
        heartbeat: tuple[bytes, float] | None = None,
        tokens: int = 0,
    ) -> None:
        self.tokens = tokens
        self.heartbeat = self._heartbeat = heartbeat
        self._status = status
        self._headers = tuple(headers)
        self._pieces = tuple(pieces)
        self._streamed = streamed
        self._length = length
        self._closing: dict[bool, Plan] = {}
        self._open_head: bytes | None = None
        self.delay = max(delay, 0.0)
        self.ttft = max(ttft, self.delay)
        self.gap = max(gap, 0.0)
        self.end = end
        self.instant: bytes | None
        self.steps: tuple[bytes, ...]
        if streamed:
            self._lay_out_stream(connection)
        else:
            body = b"".join(self._pieces)
            lines = self._head_lines()
            if not (status < 200 or status in (204, 304)):
                lines.append(f"content-length: {len(body) if length is None else length}")
            if connection != "chunked":
                lines.append("connection: close")
            self.instant = _head(lines) + body
            self.steps = (self.instant,)
            self.first_gap = 0.0

    @classmethod
    def silent(cls, end: End, delay: float) -> Plan:
        """No byte at all, then `end`."""
        plan = cls(200, (), (), delay=delay, end=end)
        plan.instant = b""
        plan.steps = (b"",)
        plan._closing = {True: plan, False: plan}
        return plan

    def with_body(self, body: bytes) -> Plan:
        """The same plain answer with another body. Cheap: for answers that differ from call to call."""
        plan = Plan.__new__(Plan)
        plan.heartbeat = plan._heartbeat = None
        plan.tokens = self.tokens
        plan._status, plan._headers, plan._pieces = self._status, self._headers, (body,)
        plan._streamed, plan._length, plan._closing = False, None, {}
        plan.delay, plan.ttft, plan.gap, plan.end, plan.first_gap = (
            self.delay,
            self.ttft,
            0.0,
            self.end,
            0.0,
        )
        if self._open_head is None:
            self._open_head = _head(self._head_lines())[:-2]
        plan._open_head = self._open_head
        plan.instant = b"%bcontent-length: %d\r\n\r\n%b" % (self._open_head, len(body), body)
        plan.steps = (plan.instant,)
        return plan

    def with_headers(self, headers: Sequence[tuple[str, str]]) -> Plan:
        """The same answer with more headers, which belong to a single request."""
        if not headers or self.instant == b"":
            return self
        plan = Plan.__new__(Plan)
        for name in Plan.__slots__:
            setattr(plan, name, getattr(self, name))
        plan._headers = (*self._headers, *headers)
        plan._closing, plan._open_head = {}, None
        status_line, _, rest = self.steps[0].partition(b"\r\n")
        first = b"%b\r\n%b%b" % (status_line, _lines(headers), rest)
        plan.steps = (first, *self.steps[1:])
        plan.instant = None if self.instant is None else first
        return plan

    def _head_lines(self) -> list[str]:
        lines = [f"HTTP/1.1 {self._status} {_phrase(self._status)}"]
        lines += [f"{name}: {value}" for name, value in self._headers]
        return lines

    def _lay_out_stream(self, connection: str) -> None:
        lines = self._head_lines()
        framed = connection != "bare"
        if framed and self._heartbeat is not None:
            beat, every = self._heartbeat
            self.heartbeat = (b"%x\r\n%b\r\n" % (len(beat), beat), every)
        if framed:
            lines.append("transfer-encoding: chunked")
        if connection != "chunked":
            lines.append("connection: close")
        head = _head(lines)
        pieces = [b"%x\r\n%b\r\n" % (len(p), p) if framed else p for p in self._pieces if p]
        if framed and self.end is End.DONE:
            pieces = [*pieces[:-1], (pieces[-1] if pieces else b"") + b"0\r\n\r\n"]
        wait = self.ttft - self.delay
        if self.gap <= 0.0 and pieces:
            pieces = [b"".join(pieces)]
        if wait <= 0.0 and pieces:
            steps = [head + pieces[0], *pieces[1:]]
            wait = self.gap
        else:
            steps = [head, *pieces]
        self.instant = steps[0] if len(steps) == 1 else None
        self.steps = tuple(steps)
        self.first_gap = wait

    def closing(self, *, chunked: bool = True) -> Plan:
        """The same answer for a connection that ends with it; not `chunked` for an HTTP/1.0 client."""
        plan = self._closing.get(chunked)
        if plan is None:
            plan = self._closing[chunked] = Plan(
                self._status,
                self._headers,
                self._pieces,
                streamed=self._streamed,
                delay=self.delay,
                ttft=self.ttft,
                gap=self.gap,
                end=self.end,
                length=self._length,
                connection="close" if chunked else "bare",
                heartbeat=self._heartbeat,
                tokens=self.tokens,
            )
        return plan


def _head(lines: Sequence[str]) -> bytes:
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError(f"line break in a header of a reply: {line!r}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _lines(headers: Sequence[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
