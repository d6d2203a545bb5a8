"""Observers for everyday use: `Hooks` (functions of the user's), `Totals` (counters), `CallLog` (logging).

OpenTelemetry's is in `llmcurl.otel`. All are told by `traffic/_control.py`; a call without
observers knows nothing of this file.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._exceptions import TimeoutException
from .traffic._record import Attempt, CallRecord, Observer

if TYPE_CHECKING:
    from ._watch import LoopBlock

__all__ = ["CALL_LOG", "CallLog", "Hooks", "Totals", "outcome_of"]

_log = logging.getLogger("llmcurl.calls")


def outcome_of(call: CallRecord, error: BaseException | None) -> str:
    """How a call ended: "ok", "client_error" (4xx), "server_error" (5xx), "timeout", "cancelled" or
    "failed"."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    if isinstance(error, TimeoutException):
        return "timeout"
    status = call.attempts[-1].status if call.attempts else None
    if status is not None and status >= 400:
        return "server_error" if status >= 500 else "client_error"
    return "ok" if error is None else "failed"


class Hooks(Observer):
    """Functions that are called when something happens: ``observers=[Hooks(on_retry=print)]``.

    They are plain functions, run where the call runs, and must not block. An exception in one is
    logged and changes nothing.

    Args:
        on_start: (call). A call begins.
        on_limit_wait: (call, attempt). It had to wait for its turn, `attempt.waited` seconds.
        on_attempt: (call, attempt). A request is sent.
        on_first_token: (call, attempt). Of a stream: the head, or of an LLM the first token, is there.
        on_retry: (call, attempt, error). The attempt was in vain, the next follows in
            `attempt.retry_in` seconds. `error` is None if it is a status (`attempt.status`).
        on_end: (call, error). It is over: `call.result`, or the error.
        on_loop_blocked: (LoopBlock). Called in the watcher's thread: see `AsyncClient(watch=)`.

    Raises:
        TypeError: one that cannot be called.
    """

    def __init__(
        self,
        *,
        on_start: Callable[[CallRecord], object] | None = None,
        on_limit_wait: Callable[[CallRecord, Attempt], object] | None = None,
        on_attempt: Callable[[CallRecord, Attempt], object] | None = None,
        on_first_token: Callable[[CallRecord, Attempt], object] | None = None,
        on_retry: Callable[[CallRecord, Attempt, BaseException | None], object] | None = None,
        on_end: Callable[[CallRecord, BaseException | None], object] | None = None,
        on_loop_blocked: Callable[[LoopBlock], object] | None = None,
    ) -> None:
        given = {
            "on_start": on_start,
            "on_limit_wait": on_limit_wait,
            "on_attempt": on_attempt,
            "on_first_token": on_first_token,
            "on_retry": on_retry,
            "on_end": on_end,
            "on_loop_blocked": on_loop_blocked,
        }
        for name, function in given.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, not {function!r}")
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"{name} must be a plain function: it cannot be awaited")
        self._on: dict[str, Callable[..., object]] = {
            name: function for name, function in given.items() if function is not None
        }

    def _call(self, name: str, *args: Any) -> None:
        function = self._on.get(name)
        if function is not None:
            function(*args)

    def started(self, call: CallRecord) -> None:
        self._call("on_start", call)

    def attempt_started(self, call: CallRecord, attempt: Attempt) -> None:
        if attempt.waited >= 0.001:
            self._call("on_limit_wait", call, attempt)
        self._call("on_attempt", call, attempt)

    def opened(self, call: CallRecord, attempt: Attempt) -> None:
        self._call("on_first_token", call, attempt)

    def attempt_ended(
        self, call: CallRecord, attempt: Attempt, error: BaseException | None
    ) -> None:
        if attempt.retry_in is not None:
            self._call("on_retry", call, attempt, error)

    def finished(self, call: CallRecord, error: BaseException | None) -> None:
        self._call("on_end", call, error)

    def loop_blocked(self, block: LoopBlock) -> None:
        self._call("on_loop_blocked", block)


