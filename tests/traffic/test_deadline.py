"""One deadline: the queue, every attempt, back-off and the stream."""

from __future__ import annotations

import asyncio
import pickle
import time

import pytest
from llmcurl import (
    AsyncClient,
    Deadline,
    DeadlineExceeded,
    Limits,
    OpenAI,
    RateLimit,
    Retry,
    ServerError,
    TimeoutException,
    TotalTimeout,
)
from llmcurl.testing import Failure, Reply

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
#: Seconds that a busy machine may be late.
SLACK = 5.0


class Clock:
    def __enter__(self):
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.begun


@pytest.fixture
def make(mock_llm):
    def make(**options):
        return OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", **options)

    return make


async def test_a_black_hole_with_retries(make, mock_llm):
    """Attempts share the time: two time out on their own, the third is cut by the deadline."""
    mock_llm.configure(failure=Failure.black_hole())
    retry = Retry(3, backoff=0.01, maybe_sent=True)
    async with make(timeout=1.2, retry=retry, deadline=3.5) as llm:
        with Clock() as clock, pytest.raises(DeadlineExceeded) as caught:
            await llm.chat("x")
    assert 3.49 <= clock.seconds < 3.5 + SLACK
    error = caught.value
    assert isinstance(error, TotalTimeout) and isinstance(error, TimeoutException)
    assert [a.error for a in error.attempts] == ["ReadTimeout", "ReadTimeout", "DeadlineExceeded"]
    assert "deadline of 3.5 s passed" in str(error) and error.phase == "wait"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.phase == "wait" and len(again.attempts) == 3


async def test_back_off_is_capped(make, mock_llm):
    """One that would pass the deadline is cut, before a last attempt."""
    mock_llm.configure(failure=Failure.server_error())
    async with make(retry=Retry(9, backoff=4, jitter=0), deadline=2.0) as llm:
        with Clock() as clock, pytest.raises(ServerError) as caught:
            await llm.chat("x")
    first, second = caught.value.attempts
    assert 0.2 < first.retry_in <= 1.0 and second.retry_in is None
    assert 0.2 < clock.seconds < 2.0 + SLACK


async def test_a_black_hole_takes_all_the_time_it_is_given(make, mock_llm):
    """Also where the back-off before the last attempt would have passed the deadline."""
    mock_llm.configure(failure=Failure.black_hole())
    retry = Retry(3, backoff=4, jitter=0, maybe_sent=True)
    async with make(timeout=0.8, retry=retry, deadline=2.2) as llm:
        with Clock() as clock, pytest.raises(DeadlineExceeded) as caught:
            await llm.chat("x")
    assert 2.19 <= clock.seconds < 2.2 + SLACK
    assert [a.error for a in caught.value.attempts] == ["ReadTimeout", "DeadlineExceeded"]


async def test_the_queue_of_a_limit(make, mock_llm):
    mock_llm.configure(latency=30.0)
    limit = RateLimit(concurrency=1)
    async with make(limit=limit) as llm:
        first = asyncio.ensure_future(llm.chat("x"))
        await asyncio.sleep(0)
        with Clock() as clock, pytest.raises(DeadlineExceeded) as caught:
            await llm.chat("x", deadline=0.3)
        assert 0.29 <= clock.seconds < 0.3 + SLACK and caught.value.phase == "limit"
        assert caught.value.attempts[0].safety == "never_sent"
        assert limit.stats()["waiting"] == 0
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_the_queue_of_the_pool(mock_llm):
    mock_llm.configure(latency=30.0)
    async with AsyncClient(base_url=mock_llm.openai_url, limits=Limits(max_connections=1)) as http:
        first = http.post("/chat/completions", json=PLAIN)
        with pytest.raises(DeadlineExceeded) as caught:
            await http.post("/chat/completions", json=PLAIN, deadline=0.3)
        assert caught.value.phase == "queue" and caught.value.attempts[0].safety == "never_sent"
        first.cancel()


