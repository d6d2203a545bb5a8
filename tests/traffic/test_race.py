"""`first_of` and `best_of`."""

from __future__ import annotations

import asyncio

import pytest
from llmcurl import OpenAI
from llmcurl.testing import Failure, MockLLM, Reply
from llmcurl.traffic import best_of, first_of
from waiting import until


async def after(seconds: float, value: object) -> object:
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


async def test_first_of_takes_the_first_success_and_cancels_the_rest_at_the_server():
    async with MockLLM(latency=30) as slow, MockLLM() as quick:
        async with OpenAI(base_url=slow.openai_url, api_key="k", model="m") as a:
            async with OpenAI(base_url=quick.openai_url, api_key="k", model="m") as b:
                quick.script(Failure.server_error(), "mine")
                reply = await first_of(a.chat("x"), b.chat("x"), late(b))
        assert reply.text == "mine"
        await until(lambda: slow.stats.disconnects == 1)


async def late(llm):
    await asyncio.sleep(0.3)
    return await llm.chat("x")


async def test_first_of_takes_plain_calls(client, mock_llm):
    mock_llm.configure(latency=0.0)
    url = mock_llm.base_url + "/health"
    response = await first_of(client.get(url), client.get(url))
    assert response.status_code == 200


async def test_first_of_raises_all_errors_in_the_order_of_the_calls():
    with pytest.raises(ExceptionGroup) as caught:
        await first_of(after(0.02, KeyError("a")), after(0, ValueError("b")))
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]


async def test_first_of_cancelled_cancels_all():
    sleeping = [asyncio.ensure_future(asyncio.sleep(30)) for _ in range(3)]
    race = asyncio.ensure_future(first_of(*sleeping))
    await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await asyncio.wait(sleeping)
    assert all(one.cancelled() for one in sleeping)


async def test_first_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        await first_of()


async def test_best_of_asks_n_times_at_once_and_leaves_failures_out(mock_llm):
    mock_llm.script(
        Reply("aa", latency=0.1), Failure.bad_request(), Reply("aaaa", latency=0.1), "a"
    )
    url = mock_llm.openai_url
    async with OpenAI(base_url=url, api_key="k", model="m") as llm:
        best = await best_of(4, lambda: llm.chat("x"), key=lambda reply: len(reply.text))
    assert best.text == "aaaa" and mock_llm.stats.max_in_flight >= 2


async def test_best_of_asks_a_judge_that_is_async():
    values = iter([3, 9, 4])

    async def call():
        return next(values)

    async def judge(value):
        await asyncio.sleep(0)
        return -value

    assert await best_of(3, call, key=judge) == 3


async def test_best_of_all_failed_and_wrong_numbers():
    async def call():
        raise KeyError("no")

    with pytest.raises(ExceptionGroup) as caught:
        await best_of(2, call, key=id)
    assert len(caught.value.exceptions) == 2
    with pytest.raises(ValueError, match="at least 1"):
        await best_of(0, call, key=id)
