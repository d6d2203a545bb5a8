"""The same call by the provider's own client and by ours, recorded side by side: tools, images, schemas, embeddings.

What differs is said here: fields that an SDK adds and that mean what the server assumes anyway.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from common import KEY, make
from llmcurl.llm import image
from llmcurl.testing import ToolCall

PNG = b"\x89PNG\r\n\x1a\n"
PNG64 = "iVBORw0KGgo="
URL = "https://example.com/a.png"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS},
}
SCHEMA = {
    "title": "Answer",
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
}
#: Our conversation; each SDK gets its own provider's form of it, written out below.
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": ["Look:", image(PNG)]},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "user", "content": "So?"},
]

pytestmark = [
    pytest.mark.leaves_traces,  # the SDKs keep connections and threads of their own
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.no_asan,  # what is sent is the same there
]
streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@pytest.fixture(autouse=True)
def tidy():
    yield
    gc.collect()


async def ours(
    provider: str, mock: Any, messages: Any, stream: bool = False, **params: Any
) -> None:
    async with make(provider, mock) as llm:
        if stream:
            async with llm.stream(messages, **params) as found:
                await found.reply()
        else:
            await llm.chat(messages, **params)


async def read(found: Any, stream: bool) -> None:
    if stream:
        async for _ in found:
            pass


def same(mock: Any, *names: str) -> dict[str, Any]:
    """Path, query, body and the fields named of the last two requests are equal; the body."""
    theirs, mine = mock.requests[-2:]
    assert (mine.method, mine.path, mine.query) == (theirs.method, theirs.path, theirs.query)
    assert mine.json == theirs.json
    for name in ("content-type", *names):
        assert mine.headers.get(name) == theirs.headers.get(name), name
    return mine.json


#: Fields that google-genai writes in snake case; the API takes both.
CAMEL = {
    "mime_type": "mimeType",
    "file_uri": "fileUri",
    "parameters_json_schema": "parametersJsonSchema",
}


def tidied(value: Any) -> Any:
    """Without the empty lists, texts and nulls that an SDK writes out, or leaves out."""
    if isinstance(value, dict):
        return {CAMEL.get(k, k): tidied(v) for k, v in value.items() if v not in ([], "", None)}
    return [tidied(v) for v in value] if isinstance(value, list) else value


class TestOpenAI:
    @pytest.fixture
    async def client(self, mock_llm):
        openai = pytest.importorskip("openai")
        async with openai.AsyncOpenAI(
            base_url=mock_llm.openai_url, api_key=KEY, max_retries=0
        ) as client:
            yield client

    @streamed
    async def test_tools_and_images(self, mock_llm, client, stream):
        parts = [
            {"type": "text", "text": "Look:"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG64}"}},
        ]
        messages = [TALK[0], {"role": "user", "content": parts}, *TALK[2:]]
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        found = await client.chat.completions.create(
            model="mock-1", messages=messages, tools=[TOOL], tool_choice="required", seed=3, stop=["END"],
            max_tokens=9, temperature=0.5, top_p=0.9, **more,
        )  # fmt: skip
        await read(found, stream)
        params = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 3}
        await ours("openai", mock_llm, TALK, stream, tools=[TOOL], tool_choice="required", **params)
        same(mock_llm, "authorization")

    @streamed
    async def test_a_named_tool_logprobs_and_an_image_by_url(self, mock_llm, client, stream):
        content = [{"type": "image_url", "image_url": {"url": URL}}]
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        choice = {"type": "function", "function": {"name": "weather"}}
        extra = {"n": 2, "logprobs": True, "top_logprobs": 3, "user": "u"}
        found = await client.chat.completions.create(
            model="mock-1", messages=[{"role": "user", "content": content}], tools=[TOOL], tool_choice=choice,
            **extra, **more,
        )  # fmt: skip
        await read(found, stream)
        message = {"role": "user", "content": [image(URL)]}
        await ours(
            "openai", mock_llm, message, stream, tools=[TOOL], tool_choice="weather", **extra
        )
        same(mock_llm)

    async def test_a_schema(self, mock_llm, client):
        mock_llm.script('{"n":1}', '{"n":1}')
        form = {"name": "Answer", "schema": SCHEMA, "strict": True}
        await client.chat.completions.create(
            model="mock-1",
            messages=[{"role": "user", "content": "x"}],
            response_format={"type": "json_schema", "json_schema": form},
        )
        await ours("openai", mock_llm, "x", schema=SCHEMA)
        same(mock_llm)

    async def test_a_schema_of_a_pydantic_model(self, mock_llm, client):
        pydantic = pytest.importorskip("pydantic")
        model = pydantic.create_model("Answer", n=(int, ...), words=(list[str], ...))
        mock_llm.script('{"n":1,"words":[]}', '{"n":1,"words":[]}')
        await client.chat.completions.parse(
            model="mock-1", messages=[{"role": "user", "content": "x"}], response_format=model
        )
        await ours("openai", mock_llm, "x", schema=model)
        theirs, mine = mock_llm.requests
        assert mine.json == {k: v for k, v in theirs.json.items() if (k, v) != ("stream", False)}

    async def test_embeddings(self, mock_llm, client):
        """Both ask for base64 without being told."""
        theirs = await client.embeddings.create(model="mock-1", input=["a", "b"], dimensions=8)
        async with make("openai", mock_llm) as llm:
            mine = await llm.embed(["a", "b"], dimensions=8)
        assert same(mock_llm)["encoding_format"] == "base64"
        assert mine[1].tolist() == pytest.approx(theirs.data[1].embedding)

    async def test_models(self, mock_llm, client):
        theirs = [model.id async for model in client.models.list()]
        async with make("openai", mock_llm) as llm:
            assert [model.id for model in await llm.models()] == theirs
        first, second = mock_llm.requests
        assert (first.method, first.target) == (second.method, second.target)

    @streamed
    async def test_azure(self, mock_llm, stream):
        openai = pytest.importorskip("openai")
        from llmcurl.llm import OpenAI

        where = {"azure_endpoint": mock_llm.base_url, "api_version": "2024-10-21", "api_key": KEY}
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        async with openai.AsyncAzureOpenAI(**where) as client:
            found = await client.chat.completions.create(
                model="my deployment", messages=[{"role": "user", "content": "x"}], **more
            )
            await read(found, stream)
        async with OpenAI(model="my deployment", **where) as llm:
            if stream:
                async with llm.stream("x") as reply:
                    await reply.reply()
            else:
                await llm.chat("x")
        same(mock_llm, "api-key", "authorization")
        assert mock_llm.requests[-1].target.startswith("/openai/deployments/my%20deployment/chat/")


class TestAnthropic:
    @pytest.fixture
    async def client(self, mock_llm):
        anthropic = pytest.importorskip("anthropic")
        async with anthropic.AsyncAnthropic(
            base_url=mock_llm.base_url, api_key=KEY, max_retries=0
        ) as client:
            yield client

    @streamed
    async def test_tools_images_and_thinking(self, mock_llm, client, stream):
        source = {"type": "base64", "media_type": "image/png", "data": PNG64}
        messages = [
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image", "source": source}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}]},
            {"role": "user", "content": "So?"},
        ]  # fmt: skip
        tool = {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}
        thinking = {"type": "enabled", "budget_tokens": 1024}
        found = await client.messages.create(
            model="mock-1", system="Be brief.", messages=messages, tools=[tool], tool_choice={"type": "any"},
            max_tokens=2000, stop_sequences=["END"], thinking=thinking, **({"stream": True} if stream else {}),
        )  # fmt: skip
        await read(found, stream)
        params = {"max_tokens": 2000, "stop": ["END"], "thinking": thinking}
        await ours(
            "anthropic", mock_llm, TALK, stream, tools=[TOOL], tool_choice="required", **params
        )
        same(mock_llm, "authorization", "x-api-key", "anthropic-version")

    async def test_a_named_tool_and_an_image_by_url(self, mock_llm, client):
        part = {"type": "image", "source": {"type": "url", "url": URL}}
        tool = {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}
        await client.messages.create(
            model="mock-1", messages=[{"role": "user", "content": [part]}], max_tokens=9,
            tools=[tool], tool_choice={"type": "tool", "name": "weather"},
        )  # fmt: skip
        message = {"role": "user", "content": [image(URL)]}
        await ours(
            "anthropic", mock_llm, message, tools=[TOOL], tool_choice="weather", max_tokens=9
        )
        same(mock_llm)

    async def test_a_schema(self, mock_llm, client):
        schema = {key: value for key, value in SCHEMA.items() if key != "title"}
        form = {"format": {"type": "json_schema", "schema": schema}}
        await client.messages.create(
            model="mock-1",
            messages=[{"role": "user", "content": "x"}],
            max_tokens=9,
            output_config=form,
        )
        await ours("anthropic", mock_llm, "x", schema=schema, max_tokens=9)
        same(mock_llm)

    async def test_models(self, mock_llm, client):
        theirs = [model.id async for model in client.models.list(limit=1000)]
        async with make("anthropic", mock_llm) as llm:
            assert [model.id for model in await llm.models()] == theirs
        first, second = mock_llm.requests
        assert (first.method, first.target) == (second.method, second.target)


class TestGemini:
    @pytest.fixture
    def genai(self):
        return pytest.importorskip("google.genai")

    @pytest.fixture
    async def models(self, mock_llm, genai):
        options = genai.types.HttpOptions(base_url=mock_llm.base_url)
        client = genai.Client(api_key=KEY, http_options=options)
        yield client.aio.models
        await client.aio.aclose()
        client.close()

    @staticmethod
    def compare(mock: Any) -> None:
        """The SDK also writes the role of a content that has no other than this one."""
        theirs, mine = mock.requests[-2:]
        assert (mine.path, mine.query) == (theirs.path, theirs.query)
        wanted, found = tidied(theirs.json), mine.json
        alone = [wanted.get("systemInstruction", {})]
        alone += [one["content"] for one in wanted.get("requests", ())]
        assert all(content.pop("role", "user") == "user" for content in alone)
        assert found == wanted
        assert mine.headers["x-goog-api-key"] == theirs.headers["x-goog-api-key"]

    @streamed
    async def test_tools_and_images(self, mock_llm, genai, models, stream):
        t = genai.types
        contents = [
            t.Content(role="user", parts=[t.Part(text="Look:"), t.Part.from_bytes(data=PNG, mime_type="image/png")]),
            t.Content(role="model", parts=[t.Part(function_call=t.FunctionCall(name="weather", args={"city": "Oslo"}))]),
            t.Content(role="user", parts=[t.Part.from_function_response(name="weather", response={"result": "rain"})]),
            t.Content(role="user", parts=[t.Part(text="So?")]),
        ]  # fmt: skip
        declared = t.FunctionDeclaration(
            name="weather", description="The weather.", parameters_json_schema=PARAMETERS
        )
        config = t.GenerateContentConfig(
            system_instruction="Be brief.", max_output_tokens=9, temperature=0.5, top_p=0.9, seed=3, stop_sequences=["END"],
            tools=[t.Tool(function_declarations=[declared])],
            tool_config=t.ToolConfig(function_calling_config=t.FunctionCallingConfig(mode="ANY")),
        )  # fmt: skip
        ask = models.generate_content_stream if stream else models.generate_content
        await read(await ask(model="mock-1", contents=contents, config=config), stream)
        params = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 3}
        await ours("gemini", mock_llm, TALK, stream, tools=[TOOL], tool_choice="required", **params)
        self.compare(mock_llm)

    async def test_a_schema_several_answers_and_an_image_by_url(self, mock_llm, genai, models):
        t = genai.types
        contents = [
            t.Content(role="user", parts=[t.Part.from_uri(file_uri=URL, mime_type="image/png")])
        ]
        config = t.GenerateContentConfig(
            response_mime_type="application/json", response_json_schema=SCHEMA, candidate_count=2,
            response_logprobs=True, logprobs=3,
        )  # fmt: skip
        await models.generate_content(model="mock-1", contents=contents, config=config)
        message = {"role": "user", "content": [image(URL)]}
        await ours("gemini", mock_llm, message, schema=SCHEMA, n=2, logprobs=True, top_logprobs=3)
        self.compare(mock_llm)

    async def test_embeddings(self, mock_llm, genai, models):
        theirs = await models.embed_content(
            model="mock-1",
            contents=["a", "b"],
            config=genai.types.EmbedContentConfig(output_dimensionality=8),
        )
        async with make("gemini", mock_llm) as llm:
            mine = await llm.embed(["a", "b"], outputDimensionality=8)
        self.compare(mock_llm)
        assert mine[1].tolist() == pytest.approx(theirs.embeddings[1].values)


class TestOllama:
    @pytest.fixture
    async def client(self, mock_llm):
        client = pytest.importorskip("ollama").AsyncClient(mock_llm.base_url)
        yield client
        await client._client.aclose()  # it has no public way

    @staticmethod
    def compare(mock: Any) -> None:
        theirs, mine = mock.requests[-2:]
        assert (mine.path, mine.query) == (theirs.path, theirs.query)
        assert tidied(mine.json) == tidied(theirs.json)

    @streamed
    async def test_images_tools_and_options(self, mock_llm, client, stream):
        call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
        messages = [
            TALK[0],
            {"role": "user", "content": "Look:", "images": [PNG64]},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_name": "weather"},
            TALK[4],
        ]
        options = {"num_predict": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 3}
        found = await client.chat(
            model="mock-1",
            messages=messages,
            tools=[TOOL],
            options=options,
            stream=stream,
            keep_alive="5m",
        )
        await read(found, stream)
        params = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 3}
        await ours("ollama", mock_llm, TALK, stream, tools=[TOOL], keep_alive="5m", **params)
        theirs, mine = mock_llm.requests[-2:]
        # Ollama's own client drops the id and the type of a call; its server takes them.
        body = json.loads(json.dumps(mine.json))
        sent = body["messages"][2]["tool_calls"][0]
        assert (sent.pop("id"), sent.pop("type")) == ("call_1", "function")
        assert tidied(body) == tidied(theirs.json)

    async def test_a_schema_thinking_and_logprobs(self, mock_llm, client):
        await client.chat(
            model="mock-1", messages=[{"role": "user", "content": "x"}], format=SCHEMA, think=True, logprobs=True, top_logprobs=2
        )  # fmt: skip
        await ours(
            "ollama", mock_llm, "x", schema=SCHEMA, think=True, logprobs=True, top_logprobs=2
        )
        self.compare(mock_llm)

    async def test_embeddings(self, mock_llm, client):
        theirs = await client.embed(model="mock-1", input=["a", "b"])
        async with make("ollama", mock_llm) as llm:
            mine = await llm.embed(["a", "b"])
        self.compare(mock_llm)
        assert mine[1].tolist() == pytest.approx(list(theirs.embeddings[1]))

    async def test_tools_answer(self, mock_llm, client):
        """What comes back is read alike."""
        from llmcurl.testing import Reply

        mock_llm.script(*[Reply(tool_calls=(ToolCall("weather", {"city": "Oslo"}),))] * 2)
        theirs = await client.chat(model="mock-1", messages=[{"role": "user", "content": "x"}])
        async with make("ollama", mock_llm) as llm:
            mine = await llm.chat("x")
        assert mine.tool_calls[0].json() == dict(theirs.message.tool_calls[0].function.arguments)
