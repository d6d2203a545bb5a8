"""When each phase of a call was done, and the loop's own part in it."""

from __future__ import annotations

import asyncio
import time

import llmcurl
import pytest
from llm.common import PROVIDERS, make
from llmcurl.testing import Failure
from servers.chaos import Chaos


@pytest.fixture(params=PROVIDERS)
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


async def test_a_plain_calls_phases_come_one_after_the_other(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient() as client:
        timings = (await client.get(chaos.url("/ok?ms=20"))).timings
    order = [
        timings.queued,
        timings.connect,
        timings.sent,
        timings.first_byte,
        timings.done,
        timings.delivered,
    ]
    assert order == sorted(order) and 0.015 < timings.first_byte
    assert 0 <= timings.loop_delay < timings.delivered
    assert timings.first_token is timings.last_token is timings.attempts is None


async def test_a_streams_timeline_has_its_tokens(llm, mock_llm) -> None:
    mock_llm.script("one two three four five six seven eight")
    mock_llm.configure(ttft=0.1, token_interval=0.06)
    async with llm.stream("x") as stream:
        assert stream.timings.first_token is None and stream.timings.done is None
        text = ""
        async for piece in stream.text_stream:
            text += piece
            seen = stream.timings
            assert 0 < seen.first_token <= stream.first_token_after + 0.001
        reply = await stream.reply()
    timings = reply.timings
    assert timings == stream.timings
    order = [
        timings.queued,
        timings.sent,
        timings.first_byte,
        timings.first_token,
        timings.last_token,
        timings.done,
    ]
    assert order == sorted(order) and timings.delivered == timings.done
    assert 0.09 < timings.first_token < timings.last_token
    assert 0 <= timings.loop_delay < timings.first_token


async def test_the_first_token_is_one_with_content(mock_llm) -> None:
    async with make("openai", mock_llm) as llm:
        mock_llm.script("late")
        mock_llm.configure(ttft=0.0, token_interval=0.2)
        async with llm.stream("x") as stream:
            await stream.reply()
        assert stream.timings.first_byte < stream.timings.first_token


async def test_a_blocked_loops_part_of_the_first_tokens_delay_is_told(mock_llm) -> None:
    """The token is there after 0.1 s, the loop after 1.2 s."""
    mock_llm.script("hello there")
    mock_llm.configure(ttft=0.1)
    async with make("openai", mock_llm) as llm, llm.stream("x") as stream:
        reading = asyncio.ensure_future(stream.reply())
        await asyncio.sleep(0)
        time.sleep(1.2)
        await reading
    timings = stream.timings
    assert timings.first_token >= 1.1
    assert 0.15 < timings.loop_delay < timings.first_token


async def test_attempts_are_counted_where_retries_are_on(llm, mock_llm) -> None:
    mock_llm.script(Failure.server_error(503), "fine", Failure.server_error(503), "fine")
    retry = llmcurl.Retry(2, backoff=0.01)
    reply = await llm.chat("x", retry=retry)
    assert reply.timings.attempts == 2
    assert [attempt.status for attempt in reply.attempts] == [503, 200]
    async with llm.stream("x", retry=retry) as stream:
        await stream.reply()
        reply = await stream.reply()
    assert stream.timings.attempts == 2 and stream.timings.first_token is not None
    assert [attempt.status for attempt in reply.attempts] == [503, 200]
    assert (await llm.chat("x")).attempts == ()
