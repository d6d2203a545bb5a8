"""An asyncio server that lives in a thread of its own, with its own loop.

Job: start, readiness, stop, and a way for tests (any thread, any loop) to wait for something a server saw.
Not its job: what the server answers (chaos.py, proxies.py).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable


class ThreadedServer:
    """Subclasses give `handle(reader, writer)`; `start()` returns once the socket listens."""

    scheme = "http"

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.tls = tls
        self.connections = 0  # accepted so far
        self.open = 0  # open now
        self.open_since = 0  # of these: accepted since `mark`
        self.peak = 0  # the most that were open at the same time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._marks = 0
        self._tasks: set[asyncio.Task] = set()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> ThreadedServer:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is told
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, 0))
        listener.listen(65535)  # connects succeed from here on, even before the thread runs
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener, ready), name=type(self).__name__, daemon=True
        )
        self._thread.start()
        ready.wait()
        return self

    def _run(self, listener: socket.socket, ready: threading.Event) -> None:
        asyncio.run(self._main(listener, ready))

    async def _main(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda loop, context: None)
        self._stop = asyncio.Event()
        server = await asyncio.start_server(
            self._accept, sock=listener, backlog=65535, **self._tls_options()
        )
        ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tls_options(self) -> dict:
        return (
            {}
            if self.tls is None
            else {"ssl": self.tls, "ssl_handshake_timeout": 30, "ssl_shutdown_timeout": 1}
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.open_since += 1
        marks = self._marks
        self.peak = max(self.peak, self.open)
        try:
            await self.handle(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError, asyncio.LimitOverrunError):
            pass
        finally:
            try:
                writer.close()
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                pass
            self.open -= 1
            self.open_since -= marks == self._marks
            self._tasks.discard(task)

    def mark(self) -> None:
        """What was accepted before counts no more for `open_since`: it may be closed late."""
        self._marks += 1
        self.open_since = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._thread = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()

    # -- for tests ----------------------------------------------------------------------------------------------------

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else self.scheme}://{self.authority}"

    def url(self, path: str = "/") -> str:
        return self.origin + path


async def until(
    condition: Callable[[], object], timeout: float = 20.0, what: str = "the condition"
) -> object:
    """Wait in the running loop, bounded, until `condition()` is true; needs no help from other threads."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        await asyncio.sleep(0.002)


def until_sync(
    condition: Callable[[], object], timeout: float = 20.0, what: str = "the condition"
) -> object:
    """The same for code without a loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        time.sleep(0.002)
