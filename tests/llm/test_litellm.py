"""Through LiteLLM's proxy, which nobody here wrote: OpenAI's and Anthropic's routes, plain and streamed, errors, tools."""

from __future__ import annotations

import asyncio
import os

import pytest
from llmcurl.llm import (
    Anthropic,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    LLMError,
    OpenAI,
    RateLimitError,
    ServerError,
)
from llmcurl.testing import Failure, Reply, ToolCall
from servers.litellm import TEXT, litellm
from servers.nginx import Missing

TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {}},
    },
}

pytestmark = [
    pytest.mark.timeout(180),  # the first test waits for the proxy
    pytest.mark.no_asan,  # nothing here that the mock does not show
]


@pytest.fixture(scope="module")
def proxy(_mock_llm_process):
    try:
        with litellm(_mock_llm_process.openai_url, _mock_llm_process.base_url) as running:
            yield running
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


def client(route: str, proxy):
    if route == "openai":
        return OpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key, timeout=60)
    return Anthropic(base_url=proxy.url, api_key=proxy.key, timeout=60)


@pytest.fixture
async def openai(proxy, mock_llm):
    async with client("openai", proxy) as llm:
        yield llm


@pytest.fixture
async def anthropic(proxy, mock_llm):
    async with client("anthropic", proxy) as llm:
        yield llm


@pytest.fixture(params=["openai", "anthropic"])
async def llm(request, proxy, mock_llm):
    async with client(request.param, proxy) as llm:
        yield llm


async def streamed(llm, **params):
    async with llm.stream("Hi", **params) as stream:
        pieces = [text async for text in stream.text_stream]
        return pieces, await stream.reply()


async def test_canned_answers_of_the_openai_route(openai):
    reply = await openai.chat("Hi", model="canned")
    assert reply.text == TEXT and reply.finish_reason == "stop"
    assert reply.usage.total_tokens == 30 and reply.id.startswith("chatcmpl-")
    pieces, reply = await streamed(openai, model="canned")
    assert len(pieces) > 5 and "".join(pieces) == TEXT == reply.text
    assert reply.finish_reason == "stop" and reply.usage.output_tokens > 0
    assert (await openai.chat("Hi", model="canned", n=2)).texts == [TEXT, TEXT]


async def test_canned_answers_of_the_anthropic_route(anthropic):
    reply = await anthropic.chat("Hi", model="canned-claude")
    assert reply.text == TEXT and reply.finish_reason == "stop"
    assert reply.usage.output_tokens > 0 and reply.id.startswith("msg_")
    # Canned, it gives the whole answer where a stream was asked for.
    pieces, reply = await streamed(anthropic, model="canned-claude")
    assert "".join(pieces) == TEXT == reply.text


@pytest.mark.parametrize("model", ["passed-on", "passed-on-claude"])
async def test_passed_on_to_the_mock(llm, model, mock_llm):
    """Four ways: each route in front of each protocol; the proxy's own clients read the mock's answers."""
    call = ToolCall("f", {"city": "Zürich"}, id="call_1")
    answer = Reply("Let me see: \u2603.", tool_calls=(call,), input_tokens=11, output_tokens=5)
    mock_llm.script(answer, answer)
    plain = await llm.chat("Hi", model=model, tools=[TOOL])
    pieces, whole = await streamed(llm, model=model, tools=[TOOL])
    assert "".join(pieces) == "Let me see: \u2603." and len(pieces) > 1
    for reply in (plain, whole):
        assert reply.text == "Let me see: \u2603." and reply.finish_reason == "tool_calls"
        assert [(c.name, c.json(), c.id) for c in reply.tool_calls] == [
            ("f", {"city": "Zürich"}, "call_1")
        ]
        assert reply.usage.output_tokens == 5
    assert [bool(r.json.get("stream")) for r in mock_llm.requests] == [False, True]


async def test_a_conversation_with_tools(openai, mock_llm):
    async def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    mock_llm.script(Reply(tool_calls=(ToolCall("weather", {"city": "Oslo"}),)), "Take an umbrella.")
    done = await openai.run("Oslo?", model="passed-on", tools=[weather])
    assert done.text == "Take an umbrella."
    last = mock_llm.requests[-1].json["messages"]
    assert last[-1]["role"] == "tool" and last[-1]["content"] == "rain in Oslo"


@pytest.mark.parametrize(
    ("model", "kind", "status"),
    [
        ("limited", RateLimitError, 429),
        ("too-long", ContextLengthError, 400),
        ("down", ServerError, 500),
        ("nonsense", BadRequestError, 400),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_errors(openai, model, kind, status, stream):
    with pytest.raises(kind) as error:
        await (streamed(openai, model=model) if stream else openai.chat("Hi", model=model))
    assert error.value.status == status and error.value.message


async def test_a_wrong_key(proxy):
    async with OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-wrong", timeout=60) as llm:
        with pytest.raises(LLMError) as error:  # without its database it calls it a 400
            await llm.chat("Hi", model="canned")
    assert error.value.status in (400, 401) and "sk-wrong" not in str(error.value)
    assert isinstance(error.value, (AuthenticationError, BadRequestError))


async def test_an_error_in_the_middle_of_a_stream(openai, mock_llm):
    answer = Reply("one two three four five", token_interval=0.1)
    mock_llm.script(Failure.cut(after=3, reply=answer))
    with pytest.raises(LLMError) as error:
        await streamed(openai, model="passed-on")
    assert error.value.partial.text.startswith("one two")


async def test_models(openai):
    assert {"canned", "passed-on"} <= {model.id for model in await openai.models()}


async def test_many_streams_at_once(openai, mock_llm):
    mock_llm.configure(reply=Reply("a stream of a few words, in order"))
    found = await asyncio.gather(*(streamed(openai, model="passed-on") for _ in range(30)))
    assert {"".join(pieces) for pieces, _ in found} == {"a stream of a few words, in order"}
