"""`RateLimit` in one process: pace, order, what comes back, and what the server says."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
from llmcurl import Anthropic, AsyncClient, OpenAI, RateLimit, Retry
from llmcurl.llm import Usage
from llmcurl.testing import Failure, Reply
from llmcurl.traffic import CallRecord, Control
from llmcurl.traffic._bucket import Bucket, Gate, Settings
from llmcurl.traffic._feedback import Said, said_by
from waiting import until


def record(priority=0, **more):
    return CallRecord(Control(), kind="chat", method="POST", url="", priority=priority, **more)


@pytest.fixture
def make(mock_llm):
    def make(**options):
        return OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", **options)

    return make


# Against a server that enforces its limit -----------------------------------------------------


async def test_the_server_never_refuses(make, mock_llm):
    """Calls at the server's own pace: scaled down from benchmarks/traffic/limit.py."""
    mock_llm.configure(rpm=3000, rate_burst=0.02)
    limit = RateLimit(rpm=3000)
    async with make(limit=limit, retry=Retry(5)) as llm:
        begun = time.monotonic()
        replies = await asyncio.gather(*(llm.chat("x") for _ in range(100)))
        seconds = time.monotonic() - begun
    assert len(replies) == 100 and mock_llm.stats.rate_limited <= 2
    assert seconds >= (100 - 31) / 50 - 0.02 and limit.stats()["waiting"] == 0


async def test_refusals_with_retry_after_all_succeed(make, mock_llm):
    """The server allows less than the limit believes."""
    mock_llm.configure(rpm=1200, rate_burst=0.01)
    limit = RateLimit(rpm=6000)
    async with make(limit=limit, retry=Retry(20, backoff=0.01)) as llm:
        await asyncio.gather(*(llm.chat("x") for _ in range(60)))
    assert 0 < mock_llm.stats.rate_limited < 60
    assert limit._gate._cut_at > 0.0


async def test_streams_hold_their_place(make, mock_llm):
    mock_llm.configure(token_interval=0.01)
    limit = RateLimit(concurrency=2)

    async def one(llm):
        async with llm.stream("x") as stream:
            await stream.reply()

    async with make(limit=limit) as llm:
        await asyncio.gather(*(one(llm) for _ in range(8)))
        assert mock_llm.stats.max_in_flight == 2 and limit.stats()["in_flight"] == 0
        async with llm.stream("x") as stream:
            async for _ in stream:
                break
            assert limit.stats()["in_flight"] == 1
        assert limit.stats()["in_flight"] == 0


async def test_a_forgotten_stream_gives_its_place_back(make, mock_llm):
    limit = RateLimit(concurrency=1)
    async with make(limit=limit) as llm:
        stream = llm.stream("x")
        await stream.__aenter__()
        del stream
        gc.collect()
        assert (await asyncio.wait_for(llm.chat("x"), 30)).text


async def test_plain_http_shares_it_too(make, mock_llm):
    mock_llm.configure(latency=0.02)
    limit = RateLimit(concurrency=1)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    async with (
        make(limit=limit) as llm,
        AsyncClient(base_url=mock_llm.openai_url, limit=limit) as http,
    ):
        calls = [llm.chat("x") for _ in range(3)]
        calls += [http.post("/chat/completions", json=body) for _ in range(3)]
        await asyncio.gather(*calls)
        async with http.stream("POST", "/chat/completions", json=body) as answer:
            assert limit.stats()["in_flight"] == 1
            await answer.aread()
            assert limit.stats()["in_flight"] == 0
    assert mock_llm.stats.max_in_flight == 1


async def test_tokens_are_corrected_by_usage(make, mock_llm):
    mock_llm.configure(reply=Reply("word", input_tokens=500, output_tokens=500))
    limit = RateLimit(tpm=1_000_000, burst=0.1)
    async with make(limit=limit) as llm:
        await llm.chat("x", max_tokens=10)
        assert limit._gate.tokens.level == pytest.approx(99_000, abs=500)
        mock_llm.script(Failure.server_error())
        with pytest.raises(Exception, match="500"):
            await llm.chat("x")
        assert limit._gate.tokens.level > 98_500  # a refusal costs no tokens


