"""Streams: deltas, the reply in the end, and all the ways in which they break off."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from common import PROVIDERS, make, until
from llmcurl import ReadTimeout, ResponseTooLarge
from llmcurl.llm import (
    BadRequestError,
    Delta,
    InvalidReply,
    LLMError,
    OverloadedError,
    RateLimitError,
    StreamInterrupted,
    ToolCallDelta,
)
from llmcurl.testing import Failure, Raw, Reply, ToolCall

TEXT = "One two, three é \U0001f600 four \u2028 five."
FULL = Reply(
    TEXT,
    reasoning="Think of it.",
    tool_calls=(ToolCall("f", {"city": "Oslo", "days": 3}), ToolCall("g", {})),
    input_tokens=5,
    output_tokens=9,
)
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=PROVIDERS)
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


async def test_text(llm, mock_llm):
    mock_llm.script(TEXT)
    async with llm.stream("x") as stream:
        pieces = [text async for text in stream.text_stream]
    assert "".join(pieces) == TEXT and len(pieces) > 5
    reply = await stream.reply()
    assert reply.text == TEXT and reply.finish_reason == "stop" and reply.model == "mock-1"
    assert stream.first_token_after > 0 and reply.timings.done > 0


async def test_everything(llm, mock_llm):
    mock_llm.script(FULL, FULL)
    deltas = []
    async with llm.stream("x") as stream:
        async for delta in stream:
            assert isinstance(delta, Delta)
            deltas.append(delta)
        reply = await stream.reply()
    assert "".join(d.text for d in deltas) == TEXT == reply.text
    assert "".join(d.reasoning for d in deltas) == "Think of it." == reply.reasoning
    calls = {}
    for piece in (d.tool_call for d in deltas if d.tool_call):
        assert isinstance(piece, ToolCallDelta)
        old = calls.get(piece.index, ("", ""))
        calls[piece.index] = (old[0] + piece.name, old[1] + piece.arguments)
    assert {k: v[0] for k, v in calls.items()} == {0: "f", 1: "g"}
    assert [(c.name, c.json()) for c in reply.tool_calls] == [
        ("f", {"city": "Oslo", "days": 3}),
        ("g", {}),
    ]
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 9)
    # put together, it is what would have come in one piece
    whole = await llm.chat("x")
    assert whole.message.keys() == reply.message.keys()
    assert (whole.text, whole.reasoning, whole.finish_reason, whole.usage) == (
        reply.text,
        reply.reasoning,
        reply.finish_reason,
        reply.usage,
    )


async def test_byte_by_byte_and_in_one_piece(llm, mock_llm):
    mock_llm.script(FULL)
    async with llm.stream("x") as stream:
        whole = await stream.reply()
    raw = []
    mock_llm.script(FULL)
    request = mock_llm.requests[-1]
    headers = {k: v for k, v in request.headers.items() if k not in ("host", "content-length")}
    async with llm.client.stream(
        "POST",
        mock_llm.base_url + request.target,
        content=request.body,
        headers=headers,
    ) as response:
        kind = response.headers["content-type"]
        async for chunk in response.aiter_bytes():
            raw.append(chunk)
    body = b"".join(raw)
    single = tuple(body[i : i + 1] for i in range(len(body)))
    for chunks in ((body,), single):
        mock_llm.script(Raw(chunks=chunks, content_type=kind))
        async with llm.stream("x") as stream:
            text = "".join([piece async for piece in stream.text_stream])
            reply = await stream.reply()
        assert text == TEXT and reply.tool_calls[0].json() == whole.tool_calls[0].json()
        assert reply.reasoning == whole.reasoning


async def test_leaving_early_cancels_at_the_server(llm, mock_llm):
    mock_llm.script(Reply(" ".join(["word"] * 500), token_interval=0.01))
    async with llm.stream("x") as stream:
        async for text in stream.text_stream:
            assert text
            break
    await until(lambda: mock_llm.stats.disconnects == 1)
    assert mock_llm.stats.in_flight == 0
    assert stream.text.startswith("word") and stream.partial.finish_reason is None
    with pytest.raises(StreamInterrupted) as error:
        await stream.reply()
    assert error.value.partial.text.startswith("word")


async def test_cancelling_the_task_cancels_at_the_server(llm, mock_llm):
    mock_llm.script(Reply("a b c", token_interval=30.0))

    async def read():
        async with llm.stream("x") as stream:
            return await stream.reply()

    task = asyncio.create_task(read())
    await until(lambda: mock_llm.stats.in_flight == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: mock_llm.stats.disconnects == 1)


@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_the_connection_breaks(llm, mock_llm, kind):
    mock_llm.script(getattr(Failure, kind)(after=4, reply=Reply("a b c d e f g h")))
    with pytest.raises(StreamInterrupted) as error:
        async with llm.stream("x") as stream:
            async for _ in stream:
                pass
    assert error.value.__cause__ is not None and error.value.provider == llm.provider
    if kind == "cut":  # a reset may throw away what was under way
        assert "a b c".startswith(error.value.partial.text[:5]) and error.value.partial.text
    with pytest.raises(StreamInterrupted):
        await stream.reply()


ENDINGS = {
    "openai": (
        b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ),
    "anthropic": (
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n',
        b'data: {"type":"message_stop"}\n\n',
    ),
    "ollama": (
        b'{"message":{"role":"assistant","content":"a"},"done":false}\n',
        b'{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n',
    ),
}


@pytest.mark.parametrize(
    "after", [b"", b"data: {nonsense\n\n", b'data: {"error":{"message":"late"}}\n\n']
)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("provider", ENDINGS)
async def test_what_follows_the_end_does_not_matter(provider, marked, after):
    """A reply that the provider has called complete is whole, however the connection ends."""
    text, mark = ENDINGS[provider]
    after = after.removeprefix(b"data: ") if provider == "ollama" else after
    body = text + (mark + after if marked else b"")
    kind = b"application/x-ndjson" if provider == "ollama" else b"text/event-stream"

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: "
            + kind
            + b"\r\nContent-Length: 100000\r\n\r\n"
            + body
        )
        await writer.drain()
        await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, make(provider, SimpleNamespace(base_url=url, openai_url=url + "/v1")) as llm:
        stream = llm.stream("x")
        async with stream:
            if marked:
                assert (await stream.reply()).text == "a"
            else:
                with pytest.raises(StreamInterrupted) as error:
                    await stream.reply()
                assert error.value.partial.text == "a"
    assert stream.partial.finish_reason == ("stop" if marked or provider != "ollama" else None)


async def test_the_end_comes_too_early(llm, mock_llm):
    kind = "application/x-ndjson" if llm.provider == "ollama" else "text/event-stream"
    mock_llm.script(Raw(chunks=(b": nothing\n\n" if kind[0] == "t" else b"\n",), content_type=kind))
    async with llm.stream("x") as stream:
        with pytest.raises(StreamInterrupted, match="before the reply was complete"):
            await stream.reply()


async def test_silence(llm, mock_llm):
    mock_llm.script(Failure.stall(after=2))
    async with llm.stream("x", timeout=0.8) as stream:
        with pytest.raises(StreamInterrupted) as error:
            await stream.reply()
    assert isinstance(error.value.__cause__, ReadTimeout)


async def test_an_error_inside(llm, mock_llm):
    mock_llm.script(Failure.error_event(after=3, status=529, message="try later"))
    async with llm.stream("x") as stream:
        with pytest.raises(LLMError) as error:
            async for _ in stream:
                pass
    if llm.provider != "ollama":  # which gives words only
        assert isinstance(error.value, OverloadedError)
    assert error.value.message == "try later" and error.value.partial.text


async def test_an_error_named_by_its_event(llm, mock_llm):
    if llm.provider == "ollama":
        return
    event = b'event: error\ndata: {"message": "odd", "code": 429}\n\n'
    mock_llm.script(Raw(chunks=(event,), content_type="text/event-stream"))
    async with llm.stream("x") as stream:
        with pytest.raises(RateLimitError, match="odd"):
            await stream.reply()


async def test_an_event_that_is_broken(llm, mock_llm):
    mock_llm.script(Failure.malformed_event(after=3))
    async with llm.stream("x") as stream:
        with pytest.raises(InvalidReply) as error:
            await stream.reply()
    assert error.value.partial.text and error.value.body


@pytest.mark.parametrize("status", [200, 400, 429])
async def test_a_json_error_instead_of_a_stream(llm, mock_llm, status):
    mock_llm.script(Failure.json_error(status, message="no stream today"))
    with pytest.raises(LLMError, match="no stream today") as error:
        async with llm.stream("x"):
            pass
    if status > 200:
        assert error.value.status == status
        assert isinstance(error.value, {400: BadRequestError, 429: RateLimitError}[status])


async def test_a_whole_reply_instead_of_a_stream(llm, mock_llm):
    mock_llm.script(FULL)
    whole = await llm.chat("x")
    mock_llm.script(Raw(whole.raw), Raw(whole.raw))
    async with llm.stream("x") as stream:
        assert [text async for text in stream.text_stream] == [TEXT]
        assert (await stream.reply()).tool_calls == whole.tool_calls
    async with llm.stream("x") as stream:
        deltas = [delta async for delta in stream]
    assert [d.text for d in deltas if d.text] == [TEXT] and deltas[0].reasoning


async def test_no_stream_at_all(llm, mock_llm):
    mock_llm.script(Raw(b"<html>", content_type="text/html"))
    with pytest.raises(InvalidReply):
        async with llm.stream("x"):
            pass


async def test_the_ceiling_of_an_event(mock_llm):
    async with make("openai", mock_llm, max_event_bytes=4096) as llm:
        mock_llm.script(Reply(tokens=("a", "b", "x" * 5000)))
        async with llm.stream("x") as stream:
            seen = []
            with pytest.raises(ResponseTooLarge):
                async for text in stream.text_stream:
                    seen.append(text)
    assert seen == ["a", "b"]


async def test_a_stream_is_entered_once(llm, mock_llm):
    stream = llm.stream("x")
    with pytest.raises(RuntimeError, match="async with"):
        await stream.reply()
    async with stream:
        await stream.reply()
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass


async def test_reading_in_turns(llm, mock_llm):
    mock_llm.script("a b c d e f")
    async with llm.stream("x") as stream:
        first = await anext(aiter(stream.text_stream))
        second = (await anext(aiter(stream))).text
        reply = await stream.reply()
    assert (first, second) == ("a", " b") and reply.text == "a b c d e f"


async def test_several_answers(mock_llm):
    async with make("openai", mock_llm) as llm:
        mock_llm.script("a b c")
        async with llm.stream("x", n=2) as stream:
            deltas = [delta async for delta in stream]
        assert (await stream.reply()).texts == ["a b c", "a b c"]
        assert "".join(d.text for d in deltas if d.choice == 1) == "a b c"
        mock_llm.script("a b c")
        async with llm.stream("x", n=2, logprobs=True) as stream:
            assert "".join([t async for t in stream.text_stream]) == "a b c"
        probs = (await stream.reply()).json()["choices"][0]["logprobs"]["content"]
        assert [p["token"] for p in probs] == ["a", " b", " c"]


async def test_a_chunk_with_a_message_instead_of_a_delta(mock_llm):
    body = (
        b'data: {"choices":[{"index":0,"message":{"role":"assistant","content":"all of it"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[{"index":0,"message":{"role":"assistant","content":"all of it"}}]}\n\ndata: [DONE]\n\n'
    )
    mock_llm.script(Raw(body, content_type="text/event-stream"))
    async with make("openai", mock_llm) as llm, llm.stream("x") as stream:
        assert [delta.text async for delta in stream] == ["all of it"]


async def test_many_at_once(llm, mock_llm):
    mock_llm.script(*[f"number {i} " + "word " * 20 for i in range(50)])

    async def one():
        async with llm.stream("x") as stream:
            return (await stream.reply()).text

    texts = await asyncio.gather(*(one() for _ in range(50)))
    assert sorted(texts) == sorted(f"number {i} " + "word " * 20 for i in range(50))
