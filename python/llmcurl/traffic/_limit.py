"""`RateLimit`: how fast calls may be made, and how many may be under way."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import math
import threading
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from .._arguments import flag, function, number, text, whole
from ._bucket import BURST, REFUSED, Gate, Settings
from ._feedback import said_by

if TYPE_CHECKING:
    from ..llm._types import Usage
    from ._record import CallRecord
    from ._redis import SharedQueue

__all__ = ["ByModel", "LimitTypes", "RateLimit", "Ticket"]

#: Tokens an answer is taken to have, before any was seen.
_ANSWER = 256.0
#: Bytes from which a request is looked at, and what a picture or file in it is taken to cost.
_LARGE = 16384
_FILE = 1000.0
#: So many that gave up may stay in the queue, besides as many as wait: the first one may wait long.
_GONE = 64


class Ticket:
    """A place in a limit, held by one attempt."""

    __slots__ = ("_limit", "_loop", "taken_at", "tokens")

    def __init__(
        self, limit: RateLimit, tokens: float, taken_at: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._limit: RateLimit | None = limit
        self._loop = loop
        self.tokens = tokens
        self.taken_at = taken_at

    def settle(
        self,
        *,
        status: int | None = None,
        headers: Mapping[str, Any] | None = None,
        usage: Usage | None = None,
        retry_after: float | None = None,
        sent: bool = True,
    ) -> None:
        """The attempt is over; what it told goes into the limit. Any thread; once."""
        limit, self._limit = self._limit, None
        if limit is not None:
            limit._settle(self, status, headers, usage, retry_after, sent)

    def __del__(self) -> None:
        # A stream that was forgotten. This may run in the middle of anything: also of what
        # holds the lock.
        limit = self._limit
        if limit is not None:
            limit._forgotten += 1
            if not _call_later(self._loop, limit._collect):
                for waiter in limit._queue[:1]:  # that loop is closed; another one may wait
                    _call_later(waiter.loop, limit._collect)


class _Waiter:
    """One in the queue."""

    __slots__ = ("future", "gone", "loop", "order", "ticket", "tokens")

    def __init__(
        self, order: tuple[int, int], tokens: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.order = order
        self.tokens = tokens
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.ticket: Ticket | None = None
        self.gone = False

    def __lt__(self, other: _Waiter) -> bool:
        return self.order < other.order


class RateLimit:
    """A limit that calls share: give the same object to all clients of a provider, model or key.

    Calls wait in order; a higher priority goes first, a retried call keeps its place. Requests
    are spread over the minute, as providers enforce them: only `burst` may go at once. A call
    that is cancelled, or was never sent, gives back what it took.

    The limit follows the server: Retry-After holds all calls back; x-ratelimit-* and
    anthropic-ratelimit-* headers lower what is left; each refusal (429, 529) cuts all limits to
    70 %, and they grow again by 2 % of the full limit per second; for a minute nothing is saved up
    for a burst. Without any number it is the
    count of calls under way that is cut and grows.

    Threads: loops in several threads may share one; order and counts hold across them.

    Args:
        rpm: requests per minute. tpm: tokens per minute, prompt and answer. concurrency:
            calls under way (a stream: until it is over). None: no such limit.
        burst: part of a minute's budget that may be used at once, 0.01 = 1 %; at least one call.
        estimate: function of the `CallRecord` that says how many tokens it will cost. Default:
            a token per four bytes of the request, 1,000 for a picture or file in it, and as many
            for the answer as the last ones had (at most `max_tokens`). Either is corrected by
            the usage in the answer.
        adapt: whether refusals cut the limits.
        redis: URL (redis://, rediss://, unix://) or `redis.asyncio.Redis`: the limit is shared by
            all processes and machines that give the same `name`; needs ``llmcurl[redis]``.
            Priorities hold inside of a process. `aclose` it at the end.
        when_lost: Redis does not answer: "open" = each process keeps to the limit alone,
            "closed" = calls fail with `LimitUnavailable`.

    Raises:
        TypeError, ValueError: an argument that cannot be. ImportError: no redis library. A call
        raises them if `estimate` returns anything but a number that is finite and not negative.
    """

    def __init__(
        self,
        rpm: float | None = None,
        tpm: float | None = None,
        concurrency: int | None = None,
        *,
        burst: float = BURST,
        estimate: Callable[[CallRecord], float] | None = None,
        adapt: bool = True,
        redis: Any = None,
        name: str = "default",
        when_lost: str = "open",
    ) -> None:
        if rpm is not None:
            number("RateLimit.rpm", rpm, zero=False)
        if tpm is not None:
            number("RateLimit.tpm", tpm, zero=False)
        if concurrency is not None:
            whole("RateLimit.concurrency", concurrency)
        number("RateLimit.burst", burst, most=1.0)
        self._settings = Settings(rpm, tpm, concurrency, burst)
        self._adapt = flag("RateLimit.adapt", adapt)
        self._estimate = None if estimate is None else function("RateLimit.estimate", estimate)
        self._answer = _ANSWER
        self._lock = threading.Lock()
        self._queue: list[_Waiter] = []
        self._numbers = itertools.count()
        self._waiting = 0
        self._forgotten = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_loop: asyncio.AbstractEventLoop | None = None
        self._gate = Gate(self._settings, adapt, time.monotonic())
        self.name = text("RateLimit.name", name)
        if when_lost not in ("open", "closed"):
            raise ValueError(f'RateLimit.when_lost must be "open" or "closed", not {when_lost!r}')
        self.when_lost = when_lost
        self._redis = redis
        self._shared: dict[asyncio.AbstractEventLoop, SharedQueue] = {}
        if redis is not None:
            from ._redis import check_redis

            check_redis(redis)

    def __reduce__(self) -> Any:
        """One that lies in a Redis with a URL is the same limit in another process."""
        if not isinstance(self._redis, str):
            raise TypeError(
                "a RateLimit counts in its own process; to share it with others give it redis=URL"
            )
        options: dict[str, Any] = {
            "burst": self._settings.burst,
            "estimate": self._estimate,
            "adapt": self._adapt,
            "redis": self._redis,
            "name": self.name,
            "when_lost": self.when_lost,
        }
        return functools.partial(type(self), **options), tuple(self._settings[:3])

    # What users see -----------------------------------------------------------------------

    @property
    def rpm(self) -> float | None:
        """Requests per minute."""
        return self._settings.rpm

    @property
    def tpm(self) -> float | None:
        """Tokens per minute."""
        return self._settings.tpm

    @property
    def concurrency(self) -> int | None:
        """Calls under way."""
        return self._settings.concurrency

    def stats(self) -> dict[str, float]:
        """in_flight, waiting (of this process), and `factor`: the part of the limits in use
        after refusals (not known where it lies in Redis)."""
        with self._lock:
            shared = list(self._shared.values())
            return {
                "in_flight": self._gate.in_flight + sum(queue.in_flight for queue in shared),
                "waiting": self._waiting + sum(queue.waiting for queue in shared),
                "factor": self._gate.factor(time.monotonic()),
            }

    def tokens_of(self, call: CallRecord) -> float:
        """The tokens that a call is taken to cost."""
        if self._settings.tpm is None:
            return 0.0
        if self._estimate is not None:
            return number("what RateLimit.estimate returns", self._estimate(call))
        prompt = call.size / 4.0 if call.size < _LARGE or call.body is None else _weigh(call.body)
        if call.kind == "embed":
            return prompt
        answer = self._answer
        body = call.body or {}
        for name in ("max_completion_tokens", "max_tokens"):
            most = body.get(name)
            if isinstance(most, (int, float)):
                answer = min(answer, float(most))
        return prompt + answer

    # Waiting --------------------------------------------------------------------------------

    async def acquire(self, call: CallRecord) -> Ticket:
        """Waits for a place for the call's next attempt. To be settled, also after failures."""
        loop = asyncio.get_running_loop()
        tokens = self.tokens_of(call)
        if call.place < 0:
            call.place = next(self._numbers)
        if self._redis is not None:
            found: Ticket = await self._queue_of(loop).acquire(call, call.place, tokens)
            return found
        with self._lock:
            self._reap()
            now = time.monotonic()
            if not self._waiting and self._gate.take(now, tokens) == 0.0:
                return Ticket(self, tokens, now, loop)
            waiter = _Waiter((-call.priority, call.place), tokens, loop)
            heapq.heappush(self._queue, waiter)
            self._waiting += 1
            first = self._queue[0]
            if first is waiter or first.loop.is_closed():  # its timer is gone with it
                self._pump()
        try:
            await waiter.future
        except BaseException:
            self._leave(waiter)
            raise
        assert waiter.ticket is not None
        return waiter.ticket

    def _queue_of(self, loop: asyncio.AbstractEventLoop) -> SharedQueue:
        found = self._shared.get(loop)
        if found is None:
            from ._redis import SharedQueue

            with self._lock:
                for other in [known for known in self._shared if known.is_closed()]:
                    del self._shared[other]
                found = self._shared[loop] = SharedQueue(self, self._redis, self.name, loop)
        return found

    def _take_alone(
        self, tokens: float, loop: asyncio.AbstractEventLoop
    ) -> tuple[Ticket | None, float]:
        """A place by this process's own count, or seconds to wait."""
        with self._lock:
            now = time.monotonic()
            wait = self._gate.take(now, tokens)
            return (None, wait) if wait > 0.0 else (Ticket(self, tokens, now, loop), 0.0)

    async def aclose(self) -> None:
        """Of a limit in Redis: tells it what is left to tell, and closes the connections of
        this loop. Calls that wait are cancelled."""
        queue = self._shared.pop(asyncio.get_running_loop(), None)
        if queue is not None:
            await queue.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _leave(self, waiter: _Waiter) -> None:
        """A waiter gave up: its place, or what it was just given, goes to the next."""
        with self._lock:
            waiter.gone = True
            if waiter.ticket is None:
                self._waiting -= 1
                if len(self._queue) > 2 * self._waiting + _GONE:
                    self._queue[:] = [one for one in self._queue if not one.gone]
                    heapq.heapify(self._queue)
                if self._timer_loop is waiter.loop:
                    self._disarm()  # this loop may be about to end
                self._pump()
        if waiter.ticket is not None:
            waiter.ticket.settle(sent=False)

    def _pump(self) -> None:
        """Lets go whom it can. Under the lock."""
        queue = self._queue
        while queue:
            first = queue[0]
            if first.gone or first.loop.is_closed():
                heapq.heappop(queue)
                if not first.gone:
                    first.gone = True
                    self._waiting -= 1
                continue
            now = time.monotonic()
            wait = self._gate.take(now, first.tokens)
            if wait > 0.0:
                if wait < math.inf:
                    self._arm(first.loop, wait)
                return
            heapq.heappop(queue)
            self._waiting -= 1
            first.ticket = Ticket(self, first.tokens, now, first.loop)
            if _get_running_loop() is first.loop:
                _wake(first.future)
            else:
                _call_later(first.loop, _wake, first.future)
        self._disarm()

    def _arm(self, loop: asyncio.AbstractEventLoop, wait: float) -> None:
        """Looks again after `wait` seconds."""
        self._disarm()
        self._timer_loop = loop
        if _get_running_loop() is loop:
            self._timer = loop.call_later(wait, self._due, loop)
        else:
            _call_later(loop, self._arm_there, loop)

    def _arm_there(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._timer_loop is loop and self._timer is None:
                self._pump()

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        loop, self._timer_loop = self._timer_loop, None
        if timer is not None and loop is _get_running_loop():
            timer.cancel()

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._timer_loop is loop:
                self._timer = self._timer_loop = None
            self._pump()

    def _collect(self) -> None:
        """Takes back the places of forgotten tickets."""
        with self._lock:
            self._reap()
            self._pump()

    def _reap(self) -> None:
        while self._forgotten > 0:
            self._forgotten -= 1
            self._gate.give_back(0.0, 0.0)

    # Coming back ------------------------------------------------------------------------------

    def _settle(
        self,
        ticket: Ticket,
        status: int | None,
        headers: Mapping[str, Any] | None,
        usage: Usage | None,
        retry_after: float | None,
        sent: bool,
    ) -> None:
        now = time.monotonic()
        failed = status is not None and status >= 400
        used = self._used(ticket.tokens, status, usage, sent)
        with self._lock:
            gate = self._gate
            gate.give_back(0.0 if sent else 1.0, ticket.tokens - used)
            if status in REFUSED:
                gate.refused(now, ticket.taken_at, retry_after)
            elif status is not None:
                if not failed:
                    gate.succeeded()
                elif retry_after is not None:
                    gate.not_before = max(gate.not_before, now + retry_after)
            if headers is not None:
                said = said_by(headers)
                if said.requests is not None or said.tokens is not None:
                    gate.told(now, said)
            if self._waiting:
                self._pump()

    def _used(self, tokens: float, status: int | None, usage: Usage | None, sent: bool) -> float:
        """The tokens that an attempt cost. Teaches the estimate."""
        if not sent or status is not None and status >= 400:
            return 0.0
        if usage is None or self._settings.tpm is None:
            return tokens
        counted = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if usage.output_tokens:
            self._answer += (usage.output_tokens - self._answer) / 8.0
        return float(counted) if counted else tokens

    def __repr__(self) -> str:
        given = [
            f"{name}={value!r}"
            for name, value in zip(("rpm", "tpm", "concurrency"), self._settings[:3], strict=True)
            if value is not None
        ]
        return f"RateLimit({', '.join(given)})"


class ByModel:
    """What ``limit={"gpt-5": RateLimit(...), "*": RateLimit(...)}`` means: calls of a model share
    its limit, others that of "*", if there is one."""

    def __init__(self, limits: Mapping[str, RateLimit]) -> None:
        for model, limit in limits.items():
            if not isinstance(model, str) or not isinstance(limit, RateLimit):
                raise TypeError(f"limit: models and their RateLimits, not {model!r}: {limit!r}")
        self.limits = dict(limits)

    async def acquire(self, call: CallRecord) -> Ticket | None:
        """As `RateLimit.acquire`; None where there is no limit."""
        limit = self.limits.get(call.model) or self.limits.get("*")
        return None if limit is None else await limit.acquire(call)

    def __repr__(self) -> str:
        return repr(self.limits)


def _weigh(value: Any) -> float:
    """The tokens in a large request: pictures and files in base64 are no text."""
    if isinstance(value, str):
        if len(value) > _LARGE and " " not in value[:_LARGE]:
            return _FILE
        return len(value) / 4.0
    if isinstance(value, dict):
        return sum(map(_weigh, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_weigh, value))
    return 1.0


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call_later(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *args: Any) -> bool:
    """Calls it in the loop's thread, not now. False: the loop is closed, and so is whoever
    waited there."""
    try:
        loop.call_soon_threadsafe(what, *args)
    except RuntimeError:
        return False
    return True


#: One for all calls, or one for each model ("*" = all others).
LimitTypes = RateLimit | Mapping[str, RateLimit]