class Totals(Observer):
    """Counts calls, attempts and tokens; `AsyncClient.stats` and `LLM.stats` show what it counted.

    One may serve several clients. Numbers: calls (that are over), calls_ok, calls_client_error,
    calls_server_error, calls_timeout, calls_cancelled, calls_failed, attempts, retries, limit_waits
    and limit_wait_seconds, call_seconds, input_tokens, output_tokens, cached_tokens,
    reasoning_tokens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}

    def _add(self, numbers: dict[str, float]) -> None:
        with self._lock:
            counts = self._counts
            for name, number in numbers.items():
                counts[name] = counts.get(name, 0) + number

    def finished(self, call: CallRecord, error: BaseException | None) -> None:
        numbers: dict[str, float] = {
            "calls": 1,
            f"calls_{outcome_of(call, error)}": 1,
            "call_seconds": call.elapsed,
            "attempts": len(call.attempts),
            "retries": max(0, len(call.attempts) - 1),
        }
        for attempt in call.attempts:
            if (waited := attempt.waited) >= 0.001:
                numbers["limit_waits"] = numbers.get("limit_waits", 0) + 1
                numbers["limit_wait_seconds"] = numbers.get("limit_wait_seconds", 0) + waited
        usage = call.usage
        if usage is not None:
            for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
                if (count := getattr(usage, name, None)) is not None:
                    numbers[name] = count
        self._add(numbers)

    def stats(self) -> dict[str, float]:
        """The numbers so far."""
        with self._lock:
            return dict(self._counts)

    def __repr__(self) -> str:
        return f"<Totals {self.stats()}>"


class CallLog(Observer):
    """Logs calls as `llmcurl.calls`: DEBUG when one is over, INFO when it is tried again. Records
    have `call`, a dict of facts; neither it nor the text holds keys or what was said."""

    def attempt_ended(
        self, call: CallRecord, attempt: Attempt, error: BaseException | None
    ) -> None:
        if attempt.retry_in is None or not _log.isEnabledFor(logging.INFO):
            return
        what = attempt.error or f"status {attempt.status}"
        _log.info(
            "%s %s: attempt %d: %s; again in %.2f s",
            call.method,
            call.url,
            attempt.number,
            what,
            attempt.retry_in,
            extra={"call": _facts(call)},
        )

    def finished(self, call: CallRecord, error: BaseException | None) -> None:
        if not _log.isEnabledFor(logging.DEBUG):
            return
        facts = _facts(call)
        outcome = facts["outcome"] = outcome_of(call, error)
        details = [f"{name} {facts[name]}" for name in ("model", "attempts") if facts.get(name)]
        if "first_token" in facts:
            details.append(f"first token after {facts['first_token']:.3f} s")
        if "input_tokens" in facts or "output_tokens" in facts:
            details.append(
                f"{facts.get('input_tokens', '?')} + {facts.get('output_tokens', '?')} tokens"
            )
        result = str(facts.get("status") or "")
        if error is not None or not result:
            result = f"{result} {type(error).__name__ if error is not None else outcome}".strip()
        _log.debug(
            "%s %s: %s in %.3f s (%s)",
            call.method,
            call.url,
            result,
            facts["seconds"],
            ", ".join([call.kind, *details]),
            extra={"call": facts},
        )


def _facts(call: CallRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": call.kind,
        "method": call.method,
        "url": call.url,
        "seconds": round(call.elapsed, 6),
        "attempts": len(call.attempts),
    }
    for name in ("provider", "model"):
        if value := getattr(call, name):
            facts[name] = value
    if call.attempts and call.attempts[-1].status is not None:
        facts["status"] = call.attempts[-1].status
    timings = getattr(call.result, "timings", None)
    if timings is not None:
        for name in ("first_token", "loop_delay"):
            if (seconds := getattr(timings, name)) is not None:
                facts[name] = round(seconds, 6)
    for name in ("input_tokens", "output_tokens"):
        if (count := getattr(call.usage, name, None)) is not None:
            facts[name] = count
    return facts


CALL_LOG = CallLog()
"""The one that clients add by themselves while `llmcurl.calls` is enabled."""
