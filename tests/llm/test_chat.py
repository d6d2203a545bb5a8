"""chat, embed, models: the same for all providers."""

from __future__ import annotations

import array
import importlib.util

import pytest
from common import KEY, PROVIDERS, make
from llmcurl import AsyncClient
from llmcurl.llm import InvalidReply, OpenAI, Reply, ToolCall
from llmcurl.testing import Failure, Raw
from llmcurl.testing import Reply as Answer
from llmcurl.testing import ToolCall as Call

if importlib.util.find_spec("numpy"):
    import numpy  # here, since it starts threads that stay
else:
    numpy = None

ANSWER = Answer(
    "Brave new words.",
    reasoning="Think first.",
    tool_calls=(Call("get_weather", {"city": "Oslo"}),),
    input_tokens=11,
    output_tokens=7,
)


@pytest.fixture(params=PROVIDERS)
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


async def test_a_text_and_a_reply(llm, mock_llm):
    mock_llm.script("Hello é \U0001f600!")
    reply = await llm.chat("Say hello.")
    assert isinstance(reply, Reply) and reply.provider == llm.provider
    assert reply.text == "Hello é \U0001f600!" and reply.texts == [reply.text]
    assert reply.finish_reason == "stop" and reply.tool_calls == [] and reply.reasoning == ""
    assert reply.model == "mock-1" and (reply.id or llm.provider == "ollama")
    assert reply.request_id and reply.timings.done > 0
    assert reply.response.content == reply.raw and "Hello" in repr(reply)
    assert isinstance(reply.json(), dict)


async def test_everything_in_a_reply(llm, mock_llm):
    mock_llm.script(ANSWER)
    reply = await llm.chat("Hm?")
    assert reply.text == "Brave new words." and reply.reasoning == "Think first."
    assert [(c.name, c.json()) for c in reply.tool_calls] == [("get_weather", {"city": "Oslo"})]
    assert reply.finish_reason == "tool_calls"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (11, 7)
    assert reply.usage.total_tokens == 18


async def test_the_conversation_goes_on(llm, mock_llm):
    mock_llm.script(ANSWER, "Sunny.")
    first = await llm.chat([{"role": "system", "content": "Be brief."}, "Weather?"])
    call = first.tool_calls[0]
    tool = {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": "20 degrees"}
    assert (await llm.chat(["Weather?", first, tool, "And?"])).text == "Sunny."
    assert len(mock_llm.requests) == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_finish_reasons(llm, mock_llm, reason):
    mock_llm.script(Answer("x", finish_reason=reason))
    expected = "stop" if (llm.provider, reason) == ("ollama", "content_filter") else reason
    assert (await llm.chat("Hm?")).finish_reason == expected


async def test_the_key_goes_into_its_header_only(llm, mock_llm):
    mock_llm.configure(api_key=KEY)
    await llm.chat("Hm?")
    assert KEY not in repr(llm) and KEY not in mock_llm.requests[0].target


async def test_parsed_into_a_type(llm, mock_llm):
    mock_llm.script('{"a": [1, 2]}')
    reply = await llm.chat("JSON!")
    assert reply.parse(dict[str, list[int]]) == {"a": [1, 2]}
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Answer", a=(list[int], ...))
    assert reply.parse(model) == model(a=[1, 2])
    with pytest.raises(ValueError):
        reply.parse(pydantic.create_model("Answer", b=(int, ...)))


async def test_models(llm):
    models = await llm.models()
    assert [model.id for model in models] == ["mock-1", "mock-2"]
    assert models[0].details


async def test_embeddings(llm):
    if llm.provider == "anthropic":
        with pytest.raises(NotImplementedError):
            await llm.embed("a")
        return
    found = await llm.embed(["one", "two", "one"])
    assert len(found) == 3 and found.dimensions == 256
    assert found[0] == found[-1] != found[1] and len(found[0:2]) == 2
    assert isinstance(found.data, array.array) and found.data.typecode == "f"
    assert abs(sum(x * x for x in found[0]) - 1) < 1e-3
    assert found.tolist()[1] == found[1].tolist()
    with pytest.raises(IndexError):
        found[3]
    single = await llm.embed("one")
    assert len(single) == 1 and single[0] == found[0]
    assert [v.tolist() for v in single] == single.tolist()


async def test_embeddings_as_numpy(llm):
    if numpy is None:
        pytest.skip("no numpy")
    if llm.provider == "anthropic":
        return
    found = await llm.embed(["one", "two"])
    matrix = found.numpy()
    assert matrix.shape == (2, 256) and matrix.dtype == numpy.float32
    assert matrix.base is not None  # the same memory


async def test_a_client_of_ones_own_stays_open(mock_llm):
    async with AsyncClient(cookies={}) as client:
        async with OpenAI(base_url=mock_llm.openai_url, model="m", client=client) as llm:
            mock_llm.script("a", "b")
            assert (await llm.chat("x")).text == "a"
            async with llm.stream("x") as stream:
                assert (await stream.reply()).text == "b"
        assert not client.is_closed


async def test_what_is_no_reply(llm, mock_llm):
    mock_llm.script(Failure.malformed_event(after=1))
    with pytest.raises(InvalidReply):
        await llm.chat("x")
    mock_llm.script(Raw(b"<html>", content_type="text/html"))
    with pytest.raises(InvalidReply):
        await llm.chat("x")
    mock_llm.script(Raw(b'{"choices": 1, "content": 1, "candidates": 1, "message": 1}'))
    reply = await llm.chat("x")
    assert "invalid" in repr(reply)
    with pytest.raises(InvalidReply):
        reply.text  # noqa: B018


async def test_arguments(llm):
    for wrong in ([], 5, [5]):
        with pytest.raises((TypeError, ValueError)):
            await llm.chat(wrong)
    with pytest.raises(TypeError, match="use stream"):
        await llm.chat("x", stream=True)
    llm.model = None
    with pytest.raises(TypeError, match="which model"):
        await llm.chat("x")
    with pytest.raises(TypeError, match="which model"):
        llm.stream("x")


def test_tool_call_arguments():
    assert ToolCall("f", "").json() == {}
    with pytest.raises(ValueError):
        ToolCall("f", "{").json()