async def test_an_estimate_of_ones_own(make):
    limit = RateLimit(
        tpm=6000, burst=1.0, estimate=lambda call: call.body["messages"][0]["content"].count("a")
    )
    async with make(limit=limit) as llm:
        await llm.chat("a" * 77)
    assert limit.tokens_of(record(body={"messages": [{"content": "aaa"}]})) == 3


async def test_an_error_inside_of_a_stream_is_a_refusal(make, mock_llm):
    limit = RateLimit(rpm=60_000)
    mock_llm.script(Failure.error_event(0, status=529), "fine")
    async with make(limit=limit, retry=Retry(backoff=0.01)) as llm:
        async with llm.stream("x") as stream:
            assert (await stream.reply()).text == "fine"
    assert 0.69 < limit.stats()["factor"] < 1.0


async def test_one_for_each_model(make, mock_llm):
    mock_llm.configure(latency=0.3)
    small, rest = RateLimit(concurrency=1), RateLimit(concurrency=1)
    async with make(limit={"small": small, "*": rest}) as llm:
        calls = [
            asyncio.ensure_future(llm.chat("x", model=name))
            for name in ("small", "small", "a", "b")
        ]
        await until(lambda: small.stats()["waiting"] == 1 and rest.stats()["waiting"] == 1)
        await asyncio.gather(*calls)
    async with make(limit={"other": small}) as llm:
        assert (await llm.chat("x")).text
    with pytest.raises(TypeError):
        make(limit={"small": 3})


def test_pictures_are_not_text():
    body = {
        "messages": [
            {"content": [{"type": "text", "text": "a b " * 1000}, {"url": "data:" + "A" * 900_000}]}
        ]
    }
    assert 1900 < RateLimit(tpm=1).tokens_of(record(body=body, size=904_000)) < 2300


# Order ------------------------------------------------------------------------------------------


async def test_first_in_first_out_with_priorities():
    limit = RateLimit(concurrency=1)
    order = []

    async def one(name, priority):
        ticket = await limit.acquire(record(priority))
        order.append(name)
        ticket.settle(status=200)

    first = await limit.acquire(record())
    tasks = [
        asyncio.ensure_future(one(n, p))
        for n, p in [("a", 0), ("b", 0), ("low", -1), ("high", 5), ("c", 0)]
    ]
    await until(lambda: limit.stats()["waiting"] == 5)
    first.settle(status=200)
    await asyncio.gather(*tasks)
    assert order == ["high", "a", "b", "c", "low"]


async def test_a_retried_call_keeps_its_place():
    limit = RateLimit(concurrency=1)
    call, other = record(), record()
    ticket = await limit.acquire(call)
    task = asyncio.ensure_future(limit.acquire(other))
    await until(lambda: limit.stats()["waiting"] == 1)
    again = asyncio.ensure_future(limit.acquire(call))
    await until(lambda: limit.stats()["waiting"] == 2)
    ticket.settle(status=503)
    await asyncio.wait([task, again], return_when=asyncio.FIRST_COMPLETED)
    assert again.done() and not task.done()
    again.result().settle()
    (await task).settle()


async def test_who_gives_up_frees_the_place():
    limit = RateLimit(concurrency=1)
    first = await limit.acquire(record())
    waiting = [asyncio.ensure_future(limit.acquire(record())) for _ in range(3)]
    await until(lambda: limit.stats()["waiting"] == 3)
    waiting[0].cancel()
    first.settle()
    waiting[1].cancel()  # had its turn in this very moment
    await asyncio.wait(waiting)
    assert waiting[2].result() is not None
    waiting[2].result().settle()
    assert limit.stats() == {"in_flight": 0, "waiting": 0, "factor": 1.0}


