"""`Hedge`: when copies go out, who wins, what is cancelled, what it may cost."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from llmcurl.llm import Anthropic, OpenAI, ServerError
from llmcurl.testing import Failure, MockLLM, Raw, Reply, ToolCall
from llmcurl.traffic import Hedge
from llmcurl.traffic._quantile import LatencyWindow
from waiting import until

SLOW = Reply("slow", latency=30)


@pytest.fixture
async def llm(mock_llm):
    async with OpenAI(base_url=mock_llm.openai_url, api_key="sk-secret", model="m") as llm:
        yield llm


async def test_a_quick_call_has_no_copy(llm, mock_llm):
    hedge = Hedge(llm, after=30.0, max_extra=1.0)
    assert (await hedge.chat("x")).text
    stats = hedge.stats()
    assert (stats.calls, stats.extra, stats.wins) == (1, 0, (1, 0)) and mock_llm.stats.requests == 1


async def test_the_copy_wins_and_the_loser_is_cancelled_at_the_server(llm, mock_llm):
    mock_llm.script(SLOW, "quick")
    async with Hedge(llm, after=0.3, max_extra=1.0) as hedge:
        assert (await hedge.chat("x")).text == "quick"
        await until(lambda: mock_llm.stats.disconnects == 1)
    stats = hedge.stats()
    assert (stats.extra, stats.wins, stats.cancelled, stats.wasted_unknown) == (1, (0, 1), 1, 1)


async def test_streams_are_chosen_before_the_first_content(llm, mock_llm):
    mock_llm.script(
        Failure.no_first_token(keepalive=0.01), Reply("a b c d", ttft=0.01, token_interval=0.01)
    )
    hedge = Hedge(llm, after=0.1, max_extra=1.0)
    async with hedge.stream("x") as stream:
        texts = [text async for text in stream.text_stream]
    assert "".join(texts) == "a b c d" and stream.first_token_after >= 0.09
    await until(lambda: mock_llm.stats.disconnects == 1)
    assert hedge.stats().wins == (0, 1)


async def test_the_tokens_of_a_loser_as_far_as_they_are_known(mock_llm):
    start = {"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant",
             "model": "m", "content": [], "usage": {"input_tokens": 70, "output_tokens": 1}}}  # fmt: skip
    event = f"event: message_start\ndata: {json.dumps(start)}\n\n".encode()
    mock_llm.script(Raw(content_type="text/event-stream", chunks=(event, b": late\n\n"), gap=30.0))
    async with Anthropic(base_url=mock_llm.base_url, api_key="k", model="m") as llm:
        for options in ({}, {"retry": None}):  # plain, and controlled
            hedge = Hedge(llm, after=0.3, max_extra=1.0)
            async with hedge.stream("x", **options) as stream:
                assert (await stream.reply()).text
            await until(lambda: not hedge._losers)  # noqa: B023
            assert (hedge.stats().wasted_tokens, hedge.stats().wasted_unknown) == (71, 0)
            assert not hedge._told
            mock_llm.script(
                Raw(content_type="text/event-stream", chunks=(event, b": late\n\n"), gap=30.0)
            )


async def test_three_copies_over_several_places(mock_llm, llm):
    async with MockLLM() as other:
        async with OpenAI(base_url=other.openai_url, api_key="k", model="b") as second:
            mock_llm.script(SLOW, SLOW)
            other.script(SLOW)
            hedge = Hedge([llm, (second, "b2")], after=0.05, copies=4, max_extra=3.0)
            assert (await hedge.chat("x")).text
            assert (mock_llm.stats.requests, other.stats.requests) == (2, 2)
            assert other.requests[0].json["model"] == "b2"
            assert hedge.stats().wins == (0, 0, 0, 1)


async def test_a_failure_waits_for_the_copy_that_is_on_its_way(llm, mock_llm):
    mock_llm.script(Failure.server_error(latency=1.2), Reply("good", latency=1.4))
    hedge = Hedge(llm, after=0.05, max_extra=1.0)
    assert (await hedge.chat("x")).text == "good" and hedge.stats().failed == 1


async def test_a_failure_alone_is_raised_at_once(llm, mock_llm):
    mock_llm.script(Failure.server_error(), Failure.server_error())
    hedge = Hedge(llm, after=30.0)
    with pytest.raises(ServerError):
        await hedge.chat("x")
    with pytest.raises(ServerError):
        async with hedge.stream("x"):
            pass
    assert mock_llm.stats.requests == 2


async def test_cancelled_by_the_caller_all_copies_end(llm, mock_llm):
    mock_llm.script(SLOW, SLOW)
    hedge = Hedge(llm, after=0.02, max_extra=1.0)
    task = asyncio.ensure_future(hedge.chat("x"))
    await until(lambda: mock_llm.stats.in_flight == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: mock_llm.stats.disconnects == 2)


async def test_the_cap_holds_whatever_the_server_does(llm, mock_llm):
    mock_llm.configure(latency=0.02)
    hedge = Hedge(llm, after=0.0, max_extra=0.1)
    for _ in range(5):
        await asyncio.gather(*(hedge.chat("x") for _ in range(40)))
    stats = hedge.stats()
    assert (stats.calls, stats.extra) == (200, 20) and stats.refused == 180
    # a copy that was cancelled at once may never have been sent
    assert 200 <= mock_llm.stats.requests <= 220


async def test_no_copies_before_the_quantile_is_known_then_all_that_are_late():
    late = {"5", "20", "40"}
    seen: set[str] = set()

    def answer(request):
        text = request.json["messages"][0]["content"]
        if text in late and text not in seen:
            seen.add(text)
            return SLOW
        return Reply("quick", latency=0.02)

    async with MockLLM(reply=answer) as mock:
        async with OpenAI(base_url=mock.openai_url, api_key="k", model="m") as llm:
            hedge = Hedge(llm, after="p90", max_extra=1.0)
            # all at once: nothing is known when they begin
            done = await asyncio.gather(*(hedge.chat(str(n)) for n in range(60)))
            assert [reply.text for reply in done] == ["quick"] * 60 and seen == late
            stats = hedge.stats()
            assert len(late) <= stats.extra <= 40 and 0.02 <= stats.after["chat"] < 10
            await until(lambda: mock.stats.disconnects >= len(late))


def test_loops_in_several_threads_share_it():
    """What they measure is put together; a call that waits for the quantile is woken in its own loop."""
    waiting, known = threading.Event(), threading.Event()

    class Late:
        """Has its answer when the others have told what is usual, and is then asked again."""

        calls = 0

        async def chat(self, messages, **params):
            if messages == "late" and not self.calls:
                self.calls += 1
                waiting.set()
                await asyncio.sleep(100)
            if messages == "late":
                known.set()
            return messages

        stream = embed = aclose = None

    Late.stream = Late.embed = Late.aclose = Late.chat
    hedge = Hedge(Late(), max_extra=1.0)

    async def late():
        return await asyncio.wait_for(hedge.chat("late"), 30)

    async def others():
        await asyncio.gather(*(hedge.chat("x") for _ in range(200)))

    found = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(late())))
    thread.start()
    assert waiting.wait(30)
    crowd = [threading.Thread(target=asyncio.run, args=(others(),)) for _ in range(3)]
    for one in crowd:
        one.start()
    for one in (*crowd, thread):
        one.join(40)
    assert found == ["late"] and known.is_set() and hedge.stats().calls == 601


async def test_run_and_embed(llm, mock_llm):
    def add(a: int, b: int) -> int:
        return a + b

    mock_llm.script(Reply(tool_calls=(ToolCall("add", {"a": 1, "b": 2}),)), "3")
    hedge = Hedge(llm)
    assert (await hedge.run("1 + 2?", tools=[add])).text == "3"
    assert len(await hedge.embed("x")) == 1 and hedge.stats().calls == 3


async def test_wrong_arguments(llm):
    for options in (
        {"after": "95"},
        {"after": -1.0},
        {"copies": 0},
        {"max_extra": -1},
        {"minimum": 0},
    ):
        with pytest.raises(ValueError):
            Hedge(llm, **options)
    with pytest.raises((TypeError, ValueError)):
        Hedge([])
    assert "secret" not in repr(Hedge(llm))


# The quantile ------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_quantile_of_the_last_latencies():
    clock = Clock()
    window = LatencyWindow(0.95, size=100, minimum=20, clock=clock)
    for latency in [*range(1000, 1100), *range(1, 101)]:
        window.begin(latency)
        clock.now += latency
        window.end(latency)
        if len(window) < 20:
            assert window.value() is None
    clock.now += 1
    assert window.value() == 95 and len(window) == 100


def test_calls_that_still_run_count_as_longer():
    clock = Clock()
    window = LatencyWindow(0.5, minimum=4, clock=clock)
    for call in range(100):
        window.begin(call)
    for call in range(100):
        clock.now += 1
        window.end(call)
        # the first answers of a burst are its fastest: the median is known when half have come
        if call in (10, 48):
            assert window.value() is None
    clock.now += 1
    assert window.value() == 50
    window.begin("new")  # runs for less than that: no reason to think it is longer
    assert window.value() == 50
