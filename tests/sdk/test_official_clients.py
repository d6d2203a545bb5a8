"""The providers' own Python clients read what MockLLM answers: it keeps to their published forms."""

from __future__ import annotations

import pytest
from llmcurl.testing import Failure, Reply, ToolCall

TEXT = "Brave new words, in order."
TOOL = Reply(tool_calls=(ToolCall("get_weather", {"city": "Oslo", "days": 3}),))
MESSAGES = [{"role": "user", "content": "Say something."}]

pytestmark = [
    pytest.mark.leaves_traces,  # these clients keep connections and threads of their own
    pytest.mark.filterwarnings("ignore"),
]


class TestOpenAI:
    @pytest.fixture
    async def client(self, mock_llm):
        openai = pytest.importorskip("openai")
        async with openai.AsyncOpenAI(
            base_url=mock_llm.openai_url, api_key="sk-test", max_retries=0
        ) as client:
            yield client

    async def test_chat(self, mock_llm, client):
        mock_llm.script(TEXT)
        answer = await client.chat.completions.create(model="gpt-x", messages=MESSAGES)
        assert answer.choices[0].message.content == TEXT
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == "gpt-x" and answer.id.startswith("chatcmpl-")
        assert (
            answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        )
        assert answer._request_id

    async def test_stream_with_usage(self, mock_llm, client):
        mock_llm.script(Reply(TEXT, reasoning="Think first."))
        stream = await client.chat.completions.create(
            model="gpt-x", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
        assert chunks[-1].usage.completion_tokens > 0

    async def test_streamed_tool_calls_are_put_together(self, mock_llm, client):
        mock_llm.script(TOOL)
        async with client.chat.completions.stream(model="gpt-x", messages=MESSAGES) as stream:
            final = await stream.get_final_completion()
        call = final.choices[0].message.tool_calls[0]
        assert (
            call.function.name == "get_weather"
            and call.function.arguments == '{"city":"Oslo","days":3}'
        )
        assert final.choices[0].finish_reason == "tool_calls"

    async def test_several_choices_and_logprobs(self, mock_llm, client):
        answer = await client.chat.completions.create(
            model="gpt-x", messages=MESSAGES, n=2, logprobs=True
        )
        assert [c.index for c in answer.choices] == [0, 1]
        assert answer.choices[1].logprobs.content[0].token == "The"

    async def test_embeddings_and_models(self, mock_llm, client):
        packed = await client.embeddings.create(model="e", input=["a", "b"])
        plain = await client.embeddings.create(model="e", input=["a", "b"], encoding_format="float")
        assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding)
        assert [m.id async for m in client.models.list()] == ["mock-1", "mock-2"]

    async def test_errors(self, mock_llm, client):
        import openai

        kinds = {
            openai.RateLimitError: Failure.rate_limit(),
            openai.InternalServerError: Failure.server_error(),
            openai.AuthenticationError: Failure.unauthorized(),
            openai.BadRequestError: Failure.context_length(),
        }
        for kind, failure in kinds.items():
            mock_llm.script(failure)
            with pytest.raises(kind) as error:
                await client.chat.completions.create(model="gpt-x", messages=MESSAGES)
        assert error.value.code == "context_length_exceeded"

    async def test_an_error_inside_a_stream(self, mock_llm, client):
        import openai

        mock_llm.script(Failure.error_event())
        async with await client.chat.completions.create(
            model="gpt-x", messages=MESSAGES, stream=True
        ) as stream:
            with pytest.raises(openai.APIError):
                async for _ in stream:
                    pass


class TestAnthropic:
    @pytest.fixture
    async def client(self, mock_llm):
        anthropic = pytest.importorskip("anthropic")
        async with anthropic.AsyncAnthropic(
            base_url=mock_llm.base_url, api_key="k", max_retries=0
        ) as client:
            yield client

    async def test_message(self, mock_llm, client):
        mock_llm.script(TEXT)
        answer = await client.messages.create(model="claude-x", max_tokens=100, messages=MESSAGES)
        assert answer.content[0].text == TEXT
        assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0
        assert answer._request_id

    async def test_stream_with_thinking_text_and_tool(self, mock_llm, client):
        mock_llm.script(Reply(TEXT, reasoning="Think first.", tool_calls=TOOL.tool_calls))
        async with client.messages.stream(
            model="claude-x", max_tokens=100, messages=MESSAGES
        ) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert text == TEXT
        assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
        assert final.content[2].input == {"city": "Oslo", "days": 3}
        assert final.stop_reason == "tool_use"

    async def test_token_count_and_models(self, mock_llm, client):
        counted = await client.messages.count_tokens(model="claude-x", messages=MESSAGES)
        assert counted.input_tokens > 0
        assert [m.id async for m in client.models.list()] == ["mock-1", "mock-2"]

    async def test_errors(self, mock_llm, client):
        import anthropic

        kinds = {
            anthropic.RateLimitError: Failure.rate_limit(),
            anthropic.AuthenticationError: Failure.unauthorized(),
            anthropic.InternalServerError: Failure.overloaded(),
        }
        for kind, failure in kinds.items():
            mock_llm.script(failure)
            with pytest.raises(kind) as error:
                await client.messages.create(model="claude-x", max_tokens=100, messages=MESSAGES)
        assert error.value.status_code == 529

    async def test_an_error_inside_a_stream(self, mock_llm, client):
        import anthropic

        mock_llm.script(Failure.error_event())
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            async with client.messages.stream(
                model="claude-x", max_tokens=9, messages=MESSAGES
            ) as stream:
                await stream.get_final_message()