async def test_plain_http(mock_llm):
    mock_llm.configure(failure=Failure.black_hole())
    async with AsyncClient(base_url=mock_llm.openai_url, deadline=0.3) as http:
        with Clock() as clock, pytest.raises(DeadlineExceeded):
            await http.post("/chat/completions", json=PLAIN)
        assert 0.29 <= clock.seconds < 0.3 + SLACK
        with pytest.raises(DeadlineExceeded):
            async with http.stream("POST", "/chat/completions", json=PLAIN, deadline=0.1):
                pass


async def test_a_stream_of_plain_http(mock_llm):
    mock_llm.configure(failure=Failure.stall(1))
    async with AsyncClient(base_url=mock_llm.openai_url) as http:
        async with http.stream(
            "POST", "/chat/completions", json={**PLAIN, "stream": True}, deadline=2.0
        ) as answer:
            with Clock() as clock, pytest.raises(DeadlineExceeded) as caught:
                await answer.aread()
    assert clock.seconds < 2.0 + SLACK and caught.value.attempts[0].status == 200


async def test_hooks_get_no_more_time(mock_llm):
    async def hook(request):
        await asyncio.Event().wait()

    async def fails(request):
        raise TimeoutError("the hook's own")

    async with AsyncClient(base_url=mock_llm.openai_url, event_hooks={"request": [hook]}) as http:
        with pytest.raises(DeadlineExceeded):
            await http.post("/chat/completions", json=PLAIN, deadline=0.2)
        http.event_hooks = {"request": [fails]}
        with pytest.raises(TimeoutError, match="own"):
            await http.post("/chat/completions", json=PLAIN, deadline=20)


async def test_one_moment_for_many_calls(make, mock_llm):
    mock_llm.configure(latency=0.15)
    done = 0
    async with make() as llm:
        deadline = Deadline.after(0.6)
        with Clock() as clock, pytest.raises(DeadlineExceeded):
            while True:
                await llm.chat("x", deadline=deadline)
                done += 1
        assert 0.59 <= clock.seconds < 0.6 + SLACK and done <= 4
        when = asyncio.get_running_loop().time() - 1
        with pytest.raises(DeadlineExceeded):
            await llm.chat("x", deadline=Deadline.at(when))
        assert (await llm.chat("x", deadline=None)).text


async def test_of_the_client_and_of_a_call(make, mock_llm):
    mock_llm.script(Reply("late", latency=30.0))
    mock_llm.configure(latency=0.2)
    async with make(deadline=0.1) as llm:
        with pytest.raises(DeadlineExceeded):
            await llm.chat("x")
        assert (await llm.chat("x", deadline=60)).text
        assert (await llm.chat("x", deadline=None)).text


async def test_asyncio_timeouts_work_as_well(make, mock_llm):
    mock_llm.configure(failure=Failure.black_hole())
    limit = RateLimit(concurrency=5)
    async with make(retry=Retry(), deadline=60, limit=limit) as llm:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await llm.chat("x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(llm.chat("x"), 0.1)
    assert limit.stats()["in_flight"] == 0


async def test_rounds_of_tools_share_it(make, mock_llm):
    from llmcurl.testing import ToolCall

    mock_llm.configure(reply=Reply(tool_calls=(ToolCall("wait"),)), latency=0.2)

    async def wait() -> str:
        """Waits."""
        return "done"

    async with make() as llm:
        with Clock() as clock, pytest.raises(DeadlineExceeded):
            await llm.run("x", tools=[wait], max_rounds=100, deadline=0.5)
    assert clock.seconds < 0.5 + SLACK


@pytest.mark.parametrize("wrong", [0, -1, "1", True, float("inf"), float("nan")])
def test_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        AsyncClient(deadline=wrong)
    with pytest.raises((TypeError, ValueError)):
        Deadline.after(wrong)