async def test_those_who_gave_up_do_not_pile_up_behind_one_who_waits():
    limit = RateLimit(concurrency=1)
    held = await limit.acquire(record())
    first = asyncio.ensure_future(limit.acquire(record(priority=1)))
    for _ in range(10):
        others = [asyncio.ensure_future(limit.acquire(record())) for _ in range(100)]
        await asyncio.sleep(0)
        for other in others:
            other.cancel()
        await asyncio.wait(others)
    assert limit.stats()["waiting"] == 1 and len(limit._queue) < 100
    held.settle(status=200)
    (await first).settle(status=200)
    assert limit.stats()["in_flight"] == 0


async def test_what_was_never_sent_gives_back_what_it_took():
    limit = RateLimit(rpm=6, burst=0.5)
    tickets = [await limit.acquire(record()) for _ in range(3)]
    for ticket in tickets:
        ticket.settle(sent=False)
    await asyncio.wait_for(asyncio.gather(*(limit.acquire(record()) for _ in range(3))), 8)


def test_loops_in_several_threads_share_it():
    limit = RateLimit(concurrency=2)
    under_way, most = 0, 0
    lock = threading.Lock()

    async def one():
        nonlocal under_way, most
        ticket = await limit.acquire(record())
        with lock:
            under_way += 1
            most = max(most, under_way)
        await asyncio.sleep(0.002)
        with lock:
            under_way -= 1
        ticket.settle(status=200)

    async def many():
        await asyncio.gather(*(one() for _ in range(40)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert most == 2 and limit.stats()["in_flight"] == 0


def test_a_loop_that_ends_leaves_the_queue():
    limit = RateLimit(rpm=60)

    async def gives_up():
        (await limit.acquire(record())).settle(status=200)
        asyncio.ensure_future(limit.acquire(record()))
        await asyncio.sleep(0.01)

    async def goes_on():
        (await limit.acquire(record())).settle(status=200)

    asyncio.run(gives_up())
    assert limit.stats()["waiting"] == 0
    asyncio.run(goes_on())


def test_a_loop_that_was_closed_with_calls_in_the_queue():
    limit, kept = RateLimit(rpm=600, burst=0.0), []

    async def waits():
        (await limit.acquire(record())).settle(status=200)
        kept.append(asyncio.ensure_future(limit.acquire(record(priority=1))))
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(waits())
    loop.close()

    async def goes_on():
        (await asyncio.wait_for(limit.acquire(record()), 20)).settle(status=200)

    asyncio.run(goes_on())
    assert limit.stats()["waiting"] == limit.stats()["in_flight"] == 0
    kept[0]._log_destroy_pending = False


def test_a_place_forgotten_in_a_loop_that_has_ended_goes_to_another_loop():
    limit, held = RateLimit(concurrency=1), []

    async def forgets():
        held.append(await limit.acquire(record()))

    asyncio.run(forgets())

    async def waits():
        waiting = asyncio.ensure_future(limit.acquire(record()))
        await until(lambda: limit.stats()["waiting"] == 1)
        held.clear()
        gc.collect()
        (await asyncio.wait_for(waiting, 20)).settle(status=200)

    asyncio.run(waits())
    assert limit.stats()["in_flight"] == 0


# What the server says -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, Said()),
        (
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m0s",
                "x-ratelimit-limit-tokens": "1000",
                "x-ratelimit-remaining-tokens": "900",
                "x-ratelimit-reset-tokens": "600ms",
            },
            Said(0.0, 0.1, 900.0, 0.006),
        ),
        ({"x-ratelimit-remaining-requests": "5"}, Said(5.0, None)),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "soon"}, Said()),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.5"},
            Said(None, None, 0.0, 7.5),
        ),
        ({"x-ratelimit-remaining-tokens": "-100000000"}, Said(None, None, 0.0, None)),
        (
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 400 + "s"},
            Said(0.0, None),
        ),
    ],
)
def test_headers(headers, said):
    found = said_by(headers)
    for got, wanted in zip(found, said, strict=True):
        assert got == (None if wanted is None else pytest.approx(wanted))


async def test_headers_of_anthropic(mock_llm):
    mock_llm.configure(rpm=120, tpm=60_000)
    async with Anthropic(base_url=mock_llm.base_url, api_key="k", model="m") as llm:
        reply = await llm.chat("x")
    said = said_by(reply.response.headers)
    assert said.requests == 119 and 0 <= said.requests_in <= 2 and said.tokens > 0


