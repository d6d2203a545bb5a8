"""Sockets of the mock server: one private epoll set under the event loop, so that a request costs few Python frames.

`EpollListener` accepts in batches and gives each connection an `EpollTransport`, which has the part of
`asyncio.Transport` that the mock uses. Where there is no epoll, or for TLS, the same protocol class runs on asyncio's
own transports (see `_server.py`).
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable
from typing import Any

RECV_SIZE = 16 * 1024
"""Bytes asked for per read."""

ACCEPTS_PER_TURN = 256
"""Connections accepted before the others are served again."""

HAVE_EPOLL = hasattr(select, "epoll")

_OUT_OF_FDS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LINGER_RESET = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Make the coming close of `sock` send RST in place of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)


def open_listener(host: str, port: int, backlog: int, *, share: bool = False) -> socket.socket:
    """A non-blocking listening TCP socket; `share` sets SO_REUSEPORT. OSError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class EpollTransport:
    """One accepted connection. Writes go out at once; what the kernel does not take is kept and sent when it can."""

    __slots__ = ("_listener", "_sock", "_fd", "_protocol", "_pending", "_closing")

    def __init__(
        self, listener: EpollListener, sock: socket.socket, fd: int, protocol: asyncio.Protocol
    ) -> None:
        self._listener = listener
        self._sock = sock
        self._fd = fd
        self._protocol = protocol
        self._pending: bytearray | None = None
        self._closing = False

    def write(self, data: bytes) -> None:
        """Send or keep `data`. Never raises: a broken connection shows up as `connection_lost`."""
        if self._fd < 0 or self._closing:
            return
        if self._pending is not None:
            self._pending += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            self._listener.lose_soon(self, exc)
            return
        if sent < len(data):
            self._pending = bytearray(memoryview(data)[sent:])
            self._listener.watch_writes(self._fd, True)

    def can_write_eof(self) -> bool:
        """Whether `write_eof` works: yes, unless there are kept bytes."""
        return self._pending is None

    def write_eof(self) -> None:
        """Send FIN; reading goes on."""
        if self._fd >= 0 and not self._closing:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self._listener.lose_soon(self, exc)

    def close(self) -> None:
        """Close once everything kept has been sent."""
        if self._fd < 0 or self._closing:
            return
        self._closing = True
        if self._pending is None:
            self._listener.lose_soon(self, None)

    def abort(self) -> None:
        """Close now, dropping what was kept."""
        if self._fd >= 0:
            self._closing = True
            self._pending = None
            self._listener.lose_soon(self, None)

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self._closing or self._fd < 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`socket` and `peername`, as in asyncio."""
        if name == "socket":
            return self._sock
        if name == "peername":
            try:
                return self._sock.getpeername()
            except OSError:
                return default
        return default

    def on_events(self, events: int) -> None:
        """Serve what epoll reported for this socket."""
        if events & select.EPOLLOUT and self._pending is not None:
            self._flush()
            if self._fd < 0:
                return
        if events & ~select.EPOLLOUT:
            try:
                data = self._sock.recv(RECV_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self.lose(exc)
                return
            if not data:
                self.lose(None)
            elif not self._closing:
                self._protocol.data_received(data)

    def _flush(self) -> None:
        pending = self._pending
        assert pending is not None
        try:
            sent = self._sock.send(pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self.lose(exc)
            return
        if sent < len(pending):
            del pending[:sent]
            return
        self._pending = None
        self._listener.watch_writes(self._fd, False)
        if self._closing:
            self.lose(None)

    def lose(self, exc: Exception | None) -> None:
        """Close the socket and tell the protocol, once."""
        if self._fd < 0:
            return
        self._listener.forget(self._fd)
        self._fd = -1
        self._closing = True
        self._pending = None
        self._sock.close()
        self._protocol.connection_lost(exc)


class EpollListener:
    """Listening sockets and all their connections, behind one fd in the loop. Linux only. Not thread-safe."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: list[socket.socket],
        factory: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._factory = factory
        self._listeners = {sock.fileno(): sock for sock in sockets}
        self._links: dict[int, EpollTransport] = {}
        self._lost: list[tuple[EpollTransport, Exception | None]] = []
        self._resume: asyncio.TimerHandle | None = None
        self._epoll = select.epoll()
        for fd in self._listeners:
            self._epoll.register(fd, select.EPOLLIN)
        loop.add_reader(self._epoll.fileno(), self._drain)

    def _drain(self) -> None:
        links, listeners = self._links, self._listeners
        for fd, events in self._epoll.poll(0, 512):
            link = links.get(fd)
            if link is not None:
                link.on_events(events)
            elif fd in listeners:
                self._accept(listeners[fd])

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as exc:
                if exc.errno not in _OUT_OF_FDS:
                    raise
                self._pause_accepting()
                return
            sock.setblocking(False)
            fd = sock.fileno()
            protocol = self._factory()
            link = EpollTransport(self, sock, fd, protocol)
            self._links[fd] = link
            self._epoll.register(fd, select.EPOLLIN)
            protocol.connection_made(link)  # type: ignore[arg-type]

    def _pause_accepting(self) -> None:
        """Out of descriptors: leave the rest in the backlog for 50 ms instead of spinning."""
        if self._resume is None:
            for fd in self._listeners:
                self._epoll.modify(fd, 0)
            self._resume = self._loop.call_later(0.05, self._resume_accepting)

    def _resume_accepting(self) -> None:
        self._resume = None
        for fd in self._listeners:
            self._epoll.modify(fd, select.EPOLLIN)

    def watch_writes(self, fd: int, wanted: bool) -> None:
        """Ask for, or drop, the report that `fd` can be written to."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def lose_soon(self, link: EpollTransport, exc: Exception | None) -> None:
        """Close `link` on the loop's next turn, so that a protocol never loses its connection inside `write`."""
        if not self._lost:
            self._loop.call_soon(self._lose_all)
        self._lost.append((link, exc))

    def _lose_all(self) -> None:
        lost, self._lost = self._lost, []
        for link, exc in lost:
            link.lose(exc)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`; it is about to be closed."""
        if self._links.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Close the listeners and every connection. Idempotent."""
        if self._epoll.closed:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        for link in list(self._links.values()):
            link.lose(None)
        for sock in self._listeners.values():
            sock.close()
        self._listeners.clear()
        self._epoll.close()
