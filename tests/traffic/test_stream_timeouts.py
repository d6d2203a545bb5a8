"""Time-outs of streams: which one fires, what counts as content, and what is kept."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest
from llmcurl import (
    ConnectTimeout,
    DeadlineExceeded,
    OpenAI,
    Retry,
    StreamTimedOut,
    StreamTimeout,
    TimeoutException,
)
from llmcurl.llm import StreamInterrupted
from llmcurl.testing import Failure, Raw, Reply

FAR = 30.0  # a limit that is not to fire
SOON = 0.15


def chunk(delta, **more):
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}], **more})}\n\n".encode()


ROLE = chunk({"role": "assistant", "content": ""})
PING = b": keep-alive\n\n"
TOKEN = chunk({"content": "word "})
THOUGHT = chunk({"reasoning_content": "hm "})
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def events(*chunks, gap=0.0):
    return Raw(chunks=chunks, content_type="text/event-stream", gap=gap)


@pytest.fixture
async def llm(mock_llm):
    async with OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m") as llm:
        yield llm


async def fails(llm, **options):
    """The error of a stream that is read to its end."""
    with pytest.raises(StreamTimedOut) as caught:
        async with llm.stream("x", **options) as stream:
            await stream.reply()
    return caught.value


async def test_connect():
    """A server that takes the connection and never answers the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with OpenAI(base_url=f"https://127.0.0.1:{port}/v1", api_key="k", model="m") as llm:
            with pytest.raises(ConnectTimeout) as caught:
                async with llm.stream("x", stream_timeout=StreamTimeout(connect=SOON)):
                    raise AssertionError("there is no token")
    assert [attempt.safety for attempt in caught.value.attempts] == ["never_sent"]


async def test_first_byte(llm, mock_llm):
    mock_llm.script(Failure.black_hole())
    error = await fails(llm, stream_timeout=StreamTimeout(first_byte=SOON, first_token=FAR))
    assert error.which == "first_byte" and error.seconds == SOON and error.partial is None
    assert isinstance(error, TimeoutException) and isinstance(error, StreamInterrupted)
    assert error.attempts[0].safety == "maybe_sent" and len(error.attempts) == 1


async def test_first_token_before_the_head(llm, mock_llm):
    mock_llm.script(Failure.black_hole())
    error = await fails(llm, stream_timeout=StreamTimeout(first_token=SOON))
    assert error.which == "first_token"


async def test_first_token_is_not_put_off_by_roles_and_pings(llm, mock_llm):
    mock_llm.script(events(ROLE, *[PING] * 500, gap=0.02))
    error = await fails(
        llm, stream_timeout=StreamTimeout(first_token=1.5, first_byte=FAR, idle=FAR)
    )
    assert error.which == "first_token" and error.status == 200
    assert error.partial.text == ""


async def test_reasoning_is_content(llm, mock_llm):
    mock_llm.script(events(ROLE, THOUGHT, PING, TOKEN, END, gap=0.02))
    async with llm.stream("x", stream_timeout=StreamTimeout(first_token=FAR, idle=FAR)) as stream:
        deltas = [delta async for delta in stream]
    assert deltas[0].reasoning == "hm " and deltas[-1].text == "word "


async def test_idle_is_not_put_off_by_pings_and_keeps_what_came(llm, mock_llm):
    usage = chunk({}, usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9})
    mock_llm.script(events(ROLE + TOKEN + TOKEN + usage, *[PING] * 500, gap=0.02))
    error = await fails(llm, stream_timeout=StreamTimeout(first_token=FAR, idle=0.3))
    assert error.which == "idle" and error.seconds == 0.3 and "0.3 s" in str(error)
    assert error.partial.text == "word word " and error.partial.usage.output_tokens == 2
    assert error.attempts and error.attempts[-1].error == "StreamTimedOut"


async def test_a_reader_that_lags_is_not_an_idle_stream(llm, mock_llm):
    mock_llm.script(events(*[TOKEN] * 12, END, gap=0.02))
    texts = []
    async with llm.stream("x", stream_timeout=StreamTimeout(idle=1.2)) as stream:
        async for text in stream.text_stream:
            texts.append(text)
            if len(texts) == 1:
                await asyncio.sleep(1.6)
    assert len(texts) == 12


