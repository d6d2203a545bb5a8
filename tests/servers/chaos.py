"""The chaos server: one HTTP/1.1 peer whose answers are scripted by the path and query of the request.

Job: read requests, remember their raw bytes (`seen`), dispatch to a script (chaos_scripts.py), count, report disconnects.
Not its job: what each script sends. One thread, one loop; tests read `seen` and the counters from theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from servers.thread import ThreadedServer, until, until_sync


@dataclass
class Seen:
    """One request as the server received it."""

    connection: int  # number of the connection, counted from 1
    raw: bytes  # head as received, with the empty line
    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: list[tuple[str, str]]  # names in the case in which they came
    body: bytes = b""  # decoded body, if the script read it
    raw_body: bytes = b""  # body as received, chunk framing included
    body_done: bool = False
    at: float = field(default_factory=time.monotonic)
    sent: int = 0  # bytes of the answer taken by the kernel
    # when the peer's end of the connection was seen closed during this request
    gone: float | None = None

    def header(self, name: str) -> str | None:
        values = self.header_list(name)
        return values[0] if values else None

    def header_list(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def number(self, name: str, default: float = 0) -> float:
        value = self.query.get(name)
        return default if value is None else float(value) if "." in value else int(value)


_table: tuple[float, dict] = (0.0, {})


def _kernel(local: int, remote: int) -> list[str] | None:
    """The client's socket (ports `local` to `remote`) in the kernel's table: what we cannot see from our end."""
    global _table
    # Many connections ask at once, and it is slow to read: who asks must have waited as long.
    if time.monotonic() - _table[0] > 0.01:
        rows = {}
        for name in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(name) as table:
                for columns in map(str.split, table):
                    rows[columns[1].rpartition(":")[2], columns[2].rpartition(":")[2]] = columns
        _table = time.monotonic(), rows
    return _table[1].get((f"{local:04X}", f"{remote:04X}"))


class Gone(ConnectionError):
    """The client went away."""


class Connection:
    """One accepted connection; scripts use only this."""

    def __init__(
        self, server: Chaos, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.number = number
        self.reader = reader
        self.writer = writer
        self.requests = 0
        self.keep = True  # serve another request afterwards
        self.next = None  # script for whatever request comes next on this connection
        self.request: Seen | None = None

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read_head(self) -> Seen | None:
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        lines = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = [
            (name, value.strip(" "))
            for name, _, value in (line.partition(":") for line in lines[1:])
        ]
        parts = urlsplit(target)
        return Seen(
            self.number,
            raw,
            method,
            target,
            unquote(parts.path),
            dict(parse_qsl(parts.query)),
            headers,
        )

    async def read_body(self, limit: int | None = None) -> bytes:
        """The whole body (or at least `limit` bytes of it); its framing goes to `raw_body`."""
        request = self.request
        if (request.header("Transfer-Encoding") or "").lower() == "chunked":
            while True:
                line = await self.reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                data = (
                    await self.reader.readexactly(size + 2)
                    if size
                    else await self.reader.readuntil(b"\r\n")
                )
                request.raw_body += line + data
                if size == 0:
                    break
                request.body += data[:-2]
                if limit is not None and len(request.body) >= limit:
                    return request.body
        else:
            total = int(request.header("Content-Length") or 0)
            while len(request.body) < total:
                data = await self.reader.read(min(total - len(request.body), 1 << 18))
                if not data:
                    self.lost()
                request.body += data
                if limit is not None and len(request.body) >= limit:
                    request.raw_body = request.body
                    return request.body
            request.raw_body = request.body
        request.body_done = True
        return request.body

    async def wait_gone(self) -> None:
        """Read and throw away until the client closes; ends the script."""
        while True:
            try:
                data = await self.reader.read(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                self.lost()

    async def wait_gone_deaf(self) -> None:
        """The same without reading: the client's sends fill up all buffers and then stall."""
        self.writer.transport.pause_reading()
        await asyncio.sleep(0.02)
        # the client's FIN may wait behind data that we do not read
        while (seen := self._peer()) and seen[3] == "01":
            await asyncio.sleep(0.01)
        self.lost()

    async def wait_read(self) -> None:
        """Until the client has read all that we sent, or is gone."""
        await asyncio.sleep(0.02)
        while (seen := self._peer()) and int(seen[4].partition(":")[2], 16):
            await asyncio.sleep(0.01)

    def _peer(self) -> list[str] | None:
        peer, ours = (self.writer.get_extra_info(name)[1] for name in ("peername", "sockname"))
        return _kernel(peer, ours)

    def lost(self) -> None:
        self.keep = False
        if self.request is not None and self.request.gone is None:
            self.request.gone = time.monotonic()
        raise Gone

    # -- writing ------------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await self.writer.drain()
            if self.request is not None:
                self.request.sent += len(data)
        except ConnectionError:
            self.lost()

    async def send_slowly(self, data: bytes, size: int = 1, pause: float = 0.0) -> None:
        """Each piece a segment of its own (the socket has TCP_NODELAY)."""
        for at in range(0, len(data), size):
            await self.send(data[at : at + size])
            await asyncio.sleep(pause)

    def reset(self) -> None:
        """Close with RST."""
        self.keep = False
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Close with FIN."""
        self.keep = False
        self.writer.close()

    def half_close(self) -> None:
        """Send FIN and keep reading."""
        self.writer.write_eof()


class Chaos(ThreadedServer):
    """`with Chaos() as chaos: chaos.url("/cut?after=10")`; the scripts are listed in chaos_scripts.py."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.seen: list[Seen] = []
        self.tally: Counter[str] = Counter()  # requests for each path, for scripts that ask often
        self._accepted_before = self._open_before = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from servers.chaos_scripts import SCRIPTS, unknown

        reader._limit = 1 << 20  # a head may be large
        connection = Connection(self, self.connections, reader, writer)
        with contextlib.suppress(Gone):
            while connection.keep:
                request = await connection.read_head()
                if request is None:
                    break
                connection.request = request
                connection.requests += 1
                self.seen.append(request)
                self.tally[request.path] += 1
                script, connection.next = connection.next, None
                await (script or SCRIPTS.get(request.path.split("/")[1], unknown))(
                    connection, request
                )

    # -- for tests ----------------------------------------------------------------------------------------------------

    def reset_log(self) -> None:
        self.seen = []
        self.tally.clear()
        self._accepted_before = self.connections
        self._open_before = self.peak = self.open
        self.mark()

    @property
    def new_connections(self) -> int:
        """Connections accepted since `reset_log`."""
        return self.connections - self._accepted_before

    @property
    def new_peak(self) -> int:
        """The most connections open at the same time since `reset_log`."""
        return self.peak - self._open_before

    def requests(self, path: str | None = None) -> list[Seen]:
        return [seen for seen in list(self.seen) if path is None or seen.path == path]

    def count(self, path: str | None = None) -> int:
        return len(self.requests(path))

    async def wait_for_request(self, path: str, n: int = 1, timeout: float = 20.0) -> Seen:
        await until(lambda: self.count(path) >= n, timeout, f"request {n} for {path}")
        return self.requests(path)[n - 1]

    async def wait_for_body(self, path: str, size: int, timeout: float = 20.0) -> Seen:
        """Until `size` bytes of the body of the first request for `path` have arrived."""
        seen = await self.wait_for_request(path, timeout=timeout)
        await until(lambda: len(seen.body) >= size, timeout, f"{size} bytes of the body")
        return seen

    async def wait_for_disconnect(self, path: str, n: int = 1, timeout: float = 20.0) -> None:
        """Until the clients of `n` requests for `path` closed their connection while being served."""
        await until(lambda: self._gone(path) >= n, timeout, f"{n} disconnects during {path}")

    async def wait_all_gone(self, path: str) -> None:
        """The same for as many as came, be it none: for a call that may end before it is sent."""
        await until(lambda: self._gone(path) >= self.count(path), what=f"disconnects during {path}")

    def wait_for_disconnect_sync(self, path: str, n: int = 1, timeout: float = 20.0) -> None:
        until_sync(lambda: self._gone(path) >= n, timeout, f"{n} disconnects during {path}")

    def _gone(self, path: str) -> int:
        return sum(seen.gone is not None for seen in self.requests(path))

    async def wait_closed(self, timeout: float = 20.0) -> None:
        """Until no connection accepted since `reset_log` is open any more."""
        await until(lambda: self.open_since <= 0, timeout, "every connection closed")
