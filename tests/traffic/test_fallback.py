"""`Fallback`: which errors lead on, stalls, streams, circuits, tools."""

from __future__ import annotations

import asyncio
import time

import pytest
from llmcurl import AsyncClient, ConnectError, DeadlineExceeded, RateLimit, Retry
from llmcurl.llm import (
    Anthropic,
    BadRequestError,
    OpenAI,
    OverloadedError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
)
from llmcurl.testing import Failure, MockLLM, Raw, Reply, ToolCall
from llmcurl.traffic import Breaker, CircuitOpen, Fallback, Hedge, NoContentInTime
from waiting import until


@pytest.fixture
async def mocks():
    async with MockLLM(reply="from a") as a, MockLLM(reply="from b") as b:
        yield a, b


@pytest.fixture
async def pair(mocks):
    a, b = mocks
    async with OpenAI(base_url=a.openai_url, api_key="sk-secret", model="model-a") as first:
        async with Anthropic(base_url=b.base_url, api_key="sk-secret", model="model-b") as second:
            yield [first, second]


async def test_first_answers(mocks, pair):
    llm = Fallback(pair)
    assert (await llm.chat("x")).text == "from a"
    assert [one.calls for one in llm.stats()] == [1, 0] and mocks[1].stats.requests == 0


@pytest.mark.parametrize(
    "failure",
    [
        Failure.server_error(),
        Failure.rate_limit(),
        Failure.overloaded(503),
        Failure.cut(),
        Failure.malformed_event(),
    ],
)
async def test_next_one_is_asked(mocks, pair, failure):
    mocks[0].script(failure)
    llm = Fallback(pair)
    assert (await llm.chat("x")).text == "from b"
    assert [(one.calls, one.failures) for one in llm.stats()] == [(1, 1), (1, 0)]


async def test_nobody_listens(pair, mocks):
    async with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="k", model="m") as dead:
        assert (await Fallback([dead, *pair]).chat("x")).text == "from a"


async def test_wrong_request_is_not_sent_on(mocks, pair):
    mocks[0].script(Failure.bad_request())
    llm = Fallback(pair)
    with pytest.raises(BadRequestError):
        await llm.chat("x")
    assert mocks[1].stats.requests == 0 and llm.stats()[0].failures == 0


async def test_when_as_class_and_as_function(mocks, pair):
    mocks[0].script(Failure.bad_request(), Failure.bad_request("too spicy"), Failure.server_error())
    assert (await Fallback(pair, when=BadRequestError).chat("x")).text == "from b"
    choosy = Fallback(pair, when=lambda error: "spicy" in str(error))
    assert (await choosy.chat("x")).text == "from b"
    with pytest.raises(ServerError):
        await choosy.chat("x")


async def test_all_fail_the_last_error_tells_of_the_others(mocks, pair):
    mocks[0].script(Failure.rate_limit())
    mocks[1].script(Failure.overloaded())
    with pytest.raises(OverloadedError) as caught:
        await Fallback(pair).chat("x")
    (before,) = caught.value.tried
    assert "model-a" in before.endpoint and type(before.error) is RateLimitError
    assert before.seconds > 0
    notes = "\n".join(caught.value.__notes__)
    assert "model-a" in notes and "RateLimitError" in notes and "secret" not in notes


async def test_what_was_tried_is_told_whatever_ends_it(mocks, pair):
    mocks[0].configure(failure=Failure.server_error())
    mocks[1].script(Failure.bad_request())
    with pytest.raises(BadRequestError) as caught:
        await Fallback(pair).chat("x")
    assert [type(one.error) for one in caught.value.tried] == [ServerError]
    assert "model-a" in caught.value.__notes__[0]
    mocks[1].configure(reply=Reply("late", latency=30))
    inner = Fallback([pair[0], pair[1]])
    with pytest.raises(DeadlineExceeded) as late:
        await Fallback([pair[0], inner]).chat("x", deadline=1.3)
    assert [type(one.error) for one in late.value.tried] == [ServerError, ServerError]


async def test_a_pair_names_its_model(mocks, pair):
    llm = Fallback([(pair[0], "other-model"), pair[1]])
    await llm.chat("x", model="ignored")
    assert mocks[0].requests[-1].json["model"] == "other-model"
    mocks[0].script(Failure.server_error())
    await llm.chat("x", model="for-b", max_tokens=7)
    sent = mocks[1].requests[-1].json
    assert (sent["model"], sent["max_tokens"]) == ("for-b", 7)


# Streams ------------------------------------------------------------------------------------