class TestGemini:
    @pytest.fixture
    async def client(self, mock_llm):
        genai = pytest.importorskip("google.genai")
        client = genai.Client(api_key="k", http_options={"base_url": mock_llm.base_url})
        yield client.aio
        await client.aio.aclose()
        client.close()

    async def test_generate(self, mock_llm, client):
        mock_llm.script(TEXT)
        answer = await client.models.generate_content(model="gemini-x", contents="Say something.")
        assert answer.text == TEXT
        assert answer.usage_metadata.total_token_count > 0
        assert answer.candidates[0].finish_reason.value == "STOP"

    async def test_stream_with_thoughts_and_function_call(self, mock_llm, client):
        mock_llm.script(Reply(TEXT, reasoning="Think first.", tool_calls=TOOL.tool_calls))
        text, calls = "", []
        stream = await client.models.generate_content_stream(
            model="gemini-x", contents="Say something."
        )
        async for chunk in stream:
            for part in chunk.candidates[0].content.parts:
                text += part.text if part.text and not part.thought else ""
                calls += [part.function_call] if part.function_call else []
        assert text == TEXT
        assert calls[0].name == "get_weather" and calls[0].args == {"city": "Oslo", "days": 3}

    async def test_embeddings_models_and_token_count(self, mock_llm, client):
        answer = await client.models.embed_content(model="e", contents=["a", "b"])
        assert len(answer.embeddings[0].values) == 256
        listed = await client.models.list()
        assert listed[0].name == "models/mock-1"
        assert (await client.models.count_tokens(model="gemini-x", contents="abc")).total_tokens > 0

    async def test_errors(self, mock_llm, client):
        from google.genai import errors

        for kind, failure in {
            errors.ClientError: Failure.unauthorized(),
            errors.ServerError: Failure.server_error(501),
        }.items():
            mock_llm.script(failure)
            with pytest.raises(kind):
                await client.models.generate_content(model="gemini-x", contents="x")


class TestOllama:
    @pytest.fixture
    async def client(self, mock_llm):
        ollama = pytest.importorskip("ollama")
        client = ollama.AsyncClient(host=mock_llm.base_url)
        yield client
        await client._client.aclose()

    async def test_chat_and_generate(self, mock_llm, client):
        mock_llm.script(Reply(TEXT, reasoning="Think first."), TEXT)
        answer = await client.chat(model="llama-x", messages=MESSAGES)
        assert answer.message.content == TEXT and answer.message.thinking == "Think first."
        assert answer.done and answer.eval_count > 0
        assert (await client.generate(model="llama-x", prompt="Say.")).response == TEXT

    async def test_stream_and_tools(self, mock_llm, client):
        mock_llm.script(TEXT, TOOL)
        stream = await client.chat(model="llama-x", messages=MESSAGES, stream=True)
        parts = [part async for part in stream]
        assert "".join(part.message.content for part in parts) == TEXT
        assert parts[-1].done and parts[-1].done_reason == "stop"
        answer = await client.chat(model="llama-x", messages=MESSAGES)
        assert answer.message.tool_calls[0].function.arguments == {"city": "Oslo", "days": 3}

    async def test_embed_and_list(self, mock_llm, client):
        answer = await client.embed(model="e", input=["a", "b"])
        assert len(answer.embeddings) == 2
        assert (await client.list()).models[0].model == "mock-1"

    async def test_errors(self, mock_llm, client):
        import ollama

        mock_llm.script(Failure.overloaded(503), Failure.error_event())
        with pytest.raises(ollama.ResponseError) as error:
            await client.chat(model="llama-x", messages=MESSAGES)
        assert error.value.status_code == 503
        with pytest.raises(ollama.ResponseError):
            async for _ in await client.chat(model="llama-x", messages=MESSAGES, stream=True):
                pass
