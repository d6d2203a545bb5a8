"""`DeadlineExceeded`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._exceptions import RequestError, TotalTimeout

if TYPE_CHECKING:
    from ._record import CallRecord

__all__ = ["DeadlineExceeded"]

_WHERE = {"limit": "while waiting for its turn in the rate limit"}


class DeadlineExceeded(TotalTimeout):
    """The call's deadline passed. `phase` is where it was ("limit": in the queue of a
    `RateLimit`), `attempts` what had been tried."""

    def __init__(self, call: CallRecord | str, phase: str = "", cause: Any = None) -> None:
        if isinstance(call, str):  # unpickled
            super().__init__(call)
            return
        count = len(call.attempts)
        where = _WHERE.get(phase, f"in the phase {phase!r}") + " " if phase else "in the course "
        known = cause if isinstance(cause, RequestError) else None
        super().__init__(
            f"{call.deadline} passed {where}of attempt {count} ({call.method} {call.url})",
            request=None if known is None else known._request,
            phase=phase,
            elapsed=call.elapsed,
            url=call.url,
            method=call.method,
            code=0 if known is None else known.code,
            details={} if known is None else known.details,
        )