async def test_stream_has_the_surface_of_one(mocks, pair):
    llm = Fallback(pair)
    async with llm.stream("x") as stream:
        texts = [text async for text in stream.text_stream]
    assert "".join(texts) == "from a" == stream.text == stream.partial.text
    assert (await stream.reply()).finish_reason == "stop"
    assert stream.response.status_code == 200 and stream.first_token_after > 0
    assert stream.usage.output_tokens and stream.tool_calls == []
    async with llm.stream("x") as stream:
        deltas = [delta async for delta in stream]
    assert "".join(delta.text for delta in deltas) == "from a"


ROLE = Raw(
    content_type="text/event-stream",
    chunks=(
        b': hello\n\ndata: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n',
    ),
)


@pytest.mark.parametrize("failure", [Failure.cut(after=0), ROLE], ids=["cut", "role only"])
async def test_stream_that_breaks_before_its_first_content(mocks, pair, failure):
    mocks[0].script(failure)
    async with Fallback(pair).stream("x") as stream:
        texts = [text async for text in stream.text_stream]
    assert "".join(texts) == "from b"


async def test_stream_that_breaks_later_is_the_callers(mocks, pair):
    mocks[0].script(Failure.cut(after=3))
    llm = Fallback(pair, breaker=Breaker(failures=1, rate=0.5))
    with pytest.raises(StreamInterrupted):
        async with llm.stream("x") as stream:
            async for _ in stream:
                pass
    assert mocks[1].stats.requests == 0
    assert llm.stats()[0].failures == 1 and llm.endpoints[0].breaker.state == "open"


async def test_a_stream_that_breaks_counts_however_its_reader_takes_it(mocks, pair):
    mocks[0].script(Failure.cut(after=3), Failure.cut(after=3))
    llm = Fallback(pair)
    for nested in (llm, Hedge(llm)):
        async with nested.stream("x") as stream:
            with pytest.raises(StreamInterrupted):
                await stream.reply()
    assert llm.stats()[0].failures == 2
    with pytest.raises(ConnectError):  # of something else
        async with llm.stream("x") as stream:
            raise ConnectError("the database's")
    assert llm.stats()[0].failures == 2


async def test_stall_before_the_first_token(mocks, pair):
    # The head and signs of life arrive, and are no content.
    mocks[0].script(Failure.no_first_token(keepalive=0.05))
    llm = Fallback(pair, after=0.6)
    async with llm.stream("warm up") as stream:
        pass
    mocks[0].script(Failure.no_first_token(keepalive=0.05))
    started = time.monotonic()
    async with llm.stream("x") as stream:
        text = await anext(stream.text_stream)
        first = time.monotonic() - started
    assert text == "from" and 0.59 <= first < 15.0
    assert 0.59 <= stream.first_token_after <= first + 0.01
    assert llm.stats()[0].stalled == 2
    await until(lambda: mocks[0].stats.disconnects == 2)


async def test_the_last_one_has_no_limit(mocks, pair):
    mocks[0].script(Failure.server_error())
    mocks[1].script(Reply("slow", ttft=0.4))
    async with Fallback(pair, after=0.1).stream("x") as stream:
        assert (await stream.reply()).text == "slow"


async def test_within_limits_a_chat(mocks, pair):
    mocks[0].script(Reply("late", latency=30))
    assert (await Fallback(pair, within=0.6).chat("x")).text == "from b"
    await until(lambda: mocks[0].stats.disconnects == 1)
    mocks[0].script(Reply("late", latency=30))
    mocks[1].script(Failure.server_error())
    with pytest.raises(ServerError) as caught:
        await Fallback(pair, within=0.6).chat("x")
    assert type(caught.value.tried[0].error) is NoContentInTime


@pytest.mark.parametrize("streamed", [False, True])
async def test_one_deadline_for_all(mocks, pair, streamed):
    """The second one gets what the first has left, and nothing is asked when nothing is left."""
    for mock in mocks:
        mock.configure(reply=Reply("late", latency=30))
    llm = Fallback(pair, after=0.3, within=0.3)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        if streamed:
            async with llm.stream("x", deadline=1.4):
                pass
        else:
            await llm.chat("x", deadline=1.4)
    assert 1.39 <= time.monotonic() - started < 15
    assert [mock.stats.requests for mock in mocks] == [1, 1]
    assert [one.failures for one in llm.stats()] == [1, 0]
    mocks[0].configure(reply=Reply("late", latency=30))
    with pytest.raises(DeadlineExceeded):
        await Fallback(pair).chat("x", deadline=0.7)
    assert [mock.stats.requests for mock in mocks] == [2, 1]


async def test_retries_happen_before_the_next_one_is_asked(mocks, pair):
    mocks[0].script(Failure.server_error(), "second try")
    llm = Fallback(pair)
    assert (await llm.chat("x", retry=Retry(2, backoff=0.01))).text == "second try"
    mocks[0].script(Failure.server_error(), Failure.server_error())
    async with llm.stream("x", retry=Retry(2, backoff=0.01)) as stream:
        assert (await stream.reply()).text == "from b"
    assert [mock.stats.requests for mock in mocks] == [4, 1]


