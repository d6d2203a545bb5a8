"""Everything at once: failures, cancellations, deadlines, streams that are left, one limit."""

from __future__ import annotations

import asyncio
import random

import pytest
from llmcurl import AsyncClient, Deadline, OpenAI, RateLimit, Retry, StreamTimeout
from llmcurl._exceptions import HTTPError
from llmcurl.testing import Failure

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


async def storm(url, limit, seed, count=150):
    """Calls of all kinds, many of which end badly. All that they held comes back."""
    draw = random.Random(seed)
    retry = Retry(3, backoff=0.005, maybe_sent=True, budget=None)
    async with (
        OpenAI(base_url=url, api_key="k", model="m", retry=retry, limit=limit) as llm,
        AsyncClient(base_url=url, retry=retry, limit=limit) as http,
    ):

        async def chat():
            await llm.chat("x", deadline=draw.choice([0.02, 0.1, 30]), priority=draw.randrange(3))

        async def read():
            async with llm.stream(
                "x", stream_timeout=StreamTimeout(idle=0.05, first_token=0.3)
            ) as stream:
                await stream.reply()

        async def left():
            async with llm.stream("x", deadline=Deadline.after(0.5)) as stream:
                async for _ in stream:
                    break

        async def plain():
            await http.post("/chat/completions", json=BODY, deadline=0.5)

        async def streamed():
            async with http.stream("POST", "/chat/completions", json=BODY, deadline=0.5) as answer:
                await answer.aread()

        tasks = []
        for _ in range(count):
            task = asyncio.ensure_future(draw.choice([chat, read, left, plain, streamed])())
            if draw.random() < 0.3:
                asyncio.get_running_loop().call_later(draw.random() * 0.2, task.cancel)
            tasks.append(task)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    wrong = [
        o
        for o in outcomes
        if o is not None and not isinstance(o, (HTTPError, asyncio.CancelledError))
    ]
    assert not wrong and 0 < outcomes.count(None) < count
    for _ in range(2000):
        if not any(limit.stats()[name] for name in ("in_flight", "waiting")):
            break
        await asyncio.sleep(0.01)
    assert limit.stats()["in_flight"] == 0 and limit.stats()["waiting"] == 0


@pytest.fixture
def rough(mock_llm):
    mock_llm.configure(
        token_interval=0.002, failure_rate=0.3, failure=Failure.cut(1), latency=0.005
    )
    return mock_llm.openai_url


@pytest.mark.parametrize("seed", range(3))
async def test_a_storm(rough, seed):
    await storm(rough, RateLimit(rpm=60_000, tpm=6_000_000, concurrency=20), seed)


def test_a_storm_on_uvloop(rough):
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(storm(rough, RateLimit(rpm=60_000, concurrency=20), 4))


async def test_a_storm_over_a_lost_redis(rough):
    pytest.importorskip("redis")
    async with RateLimit(concurrency=20, redis="unix:///nonexistent/redis.sock") as limit:
        await storm(rough, limit, 5)


async def test_a_storm_through_redis(rough):
    pytest.importorskip("redis")
    from servers import databases
    from servers.nginx import Missing

    try:
        with databases.redis() as url:
            async with RateLimit(rpm=60_000, concurrency=20, redis=url, name="storm") as limit:
                await storm(rough, limit, 6)
    except Missing as error:
        pytest.skip(str(error))
