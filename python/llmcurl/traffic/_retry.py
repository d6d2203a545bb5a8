"""`Retry`: when a call is tried again, and after how long; `RetryBudget`: how many may be."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from .._arguments import flag, number, whole
from ._outcome import ANSWERED, MAYBE_SENT, NEVER_SENT, status_of

if TYPE_CHECKING:
    from ._record import CallRecord

__all__ = ["Retry", "RetryBudget"]

#: Time-outs on the way, too early, too many, and failures that tend to pass.
STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
#: Seconds before the deadline in which no last attempt is begun.
_WORTH: Final = 0.1
#: RFC 9110 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
#: A 429 that waiting does not cure (OpenAI's code for "no credit left").
_HOPELESS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


class _Default:
    """Stands for a budget of one's own."""


_OWN: Final = _Default()


class RetryBudget:
    """Keeps retries a small part of all calls: when everything fails, retries would multiply
    the load that makes it fail. As in Finagle: each call pays in `ratio`, each retry takes
    out 1, and `per_second` are allowed whatever the number of calls.

    One budget may be shared by several `Retry`s, tasks and threads.

    Args:
        ratio: retries per call, 0.2 = one for five calls.
        per_second: retries a second that are always allowed.
        ttl: seconds for which what was paid in counts.

    Raises:
        TypeError, ValueError: no number, a negative or infinite one, or `ttl` not above 0.
    """

    def __init__(self, ratio: float = 0.2, *, per_second: float = 10.0, ttl: float = 10.0) -> None:
        self.ratio = number("RetryBudget.ratio", ratio)
        self.per_second = number("RetryBudget.per_second", per_second)
        self.ttl = number("RetryBudget.ttl", ttl, zero=False)
        self._lock = threading.Lock()
        self._paid = 0.0
        self._reserve = self.per_second * self.ttl
        self._at = time.monotonic()

    def __reduce__(self) -> tuple[object, tuple[float, float, float]]:
        # Another process has another storm: it gets the numbers, not the account.
        return _budget, (self.ratio, self.per_second, self.ttl)

    def _age(self) -> None:
        """What was paid in fades with the time constant `ttl`; the reserve fills up."""
        now = time.monotonic()
        passed, self._at = now - self._at, now
        self._paid *= math.exp(-passed / self.ttl)
        self._reserve = min(self._reserve + passed * self.per_second, self.per_second * self.ttl)

    def deposit(self) -> None:
        """A call was made."""
        with self._lock:
            self._age()
            self._paid += self.ratio

    def withdraw(self) -> bool:
        """Whether one more retry may be made; it counts as made."""
        with self._lock:
            self._age()
            if self._paid >= 1.0:
                self._paid -= 1.0
            elif self._reserve >= 1.0:
                self._reserve -= 1.0
            else:
                return False
            return True

    @property
    def balance(self) -> float:
        """Retries that could be made now."""
        with self._lock:
            self._age()
            return self._paid + self._reserve

    def __repr__(self) -> str:
        return f"RetryBudget({self.ratio!r}, per_second={self.per_second!r}, ttl={self.ttl!r})"


def _budget(ratio: float, per_second: float, ttl: float) -> RetryBudget:
    """An unpickled one."""
    return RetryBudget(ratio, per_second=per_second, ttl=ttl)


