"""`conduct`: the one function through which a controlled call passes, attempt by attempt."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .._config import UNSET, Unset
from .._exceptions import HTTPError, TotalTimeout
from .._logging import calls as calls_logger
from .._waits import retry_after_of
from ._deadline import DeadlineTypes, build_deadline, check_deadline
from ._errors import DeadlineExceeded
from ._outcome import ANSWERED, NEVER_SENT, classify
from ._record import Attempt, CallRecord, Observer
from ._retry import Retry

if TYPE_CHECKING:
    from ._limit import ByModel, LimitTypes, RateLimit
    from ._watch import StreamTimeout

__all__ = ["Control", "build_control", "conduct", "control_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Control:
    """What a client, or a single call, wants: all of it may be absent."""

    retry: Retry | None = None
    limit: RateLimit | ByModel | None = None
    deadline: DeadlineTypes = None
    stream_timeout: StreamTimeout | None = None
    observers: tuple[Observer, ...] = ()


_NONE = Control()
_TOLD = tuple(name for name, one in vars(Observer).items() if inspect.isfunction(one))


def build_control(
    retry: Retry | None = None,
    limit: LimitTypes | None = None,
    deadline: DeadlineTypes = None,
    stream_timeout: StreamTimeout | None = None,
    observers: Sequence[Observer] = (),
) -> Control | None:
    """A client's settings, None if there are none: its calls then pass by all this.

    Raises:
        TypeError, ValueError: a value that cannot be.
    """
    check_retry(retry)
    check_deadline(deadline)
    found: RateLimit | ByModel | None = None
    if limit is not None:
        from ._limit import ByModel, RateLimit

        if not isinstance(limit, (RateLimit, Mapping)):
            raise TypeError(f"limit must be a RateLimit, or one by model, not {limit!r}")
        found = limit if isinstance(limit, RateLimit) else ByModel(limit)
    check_stream_timeout(stream_timeout)
    for observer in observers:
        if not isinstance(observer, Observer):
            raise TypeError(f"observers must be Observers, not {observer!r}")
        for name in _TOLD:
            if inspect.iscoroutinefunction(getattr(observer, name)):
                raise TypeError(f"{name} of {observer!r} must be a plain function: see Observer")
    made = Control(retry, found, deadline, stream_timeout, tuple(observers))
    return None if made == _NONE else made


def check_retry(retry: Retry | None) -> Retry | None:
    """TypeError unless it is a Retry or None."""
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry or None, not {retry!r}")
    return retry


def check_stream_timeout(value: StreamTimeout | None) -> StreamTimeout | None:
    """TypeError unless it is a StreamTimeout or None."""
    if value is not None:
        from ._watch import StreamTimeout

        if not isinstance(value, StreamTimeout):
            raise TypeError(f"stream_timeout must be a StreamTimeout or None, not {value!r}")
    return value


def control_of(
    outer: Control | None,
    inner: Control | None = None,
    retry: Retry | Unset | None = UNSET,
    deadline: DeadlineTypes | Unset = UNSET,
    stream_timeout: StreamTimeout | Unset | None = UNSET,
) -> Control:
    """The settings of one call: its own, over those of the LLM client (`outer`), over those of
    the `AsyncClient` (`inner`) that it sends with. Observers of both are told."""
    first, second = outer or _NONE, inner or _NONE
    observers = first.observers + second.observers
    if calls_logger.isEnabledFor(logging.INFO):
        from .._observe import CALL_LOG

        observers += (CALL_LOG,)
    return Control(
        retry=(first.retry or second.retry) if isinstance(retry, Unset) else check_retry(retry),
        limit=first.limit or second.limit,
        deadline=(second.deadline if first.deadline is None else first.deadline)
        if isinstance(deadline, Unset)
        else check_deadline(deadline),
        stream_timeout=(first.stream_timeout or second.stream_timeout)
        if isinstance(stream_timeout, Unset)
        else check_stream_timeout(stream_timeout),
        observers=tuple(dict.fromkeys(observers)),
    )


def new_record(control: Control, **known: Any) -> CallRecord:
    """The record of a call that begins now; its deadline counts from here."""
    return CallRecord(control, deadline=build_deadline(control.deadline), **known)


async def conduct(call: CallRecord, once: Callable[[Attempt], Awaitable[T]]) -> T:
    """Runs `once`, one attempt, until it succeeds or is not to be tried again.

    `once` sends the request, calls `attempt.answer` as soon as there is one, gives its
    transfers no more time than `call.deadline` leaves, and returns the result or raises. It
    sets `call.usage` if it learns of it. Of a streamed call it is over with the first content
    token; the attempt (with its place in the limit) and the call then stay open until
    `call.finish`.

    Raises:
        DeadlineExceeded: the deadline passed. Else what the last attempt raised; `attempts` of
        either is the history.
    """
    control = call.control
    if control.observers:
        call.tell("started")
    retry = control.retry
    if retry is not None and retry.budget is not None:
        retry.budget.deposit()
    failure: Exception | None = None
    try:
        while True:
            attempt = Attempt(len(call.attempts) + 1, call.elapsed)
            call.attempts.append(attempt)
            call.sent_before = False
            await _turn(call)
            attempt.started = call.elapsed
            if control.observers:
                call.tell("attempt_started", attempt)
            try:
                result = await once(attempt)
            except Exception as error:
                failure = _seen(call, attempt, error)
                wait = None if retry is None else retry.wait_before_next(call, failure)
                if wait is None:
                    if failure is not error:
                        raise failure from error
                    raise
            else:
                wait = _wait_for_answer(call, attempt)
                if wait is None:
                    if not call.streamed:
                        call.result = result
                        call.finish()
                    elif control.observers:
                        call.tell("opened", attempt)
                    return result
                _discard(result)
            attempt.retry_in = wait
            call.end_attempt(failure)
            failure = None
            await asyncio.sleep(wait)
    except HTTPError as error:
        error.attempts = tuple(call.attempts)
        call.finish(error)
        raise
    except BaseException as error:
        call.finish(error)
        raise
    finally:
        failure = None  # an error that knows this frame must not be known by it


async def _turn(call: CallRecord) -> None:
    """Waits until the limit lets the call go, but not beyond its deadline."""
    deadline = call.deadline
    if deadline is not None and deadline.passed:
        call.attempt.safety = NEVER_SENT
        raise DeadlineExceeded(call, "queue")
    limit = call.control.limit
    if limit is None:
        return
    call.attempt.safety = NEVER_SENT  # as long as it waits
    if deadline is None:
        call.ticket = await limit.acquire(call)
    else:
        try:
            async with asyncio.timeout(deadline.remaining()):
                call.ticket = await limit.acquire(call)
        except TimeoutError as error:
            raise DeadlineExceeded(call, "limit") from error
    call.attempt.safety = ""


def _seen(call: CallRecord, attempt: Attempt, error: Exception) -> Exception:
    """Notes how an attempt failed. Returns the error to be raised for it."""
    attempt.safety = classify(error, call)
    if attempt.headers is not None:
        attempt.retry_after = retry_after_of(attempt.headers)
    if attempt.retry_after is None:
        attempt.retry_after = getattr(error, "retry_after", None)
    deadline = call.deadline
    late = isinstance(error, TotalTimeout) or getattr(error, "which", "") == "deadline"
    if late and deadline is not None and deadline.remaining() < 0.002:
        return DeadlineExceeded(call, getattr(error, "phase", ""), error)
    return error


def _wait_for_answer(call: CallRecord, attempt: Attempt) -> float | None:
    """Seconds until the next attempt, if the status of a plain HTTP answer asks for one."""
    if attempt.headers is None or attempt.status is None or attempt.status < 400:
        return None
    attempt.retry_after = retry_after_of(attempt.headers)
    attempt.safety = ANSWERED
    retry = call.control.retry
    return None if retry is None else retry.wait_before_next(call, None)


def _discard(result: Any) -> None:
    """An answer that is not handed out."""
    close = getattr(result, "_close_stream", None)
    if close is not None:
        close()
