"""What compatible servers and gateways really send: other labels, other places, almost JSON."""

from __future__ import annotations

import json

import pytest
from common import KEY, make
from llmcurl import AsyncClient, ResponseTooLarge, StreamTimeout
from llmcurl.llm import (
    AuthenticationError,
    ContextLengthError,
    InvalidReply,
    OpenAI,
    OverloadedError,
    RateLimitError,
    ServerError,
    StreamInterrupted,
    StreamTimedOut,
)
from llmcurl.testing import Raw

SSE = "text/event-stream"
DONE = "data: [DONE]\n\n"


def sse(*events: object) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def chunk(delta: dict, finish: str | None = None) -> dict:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def openai(*deltas: dict, finish: str = "stop") -> str:
    return (
        sse(chunk({"role": "assistant", "content": ""}), *map(chunk, deltas), chunk({}, finish))
        + DONE
    )


def anthropic(start: dict, *deltas: dict) -> str:
    events = [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    return sse(*events)


def gemini(*texts: str) -> str:
    parts = [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in texts]
    parts[-1]["candidates"][0]["finishReason"] = "STOP"
    return sse(*parts)


def ollama(*texts: str) -> str:
    lines = [{"message": {"content": text}, "done": False} for text in texts]
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"message": {}, "done": True}])


async def streamed(provider: str, mock, body: str | bytes, kind: str = SSE, cut: bool = False):
    """The reply to a stream of these bytes, after a check that the deltas tell the same."""
    data = body if isinstance(body, bytes) else body.encode()
    chunks = tuple(data[i : i + 1] for i in range(len(data))) if cut else (data,)
    mock.script(Raw(chunks=chunks, content_type=kind))
    async with make(provider, mock) as llm, llm.stream("x") as stream:
        deltas = [delta async for delta in stream]
        reply = await stream.reply()
    assert "".join(delta.text for delta in deltas) == reply.text
    assert "".join(delta.reasoning for delta in deltas) == reply.reasoning
    calls: dict[int, list[str]] = {}
    for piece in (delta.tool_call for delta in deltas if delta.tool_call):
        call = calls.setdefault(piece.index, ["", "", ""])
        for at, text in enumerate((piece.name, piece.id, piece.arguments)):
            call[at] += text
    assert [call for _, call in sorted(calls.items())] == [
        [call.name, call.id, call.arguments] for call in reply.tool_calls
    ]
    return reply


# Labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SSE, "text/plain", "application/json", ""])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("indent", [None, 2])
async def test_an_error_in_place_of_events(mock_llm, kind, cut, indent):
    body = json.dumps({"error": {"message": "no", "code": 429, "type": "t"}}, indent=indent)
    with pytest.raises(RateLimitError) as error:
        await streamed("openai", mock_llm, "\n" + body, kind, cut)
    assert (error.value.status, error.value.message, error.value.type) == (429, "no", "t")
    with pytest.raises(OverloadedError) as error:
        body = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})
        await streamed("anthropic", mock_llm, body, kind, cut)
    assert error.value.type == "overloaded_error"
    with pytest.raises(RateLimitError) as error:  # Google's form where alt=sse is not heard
        details = [{"@type": "RetryInfo", "retryDelay": "17s"}]
        body = json.dumps([{"error": {"code": 429, "message": "m", "details": details}}])
        await streamed("gemini", mock_llm, body, kind, cut)
    assert error.value.retry_after == 17


