"""Probabilities of tokens, several answers to one call, and what a stream that was left still knows."""

from __future__ import annotations

import json

import pytest
from common import PROVIDERS, make, until
from llmcurl.llm import Choice, InvalidReply, StreamInterrupted, image
from llmcurl.testing import Failure, Raw, Reply, ToolCall

TEXT = "alpha beta gamma"
TOKENS = ["alpha", " beta", " gamma"]


@pytest.fixture(params=["openai", "gemini", "ollama"])
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


async def ask(llm, stream: bool, **params):
    if not stream:
        return await llm.chat("x", **params)
    async with llm.stream("x", **params) as found:
        return await found.reply()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_logprobs(llm, mock_llm, stream):
    mock_llm.script(TEXT, TEXT)
    reply = await ask(llm, stream, logprobs=True, top_logprobs=2)
    assert [one.token for one in reply.logprobs] == TOKENS
    assert {one.logprob for one in reply.logprobs} == {-0.25}
    assert [top.token for top in reply.logprobs[1].top_logprobs] == [" beta", " beta~1"]
    assert [top.logprob for top in reply.logprobs[1].top_logprobs] == [-0.25, -1.25]
    if llm.provider != "gemini":
        assert bytes(reply.logprobs[0].bytes) == b"alpha"
    assert reply.choices[0].logprobs == reply.logprobs
    assert (await ask(llm, stream)).logprobs is None


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_several_answers(llm, mock_llm, stream):
    if llm.provider == "ollama":
        pytest.skip("Ollama gives one answer")
    mock_llm.script(TEXT, Reply(tool_calls=(ToolCall("f", {"a": 1}),)))
    reply = await ask(llm, stream, n=3, logprobs=True)
    assert reply.texts == [TEXT] * 3
    assert [c.finish_reason for c in reply.choices] == ["stop"] * 3
    assert [[one.token for one in c.logprobs] for c in reply.choices] == [TOKENS] * 3
    reply = await ask(llm, stream, n=2)
    assert [[(c.name, c.json()) for c in one.tool_calls] for one in reply.choices] == [
        [("f", {"a": 1})]
    ] * 2
    assert {c.finish_reason for c in reply.choices} == {"tool_calls"}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_one_answer_is_a_choice_too(provider, mock_llm):
    mock_llm.script(Reply(TEXT, reasoning="Hm."))
    async with make(provider, mock_llm) as llm:
        reply = await llm.chat("x")
    assert reply.choices == [Choice(TEXT, "Hm.", [], "stop", None)]


async def test_logprobs_of_a_wrong_form(mock_llm):
    body = {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": 1}]}}]}
    mock_llm.script(Raw(json.dumps(body)))
    async with make("openai", mock_llm) as llm:
        reply = await llm.chat("x")
        assert reply.text == "x"  # what is not asked for is not looked at
        with pytest.raises(InvalidReply, match="logprobs"):
            _ = reply.logprobs


async def test_a_long_streamed_reply_keeps_every_probability(mock_llm):
    words = [f" w{i}" for i in range(3000)]
    mock_llm.script(Reply(tokens=tuple(words)))
    async with make("openai", mock_llm) as llm:
        reply = await ask(llm, True, logprobs=True)
    assert [one.token for one in reply.logprobs] == words


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_leaves_early_keeps_what_had_arrived_unread(provider, mock_llm):
    """Two bursts: the first is read in part, the second lies in the native buffer."""
    words = tuple(f" w{i}" for i in range(40))
    mock_llm.script(Reply(tokens=words))
    async with make(provider, mock_llm) as llm:
        async with llm.stream("x") as whole:
            kind = whole.response.headers["content-type"]
            body = b"".join([chunk async for chunk in whole.response.aiter_bytes()])
        separator = (
            b"\n" if provider == "ollama" else b"\r\n\r\n" if provider == "gemini" else b"\n\n"
        )
        pieces = [piece + separator for piece in body.split(separator) if piece]
        bursts = (b"".join(pieces[:10]), b"".join(pieces[10:20]), b"".join(pieces[20:30]))
        mock_llm.script(Raw(chunks=bursts, content_type=kind, gap=0.05))
        async with llm.stream("x") as stream:
            async for text in stream.text_stream:
                assert text == " w0"
                break
            native = stream.response._stream
            await until(lambda: native.received >= len(bursts[0]) + len(bursts[1]))
        assert stream.text.startswith("".join(words[:15])), "the second burst is kept"
        assert stream.partial.finish_reason is None
        if provider in ("anthropic", "gemini"):  # the others tell it at the end only
            assert stream.usage.input_tokens > 0
        with pytest.raises(StreamInterrupted) as error:
            await stream.reply()
        assert error.value.partial.text == stream.text


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_had_arrived_whole_is_whole_after_leaving(provider, mock_llm):
    mock_llm.script(Reply(TEXT, input_tokens=7, output_tokens=3))
    async with make(provider, mock_llm) as llm:
        async with llm.stream("x") as whole:
            kind = whole.response.headers["content-type"]
            body = b"".join([chunk async for chunk in whole.response.aiter_bytes()])
        mock_llm.script(Raw(chunks=(body[:-20], body[-20:]), content_type=kind, gap=0.05))
        async with llm.stream("x") as stream:
            async for _ in stream.text_stream:
                break
            await until(lambda: stream.response._stream.received == len(body))
        assert stream.text == TEXT
        assert stream.usage.output_tokens == 3 and stream.usage.input_tokens == 7
        assert stream.partial.finish_reason == "stop"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_stall_after_which_the_task_gives_up(provider, mock_llm):
    mock_llm.script(Failure.stall(after=2, reply=Reply(TEXT)))
    async with make(provider, mock_llm) as llm:
        stream = llm.stream("x", timeout=0.8)
        with pytest.raises(StreamInterrupted) as error:
            async with stream:
                async for _ in stream:
                    pass
        assert error.value.partial.text == "alpha beta" == stream.text


async def test_images_by_url_tell_gemini_their_type(mock_llm):
    async with make("gemini", mock_llm) as llm:
        await llm.chat({"role": "user", "content": [image("https://example.com/a.jpg?x=1")]})
        await llm.chat({"role": "user", "content": [image("gs://bucket/what")]})
    files = [request.json["contents"][0]["parts"][0]["fileData"] for request in mock_llm.requests]
    assert files[0] == {"fileUri": "https://example.com/a.jpg?x=1", "mimeType": "image/jpeg"}
    assert files[1] == {"fileUri": "gs://bucket/what"}
    with pytest.raises(TypeError, match="media_type"):
        image("https://example.com/a", "image/png")
