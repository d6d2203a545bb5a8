"""`ControlledStream`: a stream with retries before its first token, a limit, and time-outs."""

from __future__ import annotations

import time
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .._config import Unset
from .._exceptions import HTTPError
from .._models import Response
from ..llm._http import Milliseconds
from ..llm._stream import Stream
from ._control import conduct
from ._record import Attempt, CallRecord

if TYPE_CHECKING:
    from ._deadline import DeadlineTypes
    from ._llm import Job
    from ._retry import Retry
    from ._watch import StreamTimeout

__all__ = ["ControlledStream"]


class ControlledStream(Stream):
    """A `Stream` that passes through `conduct`: the block is entered with the first token of
    text, reasoning or a tool call, or with the end. `call` is its record."""

    __slots__ = ("_call", "_handed_out", "_job")

    def __init__(
        self,
        job: Job,
        retry: Retry | Unset | None,
        deadline: DeadlineTypes | Unset,
        stream_timeout: StreamTimeout | Unset | None,
    ) -> None:
        llm = job.llm
        super().__init__(llm, _never, llm._parser(), llm._assembler())
        self._job = job
        self._call = job.record(job.control(retry, deadline, stream_timeout))
        self._handed_out = False

    @property
    def call(self) -> CallRecord:
        """What is known of the call and its attempts."""
        return self._call

    async def __aenter__(self) -> Stream:
        if self._open is None:
            raise RuntimeError("a stream can be entered once only")
        self._open = None
        # The deadline and the times count from here.
        job = self._job
        self._call = job.record(self._call.control)
        await conduct(self._call, self._attempt)
        self._handed_out = True
        if self._ended:
            self._over(None)
        return self

    async def _attempt(self, attempt: Attempt) -> Stream:
        """Sends the request and reads until the first token."""
        job = self._job
        if attempt.number > 1:
            self._parser, self._asm = job.llm._parser(), job.llm._assembler()
            self._items = iter(())
            self._error = self._first = self._whole = None
            self._finished = self._ended = False
        self._started = time.monotonic()
        response = await job.send(attempt, self._limit, True)
        try:
            await self._take(response)
            while not self._ready():
                if not await self._more():
                    break
        except BaseException:
            response._close_stream()
            raise
        return self

    def _limit(self, times: Milliseconds) -> Milliseconds:
        deadline = self._call.deadline
        return times if deadline is None else deadline.limit(times)

    def _ready(self) -> bool:
        """Whether a token lies ready. Events before it are taken in."""
        for item in self._items:
            if not isinstance(item, (bytes, tuple)):
                rest = self._items
                self._items = chain((item,), rest)
                return True
            before = self._items
            self._expand(item)  # puts what it makes before the rest
            if self._items is not before:
                return True
        return False

    def _fail(self, error: Exception, cause: BaseException | None = None) -> NoReturn:
        try:
            super()._fail(error, cause)
        finally:
            if self._handed_out:
                if isinstance(error, HTTPError):
                    error.attempts = tuple(self._call.attempts)
                self._over(error)

    def _end(self) -> None:
        super()._end()
        if self._handed_out:
            self._over(None)

    def _over(self, error: Exception | None) -> None:
        """The stream has ended, failed or was left."""
        call = self._call
        if call.over:
            return
        try:
            call.result = self.partial
            call.usage = call.result.usage
        except HTTPError:
            pass  # what has arrived makes no reply
        call.finish(error)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc, traceback)
        finally:
            self._over(None)


async def _never() -> Response:
    raise AssertionError("a controlled stream opens itself")