class Retry:
    """Tries a call again, if that is safe.

    What never left this machine is sent again. What may have been received is sent again only
    if the method is idempotent (RFC 9110 9.2.2), an idempotency key goes with the call, or
    `maybe_sent` says so: a POST that broke off may have been carried out, and billed. What was
    answered is tried again by its status; Retry-After (RFC 9110 10.2.3), retry-after-ms and
    x-should-retry are followed. A wait that the server asked for and that would pass the
    call's deadline is not begun: the call fails at once, with the error it has. A back-off that
    would pass it is cut to half of what is left, before a last attempt. A stream is not tried again once a token of it
    was handed out.

    Args:
        attempts: how many in all, the first included.
        backoff: seconds before the second attempt, doubled before each further one.
        max_backoff: seconds, their ceiling.
        jitter: which part of a wait is random, 0 to 1. A wait that the server asked for is
            never cut, but prolonged by up to this part of the back-off.
        statuses: that are tried again.
        maybe_sent: also send again what may have been received.
        max_retry_after: seconds; a server that asks for more is not asked again. None: any.
        budget: a `RetryBudget`; default: one of this Retry's own; None: no bound. A wait that
            the server asked for is not charged.

    Raises:
        TypeError, ValueError: an argument that cannot be.
    """

    def __init__(
        self,
        attempts: int = 3,
        backoff: float = 0.5,
        jitter: float = 0.25,
        statuses: Collection[int] = STATUSES,
        budget: RetryBudget | _Default | None = _OWN,
        *,
        max_backoff: float = 8.0,
        maybe_sent: bool = False,
        max_retry_after: float | None = None,
    ) -> None:
        if budget is not None and not isinstance(budget, (RetryBudget, _Default)):
            raise TypeError(f"Retry.budget must be a RetryBudget or None, not {budget!r}")
        if max_retry_after is not None:
            max_retry_after = number("Retry.max_retry_after", max_retry_after)
        if not isinstance(statuses, Collection) or isinstance(statuses, (str, bytes)):
            raise TypeError(f"Retry.statuses must be a collection of ints, not {statuses!r}")
        for status in statuses:
            if whole("Retry.statuses", status, 100) > 599:
                raise ValueError(f"Retry.statuses must be HTTP statuses, got {status!r}")
        self.attempts = whole("Retry.attempts", attempts)
        self.backoff = number("Retry.backoff", backoff)
        self.max_backoff = number("Retry.max_backoff", max_backoff)
        self.jitter = number("Retry.jitter", jitter, most=1.0)
        self.statuses = frozenset(statuses)
        self.maybe_sent = flag("Retry.maybe_sent", maybe_sent)
        self.max_retry_after = max_retry_after
        self.budget = RetryBudget() if isinstance(budget, _Default) else budget

    def wait_before_next(self, call: CallRecord, error: BaseException | None) -> float | None:
        """Seconds until the next attempt of a call whose current one failed; None if there is
        to be none. `error` is None if the answer's status is the failure."""
        attempt = call.attempt
        if attempt.number >= self.attempts or call.final:
            return None
        if not self._allowed(call, error):
            return None
        asked = attempt.retry_after
        if asked is not None and self.max_retry_after is not None and asked > self.max_retry_after:
            return None
        doubled = min(attempt.number - 1, 64)  # 2.0 ** 1024 is no float
        grown = min(self.backoff * 2.0**doubled, self.max_backoff)
        if asked is not None:
            wait = asked + grown * self.jitter * random.random()
        else:
            wait = grown * (1.0 - self.jitter * random.random())
        deadline = call.deadline
        last = False
        if deadline is not None and wait >= (left := deadline.remaining()):
            if asked is not None or left < _WORTH:
                return None
            wait, last = left / 2.0, True
        if asked is None and self.budget is not None and not self.budget.withdraw():
            return None
        call.final = last
        return wait

    def _allowed(self, call: CallRecord, error: BaseException | None) -> bool:
        attempt = call.attempt
        if attempt.safety == NEVER_SENT:
            return True
        if attempt.safety == MAYBE_SENT:
            return self.maybe_sent or call.method in _IDEMPOTENT or bool(call.idempotency_key)
        if attempt.safety != ANSWERED:
            return False
        said = None if attempt.headers is None else attempt.headers.get("x-should-retry")
        if said in ("true", "false"):
            return bool(said == "true")
        if getattr(error, "code", "") in _HOPELESS:
            return False
        status = attempt.status if error is None else status_of(error)
        return status in self.statuses

    def __repr__(self) -> str:
        return (
            f"Retry(attempts={self.attempts!r}, backoff={self.backoff!r}, jitter={self.jitter!r}, "
            f"maybe_sent={self.maybe_sent!r}, budget={self.budget!r})"
        )