async def test_a_reply_in_place_of_events(mock_llm):
    body = {"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
    assert (await streamed("openai", mock_llm, json.dumps(body))).text == "whole"
    events = [json.loads(line[6:]) for line in gemini("a", "b").split("\n") if line]
    assert (await streamed("gemini", mock_llm, json.dumps(events), "application/json")).text == "ab"


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
@pytest.mark.parametrize("cut", [False, True])
async def test_events_under_another_name(mock_llm, kind, cut):
    text = {"content": "hello"}
    assert (
        await streamed("openai", mock_llm, ": hi\n\n" + openai(text), kind, cut)
    ).text == "hello"
    assert (await streamed("gemini", mock_llm, gemini("a", "b"), kind, cut)).text == "ab"
    assert (await streamed("ollama", mock_llm, ollama("a", "b"), kind, cut)).text == "ab"


async def test_what_begins_as_json_and_is_none_stays_a_line_without_meaning(mock_llm):
    reply = await streamed("openai", mock_llm, "{x\n\n" + openai({"content": "a"}))
    assert reply.text == "a"
    with pytest.raises(StreamInterrupted):
        await streamed("openai", mock_llm, "{x\n\n")


@pytest.mark.parametrize("start", ["{", "[", '{"a":'])
async def test_time_outs_hold_while_it_is_not_clear_what_comes(mock_llm, start):
    """Each wait for the rest of what looks like JSON is under the stream's own limits."""
    mock_llm.script(Raw(chunks=(start.encode(), b" "), gap=30.0, content_type=SSE))
    async with make("openai", mock_llm, stream_timeout=StreamTimeout(first_token=0.2)) as llm:
        with pytest.raises(StreamTimedOut) as error:
            async with llm.stream("x"):
                pass
    assert error.value.which == "first_token"


async def test_the_clients_ceiling_holds_for_a_whole_reply(mock_llm):
    body = json.dumps({"choices": [{"message": {"content": "x" * 5000}}]}).encode()
    mock_llm.script(Raw(body), Raw(body, status=500))
    async with AsyncClient(max_response_bytes=4096) as client:
        llm = make("openai", mock_llm, client=client)
        for _ in range(2):
            with pytest.raises(ResponseTooLarge):
                async with llm.stream("x"):
                    pass


async def test_an_error_status_with_the_body_of_a_stream(mock_llm):
    mock_llm.script(Raw(b'event: error\ndata: {"error":{"message":"m","code":"c"}}\n', status=500))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(ServerError) as error:
            await llm.chat("x")
    assert (error.value.message, error.value.code) == ("m", "c")


async def test_heartbeats_without_data(mock_llm):
    reply = await streamed("openai", mock_llm, "data:\n\ndata: \n\n" + openai({"content": "a"}))
    assert reply.text == "a"


# Characters -----------------------------------------------------------------------------------

CUT = ("a\ud83d", "\ude00b")


@pytest.mark.parametrize(
    "provider, kind, body",
    [
        ("openai", SSE, openai(*({"content": text} for text in CUT))),
        ("openai", SSE, openai(*({"reasoning_content": text} for text in CUT))),
        ("anthropic", SSE, anthropic({"type": "text", "text": ""}, *({"type": "text_delta", "text": text} for text in CUT))),
        ("anthropic", SSE, anthropic({"type": "thinking", "thinking": ""}, *({"type": "thinking_delta", "thinking": text} for text in CUT))),
        ("gemini", SSE, gemini(*CUT)),
        ("ollama", "application/x-ndjson", ollama(*CUT)),
    ],
)  # fmt: skip
async def test_a_surrogate_pair_in_two_events(mock_llm, provider, kind, body):
    reply = await streamed(provider, mock_llm, body, kind)
    assert reply.text + reply.reasoning == "a\U0001f600b"
    json.dumps(reply.json()).encode()


async def test_surrogates_of_two_answers_and_of_arguments(mock_llm):
    def two(first: str, second: str) -> dict:
        pairs = ((0, first), (1, second))
        return {"choices": [{"index": i, "delta": {"content": text}} for i, text in pairs]}

    body = sse(two("\ud83d", "\ud83c"), two("\ude00", "\udf0d"), chunk({}, "stop")) + DONE
    mock_llm.script(Raw(body.encode(), content_type=SSE))
    async with make("openai", mock_llm) as llm, llm.stream("x", n=2) as stream:
        assert (await stream.reply()).texts == ["\U0001f600", "\U0001f30d"]
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ('"\ud83d', '\ude00"')]
    pieces[0] |= {"id": "i"}
    reply = await streamed("openai", mock_llm, openai(*({"tool_calls": [p]} for p in pieces)))
    assert reply.tool_calls[0].json() == "\U0001f600"


