"""What goes out: our one shape in each provider's form, and beside it what its own SDK sends."""

from __future__ import annotations

import dataclasses
import gc

import pytest
from common import KEY, PROVIDERS, make
from llmcurl.llm import AuthenticationError, OpenAI, image

PNG = b"\x89PNG\r\n\x1a\n"
PNG64 = "iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": ["Look:", image(PNG)]},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "one"},
    {"role": "user", "content": "And?"},
]
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
}


@dataclasses.dataclass
class Answer:
    text: str
    score: float | None


SCHEMA = {
    "title": "Answer",
    "type": "object",
    "properties": {"text": {"type": "string"}, "score": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
    "required": ["text", "score"],
    "additionalProperties": False,
}  # fmt: skip

PARAMS = {
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "tools": [TOOL],
    "tool_choice": "required",
    "schema": Answer,
}

EXPECTED = {
    "openai": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG64}"}},
                ],
            },
            *TALK[2:],
        ],
        "model": "mock-1",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "seed": 3,
        "tools": [TOOL],
        "tool_choice": "required",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "Answer", "strict": True, "schema": SCHEMA},
        },
    },
    "anthropic": {
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG64},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "one"}],
            },
            {"role": "user", "content": "And?"},
        ],
        "model": "mock-1",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look:"},
                    {"inlineData": {"mimeType": "image/png", "data": PNG64}},
                ],
            },
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "f", "response": {"result": "one"}}}],
            },
            {"role": "user", "parts": [{"text": "And?"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["END"],
            "seed": 3,
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
        },
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    },
    "ollama": {
        "model": "mock-1",
        "stream": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look:", "images": [PNG64]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": {"a": 1}},
                    }
                ],
            },
            {"role": "tool", "content": "one", "tool_name": "f"},
            {"role": "user", "content": "And?"},
        ],
        "options": {
            "num_predict": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "seed": 3,
        },
        "tools": [TOOL],
        "tool_choice": "required",
        "format": SCHEMA,
    },
}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_all_at_once(provider, mock_llm):
    params = dict(PARAMS) if provider == "anthropic" else {**PARAMS, "seed": 3}
    before = repr(TALK)
    async with make(provider, mock_llm) as llm:
        await llm.chat(TALK, **params)
    assert mock_llm.requests[0].json == EXPECTED[provider]
    assert repr(TALK) == before  # the caller's messages stay as they were


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_providers_own_fields_pass(provider, mock_llm):
    own = {
        "openai": {"logit_bias": {"5": 1}, "response_format": {"type": "json_object"}},
        "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["x"]},
        "gemini": {"safetySettings": [{"category": "c"}], "generationConfig": {"topK": 2}},
        "ollama": {"keep_alive": "5m", "think": True, "options": {"num_ctx": 99}},
    }[provider]  # fmt: skip
    async with make(provider, mock_llm) as llm:
        await llm.chat("x", **own)
        async with llm.stream("x", **own) as stream:
            await stream.reply()
    for request in mock_llm.requests:
        assert {key: request.json[key] for key in own} == own


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_image_by_its_url(provider, mock_llm):
    message = {"role": "user", "content": [image("https://example.com/a.png")]}
    async with make(provider, mock_llm) as llm:
        if provider == "ollama":
            with pytest.raises(ValueError, match="by URL"):
                await llm.chat(message)
            return
        await llm.chat(message)
    assert "https://example.com/a.png" in mock_llm.requests[0].body.decode()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_headers_of_a_call(provider, mock_llm):
    async with make(provider, mock_llm, headers={"X-One": "1"}) as llm:
        await llm.chat("x", headers={"X-Two": "2"})
        async with llm.stream("x", headers={"X-Two": "2"}):
            pass
    for request in mock_llm.requests:
        assert request.headers["x-one"] == "1" and request.headers["x-two"] == "2"
        assert request.headers["content-type"] == "application/json"


def test_images():
    for data, kind in (
        (b"\xff\xd8\xff", "jpeg"), (b"GIF89a", "gif"), (b"RIFF1234WEBP", "webp"), (b"?", "png"),
    ):  # fmt: skip
        assert image(data)["image_url"]["url"].startswith(f"data:image/{kind};base64,")
    assert "image/bmp" in image(b"BM", "image/bmp")["image_url"]["url"]