async def test_cancelled_by_the_caller(mocks, pair):
    mocks[0].script(Reply("late", latency=30))
    llm = Fallback(pair)
    task = asyncio.ensure_future(llm.chat("x"))
    await until(lambda: mocks[0].stats.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: mocks[0].stats.disconnects == 1)
    assert llm.stats()[0].failures == 0 and mocks[1].stats.requests == 0


# Circuits ------------------------------------------------------------------------------------


async def test_an_open_circuit_is_skipped_and_tried_again(mocks, pair):
    llm = Fallback(pair, breaker=Breaker(failures=2, cooldown=1.5))
    mocks[0].configure(failure=Failure.server_error())
    for _ in range(5):
        assert (await llm.chat("x")).text == "from b"
    assert mocks[0].stats.requests == 2 and llm.endpoints[0].breaker.state == "open"
    assert llm.stats()[0].breaker.refused == 3
    mocks[0].configure(failure=None)
    await until(lambda: llm.endpoints[0].breaker.state == "half-open")
    assert (await llm.chat("x")).text == "from a"
    assert llm.endpoints[0].breaker.state == "closed"


async def test_our_own_queue_opens_no_circuit(mocks, pair):
    """A call whose time passed there was never sent: the next model is asked, that is all."""
    limit = RateLimit(concurrency=1)
    async with (
        OpenAI(
            base_url=mocks[0].openai_url, api_key="k", model="m", limit=limit, deadline=0.05
        ) as full,
        AsyncClient(limit=limit) as client,
    ):
        mocks[0].script(Reply("slow", latency=30))
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        held = client.post(mocks[0].openai_url + "/chat/completions", json=body)
        await until(lambda: limit.stats()["in_flight"] == 1)
        llm = Fallback([full, pair[1]], breaker=Breaker(failures=1, cooldown=60))
        for _ in range(2):
            assert (await llm.chat("x")).text == "from b"
        held.cancel()
    assert llm.stats()[0].failures == 2 and llm.endpoints[0].breaker.state == "closed"


async def test_all_circuits_open(mocks, pair):
    llm = Fallback(pair[:1], breaker=Breaker(failures=1, cooldown=60))
    mocks[0].script(Failure.server_error())
    with pytest.raises(ServerError):
        await llm.chat("x")
    with pytest.raises(CircuitOpen, match="model-a") as caught:
        await llm.chat("x")
    assert 50 < caught.value.retry_after <= 60 and mocks[0].stats.requests == 1


# The rest of the surface ------------------------------------------------------------------------


def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


async def test_run_stays_with_the_provider_of_the_first_reply(mocks, pair):
    a, b = mocks
    a.script(Failure.server_error())
    b.script(Reply(tool_calls=(ToolCall("weather", {"city": "Oslo"}),)), "It rains.")
    done = await Fallback(pair).run("Weather?", tools=[weather])
    assert done.text == "It rains." and done.calls[0][1] == "rain in Oslo"
    assert (a.stats.requests, b.stats.requests) == (1, 2)


async def test_embed(mocks):
    a, b = mocks
    a.configure(failure=Failure.server_error())
    async with OpenAI(base_url=a.openai_url, api_key="k", model="e") as first:
        async with OpenAI(base_url=b.openai_url, api_key="k", model="e") as second:
            assert len(await Fallback([first, second]).embed(["x", "y"])) == 2


async def test_nested_and_closed(mocks, pair):
    a, b = mocks
    a.configure(failure=Failure.server_error())
    b.script(Reply(tool_calls=(ToolCall("weather", {"city": "Rome"}),)), "Sun.")
    async with Fallback([Hedge(pair[0]), Fallback([pair[1]])]) as llm:
        assert (await llm.run("Weather?", tools=[weather])).text == "Sun."
        async with llm.stream("x") as stream:
            assert (await stream.reply()).text == "from b"
    with pytest.raises(RuntimeError, match="closed"):
        await pair[1].chat("x")


async def test_wrong_arguments(pair):
    for wrong in ([], [1], [(pair[0], 1)]):
        with pytest.raises((TypeError, ValueError)):
            Fallback(wrong)
    for options in ({"when": "no"}, {"when": [1]}, {"after": 0}, {"within": -1}):
        with pytest.raises((TypeError, ValueError)):
            Fallback(pair, **options)


async def test_refused_connection_keeps_its_class():
    async with OpenAI(base_url="http://127.0.0.1:1/v1", api_key="k", model="m") as dead:
        with pytest.raises(ConnectError):
            await Fallback([dead]).chat("x")
