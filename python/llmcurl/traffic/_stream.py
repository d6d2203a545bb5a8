"""`ControlledStream`: a stream with retries before its first token, a limit, and time-outs."""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .._config import Unset
from .._exceptions import HTTPError, ReadTimeout, TimeoutException
from .._models import Response, Timings
from ..llm._errors import StreamTimedOut
from ..llm._http import Milliseconds
from ..llm._stream import Stream
from ._control import conduct
from ._record import Attempt, CallRecord
from ._watch import WORDS, StreamTimeout, Watch, WatchedParser, timed_out

if TYPE_CHECKING:
    from ._deadline import DeadlineTypes
    from ._llm import Job
    from ._retry import Retry

__all__ = ["ControlledStream"]


class ControlledStream(Stream):
    """A `Stream` that passes through `conduct`: the block is entered with the first token of
    text, reasoning or a tool call, or with the end. `call` is its record."""

    __slots__ = ("_call", "_handed_out", "_job", "_watch")

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
        self._watch: Watch | None = None

    @property
    def call(self) -> CallRecord:
        """What is known of the call and its attempts."""
        return self._call

    @property
    def timings(self) -> Timings:
        """As of `Stream`, and how many attempts there were."""
        return replace(super().timings, attempts=len(self._call.attempts))

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
        job, limits = self._job, self._call.control.stream_timeout
        llm = job.llm
        if attempt.number > 1:
            self._parser, self._asm = llm._parser(), llm._assembler()
            self._items = iter(())
            self._error = self._first = self._whole = None
            self._finished = self._ended = False
        watch = self._watch = None if limits is None else Watch(limits)
        if watch is not None:
            self._parser = WatchedParser(self._parser, watch)
        self._started = time.monotonic()
        try:
            response = await job.send(attempt, self._limit, True)
        except ReadTimeout as error:
            raise self._too_slow(error) from error
        try:
            await self._take(response)
            if watch is not None:
                watch.head(response._stream, response._timings[4])
            await self._first_content()
        except BaseException:
            response._close_stream()
            raise
        return self

    def _limit(self, times: Milliseconds) -> Milliseconds:
        if self._watch is not None:
            times = self._watch.limit(times)
        deadline = self._call.deadline
        return times if deadline is None else deadline.limit(times)

    async def _more(self) -> bool:
        watch = self._watch
        if watch is None:
            return await super()._more()
        since = watch.arm()
        more = await super()._more()
        if not watch.waited(since):
            self._fail(self._too_slow(None))
        return more

    def _expand(self, item: bytes | tuple[str, bytes]) -> None:
        before = self._items
        super()._expand(item)
        if self._watch is not None and self._items is not before:
            self._watch.content(1)

    def _too_slow(self, cause: TimeoutException | None) -> StreamTimedOut:
        """What a time-out means to the reader of the stream."""
        deadline, watch = self._call.deadline, self._watch
        seconds: float | None = None
        if watch is not None:
            which, seconds = watch.which(cause, deadline)
        else:
            which = "read" if cause is None else timed_out(cause, deadline)
        headed = self._call.attempt.status is not None
        error = StreamTimedOut(
            f"the stream was too slow: {WORDS[which].format(seconds, deadline)}",
            provider=self._source.provider,
            status=self._call.attempt.status,
            partial=self.partial if headed else None,
        )
        error.which, error.seconds = which, seconds
        return error

    def _fail(self, error: Exception, cause: BaseException | None = None) -> NoReturn:
        if isinstance(cause, TimeoutException):
            error = self._too_slow(cause)
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
        if call.ticket is not None or call.control.observers:  # else nobody asks
            try:
                call.result = self.partial
                call.usage = call.result.usage
            except HTTPError:
                pass  # what has arrived makes no reply
        call.finish(error)
        self.response._attach(attempts=tuple(call.attempts))

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
