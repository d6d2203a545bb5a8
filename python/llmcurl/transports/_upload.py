"""Request bodies that are made while they are sent.

The iterator runs in the caller's task, as in the reference, and is asked for a chunk only
when libcurl has room for one. If the answer's head comes first, a task of its own sends the
rest while the caller reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from .._native import Call
from ._wire import TOO_LITTLE, TOO_MUCH, InvalidRequest

__all__ = ["Upload"]


class _Room:
    """Told by the native side that libcurl wants more, and that the call is done; knows
    nothing of the call, which holds it."""

    __slots__ = ("done", "waiter", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self.done = False
        self.waiter: asyncio.Future[None] | None = None

    def on_want(self) -> None:
        self.wanted = True
        self._wake()

    def on_done(self, _: object) -> None:
        self.done = True
        self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Upload:
    """Feeds one call.

    Args:
        loop: the running loop.
        call: started with a body to be fed.
        stream: the body, an async iterable of bytes.
        length: what Content-Length promised, -1 for chunked.
    """

    __slots__ = ("_call", "_chunks", "_left", "_loop", "_room", "_task", "failure")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, call: Call, stream: Any, length: int
    ) -> None:
        self._loop = loop
        self._call = call
        self._chunks: AsyncIterator[bytes] = stream.__aiter__()
        self._left = length
        self._room = _Room()
        self._task: asyncio.Task[None] | None = None
        #: what the caller's iterator raised after the head had come
        self.failure: BaseException | None = None
        call._set_on_want(self._room.on_want)
        call.add_done_callback(self._room.on_done)

    async def head(self) -> Any:
        """Sends until the answer's head is there; returns the native answer.

        Raises:
            InvalidRequest: more or less than Content-Length promised. What the iterator
                raises, what the call raises.
        """
        call = self._call
        try:
            over = await self._send(stop_at_head=True)
            answer = await call
        except BaseException:
            self._abandon()
            raise
        if not over:
            self._task = self._loop.create_task(self._rest())
        return answer

    async def _send(self, *, stop_at_head: bool) -> bool:
        """True when the body is out, or nobody takes it any more."""
        call, room = self._call, self._room
        while True:
            # A body that is complete by its length is not left open for want of room: more
            # than was promised has to be seen before the answer is.
            while self._left and not room.wanted and not (stop_at_head and room.done):
                room.waiter = self._loop.create_future()
                try:
                    await room.waiter
                finally:
                    room.waiter = None
            if self._left and stop_at_head and room.done:
                return call.cancelled() or call.exception() is not None
            room.wanted = False
            chunk = await anext(self._chunks, None)
            while chunk is not None and not len(chunk):
                chunk = await anext(self._chunks, None)
            if chunk is None:
                if self._left > 0:
                    raise InvalidRequest(TOO_LITTLE)
                self._give(b"", True)
                return True
            if self._left >= 0:
                self._left -= len(chunk)
                if self._left < 0:
                    raise InvalidRequest(TOO_MUCH)
            if not self._give(bytes(chunk), False):
                await self._close_chunks()
                return True

    def _give(self, chunk: bytes, eof: bool) -> bool:
        """False when nobody takes it any more."""
        call = self._call
        if call._feed(chunk, eof):
            return True
        # The head came meanwhile: its stream has taken the transfer over.
        if call.done() and not call.cancelled() and call.exception() is None:
            stream = call.result()._stream
            return stream is not None and bool(stream._feed(chunk, eof))
        return False

    async def _rest(self) -> None:
        """The part of the body after the head. A failure ends the answer, too."""
        try:
            await self._send(stop_at_head=False)
        except asyncio.CancelledError:
            await self._close_chunks()
            raise
        except BaseException as error:
            self.failure = error
            self._call.result()._stream.close()

    async def _close_chunks(self) -> None:
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()

    def _abandon(self) -> None:
        call = self._call
        if not call.done():
            call.cancel()
        elif not call.cancelled() and call.exception() is None:
            call.result()._stream.close()

    def stop(self) -> None:
        """The answer is over: nobody wants the rest."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
