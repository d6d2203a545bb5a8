"""A `RateLimit` that processes and machines share through Redis.

What is left, what the server said and who is under way lie in Redis; two scripts change them,
each atomically and by the clock of the Redis server. In a process the calls of a loop wait in
order, and only the first ones ask Redis: who gives up while waiting costs nothing. Between
processes there is no order: whoever asks first when there is room again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from .._exceptions import TransportError
from .._redact import mask_url
from ._bucket import CALM, CALM_FOR, DECREASE, INCREASE, LEAST, REFUSED
from ._feedback import said_by

if TYPE_CHECKING:
    from ..llm._types import Usage
    from ._limit import RateLimit
    from ._record import CallRecord

__all__ = ["LimitUnavailable", "SharedQueue", "check_redis"]

_log = logging.getLogger("llmcurl.traffic")

#: Calls asked for at once.
_BATCH = 64
#: Seconds after which a lost Redis is tried again, and that an answer of it may take.
_AWAY = 1.0
#: Seconds between two questions, at least: at a high rate several calls go with one.
_LEAST = 0.005
_ANSWER = 2.0
_SCHEMES = ("redis://", "rediss://", "unix://")
#: Seconds after which a place is free again although nobody gave it back: its process died.
LEASE = 120.0

# KEYS: state, places. ARGV: requests per second, their burst, tokens per second, their burst
# (0 = no limit), concurrency, lease, then id and tokens of each call.
# Returns how many of them may go, milliseconds until the next may (-1: when one comes back), and
# the time.
_TAKE = f"""
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local s = redis.call('HMGET', KEYS[1], 'r', 't', 'at', 'factor', 'pause', 'calm')
local rate, size, trate, tsize = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local room, lease = tonumber(ARGV[5]), tonumber(ARGV[6])
local r, tk = tonumber(s[1] or size), tonumber(s[2] or tsize)
local at, factor, pause = tonumber(s[3] or now), tonumber(s[4] or 1), tonumber(s[5] or 0)
local past = math.max(now - at, 0)
if now < tonumber(s[6] or 0) then size = math.min(size, math.max(rate * {CALM}, 1)) end
factor = math.min(1, factor + past * {INCREASE})
r = math.min(size, r + past * rate * factor)
tk = math.min(tsize, tk + past * trate * factor)
local granted, wait = 0, 0
local flight = 0
if room > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  flight = redis.call('ZCARD', KEYS[2])
  room = math.max(1, room * factor)
end
if pause > now then
  wait = pause - now
else
  for i = 7, #ARGV, 2 do
    local need = tonumber(ARGV[i + 1])
    if room > 0 and flight + 1 > room then wait = -1 break end
    if rate > 0 and r < 1 - 1e-9 then wait = (1 - r) / (rate * factor) end
    local missing = math.min(need, tsize) - tk
    if trate > 0 and missing > 1e-6 then wait = math.max(wait, missing / (trate * factor)) end
    if wait > 0 then break end
    r, tk, flight, granted = r - 1, tk - need, flight + 1, granted + 1
    if room > 0 then redis.call('ZADD', KEYS[2], now + lease, ARGV[i]) end
  end
end
redis.call('HSET', KEYS[1], 'r', r, 't', tk, 'at', now, 'factor', factor)
redis.call('EXPIRE', KEYS[1], 3600)
if room > 0 then redis.call('EXPIRE', KEYS[2], math.ceil(lease) + 1) end
return {{granted, wait < 0 and -1 or math.ceil(wait * 1000), tostring(now)}}
"""

# KEYS: as above. ARGV: the bursts, id, requests and tokens to give back, 1 if refused, when it was
# taken, seconds to pause, requests and tokens the server says are left (-1 = it does not say).
_SETTLE = f"""
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
redis.call('ZREM', KEYS[2], ARGV[3])
local s = redis.call('HMGET', KEYS[1], 'r', 't', 'factor', 'cut', 'pause')
if not s[1] then return 0 end
local r = math.min(tonumber(ARGV[1]), s[1] + ARGV[4])
local tk = math.min(tonumber(ARGV[2]), s[2] + ARGV[5])
if tonumber(ARGV[9]) >= 0 then r = math.min(r, tonumber(ARGV[9])) end
if tonumber(ARGV[10]) >= 0 then tk = math.min(tk, tonumber(ARGV[10])) end
redis.call('HSET', KEYS[1], 'r', r, 't', tk)
if tonumber(ARGV[8]) > 0 then
  redis.call('HSET', KEYS[1], 'pause', math.max(tonumber(s[5] or 0), now + ARGV[8]))
