"""`Fallback`: the next model when one fails, is refused, or does not begin in time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from .._arguments import number
from .._exceptions import TimeoutException, TransportError
from ..llm._errors import (
    InvalidReply,
    LLMError,
    OverloadedError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from ._breaker import Breaker, BreakerStats
from ._deadline import Deadline
from ._several import (
    ChosenStream,
    Several,
    Target,
    TargetTypes,
    one_deadline,
    opened,
    targets_of,
)

if TYPE_CHECKING:
    from ..llm._embeddings import Embeddings
    from ..llm._messages import Conversation
    from ..llm._reply import Reply

__all__ = [
    "DEFAULT_WHEN",
    "CircuitOpen",
    "Endpoint",
    "EndpointStats",
    "Fallback",
    "NoContentInTime",
    "Tried",
]

T = TypeVar("T")
When = type[Exception] | Iterable[type[Exception]] | Callable[[Exception], bool]

_log = logging.getLogger("llmcurl.traffic")

DEFAULT_WHEN: tuple[type[Exception], ...] = (
    TransportError,
    RateLimitError,
    OverloadedError,
    ServerError,
    StreamInterrupted,
    InvalidReply,
)
"""What another model may do better. A request that is wrong, or a wrong key, is not among it."""


class CircuitOpen(LLMError):
    """No endpoint lets a call pass now; `retry_after` says when the first one will try again."""


class NoContentInTime(TimeoutException):
    """An endpoint did not begin in the time that `Fallback` gave it. It is seen in `tried` only."""


class Tried(NamedTuple):
    """An endpoint that failed: its name, the error, and after how many seconds."""

    endpoint: str
    error: Exception
    seconds: float


class EndpointStats(msgspec.Struct, frozen=True):
    """What one endpoint did.

    Attributes:
        name: model and place.
        calls, failures: in all. stalled: of the failures, those that did not begin in time.
        breaker: its circuit breaker.
    """

    name: str
    calls: int
    failures: int
    stalled: int
    breaker: BreakerStats


class Endpoint:
    """One of the models of a `Fallback`, with its circuit breaker.

    Attributes:
        name: model and place, without secrets. breaker: see `Breaker`.
    """

    __slots__ = ("_calls", "_failures", "_stalled", "_target", "breaker", "name")

    def __init__(self, target: Target, breaker: Breaker) -> None:
        self._target = target
        self.name = target.name
        self.breaker = breaker.fresh(self.name)
        self._calls = self._failures = self._stalled = 0

    def stats(self) -> EndpointStats:
        """Its numbers now."""
        return EndpointStats(
            self.name, self._calls, self._failures, self._stalled, self.breaker.stats()
        )

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}: {self.breaker.state}>"


class Fallback(Several):
    """Models in the order in which they are asked, with the surface of an LLM client.

        llm = Fallback([OpenAI(model="gpt-5"), (other, "llama3:70b")], after=3.0)
        reply = await llm.chat("Hello")

    Args:
        models: clients, or (client, model) pairs; a `Hedge` or another `Fallback` may be one.
            The model of a pair is not changed by `model=` of a call.
        when: which errors lead to the next one: classes, or a function of the error.
            Default: `DEFAULT_WHEN`.
        after: seconds that a stream has until its first content; then its request is cancelled at
            the server and the next model is asked. The last one that is left has no such limit.
        within: the same for the whole answer of `chat` and `embed`.
        breaker: the numbers of the endpoints' circuit breakers: each gets its own with these.

    A `deadline=` of a call covers all that it takes. When all have failed, or one in a way that leads to
    no other, the last error is raised. Its `tried` is a tuple of `Tried`, one for each endpoint
    that failed before it, and its notes say the same for people.

    Raises:
        TypeError, ValueError: what was given cannot be used.
    """

    def __init__(
        self,
        models: Sequence[TargetTypes],
        *,
        when: When = DEFAULT_WHEN,
        after: float | None = None,
        within: float | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self._targets = targets_of(models)
        self._when = _predicate(when)
        self.after = _limit("Fallback.after", after)
        self.within = _limit("Fallback.within", within)
        kind = Breaker() if breaker is None else breaker
        if not isinstance(kind, Breaker):
            raise TypeError(f"Fallback.breaker must be a Breaker, not {breaker!r}")
        self.endpoints = tuple(Endpoint(target, kind) for target in self._targets)

    async def chat(self, messages: Conversation, **params: Any) -> Reply:
        """As `LLM.chat`. Raises: CircuitOpen, else as the last endpoint that was asked."""
        return await self._chat_of(messages, params, None)

    async def _chat_of(
        self, messages: Conversation, params: dict[str, Any], provider: str | None
    ) -> Reply:
        def ask(target: Target) -> Awaitable[Reply]:
            llm = target.llm
            if provider is not None and isinstance(llm, Several):
                return llm._chat_of(messages, target.with_model(params), provider)
            return llm.chat(messages, **target.with_model(params))

        deadline = one_deadline(params)
        endpoints = self.endpoints
        if provider is not None:
            endpoints = tuple(e for e in endpoints if e._target.leaf(provider) is not None)
        return (await self._ask(endpoints, ask, self.within, deadline))[0]

    def stream(self, messages: Conversation, **params: Any) -> ChosenStream:
        """As `LLM.stream`. The choice falls before the first content reaches the caller; what
        fails afterwards is raised to the caller."""
        chosen: list[tuple[Endpoint, int]] = []

        def ask(target: Target) -> Awaitable[Any]:
            return opened(target, messages, params)

        async def choose() -> Any:
            deadline = one_deadline(params)  # it counts from here
            stream, endpoint, ticket = await self._ask(self.endpoints, ask, self.after, deadline)
            chosen.append((endpoint, ticket))
            return stream

        def left(error: Exception) -> None:
            if self._when(error):
                for endpoint, ticket in chosen:
                    endpoint._failures += 1
                    endpoint.breaker.failed(ticket)

        return ChosenStream(choose, left)

    async def embed(self, texts: str | Sequence[str], **params: Any) -> Embeddings:
        """As `LLM.embed`. The vectors of different models cannot be compared: use this with one
        model at several places."""

        def ask(target: Target) -> Awaitable[Embeddings]:
            return target.llm.embed(texts, **target.with_model(params))

        deadline = one_deadline(params)
        return (await self._ask(self.endpoints, ask, self.within, deadline))[0]

    async def _ask(
        self,
        endpoints: tuple[Endpoint, ...],
        ask: Callable[[Target], Awaitable[T]],
        limit: float | None,
        deadline: Deadline | None,
    ) -> tuple[T, Endpoint, int]:
        """Asks one endpoint after the other: what came of it, from which, with which ticket."""
        tried: list[Tried] = []
        try:
            for index, endpoint in enumerate(endpoints):
                ticket = endpoint.breaker.enter()
                if ticket is None:
                    continue
                others = any(e.breaker.ready for e in endpoints[index + 1 :])
                endpoint._calls += 1
                started = time.monotonic()
                try:
                    async with asyncio.timeout(limit if others else None) as timer:
                        result = await ask(endpoint._target)
                except Exception as error:
                    problem: Exception = error
                    seconds = time.monotonic() - started
                    stalled = timer.expired() and isinstance(error, TimeoutError)
                    if stalled:
                        endpoint._stalled += 1
                        problem = NoContentInTime(f"nothing in {limit:g} s from {endpoint.name}")
                    elif deadline is not None and deadline.passed:
                        endpoint.breaker.dropped(ticket)  # another one has no time left either
                        _note(error, tried)
                        raise
                    elif not self._when(error):
                        endpoint.breaker.succeeded(ticket)  # it has answered, and would again
                        _note(error, tried)
                        raise
                    endpoint._failures += 1
                    if getattr(error, "phase", "") == "limit":
                        endpoint.breaker.dropped(ticket)  # it was not asked: our own queue
                    else:
                        endpoint.breaker.failed(ticket, getattr(error, "retry_after", None))
                    tried.append(Tried(endpoint.name, problem, seconds))
                    _log.info("%s failed after %.3f s: %r", endpoint.name, seconds, problem)
                except BaseException:
                    endpoint.breaker.dropped(ticket)
                    raise
                else:
                    endpoint.breaker.succeeded(ticket)
                    return result, endpoint, ticket
            raise self._no_more(endpoints, tried)
        finally:
            del tried  # its errors hold this frame

    def _no_more(self, endpoints: tuple[Endpoint, ...], tried: list[Tried]) -> Exception:
        """The error of a call that no endpoint is left for."""
        if not tried:
            stats = [endpoint.breaker.stats() for endpoint in endpoints]
            wait = min((one.retry_in for one in stats), default=0.0)
            names = ", ".join(endpoint.name for endpoint in endpoints)
            return CircuitOpen(f"all endpoints have failed lately: {names}", retry_after=wait)
        error = tried[-1].error
        _note(error, tried[:-1])  # not itself: that would be a cycle
        return error

    def stats(self) -> list[EndpointStats]:
        """The numbers of each endpoint now."""
        return [endpoint.stats() for endpoint in self.endpoints]

    def __repr__(self) -> str:
        return f"<Fallback {', '.join(endpoint.name for endpoint in self.endpoints)}>"


def _note(error: Exception, tried: Sequence[Tried]) -> None:
    """Tells of the endpoints that failed before; a `Fallback` inside has told of its own."""
    for one in tried:
        error.add_note(f"before it, {one.endpoint} failed after {one.seconds:.3f} s: {one.error!r}")
    error.__dict__["tried"] = (*tried, *getattr(error, "tried", ()))


def _limit(name: str, seconds: float | None) -> float | None:
    """A time limit; one without an end is none."""
    return None if seconds is None or seconds == math.inf else number(name, seconds, zero=False)


def _predicate(when: When) -> Callable[[Exception], bool]:
    """Raises: TypeError."""
    if isinstance(when, type):
        when = (when,)
    if isinstance(when, Iterable):
        classes = tuple(when)
        for one in classes:
            if not (isinstance(one, type) and issubclass(one, Exception)):
                raise TypeError(f"when must be classes of exceptions or a function, not {one!r}")
        return lambda error: isinstance(error, classes)
    if inspect.iscoroutinefunction(when):
        raise TypeError("when must be a plain function: it is not awaited")
    if callable(when):
        return when
    raise TypeError(f"when must be classes of exceptions or a function, not {when!r}")
