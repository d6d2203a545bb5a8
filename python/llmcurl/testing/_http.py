"""HTTP/1.1 for the mock: reads requests off one connection and writes answers according to a plan.

Not here: what to answer (`_server.py`, the provider modules) and sockets (`_transport.py`).
"""

from __future__ import annotations

import asyncio
import http
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ._plan import ID_SLOT, End, Plan
from ._transport import reset_on_close

if TYPE_CHECKING:
    from ._server import MockLLM

MAX_HEAD = 256 * 1024
"""Bytes of a request head accepted before the answer is 431."""

MAX_BODY = 256 * 1024 * 1024
"""Bytes of a request body accepted before the answer is 413."""

LINGER = 0.25
"""Seconds a connection stays open for reading after its request was refused."""

_HEAD_CACHE_SIZE = 512


class BadRequest(Exception):
    """The peer does not speak HTTP/1.x; `status` is the answer it gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, eq=False)
class RequestHead:
    """A parsed request head. Clients repeat their heads, so these are cached whole, route included."""

    method: str
    target: str
    path: str
    query: str
    version: str
    headers: tuple[tuple[str, str], ...]
    content_length: int
    """Body bytes announced; 0 without a body, -1 for a chunked one."""
    keep_alive: bool
    expects_continue: bool
    route: Any = None

    def header(self, name: str) -> str | None:
        """The first value of a header, `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


def parse_head(raw: bytes) -> RequestHead:
    """Parse a head without its final empty line. BadRequest if it is none."""
    lines = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = lines[0].split(" ")
    except ValueError:
        raise BadRequest(400, "malformed request line") from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505 if version.startswith("HTTP/") else 400, "unknown protocol version")
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400, "malformed header line")
        headers.append((name.lower(), value.strip(" \t")))
    fields = dict(headers)
    length = 0
    if "transfer-encoding" in fields:
        if fields["transfer-encoding"].lower() != "chunked" or "content-length" in fields:
            raise BadRequest(400, "unsupported transfer encoding")
        length = -1
    elif "content-length" in fields:
        if not fields["content-length"].isdecimal():
            raise BadRequest(400, "malformed content length")
        length = int(fields["content-length"])
        if length > MAX_BODY:
            raise BadRequest(413, "body too large")
    connection = fields.get("connection", "").lower()
    keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    path = target
    if target.startswith(("http://", "https://")):  # absolute form, as sent to a proxy
        path = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    path, _, query = path.partition("?")
    return RequestHead(
        method,
        target,
        unquote(path),
        query,
        version,
        tuple(headers),
        length,
        keep_alive,
        fields.get("expect", "").lower() == "100-continue",
    )


class ChunkedBody:
    """Push decoder of a chunked request body."""

    __slots__ = ("_buffer", "_parts", "_size", "_missing", "_trailer")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._missing = (
            -1
        )  # bytes of the current chunk still to come, its CRLF included; -1: at a size line
        self._trailer = False

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take more bytes; the body and what follows it once it is complete, else None. BadRequest if malformed."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._missing < 0:
                end = buffer.find(b"\r\n")
                if end < 0:
                    if len(buffer) > MAX_HEAD:
                        raise BadRequest(400, "chunk size line too long")
                    return None
                line = bytes(buffer[:end])
                del buffer[: end + 2]
                if self._trailer:
                    if not line:
                        return b"".join(self._parts), bytes(buffer)
                    continue
                try:
                    size = int(line.split(b";", 1)[0], 16)
                except ValueError:
                    raise BadRequest(400, "malformed chunk size") from None
                if size < 0 or self._size + size > MAX_BODY:
                    raise BadRequest(413, "body too large")
                self._size += size
                if size == 0:
                    self._trailer = True
                    continue
                self._missing = size + 2
            if len(buffer) < self._missing:
                return None
            chunk = bytes(buffer[: self._missing])
            if chunk[-2:] != b"\r\n":
                raise BadRequest(400, "chunk longer than announced")
            self._parts.append(chunk[:-2])
            del buffer[: self._missing]
            self._missing = -1


class Connection(asyncio.Protocol):
    """One client connection: one request at a time, answered by `answer`; later bytes wait until it is done."""

    __slots__ = (
        "server",
        "transport",
        "busy",
        "is_control",
        "served",
        "working",
        "_stretch",
        "_buffer",
        "_head",
        "_parts",
        "_missing",
        "_chunked",
        "_token",
        "_plan",
        "_step",
        "_due",
        "_id",
        "_close_after",
        "_refused",
    )

    def __init__(self, server: MockLLM) -> None:
        self.server = server
        self.transport: Any = None
        self.busy = False
        self.is_control = False
        self.served = 0
        self.working = False  # takes one of the mock's `workers`
        self._stretch = 1.0
        self._buffer = b""
        self._head: RequestHead | None = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._chunked: ChunkedBody | None = None
        self._token = 0
        self._plan: Plan | None = None
        self._step = 0
        self._due = 0.0
        self._id = b""
        self._close_after = False
        self._refused = False

    # -- reading ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.server.on_open(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._token += 1
        self.server.on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._receive(data)
        except BadRequest as exc:
            self._refuse(exc)

    def _receive(self, data: bytes) -> None:
        while True:
            if self.busy:
                self._buffer += data
                return
            if self._head is None:
                if self._buffer:
                    data = self._buffer + data
                    self._buffer = b""
                end = data.find(b"\r\n\r\n")
                if end < 0:
                    if len(data) > MAX_HEAD:
                        raise BadRequest(431, "request head too large")
                    self._buffer = data
                    return
                head = self.server.head_of(data[:end])
                length = head.content_length
                size = len(data) - end - 4
                if size == length:  # the usual case: the whole request and nothing else
                    self._begin(head, data[end + 4 :])
                    return
                data = data[end + 4 :]
                self._start_body(head)
                if size == 0 and head.expects_continue and length != 0:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    return
            rest = self._body_data(data)
            if not rest:
                return
            data = rest

    def _start_body(self, head: RequestHead) -> None:
        self._head = head
        self._parts = []
        self._missing = head.content_length
        self._chunked = ChunkedBody() if head.content_length < 0 else None

    def _body_data(self, data: bytes) -> bytes:
        """Take body bytes; begin the answer when the body is complete. Returns what belongs to the next request."""
        head = self._head
        assert head is not None
        if self._chunked is not None:
            done = self._chunked.feed(data)
            if done is None:
                return b""
            body, rest = done
        else:
            rest = data[self._missing :]
            self._parts.append(data[: self._missing])
            self._missing -= len(data) - len(rest)
            if self._missing:
                return b""
            body = b"".join(self._parts)
        self._head = self._chunked = None
        self._parts = []
        self._begin(head, body)
        return rest

    def _begin(self, head: RequestHead, body: bytes) -> None:
        self.busy = True
        self._close_after = not head.keep_alive
        self.served += 1
        self.server.on_request(self, head, body)

    def _refuse(self, exc: BadRequest) -> None:
        if self.transport is not None:
            text = str(exc).encode()
            reason = http.HTTPStatus(exc.status).phrase.encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (exc.status, reason, len(text), text)
            )
            # Bytes still on their way would turn a plain close into a reset that eats this answer.
            self._refused = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
                self.server.wheel.add(self.server.now() + LINGER, self, self._token)
            else:
                self.transport.close()

    # -- answering -------------------------------------------------------------------------------------------

    @property
    def token(self) -> int:
        """Changes when the current request is over; a late answer with an old token is dropped."""
        return self._token

    def answer(
        self,
        plan: Plan,
        ident: bytes,
        started: float,
        *,
        chunked: bool = True,
        stretch: float = 1.0,
    ) -> None:
        """Play `plan`. `ident` replaces its id slots; delays count from `started` (loop time, seconds).

        The times until the head and until the first event are `stretch` times as long as planned.
        """
        if self.transport is None:
            return
        if self._close_after or not chunked:
            self._close_after = True
            plan = plan.closing(chunked=chunked)
        if plan.delay <= 0.0 and plan.instant is not None:
            self.transport.write(plan.instant.replace(ID_SLOT, ident))
            self._finish(plan)
            return
        self._plan = plan
        self._step = 0
        self._id = ident
        self._stretch = stretch
        delay = plan.delay * stretch
        self._due = started + delay
        self._wait_or_go(delay)

    def _wait_or_go(self, delay: float) -> None:
        if delay <= 0.0:
            self.on_timer(self._token)
        else:
            self.server.wheel.add(self._due, self, self._token)

    def on_timer(self, token: int) -> None:
        """The next piece is due."""
        plan = self._plan
        if token != self._token or self.transport is None:
            return
        if plan is None:
            if self._refused:
                self.transport.close()
            return
        if self._step == 0 and plan.instant is not None:
            self.transport.write(plan.instant.replace(ID_SLOT, self._id))
            self._finish(plan)
            return
        steps = plan.steps
        if self._step >= len(steps):  # stalled, and still gives signs of life
            self._beat(plan)
            return
        while True:
            self.transport.write(steps[self._step].replace(ID_SLOT, self._id))
            self._step += 1
            if self._step >= len(steps):
                self._finish(plan)
                return
            gap = plan.gap
            if self._step == 1:
                gap = plan.first_gap * (self._stretch if plan.ttft > plan.delay else 1.0)
            if gap > 0.0:
                self._due += gap
                self.server.wheel.add(self._due, self, self._token)
                return

    def _beat(self, plan: Plan, *, first: bool = False) -> None:
        assert plan.heartbeat is not None
        beat, every = plan.heartbeat
        if not first:
            self.transport.write(beat)
        self._due += every
        self.server.wheel.add(self._due, self, self._token)

    def _finish(self, plan: Plan) -> None:
        self._plan = None
        if plan.end is End.STALL:  # stays busy until the client gives up
            if plan.heartbeat is not None:
                self._plan, self._step = plan, len(plan.steps)
                self._due = self.server.now()
                self._beat(plan, first=True)
            return
        self._token += 1
        if plan.end is not End.DONE:
            if plan.end is End.RESET:
                sock = self.transport.get_extra_info("socket")
                if sock is not None:
                    reset_on_close(sock)
                self.transport.abort()
            else:
                self.transport.close()
            self.busy = False
            self.server.on_answered(self)
            return
        self.busy = False
        self.server.on_answered(self)
        if self._close_after or self.server.must_close(self):
            self.transport.close()
        elif self._buffer:
            rest, self._buffer = self._buffer, b""
            self.data_received(rest)


class HeadCache:
    """Parsed heads by their bytes, bounded."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}

    def get(self, raw: bytes) -> RequestHead | None:
        """The head parsed before from the same bytes."""
        return self._heads.get(raw)

    def put(self, raw: bytes, head: RequestHead) -> None:
        """Remember a head; everything is dropped when the cache is full."""
        if len(self._heads) >= _HEAD_CACHE_SIZE:
            self._heads.clear()
        self._heads[raw] = head
