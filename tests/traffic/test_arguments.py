"""What cannot be is refused when it is given, by its name, and not by whatever trips over it later."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
from llmcurl import (
    AsyncClient,
    Breaker,
    Deadline,
    Fallback,
    Hedge,
    Observer,
    OpenAI,
    RateLimit,
    Retry,
    RetryBudget,
    StreamTimeout,
    batch,
    best_of,
    first_of,
)

NAN, INF = math.nan, math.inf
NO_NUMBER = ("3", True, NAN, -1, [], 10**400)
NO_WHOLE = ("3", True, NAN, 2.5, -1, 0, [])
NO_FLAG = ("no", None, 0, 1.0)
NO_FUNCTION = ("f", 3, [])


async def call(one):
    return one


def llm(**options):
    return OpenAI(api_key="k", model="m", **options)


def fallback(**options):
    return Fallback([llm()], **options)


def hedge(**options):
    return Hedge(llm(), **options)


def saved(**options):
    return batch([1], call, checkpoint="nowhere/out", **options)


def of_batch(**options):
    return batch([1], call, **options)


CASES = [
    (Retry, "attempts", NO_WHOLE),
    (Retry, "backoff", (*NO_NUMBER, INF, None)),
    (Retry, "max_backoff", (*NO_NUMBER, INF, None)),
    (Retry, "jitter", (*NO_NUMBER, 1.5, None)),
    (Retry, "statuses", (429, "429", b"429", None, ["429"], [True], [4290], [-1])),
    (Retry, "budget", (3, "3", True)),
    (Retry, "maybe_sent", NO_FLAG),
    (Retry, "max_retry_after", (*NO_NUMBER, INF)),
    (RetryBudget, "ratio", (*NO_NUMBER, INF, None)),
    (RetryBudget, "per_second", (*NO_NUMBER, INF, None)),
    (RetryBudget, "ttl", (*NO_NUMBER, INF, None, 0)),
    (RateLimit, "rpm", (*NO_NUMBER, INF, 0)),
    (RateLimit, "tpm", (*NO_NUMBER, INF, 0)),
    (RateLimit, "concurrency", NO_WHOLE),
    (RateLimit, "burst", (*NO_NUMBER, INF, None, 1.5)),
    (RateLimit, "estimate", (*NO_FUNCTION, call)),
    (RateLimit, "adapt", NO_FLAG),
    (RateLimit, "name", ("", None, 3)),
    (RateLimit, "when_lost", ("maybe", None, True)),
    (Breaker, "failures", NO_WHOLE),
    (Breaker, "rate", (*NO_NUMBER, 1.5, None)),
    (Breaker, "window", (*NO_NUMBER, INF, None, 0)),
    (Breaker, "cooldown", (*NO_NUMBER, INF, None)),
    (Breaker, "probes", NO_WHOLE),
    (Breaker, "clock", (*NO_FUNCTION, None, call)),
    (fallback, "after", (*NO_NUMBER, 0)),
    (fallback, "within", (*NO_NUMBER, 0)),
    (fallback, "when", (3, [3], call, int)),
    (fallback, "breaker", (3, True, Breaker)),
    (hedge, "after", ("95", "p", True, NAN, INF, -1, None, [])),
    (hedge, "copies", NO_WHOLE),
    (hedge, "max_extra", (*NO_NUMBER, INF, None)),
    (hedge, "window", NO_WHOLE),
    (hedge, "minimum", (*NO_WHOLE, 1001)),
    (of_batch, "concurrency", NO_WHOLE),
    (of_batch, "ordered", NO_FLAG),
    (of_batch, "checkpoint", (3, True, "", [])),
    (of_batch, "progress", (3, "yes", call)),
    (of_batch, "total", ("3", True, 2.5, -1)),
    (of_batch, "price", (3, (1,), (1, 2, 3), ("a", "b"), (-1, 1), (NAN, 1), "ab")),
    (saved, "key", NO_FUNCTION),
    (saved, "dump", NO_FUNCTION),
    (saved, "load", NO_FUNCTION),
    (saved, "retry_failed", ("maybe", None, True)),
    (llm, "retry", (3, True, Retry)),
    (llm, "limit", (3, "m", {"m": 3}, RateLimit)),
    (llm, "stream_timeout", (3, StreamTimeout)),
    (llm, "observers", (3, [3], "no")),
    (AsyncClient, "observers", (3, [3])),
]


@pytest.mark.parametrize(
    ("make", "name", "wrong"), CASES, ids=[f"{make.__name__}.{name}" for make, name, _ in CASES]
)
def test_refused_by_name(make, name, wrong):
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=name):
            make(**{name: value})


@pytest.mark.parametrize(
    "wrong", ["1", True, NAN, INF, [], 10**400], ids=lambda wrong: str(wrong)[:9]
)
def test_moments(wrong):
    for make in (Deadline, Deadline.after, Deadline.at, lambda w: Deadline(1.0, w)):
        with pytest.raises((TypeError, ValueError), match="deadline"):
            make(wrong)


async def test_of_a_call():
    async with llm() as one:
        for wrong in ("high", True, 1.5, None):
            with pytest.raises(TypeError, match="priority"):
                await one.chat("x", priority=wrong)
        with pytest.raises(ValueError, match="idempotency_key must not be blank"):
            await one.chat("x", idempotency_key=" ")
        with pytest.raises(TypeError, match="stream_timeout"):
            one.stream("x", stream_timeout=5)
    with pytest.raises(TypeError, match="LLM client"):
        Fallback([OpenAI])


def test_observers_are_not_awaited():
    class Later(Observer):
        async def finished(self, call, error):
            raise AssertionError

    for make in (llm, AsyncClient):
        with pytest.raises(TypeError, match="finished of .* must be a plain function"):
            make(observers=[Later()])


def test_without_an_end_is_no_limit():
    assert fallback(after=INF).after is None and fallback(within=INF).within is None


async def test_calls_that_were_given_beside_something_else_are_cancelled():
    import asyncio

    begun = []

    async def one():
        begun.append(True)
        await asyncio.sleep(100)

    running = asyncio.ensure_future(one())
    await asyncio.sleep(0)
    with pytest.raises(TypeError, match="awaitables"):
        await first_of(running, one(), 5)
    await asyncio.wait([running])
    assert running.cancelled() and begun == [True]


async def test_best_of_is_asked_for_nothing_it_cannot_use():
    begun = []

    async def one():
        begun.append(True)

    for wrong in ({"key": None}, {"key": 3}):
        with pytest.raises(TypeError, match="key"):
            await best_of(2, one, **wrong)
    for n in (0, 2.5, True, "2"):
        with pytest.raises((TypeError, ValueError), match="n must be"):
            await best_of(n, one, key=id)
    with pytest.raises(TypeError, match="call must"):
        await best_of(2, 3, key=id)
    with pytest.raises(TypeError, match="call must return an awaitable"):
        await best_of(2, lambda: 3, key=id)
    assert not begun


@pytest.mark.parametrize("said", [NAN, INF, -5, "x", None, True])
async def test_an_estimate_that_is_no_number_harms_nothing(said):
    limit = RateLimit(tpm=600, estimate=lambda call: said)
    async with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="k", model="m", limit=limit) as one:
        with pytest.raises((TypeError, ValueError), match="estimate"):
            await one.chat("x")
    assert limit.stats() == {"in_flight": 0, "waiting": 0, "factor": 1.0}
    assert limit._gate.tokens.level == 6.0


# To other processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_settings_travel(again):
    retry = again(Retry(5, 0.1, budget=RetryBudget(0.3, per_second=2, ttl=4), statuses={500}))
    assert (retry.attempts, retry.backoff, retry.statuses) == (5, 0.1, {500})
    assert (retry.budget.ratio, retry.budget.balance) == (0.3, pytest.approx(8))
    assert repr(again(StreamTimeout(idle=3))) == "StreamTimeout(idle=3.0, rate_window=10.0)"
    assert again(Deadline.at(5.0)).when == 5.0


def test_a_limit_travels_if_it_is_shared():
    with pytest.raises(TypeError, match="own process"):
        pickle.dumps(RateLimit(rpm=3))
    pytest.importorskip("redis")
    limit = RateLimit(rpm=3, tpm=5, redis="redis://u:secret@host/0", name="n", when_lost="closed")
    again = pickle.loads(pickle.dumps(limit))
    assert (again.rpm, again.tpm, again.concurrency, again.name, again.when_lost) == (
        3, 5, None, "n", "closed"
    )  # fmt: skip
    assert again._redis == "redis://u:secret@host/0"
