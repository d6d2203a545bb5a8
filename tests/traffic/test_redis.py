"""A limit that processes share through a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import pytest
from llmcurl import OpenAI, RateLimit, RateLimitError, Retry
from llmcurl.testing import Failure, Reply
from llmcurl.traffic import CallRecord, Control, LimitUnavailable, _redis
from servers import databases
from servers.nginx import Missing
from waiting import until

pytest.importorskip("redis")

NOWHERE = "unix:///nonexistent/redis.sock"
#: What one of several processes runs: its calls, and when each was over.
WORKER = """
import asyncio, json, sys, time
from llmcurl import OpenAI, RateLimit, Retry

async def main(redis, base_url, count, options):
    async with RateLimit(redis=redis, name="four", **options) as limit:
        async with OpenAI(base_url=base_url, api_key="k", model="m", limit=limit, retry=Retry(9)) as llm:
            replies = await asyncio.gather(*(llm.chat("x") for _ in range(count)))
    print(len(replies))

asyncio.run(main(*sys.argv[1:3], int(sys.argv[3]), json.loads(sys.argv[4])))
"""


@pytest.fixture(scope="module")
def server():
    try:
        with databases.redis() as url:
            yield url
    except Missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture
async def redis(server):
    from redis.asyncio import Redis

    async with Redis.from_url(server) as client:
        await client.flushall()
    return server


@pytest.fixture
def make(mock_llm):
    def make(**options):
        return OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", **options)

    return make


def record(priority=0):
    return CallRecord(Control(), kind="chat", method="POST", url="", priority=priority)


async def processes(mock, redis, calls, **options):
    """Four processes with so many calls each. Returns seconds."""
    command = [
        sys.executable,
        "-c",
        WORKER,
        redis,
        mock.openai_url,
        str(calls),
        json.dumps(options),
    ]
    begun = time.monotonic()
    running = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        for _ in range(4)
    ]
    outputs = [await process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert [int(out) for out, _ in outputs] == [calls] * 4
    return time.monotonic() - begun


async def test_four_processes_keep_to_one_pace(mock_llm, redis):
    """Scaled down from benchmarks/traffic/limit.py."""
    mock_llm.configure(rpm=3000, rate_burst=0.02, keep_requests=1000)
    await processes(mock_llm, redis, 50, rpm=3000)
    assert mock_llm.stats.answered >= 200 and mock_llm.stats.rate_limited <= 4
    times = [request.at for request in mock_llm.requests]
    assert times[-1] - times[0] >= (200 - 31) / 50 * 0.95


async def test_four_processes_keep_to_one_concurrency(mock_llm, redis):
    mock_llm.configure(latency=0.01)
    await processes(mock_llm, redis, 15, concurrency=3)
    assert mock_llm.stats.answered == 60 and 1 <= mock_llm.stats.max_in_flight <= 3


async def test_calls_under_way(redis):
    async with (
        RateLimit(concurrency=2, redis=redis) as one,
        RateLimit(concurrency=2, redis=redis) as two,
    ):
        first, second = await one.acquire(record()), await two.acquire(record())
        third = asyncio.ensure_future(one.acquire(record()))
        await until(lambda: one.stats()["waiting"] == 1)
        await asyncio.sleep(0.1)
        assert not third.done() and one.stats()["waiting"] == 1 and two.stats()["in_flight"] == 1
        second.settle(status=200)
        (await asyncio.wait_for(third, 30)).settle(status=200)
        first.settle(status=200)
        await until(lambda: one.stats()["in_flight"] == 0)


async def test_order_and_who_gives_up(redis):
    order = []
    async with RateLimit(concurrency=1, redis=redis) as limit:

        async def one(name, priority):
            ticket = await limit.acquire(record(priority))
            order.append(name)
            ticket.settle(status=200)

        first = await limit.acquire(record())
        tasks = [
            asyncio.ensure_future(one(n, p))
            for n, p in [("a", 0), ("gone", 9), ("b", 0), ("high", 5), ("low", -1)]
        ]
        await until(lambda: limit.stats()["waiting"] == 5)
        tasks[1].cancel()
        first.settle(status=200)
        await asyncio.wait(tasks)
    assert order == ["high", "a", "b", "low"]


async def test_those_who_gave_up_do_not_pile_up_behind_one_who_waits(redis):
    async with RateLimit(concurrency=1, redis=redis, name="pile") as limit:
        held = await limit.acquire(record())
        first = asyncio.ensure_future(limit.acquire(record(priority=1)))
        for _ in range(10):
            others = [asyncio.ensure_future(limit.acquire(record())) for _ in range(100)]
            await asyncio.sleep(0.005)
            for other in others:
                other.cancel()
            await asyncio.wait(others)
        (queue,) = limit._shared.values()
        assert limit.stats()["waiting"] == 1 and len(queue._heap) < 100
        held.settle(status=200)
        (await asyncio.wait_for(first, 20)).settle(status=200)


async def test_what_was_given_to_one_who_gave_up_comes_back(redis):
    async with RateLimit(rpm=6, burst=0.5, concurrency=3, redis=redis) as limit:
        for _ in range(3):
            waiting = asyncio.ensure_future(limit.acquire(record()))
            await until(lambda: limit.stats()["in_flight"] == 1)
            waiting.cancel()  # its turn has come, but it has not run yet
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                waiting.result().settle(sent=False)
            await until(lambda: limit.stats()["in_flight"] == 0)
        await asyncio.wait_for(asyncio.gather(*(limit.acquire(record()) for _ in range(3))), 8)


async def test_retry_after_holds_all_processes_back(redis):
    async with RateLimit(rpm=6000, redis=redis) as one, RateLimit(rpm=6000, redis=redis) as two:
        ticket = await one.acquire(record())
        begun = time.monotonic()
        ticket.settle(status=429, retry_after=0.4)
        await until(lambda: one.stats()["in_flight"] == 0)
        (await two.acquire(record())).settle(status=200)
        assert time.monotonic() - begun >= 0.39


async def test_tokens(make, mock_llm, redis):
    from redis.asyncio import Redis

    mock_llm.configure(reply=Reply("word", input_tokens=300, output_tokens=700))
    async with RateLimit(tpm=1_000_000, burst=0.1, redis=redis, name="t") as limit:
        async with make(limit=limit) as llm:
            await llm.chat("x", max_tokens=5)
    async with Redis.from_url(redis) as client:
        left = float(await client.hget("llmcurl:{t}:limit", "t"))
    assert left == pytest.approx(99_000, abs=100)


async def test_refusals_are_learned_from(make, mock_llm, redis):
    from redis.asyncio import Redis

    mock_llm.script(Failure.overloaded(529), "fine")
    async with RateLimit(rpm=60_000, redis=redis, name="a") as limit:
        async with make(limit=limit, retry=Retry(backoff=0.01)) as llm:
            assert (await llm.chat("x")).text == "fine"
    async with Redis.from_url(redis) as client:
        assert 0.69 < float(await client.hget("llmcurl:{a}:limit", "factor")) < 1.0


async def test_after_a_refusal_nothing_saved_comes_at_once(redis):
    async with RateLimit(rpm=600, burst=0.01, redis=redis, name="calm") as limit:
        ticket = await limit.acquire(record())
        begun, given = asyncio.get_running_loop().time(), []
        ticket.settle(status=429, retry_after=0.5)

        async def one():
            await limit.acquire(record())
            given.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(one() for _ in range(4)))
    assert given[-1] - begun > 0.5 + 0.25, "three tenths of a second at 600 a minute"


async def test_a_client_of_ones_own(redis):
    from redis.asyncio import Redis

    async with Redis.from_url(redis, decode_responses=True) as client:
        async with RateLimit(rpm=6000, redis=client) as limit:
            (await limit.acquire(record())).settle(status=200)
        assert await client.ping()  # still open


async def test_a_lost_redis_open(make, mock_llm):
    mock_llm.configure(latency=0.02)
    async with RateLimit(concurrency=1, redis=NOWHERE) as limit, make(limit=limit) as llm:
        await asyncio.gather(*(llm.chat("x") for _ in range(4)))
    assert mock_llm.stats.answered == 4 and mock_llm.stats.max_in_flight == 1  # its own count holds


async def test_a_lost_redis_closed(make, mock_llm):
    async with (
        RateLimit(rpm=60, redis=NOWHERE, when_lost="closed") as limit,
        make(limit=limit) as llm,
    ):
        with pytest.raises(LimitUnavailable) as caught:
            await llm.chat("x")
    assert caught.value.attempts[0].safety == "never_sent" and mock_llm.stats.requests == 0


async def test_a_place_that_is_held_for_long_stays_held(redis, monkeypatch):
    monkeypatch.setattr(_redis, "LEASE", 2.0)
    async with (
        RateLimit(concurrency=1, redis=redis) as one,
        RateLimit(concurrency=1, redis=redis) as two,
    ):
        first = await one.acquire(record())
        second = asyncio.ensure_future(two.acquire(record()))
        await asyncio.sleep(2.6)
        assert not second.done()
        first.settle(status=200)
        (await asyncio.wait_for(second, 30)).settle(status=200)


async def test_the_place_of_a_process_that_died_is_free_again(redis, monkeypatch):
    monkeypatch.setattr(_redis, "LEASE", 0.5)
    dead = RateLimit(concurrency=1, redis=redis)
    lost = await dead.acquire(record())
    lost._queue._timer.cancel()  # nobody is left to renew it
    lost._queue = None
    async with RateLimit(concurrency=1, redis=redis) as limit:
        (await asyncio.wait_for(limit.acquire(record()), 30)).settle(status=200)
    await dead.aclose()


async def test_connections_that_break_are_made_anew(redis):
    from redis.asyncio import Redis

    async with RateLimit(rpm=60_000, redis=redis) as limit, Redis.from_url(redis) as other:
        (await limit.acquire(record())).settle(status=200)
        await until(lambda: limit.stats()["in_flight"] == 0)
        await other.client_kill_filter(_type="normal", skipme=True)
        end = time.monotonic() + 30
        while True:
            ticket = await limit.acquire(record())
            ticket.settle(status=200)
            if isinstance(ticket, _redis.SharedTicket):
                break
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


async def test_a_wrong_password_is_told(redis):
    async with RateLimit(rpm=60, redis=redis.replace("unix://", "unix://nobody:wrong@")) as limit:
        with pytest.raises(LimitUnavailable, match="refuses"):
            await asyncio.wait_for(limit.acquire(record()), 30)


async def test_a_redis_that_dies_under_way():
    with databases.redis() as url:
        limit = RateLimit(concurrency=2, redis=url)
        ticket = await limit.acquire(record())
    (await asyncio.wait_for(limit.acquire(record()), 30)).settle(status=200)
    ticket.settle(status=200)
    await limit.aclose()


def test_one_limit_in_loops_one_after_the_other(server):
    limit = RateLimit(rpm=60_000, redis=server)

    async def one():
        async with limit:
            (await limit.acquire(record())).settle(status=200)

    asyncio.run(one())
    asyncio.run(one())


def test_refused():
    with pytest.raises(ValueError, match="when_lost"):
        RateLimit(redis=NOWHERE, when_lost="maybe")
    with pytest.raises(ValueError, match="redis must be a redis://"):
        RateLimit(rpm=1, redis="http://localhost:6379")
    with pytest.raises(TypeError, match="redis must be"):
        RateLimit(redis=7)
    assert issubclass(RateLimitError, Exception)