def gate(**settings):
    return Gate(
        Settings(**{"rpm": None, "tpm": None, "concurrency": None, "burst": 1.0} | settings),
        True,
        0.0,
    )


def test_a_bucket():
    bucket = Bucket(60, 0.1, 0.0)
    assert bucket.wait(0.0, 6, 1.0) == 0.0
    bucket.add(-6)
    assert bucket.wait(1.0, 2, 1.0) == pytest.approx(1.0)
    assert bucket.wait(1.0, 2, 0.5) == pytest.approx(2.0)
    assert bucket.wait(100.0, 1000, 1.0) == 0.0  # more than it holds: when it is full


def test_refusals_cut_and_time_raises():
    limits = gate(concurrency=10)
    for _ in range(10):
        assert limits.take(1.0, 0) == 0.0
    assert limits.take(1.0, 0) > 1e9
    for _ in range(10):  # all were under way at the first refusal: one cut
        limits.give_back(0, 0)
        limits.refused(2.0, 1.0, None)
    assert limits.factor(2.0) == pytest.approx(0.7)
    assert [limits.take(2.0, 0) for _ in range(8)].count(0.0) == 7
    assert limits.factor(12.0) == pytest.approx(0.9) and limits.factor(60.0) == 1.0


def test_after_a_refusal_nothing_saved_comes_at_once():
    """A server that counts over less than a minute would refuse what the pause had saved."""
    limits = gate(rpm=600, burst=0.01)
    assert [limits.take(1.0, 0) for _ in range(8)].count(0.0) == 6
    limits.refused(1.1, 1.0, 3.0)
    assert limits.take(4.0, 0) > 0.0
    assert [limits.take(4.2, 0) for _ in range(8)].count(0.0) == 1
    assert [limits.take(62.0, 0) for _ in range(8)].count(0.0) == 6
    quick = gate(
        rpm=60_000, burst=0.01
    )  # a timer that comes late does not cost a fast one its pace
    quick.refused(1.1, 1.0, None)
    assert [quick.take(3.0, 0) for _ in range(99)].count(0.0) == 50


def test_retry_after_holds_all_back():
    limits = gate(rpm=6000)
    assert limits.take(0.0, 0) == 0.0
    limits.refused(0.1, 0.0, 5.0)
    assert limits.take(1.0, 0) == pytest.approx(4.1) and limits.take(5.2, 0) == 0.0


def test_nothing_left():
    limits = gate(rpm=6000)
    limits.told(0.0, Said(0.0, 0.5, 10.0, 1.0))
    assert limits.take(0.0, 0) == pytest.approx(0.5) and limits.take(0.6, 0) == 0.0
    limits.told(0.6, Said(2.0, 0.1))
    assert [limits.take(0.6, 0) == 0.0 for _ in range(3)] == [True, True, False]


def test_without_numbers_it_learns():
    limits = gate()
    for _ in range(20):
        assert limits.take(1.0, 0) == 0.0
    limits.give_back(0, 0)
    limits.refused(2.0, 1.0, None)
    for _ in range(19):
        limits.give_back(0, 0)
    assert [limits.take(3.0, 0) for _ in range(20)].count(0.0) == 14
    for _ in range(14):
        limits.give_back(0, 0)
        limits.succeeded()
    assert [limits.take(4.0, 0) for _ in range(20)].count(0.0) == 14  # 14.9...
    limits.succeeded()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rpm": 0},
        {"tpm": -1},
        {"concurrency": 1.5},
        {"rpm": "9"},
        {"rpm": True},
        {"burst": 2},
        {"rpm": float("inf")},
    ],
)
def test_refused_arguments(wrong):
    with pytest.raises((TypeError, ValueError)):
        RateLimit(**wrong)


def test_usage_of_an_answer():
    assert RateLimit(tpm=1)._used(7.0, 200, Usage(3, 5), True) == 8.0
    assert RateLimit(tpm=1)._used(7.0, 200, Usage(None, None), True) == 7.0
    assert RateLimit(tpm=1)._used(7.0, 429, None, True) == 0.0