@pytest.mark.parametrize("text", ["a\ud83d", "\ude00a", "a\ud83db"])
async def test_a_half_alone_costs_no_other_character(mock_llm, text):
    body = {"choices": [{"message": {"content": text}}]}
    mock_llm.script(Raw(json.dumps(body).encode()))
    async with make("openai", mock_llm) as llm:
        expected = "".join(c if c.isascii() else "\ufffd" for c in text)
        assert (await llm.chat("x")).text == expected
    reply = await streamed("openai", mock_llm, openai({"content": text}, {"content": "c"}))
    assert (
        "".join(c for c in reply.text if c.isascii())
        == text.encode("ascii", "ignore").decode() + "c"
    )


async def test_what_is_almost_json(mock_llm):
    choice = (
        b'"message":{"content":"\xffa"},"logprobs":{"content":[{"token":"a","logprob":-Infinity}]}'
    )
    mock_llm.script(Raw(b'\xef\xbb\xbf{"usage":{"prompt_tokens":3.0},"choices":[{%s}]}' % choice))
    async with make("openai", mock_llm) as llm:
        reply = await llm.chat("x")
    assert (reply.text, reply.usage.input_tokens) == ("\ufffda", 3)
    assert reply.logprobs[0].logprob == -9999
    event = b'data: {"choices":[{"index":0,%s}]}\n\n' % choice.replace(b"message", b"delta")
    reply = await streamed("openai", mock_llm, event + openai().encode())
    assert reply.text == "\ufffda" and reply.logprobs[0].logprob == -9999


async def test_nested_too_deeply(mock_llm):
    deep = b"[" * 100_000
    mock_llm.script(Raw(b'{"choices":%s' % deep))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(InvalidReply):
            await llm.chat("x")
    with pytest.raises(InvalidReply):
        await streamed("openai", mock_llm, b'data: {"x":%s\n\n' % deep)


@pytest.mark.parametrize("event", ["null", "1", '"x"', "[]"])
async def test_an_event_that_is_no_object(mock_llm, event):
    with pytest.raises(InvalidReply, match="no JSON object"):
        await streamed(
            "openai", mock_llm, openai({"content": "a"}).replace(DONE, f"data: {event}\n\n")
        )


async def test_an_end_within_an_event(mock_llm):
    for provider, kind, body in (
        ("ollama", "application/x-ndjson", ollama("a", "b")[:-10]),
        ("openai", SSE, openai({"content": "a"})[:-40]),
    ):
        with pytest.raises(StreamInterrupted, match="within an event") as error:
            await streamed(provider, mock_llm, body, kind)
        assert error.value.partial.text.startswith("a")


# Fields ---------------------------------------------------------------------------------------


def call(index: int | None, ident: str = "", name: str = "", arguments: str = "") -> dict:
    made = {"id": ident, "function": {"name": name, "arguments": arguments}}
    return made if index is None else {"index": index, **made}


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "i", "f"), call(0, "", "", "{}"), call(1, "j", "g"), call(1, "", "", "[]")],
        [call(0, "i", "f"), call(0, "", "", "{}"), call(0, "j", "g"), call(0, "", "", "[]")],
        [call(None, "i", "f"), call(None, "", "", "{}"), call(None, "j", "g"), call(None, "", "", "[]")],
        [call(1, "i", "f", "{}"), call(1, "j", "g", "[]")],
        [call(0, "i", "f"), call(0, "i", "f", "{}"), call(1, "j", "g"), call(1, "j", "g", "[]")],
        [call(1, "j", "g"), call(0, "i", "f"), call(1, "", "", "[]"), call(0, "", "", "{}")],
    ],
)  # fmt: skip
async def test_pieces_of_tool_calls(mock_llm, pieces):
    body = openai(*({"tool_calls": [piece]} for piece in pieces), finish="tool_calls")
    reply = await streamed("openai", mock_llm, body)
    calls = [(call.id, call.name, call.arguments) for call in reply.tool_calls]
    assert calls == [("i", "f", "{}"), ("j", "g", "[]")]