@pytest.mark.leaves_traces  # the SDKs keep connections and threads of their own
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
class TestBesideTheSDKs:
    """The same call, by the provider's own client and by ours: the same path and body."""

    @pytest.fixture(autouse=True)
    def tidy(self):
        yield
        gc.collect()  # what the SDKs leave is not to be found in another test

    @staticmethod
    async def compare(mock, llm, stream: bool, **params):
        mock.script("ours")
        messages = [{"role": "user", "content": "Hi"}]
        async with llm:
            if stream:
                async with llm.stream(messages, system="Be brief.", **params) as found:
                    await found.reply()
            else:
                await llm.chat(messages, system="Be brief.", **params)
        theirs, ours = mock.requests
        assert ours.json == theirs.json and ours.path == theirs.path and ours.query == theirs.query
        for name in ("authorization", "x-api-key", "x-goog-api-key", "anthropic-version"):
            assert ours.headers.get(name) == theirs.headers.get(name), name

    async def test_openai(self, mock_llm, stream):
        openai = pytest.importorskip("openai")
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        async with openai.AsyncOpenAI(base_url=mock_llm.openai_url, api_key=KEY) as client:
            await client.chat.completions.create(
                model="mock-1", messages=messages, max_tokens=5, temperature=0.1, **more
            )
        llm = make("openai", mock_llm)
        await self.compare(mock_llm, llm, stream, max_tokens=5, temperature=0.1)

    async def test_anthropic(self, mock_llm, stream):
        anthropic = pytest.importorskip("anthropic")
        async with anthropic.AsyncAnthropic(base_url=mock_llm.base_url, api_key=KEY) as client:
            await client.messages.create(
                model="mock-1",
                system="Be brief.",
                messages=[{"role": "user", "content": "Hi"}],
                max_tokens=5,
                **({"stream": True} if stream else {}),
            )
        llm = make("anthropic", mock_llm)
        await self.compare(mock_llm, llm, stream, max_tokens=5)

    async def test_gemini(self, mock_llm, stream):
        genai = pytest.importorskip("google.genai")
        options = genai.types.HttpOptions(base_url=mock_llm.base_url)
        client = genai.Client(api_key=KEY, http_options=options)
        config = genai.types.GenerateContentConfig(
            system_instruction="Be brief.", max_output_tokens=5, temperature=0.1
        )
        models = client.aio.models
        ask = models.generate_content_stream if stream else models.generate_content
        found = await ask(model="mock-1", contents="Hi", config=config)
        if stream:
            async for _ in found:
                pass
        llm = make("gemini", mock_llm)
        theirs = mock_llm.requests[0].json
        assert theirs["systemInstruction"].pop("role", "user") == "user"
        mock_llm.script("ours")
        async with llm:
            params = {"system": "Be brief.", "max_tokens": 5, "temperature": 0.1}
            if stream:
                async with llm.stream("Hi", **params) as found:
                    await found.reply()
            else:
                await llm.chat("Hi", **params)
        first, ours = mock_llm.requests
        assert ours.json == theirs and (ours.path, ours.query) == (first.path, first.query)
        assert ours.headers["x-goog-api-key"] == first.headers["x-goog-api-key"]

    async def test_ollama(self, mock_llm, stream):
        ollama = pytest.importorskip("ollama")
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        found = await ollama.AsyncClient(mock_llm.base_url).chat(
            model="mock-1", messages=messages, options={"num_predict": 5}, stream=stream
        )
        if stream:
            async for _ in found:
                pass
        theirs = mock_llm.requests[0].json
        theirs = {key: value for key, value in theirs.items() if value != []}
        async with make("ollama", mock_llm) as llm:
            if stream:
                async with llm.stream("Hi", system="Be brief.", max_tokens=5) as reply:
                    await reply.reply()
            else:
                await llm.chat("Hi", system="Be brief.", max_tokens=5)
        assert mock_llm.requests[1].json == theirs


def test_openai_itself_gets_the_limit_under_its_new_name(monkeypatch):
    """Its later models refuse max_tokens; other servers know nothing else."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def body(llm, **params):
        return llm._request("x", "gpt-5", params, False)[1]

    official = OpenAI(api_key=KEY)
    assert body(official, max_tokens=5)["max_completion_tokens"] == 5
    assert "max_tokens" not in body(official, max_tokens=5)
    assert body(official, max_completion_tokens=6, max_tokens=5)["max_completion_tokens"] == 6
    assert body(OpenAI(base_url="http://127.0.0.1:1/v1"), max_tokens=5)["max_tokens"] == 5


def test_a_token_in_the_headers_stands_for_the_key(monkeypatch):
    for name in ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    where = {"azure_endpoint": "https://x.openai.azure.com", "api_version": "2024-10-21"}
    assert OpenAI(**where, headers={"Authorization": "Bearer t"})
    for wrong in (where, {}):
        with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
            OpenAI(**wrong, headers={"X-Other": "y"})


@dataclasses.dataclass
class Point:
    x: int
    label: str = "here"


@dataclasses.dataclass
class Path:
    points: list[Point]
    closed: bool | None = None
    weights: dict[str, float] = dataclasses.field(default_factory=dict)


class TestOpenAIStrict:
    """Its strict mode refuses schemas with properties that are not required, or that may have others."""

    def sent(self, schema):
        llm = OpenAI(api_key=KEY, base_url="http://127.0.0.1:1/v1")
        return llm._request("x", "gpt-5", {"schema": schema}, False)[1]["response_format"][
            "json_schema"
        ]

    def test_a_type_with_defaults(self):
        made = self.sent(Point)
        assert made["strict"] is True and made["schema"] == {
            "title": "Point",
            "type": "object",
            "properties": {"x": {"type": "integer"}, "label": {"type": "string"}},
            "required": ["x", "label"],
            "additionalProperties": False,
        }

    def test_inside_of_another(self):
        schema = self.sent(list[Point])["schema"]
        assert schema["items"]["required"] == ["x", "label"]

    def test_as_the_sdk_does(self):
        pydantic = pytest.importorskip("pydantic")
        parsing = pytest.importorskip("openai.lib._parsing")

        class Model(pydantic.BaseModel):
            n: int
            note: str | None = None

        theirs = parsing.type_to_response_format_param(Model)["json_schema"]
        assert self.sent(Model) == theirs

    def test_a_mapping_cannot_be_strict(self):
        assert self.sent(Path)["strict"] is False

    @pytest.mark.parametrize(
        "changes",
        [
            {"required": ["text"]},
            {"required": None},
            {"additionalProperties": True},
            {"additionalProperties": None},
        ],
    )
    def test_a_schema_of_ones_own_stays_as_it_is(self, changes):
        schema = {key: value for key, value in {**SCHEMA, **changes}.items() if value is not None}
        assert self.sent(dict(schema)) == {"name": "Answer", "schema": schema, "strict": False}
        assert self.sent(SCHEMA) == {"name": "Answer", "schema": SCHEMA, "strict": True}
