"""What is known of one call and its attempts, and who is told: `CallRecord`, `Attempt`, `Observer`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._outcome import status_of

if TYPE_CHECKING:
    from .._headers import Headers
    from .._models import Response
    from .._watch import LoopBlock
    from ..llm._types import ToolCall, Usage
    from ._control import Control
    from ._deadline import Deadline
    from ._limit import Ticket

__all__ = ["Attempt", "CallRecord", "Observer"]

_log = logging.getLogger("llmcurl.traffic")


class Attempt:
    """One attempt of a call. Times are seconds since the call began.

    Attributes:
        number: 1 for the first.
        begun: when it began to wait for its turn (`RateLimit`).
        started: when it had its turn, None if it never had.
        ended: when it was over, None before.
        status: the HTTP status, None without an answer.
        safety: "never_sent", "maybe_sent" or "answered", "" where none of it applies (it
            succeeded, was cancelled, or the request itself cannot be).
        error: the error's class, "" without one. message: its text.
        retry_after: seconds the server asked to wait, None if it did not.
        retry_in: seconds until the next attempt, None if there is none.
        response: while the attempt lasts, its HTTP response (not of `AsyncClient.stream`, once
            that is handed out). headers: of that response.
    """

    __slots__ = (
        "_told", "begun", "ended", "error", "message", "number", "response", "retry_after",
        "retry_in", "safety", "started", "status",
    )  # fmt: skip

    def __init__(self, number: int, begun: float) -> None:
        self.number = number
        self.begun = begun
        self.started: float | None = None
        self.ended: float | None = None
        self.status: int | None = None
        self.safety = ""
        self.error = ""
        self.message = ""
        self.retry_after: float | None = None
        self.retry_in: float | None = None
        self.response: Response | None = None
        self._told: Headers | None = None

    def answer(self, response: Response) -> None:
        """The head of an answer is there."""
        self.response = response
        self.status = response.status_code

    def let_go(self) -> None:
        """The response is handed out, and will know the call: it is not held any longer."""
        self._told = self.told
        self.response = None

    @property
    def headers(self) -> Headers | None:
        """Of the response."""
        return None if self.response is None else self.response.headers

    @property
    def told(self) -> Headers | None:
        """The headers, if they say something about limits."""
        response = self.response
        if response is None or b"ratelimit" not in response._head.lower():
            return self._told
        return response.headers

    @property
    def waited(self) -> float:
        """Seconds it waited for its turn."""
        end = self.started if self.started is not None else self.ended
        return 0.0 if end is None else end - self.begun

    def __repr__(self) -> str:
        what = self.error or (str(self.status) if self.status else "open")
        return f"<Attempt {self.number}: {what}{f', {self.safety}' if self.safety else ''}>"

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in ("response", "_told")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.response = self._told = None
        for name, value in state.items():
            setattr(self, name, value)


class Observer:
    """Is told what happens to calls. Methods (but `loop_blocked`) run in the call's task and must not block; an
    exception in one is logged and changes nothing. Override what is wanted."""

    def started(self, call: CallRecord) -> None:
        """A call begins."""

    def attempt_started(self, call: CallRecord, attempt: Attempt) -> None:
        """An attempt had its turn and is sent now."""

    def opened(self, call: CallRecord, attempt: Attempt) -> None:
        """Of a streamed call: `attempt.response` has its head (`AsyncClient.stream`), or its
        first token is there (`LLM.stream`); the caller reads it from here on."""

    def attempt_ended(
        self, call: CallRecord, attempt: Attempt, error: BaseException | None
    ) -> None:
        """An attempt is over; `attempt.response` is still there, `attempt.retry_in` tells
        whether another one follows. Of a stream: when it is over, read or left."""

    def finished(self, call: CallRecord, error: BaseException | None) -> None:
        """The call is over: `call.result` or `error`."""

    def tool_started(
        self, provider: str, tool: ToolCall
    ) -> Callable[[str, BaseException | None], object] | None:
        """`LLM.run` calls a tool, in this task. What is returned, if anything, is called with its
        result as text and its error, when it is over, in the same task."""
        return None

    def stats(self) -> dict[str, float]:
        """Numbers that `AsyncClient.stats` and `LLM.stats` are to show with their own."""
        return {}

    def loop_blocked(self, block: LoopBlock) -> None:
        """An event loop did not serve what was ready for it. Called in the watcher's thread, which
        must not touch the loop but through `call_soon_threadsafe`."""


class CallRecord:
    """A call as it passes through `conduct`.

    Attributes:
        kind: "http", "chat", "stream", "embed".
        provider, model: of an LLM call, else "".
        method, url: of the request; the URL is without secrets.
        body: what an LLM call puts into its request (not to be changed), else None.
        size: bytes of the encoded body, 0 if unknown.
        deadline: until when it must be over. priority: higher goes first.
        idempotency_key: sent with every attempt, "" if there is none.
        began: `time.monotonic()` at its start. wall: `time.time()` then.
        attempts: all so far, the current one last.
        result: what came of it: Response, Reply (also of a stream, at its end), Embeddings.
        usage: tokens, as far as the provider said.
        sent_before: whether this attempt already got an answer (a redirect, a 401 of an
            authentication flow), so that "never sent" does not hold any more.
        final: there is no further attempt: the body is used up, or the deadline too near.
        data: a place for observers to keep what they need.
    """

    __slots__ = (
        "attempts", "began", "body", "control", "data", "deadline", "final", "idempotency_key",
        "kind", "method", "model", "over", "place", "priority", "provider", "result",
        "sent_before", "size", "streamed", "ticket", "url", "usage", "wall",
    )  # fmt: skip

    def __init__(
        self,
        control: Control,
        *,
        kind: str,
        method: str,
        url: str,
        provider: str = "",
        model: str = "",
        body: dict[str, Any] | None = None,
        size: int = 0,
        deadline: Deadline | None = None,
        priority: int = 0,
        idempotency_key: str = "",
        streamed: bool = False,
    ) -> None:
        self.control = control
        self.kind = kind
        self.method = method
        self.url = url
        self.provider = provider
        self.model = model
        self.body = body
        self.size = size
        self.deadline = deadline
        self.priority = priority
        self.idempotency_key = idempotency_key
        self.streamed = streamed
        self.began = time.monotonic()
        self.wall = time.time()
        self.attempts: list[Attempt] = []
        self.result: Any = None
        self.usage: Usage | None = None
        self.sent_before = False
        self.final = False
        self.over = False
        self.place = -1  # in the queue of a limit
        self.ticket: Ticket | None = None
        self.data: dict[Any, Any] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def attempt(self) -> Attempt:
        """The current one."""
        return self.attempts[-1]

    def tell(self, event: str, *more: Any) -> None:
        """Tells the observers."""
        observers: Sequence[Observer] = self.control.observers
        for observer in observers:
            try:
                getattr(observer, event)(self, *more)
            except Exception:
                _log.exception("the observer %r failed in %s", observer, event)

    def end_attempt(self, error: BaseException | None) -> None:
        """The current attempt is over: its place becomes free, observers are told."""
        attempt = self.attempt
        if attempt.ended is not None:
            return
        attempt.ended = self.elapsed
        if error is not None:
            attempt.error = type(error).__name__
            attempt.message = str(error)
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            # An error inside of a 200 is a refusal like any other.
            meant = None if error is None else status_of(error)
            ticket.settle(
                status=meant or attempt.status,
                headers=attempt.told,
                usage=self.usage,
                retry_after=attempt.retry_after,
                sent=attempt.safety != "never_sent",
            )
        if self.control.observers:
            self.tell("attempt_ended", attempt, error)
        attempt.response = attempt._told = None

    def finish(self, error: BaseException | None = None) -> None:
        """The call is over; a stream's: when it was read to its end, failed or was left.
        Further calls of this do nothing."""
        if self.over:
            return
        self.over = True
        if self.attempts:
            self.end_attempt(error)
        if self.control.observers:
            self.tell("finished", error)

    def __repr__(self) -> str:
        return f"<CallRecord {self.kind} {self.url} {self.attempts}>"