async def test_tool_calls_without_id_and_index(mock_llm):
    body = openai(*({"tool_calls": [call(None, "", name, "{}")]} for name in "fg"))
    assert [c.name for c in (await streamed("openai", mock_llm, body)).tool_calls] == ["f", "g"]


async def test_a_reason_to_end_that_is_none(mock_llm):
    """Some servers name an empty one in each chunk: the reply is not over for that."""
    body = sse(chunk({"content": "a"}, ""), chunk({"content": "b"}, ""))
    with pytest.raises(StreamInterrupted) as error:
        await streamed("openai", mock_llm, body)
    assert (error.value.partial.text, error.value.partial.finish_reason) == ("ab", None)
    assert (await streamed("openai", mock_llm, body + DONE)).finish_reason is None
    content = {"parts": [{"text": "a"}]}
    event = {"candidates": [{"content": content, "finishReason": "FINISH_REASON_UNSPECIFIED"}]}
    with pytest.raises(StreamInterrupted):
        await streamed("gemini", mock_llm, sse(event, event))


async def test_custom_tools(mock_llm):
    first = {"index": 0, "id": "i", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}
    body = openai(
        {"tool_calls": [first]}, {"tool_calls": [{"index": 0, "custom": {"input": " 1"}}]}
    )
    reply = await streamed("openai", mock_llm, body)
    assert (reply.tool_calls[0].name, reply.tool_calls[0].arguments) == ("sql", "SELECT 1")
    assert reply.message["tool_calls"] == [
        {"id": "i", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    ]


async def test_pieces_of_other_fields(mock_llm):
    body = openai(
        {"function_call": {"name": "f", "arguments": '{"a"'}},
        {"function_call": {"arguments": ":1}"}, "audio": {"id": "u", "data": "AA"}},
        {"audio": {"data": "BB"}},
    )
    message = (await streamed("openai", mock_llm, body)).message
    assert message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert message["audio"] == {"id": "u", "data": "AABB"}


async def test_logprobs_are_not_looked_at_before_they_are_asked_for(mock_llm):
    body = {"choices": [{"message": {"content": "a"}, "logprobs": {"content": "not a list"}}]}
    mock_llm.script(Raw(json.dumps(body).encode()))
    async with make("openai", mock_llm) as llm:
        reply = await llm.chat("x")
    assert reply.text == "a" and reply.usage.input_tokens is None
    with pytest.raises(InvalidReply, match="logprobs"):
        _ = reply.logprobs


async def test_a_refusal(mock_llm):
    reply = await streamed("openai", mock_llm, openai({"refusal": "I "}, {"refusal": "won't"}))
    assert reply.text == "I won't" and reply.message["refusal"] == "I won't"


async def test_thoughts_as_parts(mock_llm):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    reply = await streamed("openai", mock_llm, openai({"content": parts}, {"content": "A"}))
    whole = [*parts, {"type": "text", "text": "A"}]
    assert (reply.text, reply.reasoning, reply.message["content"]) == ("A", "hm", whole)


async def test_an_error_within_a_choice(mock_llm):
    """OpenRouter's place for what the provider behind it says."""
    choice = {"index": 0, "finish_reason": "error", "error": {"code": 502, "message": "gone"}}
    body = sse(chunk({"content": "a"}), {"choices": [{**choice, "delta": {"content": ""}}]}) + DONE
    with pytest.raises(ServerError, match="gone") as error:
        await streamed("openai", mock_llm, body)
    assert error.value.status == 502 and error.value.partial.text == "a"
    whole = {"choices": [{**choice, "message": {"content": "a"}}]}
    mock_llm.script(Raw(json.dumps(whole).encode()))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(ServerError, match="gone") as error:
            await llm.chat("x")
        assert error.value.partial.text == "a"
        whole["choices"][0]["error"] = None
        whole["error"] = {}
        mock_llm.script(Raw(json.dumps(whole).encode()))
        assert (await llm.chat("x")).text == "a"


async def test_arguments_that_are_no_json(mock_llm):
    start = {"type": "tool_use", "id": "i", "name": "f", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"a": tru'}
    reply = await streamed("anthropic", mock_llm, anthropic(start, delta))
    assert reply.tool_calls[0].arguments == '{"a": tru'
    assert reply.message["content"][0]["input"] == {"INVALID_JSON": '{"a": tru'}
    whole = anthropic({**start, "input": {"a": 1}})
    assert (await streamed("anthropic", mock_llm, whole)).tool_calls[0].json() == {"a": 1}


async def test_an_older_ollama_does_not_say_why_it_ended(mock_llm):
    reply = await streamed("ollama", mock_llm, ollama("a"), "application/x-ndjson")
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("rows", [[], [{"embedding": "!!!!"}], [{"embedding": [1]}] * 2])
async def test_embeddings_that_do_not_fit_the_texts(mock_llm, rows):
    mock_llm.script(Raw(json.dumps({"data": rows}).encode()))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(InvalidReply, match="embeddings have not the expected form"):
            await llm.embed("x")


# Errors ---------------------------------------------------------------------------------------


async def test_a_redirect_is_told(mock_llm):
    fields = {"location": "https://else.where/v1/chat?key=secret"}
    mock_llm.script(Raw(b"", status=307, headers=fields), Raw(b"{}", status=307, headers=fields))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(InvalidReply, match="redirects to https://else.where") as error:
            await llm.chat("x")
        assert "secret" not in str(error.value)
        with pytest.raises(InvalidReply, match="redirects to https://else.where"):
            async with llm.stream("x"):
                pass


@pytest.mark.parametrize(
    "error",
    [
        {"type": "exceed_context_size_error", "message": "the request is too long for me"},
        {"message": "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000"},
        {"message": "`inputs` tokens + `max_new_tokens` must be <= 4096"},
        {"message": "maximum context length is 4096 tokens"},
    ],
)
async def test_the_words_for_too_long(mock_llm, error):
    mock_llm.script(Raw(json.dumps({"error": error}).encode(), status=400))
    async with make("openai", mock_llm) as llm:
        with pytest.raises(ContextLengthError):
            await llm.chat("x")


async def test_content_of_an_odd_type(mock_llm):
    async with make("openai", mock_llm) as llm:
        for content, text in ((5, ""), (["a", 5, {"type": "text", "text": "b"}], "ab")):
            body = {"choices": [{"message": {"content": content}}]}
            mock_llm.script(Raw(json.dumps(body).encode()))
            assert (await llm.chat("x")).text == text


async def test_no_secret_header_is_told(mock_llm):
    body = json.dumps({"error": {"message": "bad token tok-in-header, tok-of-call"}})
    async with AsyncClient() as client:
        llm = OpenAI(
            base_url=mock_llm.openai_url,
            model="m",
            api_key=KEY,
            client=client,
            headers={"Api-Key": "tok-in-header"},
        )
        mock_llm.script(Raw(body.encode(), status=401))
        with pytest.raises(AuthenticationError) as error:
            await llm.chat("x", headers={"Authorization": "Bearer tok-of-call"})
    told = repr(vars(error.value)) + str(error.value)
    assert "tok-in-header" not in told and "tok-of-call" not in told and "bad token ***" in told