end
if ARGV[6] == '1' and tonumber(ARGV[7]) >= tonumber(s[4] or 0) then
  redis.call('HSET', KEYS[1], 'factor', math.max(tonumber(s[3] or 1) * {DECREASE}, {LEAST}), 'cut', now,
    'calm', now + {CALM_FOR})
end
return 1
"""


class LimitUnavailable(TransportError):
    """The Redis of a `RateLimit` does not answer, and `when_lost="closed"`; or it refuses: a wrong
    password, missing rights. The call was not sent."""


class _Script(Protocol):
    async def __call__(self, keys: list[str], args: list[Any], client: Any = None) -> Any: ...


def check_redis(redis: Any) -> None:
    """Raises:
    TypeError, ValueError: an argument that cannot be. ImportError: no client library."""
    if isinstance(redis, str):
        if not redis.startswith(_SCHEMES):
            shown = mask_url(redis)
            raise ValueError(f"redis must be a redis://, rediss:// or unix:// URL, not {shown!r}")
        try:
            import redis.asyncio  # noqa: F401
        except ImportError:
            raise ImportError("RateLimit(redis=...) needs `pip install llmcurl[redis]`") from None
    elif not hasattr(redis, "register_script"):
        raise TypeError(f"redis must be a URL or a redis.asyncio.Redis, not {redis!r}")


class SharedTicket:
    """A place that is counted in Redis."""

    __slots__ = ("_queue", "id", "taken_at", "tokens")

    def __init__(self, queue: SharedQueue, ident: str, tokens: float, taken_at: str) -> None:
        self._queue: SharedQueue | None = queue
        self.id = ident
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
        """As `Ticket.settle`."""
        queue, self._queue = self._queue, None
        if queue is None:
            return
        used = queue.limit._used(self.tokens, status, usage, sent)
        pause, requests, tokens = retry_after or 0.0, -1.0, -1.0
        refused = status in REFUSED
        if status is None or status < 400:
            pause = 0.0
        if headers is not None:
            said = said_by(headers)
            if said.requests is not None:
                requests = said.requests
                if requests < 1.0 and said.requests_in is not None:
                    pause, requests = max(pause, said.requests_in), -1.0
            if said.tokens is not None:
                tokens = said.tokens
                if tokens < 1.0 and said.tokens_in is not None:
                    pause, tokens = max(pause, said.tokens_in), -1.0
        queue.settled(
            self.id,
            [
                self.id,
                0.0 if sent else 1.0,
                self.tokens - used,
                int(refused and queue.limit._adapt),
                self.taken_at,
                pause,
                requests,
                tokens,
            ],
        )

    def __del__(self) -> None:
        if self._queue is not None:
            self.settle()


class _Waiter:
    __slots__ = ("future", "gone", "id", "order", "ticket", "tokens")

    def __init__(
        self, ident: str, order: tuple[int, int], tokens: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.id = ident
        self.order = order
        self.tokens = tokens
        self.future: asyncio.Future[None] = loop.create_future()
        self.ticket: Any = None
        self.gone = False

    def __lt__(self, other: _Waiter) -> bool:
        return self.order < other.order


class SharedQueue:
    """The calls of one loop that wait for a shared limit, and what is to be told to Redis."""

    def __init__(
        self, limit: RateLimit, redis: Any, name: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.limit = limit
        self.loop = loop
        self._owned = isinstance(redis, str)
        self._shown = mask_url(redis) if isinstance(redis, str) else "the given client"
        if self._owned:
            from redis.asyncio import Redis

            redis = Redis.from_url(
                redis,
                socket_timeout=_ANSWER,
                socket_connect_timeout=_ANSWER,
                health_check_interval=30,
            )
        self._redis = redis
        self._take: _Script = redis.register_script(_TAKE)
        self._settle: _Script = redis.register_script(_SETTLE)
        self._keys = [f"llmcurl:{{{name}}}:limit", f"llmcurl:{{{name}}}:places"]
        self._prefix = f"{uuid.uuid4().hex}-"
        self._numbers = itertools.count()
        self._heap: list[_Waiter] = []
        self._held: set[str] = set()
        self._said: list[list[Any]] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lost_until = self._ask_at = 0.0
        self._renewing = False
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = 0

    @property
    def in_flight(self) -> int:
        """Calls of this loop."""
        return len(self._held)

    async def acquire(self, call: CallRecord, place: int, tokens: float) -> Any:
        """Waits for a place.

        Raises:
            LimitUnavailable: Redis does not answer, and the limit is to be closed then.
        """
        ident = f"{self._prefix}{next(self._numbers)}"
        waiter = _Waiter(ident, (-call.priority, place), tokens, self.loop)
        heapq.heappush(self._heap, waiter)
        self.waiting += 1
        first = self._heap[0] is waiter
        if first:
            self._ask_at = 0.0
        self._wake(first)
        try:
            await waiter.future
        except BaseException:
            waiter.gone = True
            if waiter.ticket is not None:
                waiter.ticket.settle(sent=False)
            raise
        finally:
            self.waiting -= 1
            if len(self._heap) > 2 * self.waiting + _BATCH:  # most of them gave up
                self._heap[:] = [one for one in self._heap if not one.future.done()]
                heapq.heapify(self._heap)
        return waiter.ticket

    def settled(self, ident: str, args: list[Any]) -> None:
        """A call is over. Any thread, also in the middle of anything."""
        try:
            self.loop.call_soon_threadsafe(self._note, ident, args)
        except RuntimeError:
            pass  # the loop is closed: the lease runs out

    def _note(self, ident: str, args: list[Any]) -> None:
        self._held.discard(ident)
        self._said.append(args)
        self._wake(True)

    def _wake(self, news: bool) -> None:
        if news:
            self._news.set()
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._work())

    async def _work(self) -> None:
        """Tells Redis and asks it, while there is anything to tell or to ask."""
        pause = 0.01
        while self._said or self._renewing or self._prune():
            self._news.clear()
            try:
                await self._tell()
                ahead = self._ask_at - time.monotonic()
                if ahead > 0.0 and self.limit.concurrency is None:
                    wait: float | None = ahead  # only time can have changed the answer
                else:
                    wait = await self._ask()
                    self._ask_at = time.monotonic() + (wait or 0.0)
            except Exception as error:
                if not self._is_loss(error):
                    self._fail(error)
                    return
                self._lose(error)
                wait = 0.0
            if wait is None:
                pause = min(pause * 2, 0.1)  # others hold all places
                wait = pause
            else:
                pause = 0.01
            if wait > 0.0:
                try:
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                except TimeoutError:
                    pass

    def _prune(self) -> bool:
        """Whether anybody waits."""
        while self._heap and (self._heap[0].gone or self._heap[0].future.done()):
            heapq.heappop(self._heap)
        return bool(self._heap)

    async def _tell(self) -> None:
        burst = self._bursts()
        while self._said:
            batch = self._said[:_BATCH]
            if time.monotonic() >= self._lost_until:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for args in batch:
                        await self._settle(self._keys, [*burst, *args], pipe)
                    await pipe.execute()
            del self._said[: len(batch)]
        if self._renewing:
            await self._renew()

    def _keep(self) -> None:
        """Sees to it that the places held now are renewed in time."""
        if self._timer is None and self.limit.concurrency is not None:
            self._timer = self.loop.call_later(LEASE / 3, self._renew_due)

    def _renew_due(self) -> None:
        self._timer = None
        if self._held:
            self._renewing = True
            self._wake(True)
            self._keep()

    async def _renew(self) -> None:
        """Places that are held for long."""
        self._renewing = False
        seconds, micros = await self._redis.time()
        until = seconds + micros / 1e6 + LEASE
        if self._held:
            await self._redis.zadd(self._keys[1], dict.fromkeys(self._held, until), xx=True)

    def _bursts(self) -> list[float]:
        settings = self.limit._settings
        return [
            max(settings.rpm * settings.burst, 1.0) if settings.rpm else 0.0,
            max(settings.tpm * settings.burst, 1.0) if settings.tpm else 0.0,
        ]

    async def _ask(self) -> float | None:
        """Lets go whom Redis lets go. Returns seconds to wait, None if all places are held."""
        if not self._prune():
            return 0.0
        if time.monotonic() < self._lost_until:
            return self._without()
        settings = self.limit._settings
        burst = self._bursts()
        args: list[Any] = [
            (settings.rpm or 0.0) / 60.0, burst[0], (settings.tpm or 0.0) / 60.0, burst[1],
            settings.concurrency or 0, LEASE,
        ]  # fmt: skip
        heads: list[_Waiter] = []
        while len(heads) < _BATCH and self._prune():
            heads.append(heapq.heappop(self._heap))
            args += [heads[-1].id, heads[-1].tokens]
        granted = 0
        try:
            granted, wait, now = await self._take(self._keys, args)
        finally:
            for waiter in heads[granted:]:
                heapq.heappush(self._heap, waiter)
        taken_at = now.decode() if isinstance(now, bytes) else str(now)
        for waiter in heads[:granted]:
            ticket = SharedTicket(self, waiter.id, waiter.tokens, taken_at)
            self._held.add(waiter.id)
            self._keep()
            if waiter.gone or waiter.future.done():
                ticket.settle(sent=False)
            else:
                waiter.ticket = ticket
                waiter.future.set_result(None)
        if granted == len(heads):
            return 0.0
        return None if wait < 0 else max(wait / 1000.0, _LEAST)

    def _fail(self, error: Exception) -> None:
        """What will not pass: a wrong password, missing rights. Whoever waits is told."""
        self._said.clear()
        heap, self._heap = self._heap, []
        for waiter in heap:
            if not waiter.future.done():
                waiter.gone = True
                told = LimitUnavailable(
                    f"the Redis of the RateLimit refuses: {error}", phase="limit"
                )
                told.__cause__ = error
                waiter.future.set_exception(told)

    # Redis is away ------------------------------------------------------------------------------

    def _is_loss(self, error: Exception) -> bool:
        from redis.exceptions import (
            AuthenticationError,
            AuthorizationError,
            ConnectionError,
            ResponseError,
            TimeoutError,
        )

        refused = (AuthenticationError, AuthorizationError)
        if isinstance(error, refused) or isinstance(error.__cause__, refused):
            return False  # waiting does not make a password right
        if isinstance(error, ResponseError):
            # Loading its data, a replica, out of memory: it answers, but does not serve.
            return str(error).startswith(("LOADING", "READONLY", "MISCONF", "OOM", "NOREPLICAS"))
        return isinstance(error, (ConnectionError, TimeoutError, OSError, asyncio.TimeoutError))

    def _lose(self, error: Exception) -> None:
        """Redis does not answer: it is left alone for a moment."""
        self._renewing = False
        if time.monotonic() >= self._lost_until + 10 * _AWAY:
            how = (
                "each process keeps to it alone" if self.limit.when_lost == "open" else "calls fail"
            )
            _log.warning(
                "the shared limit lost Redis (%s, %s): %s", self._shown, type(error).__name__, how
            )
        self._lost_until = time.monotonic() + _AWAY

    def _without(self) -> float | None:
        """Redis is lost: the process's own count decides, or nobody may go."""
        limit = self.limit
        wait: float = 0.0
        while self._prune():
            waiter = self._heap[0]
            if limit.when_lost == "closed":
                waiter.gone = True
                error = LimitUnavailable(
                    "the Redis of the RateLimit does not answer", phase="limit"
                )
                waiter.future.set_exception(error)
                continue
            ticket, wait = limit._take_alone(waiter.tokens, self.loop)
            if ticket is None:
                break
            waiter.ticket = ticket
            waiter.future.set_result(None)
        return 0.05 if wait == math.inf else wait

    async def aclose(self) -> None:
        """Tells Redis what it was not told yet, and closes the connections."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._heap:
            if not waiter.future.done():
                waiter.future.cancel()
        await asyncio.sleep(0)  # what was settled just now is noted
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._tell()
        except Exception as error:
            if not self._is_loss(error):
                raise
        finally:
            if self._owned:
                await self._redis.aclose()