async def test_a_loop_that_is_held_is_not_an_idle_stream(llm, mock_llm):
    """What came meanwhile lies in the socket."""
    mock_llm.script(events(*[TOKEN] * 40, END, gap=0.05))
    async with llm.stream("x", stream_timeout=StreamTimeout(idle=1.2)) as stream:
        asyncio.get_running_loop().call_later(0.1, time.sleep, 1.4)
        assert (await stream.reply()).text == "word " * 40


async def test_rate(llm, mock_llm):
    mock_llm.script(events(*[TOKEN] * 100, END, gap=0.05))
    limits = StreamTimeout(min_rate=1000, rate_window=0.3, idle=FAR)
    error = await fails(llm, stream_timeout=limits)
    assert error.which == "min_rate" and error.seconds == 1000 and error.partial.text


async def test_rate_of_a_stream_that_stalls(llm, mock_llm):
    mock_llm.script(Failure.stall(3, reply=Reply("one two three four five")))
    error = await fails(llm, stream_timeout=StreamTimeout(min_rate=100, rate_window=SOON))
    assert error.which == "min_rate" and error.partial.text


async def test_fast_enough(llm, mock_llm):
    mock_llm.script(events(*[TOKEN * 10] * 30, END, gap=0.07))
    limits = StreamTimeout(min_rate=1, rate_window=1.5, idle=FAR, first_token=FAR, first_byte=FAR)
    async with llm.stream("x", stream_timeout=limits) as stream:
        reply = await stream.reply()
    assert reply.text == "word " * 300


async def test_deadline_inside_of_the_block(llm, mock_llm):
    mock_llm.script(events(*[TOKEN] * 1000, gap=0.02))
    async with llm.stream("x", deadline=1.2) as stream:
        with pytest.raises(StreamTimedOut) as caught:
            await stream.reply()
    assert caught.value.which == "deadline" and "deadline of 1.2 s" in str(caught.value)
    assert caught.value.partial.text.startswith("word ")


async def test_deadline_before_the_first_token(llm, mock_llm):
    mock_llm.script(events(ROLE, *[PING] * 1000, gap=0.02))
    with pytest.raises(DeadlineExceeded) as caught:
        async with llm.stream("x", deadline=1.5):
            raise AssertionError("there is no token")
    assert caught.value.attempts[0].status == 200


async def test_the_read_timeout_returns_after_the_head(llm, mock_llm):
    """first_byte bounds the wait for the head only."""
    mock_llm.script(events(TOKEN, TOKEN + END, gap=1.5))
    async with llm.stream("x", stream_timeout=StreamTimeout(first_byte=1.2)) as stream:
        assert (await stream.reply()).text == "word word "


async def test_another_attempt_when_the_caller_allows_it(llm, mock_llm):
    mock_llm.script(Failure.stall(0), "done")
    async with llm.stream(
        "x",
        stream_timeout=StreamTimeout(first_token=1.2),  # the second attempt has as little
        retry=Retry(backoff=0.01, maybe_sent=True),
    ) as stream:
        assert (await stream.reply()).text == "done"
        assert [attempt.error for attempt in stream.call.attempts] == ["StreamTimedOut", ""]


async def test_no_further_attempt_once_content_came(llm, mock_llm):
    mock_llm.script(Failure.cut(2), "never asked for")
    async with llm.stream("x", retry=Retry(maybe_sent=True, backoff=0.01)) as stream:
        with pytest.raises(StreamInterrupted) as caught:
            await stream.reply()
    assert len(caught.value.attempts) == 1 and mock_llm.stats.requests == 1


async def test_pickled(llm, mock_llm):
    import pickle

    mock_llm.script(Failure.black_hole())
    error = await fails(llm, stream_timeout=StreamTimeout(first_byte=SOON))
    again = pickle.loads(pickle.dumps(error))
    assert again.which == "first_byte" and again.attempts[0].number == 1


@pytest.mark.parametrize(
    "wrong", [{"idle": -1}, {"idle": "1"}, {"rate_window": 0}, {"first_token": float("nan")}]
)
def test_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        StreamTimeout(**wrong)
