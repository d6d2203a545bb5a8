"""The official SDKs on our transport, with the lines of docs/sdks.md, against MockLLM: plain, streamed, cancelled after five
tokens. Each SDK is tried with what it brings (openai 2 stands on httpx, 3 on httpx2)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import time
from collections.abc import AsyncIterator, Callable

import pytest
from llmcurl import _native

TEXT = "One two three four five six seven eight nine ten. " * 20
MESSAGES = [{"role": "user", "content": "Say something."}]

pytestmark = pytest.mark.filterwarnings("ignore")


def transport_for(http: str):
    pytest.importorskip(http)
    return importlib.import_module(f"llmcurl.transports.{http}").AsyncCurlTransport


class OpenAI:
    """3 on httpx2, before on httpx."""

    @contextlib.asynccontextmanager
    async def client(self, mock):
        openai = pytest.importorskip("openai")
        transport = transport_for("httpx2" if int(openai.VERSION.partition(".")[0]) >= 3 else "httpx")()
        http = openai.DefaultAsyncHttpxClient(transport=transport)
        async with openai.AsyncOpenAI(base_url=mock.openai_url, api_key="k", http_client=http, max_retries=0) as client:
            yield client

    async def plain(self, client) -> str:
        answer = await client.chat.completions.create(model="gpt-x", messages=MESSAGES)
        return answer.choices[0].message.content

    async def stream(self, client) -> AsyncIterator[str]:
        async for chunk in await client.chat.completions.create(model="gpt-x", messages=MESSAGES, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


class OpenAI2OnHttpx2(OpenAI):
    @contextlib.asynccontextmanager
    async def client(self, mock):
        openai = pytest.importorskip("openai")
        if not hasattr(openai, "DefaultAsyncHttpx2Client"):
            pytest.skip("openai 2 only")
        http = openai.DefaultAsyncHttpx2Client(transport=transport_for("httpx2")())
        async with openai.AsyncOpenAI(base_url=mock.openai_url, api_key="k", http_client=http, max_retries=0) as client:
            yield client


class Anthropic:
    @contextlib.asynccontextmanager
    async def client(self, mock):
        anthropic = pytest.importorskip("anthropic")
        http = anthropic.DefaultAsyncHttpxClient(transport=transport_for("httpx2")())
        async with anthropic.AsyncAnthropic(base_url=mock.base_url, api_key="k", http_client=http, max_retries=0) as client:
            yield client

    async def plain(self, client) -> str:
        answer = await client.messages.create(model="claude-x", max_tokens=100, messages=MESSAGES)
        return answer.content[0].text

    async def stream(self, client) -> AsyncIterator[str]:
        async with client.messages.stream(model="claude-x", max_tokens=100, messages=MESSAGES) as stream:
            async for text in stream.text_stream:
                yield text


class Gemini:
    def http_options(self, types, mock):
        return types.HttpOptions(base_url=mock.base_url, async_client_args={"transport": transport_for("httpx2")()})

    @contextlib.asynccontextmanager
    async def client(self, mock):
        genai = pytest.importorskip("google.genai")
        client = genai.Client(api_key="k", http_options=self.http_options(genai.types, mock))
        yield client.aio
        await client.aio.aclose()
        client.close()

    async def plain(self, client) -> str:
        return (await client.models.generate_content(model="gemini-x", contents="Say something.")).text

    async def stream(self, client) -> AsyncIterator[str]:
        async for chunk in await client.models.generate_content_stream(model="gemini-x", contents="Say something."):
            if chunk.text:
                yield chunk.text


class GeminiWithClient(Gemini):
    def http_options(self, types, mock):
        httpx2 = pytest.importorskip("httpx2")
        http = httpx2.AsyncClient(transport=transport_for("httpx2")())
        return types.HttpOptions(base_url=mock.base_url, httpx_async_client=http)


class Ollama:
    @contextlib.asynccontextmanager
    async def client(self, mock):
        ollama = pytest.importorskip("ollama")
        client = ollama.AsyncClient(host=mock.base_url, transport=transport_for("httpx")())
        yield client
        await client._client.aclose()

    async def plain(self, client) -> str:
        return (await client.chat(model="llama-x", messages=MESSAGES)).message.content

    async def stream(self, client) -> AsyncIterator[str]:
        async for part in await client.chat(model="llama-x", messages=MESSAGES, stream=True):
            if part.message.content:
                yield part.message.content


class LangChainOpenAI:
    @contextlib.asynccontextmanager
    async def client(self, mock):
        langchain_openai = pytest.importorskip("langchain_openai")
        openai = importlib.import_module("openai")
        base = "httpx2" if int(openai.VERSION.partition(".")[0]) >= 3 else "httpx"
        transport = transport_for(base)()
        http = importlib.import_module(base).AsyncClient(transport=transport)
        yield langchain_openai.ChatOpenAI(
            model="gpt-x", base_url=mock.openai_url, api_key="k", http_async_client=http, max_retries=0
        )
        await http.aclose()

    async def plain(self, client) -> str:
        return (await client.ainvoke("Say something.")).content

    async def stream(self, client) -> AsyncIterator[str]:
        async for chunk in client.astream("Say something."):
            if chunk.content:
                yield chunk.content


class LiteLLM:
    """Its OpenAI routes, with a client per call."""

    @contextlib.asynccontextmanager
    async def client(self, mock):
        pytest.importorskip("litellm")
        async with OpenAI().client(mock) as client:
            yield client

    async def plain(self, client) -> str:
        litellm = importlib.import_module("litellm")
        answer = await litellm.acompletion(model="openai/gpt-x", messages=MESSAGES, client=client, api_key="k")
        return answer.choices[0].message.content

    async def stream(self, client) -> AsyncIterator[str]:
        litellm = importlib.import_module("litellm")
        stream = await litellm.acompletion(model="openai/gpt-x", messages=MESSAGES, client=client, api_key="k", stream=True)
        async with contextlib.aclosing(stream.completion_stream.response):
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content


SDKS = [OpenAI, OpenAI2OnHttpx2, Anthropic, Gemini, GeminiWithClient, Ollama, LangChainOpenAI, LiteLLM]


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.__name__)
def sdk(request):
    return request.param()


@pytest.mark.leaves_traces  # the SDKs keep threads and caches of their own
async def test_plain(sdk, mock_llm):
    mock_llm.script(TEXT)
    async with sdk.client(mock_llm) as client:
        assert await sdk.plain(client) == TEXT
        assert await sdk.plain(client)  # over the kept connection


@pytest.mark.leaves_traces
async def test_streamed(sdk, mock_llm):
    mock_llm.script(TEXT)
    async with sdk.client(mock_llm) as client:
        assert "".join([text async for text in sdk.stream(client)]) == TEXT


async def until(condition: Callable[[], object], timeout: float) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + timeout, "did not come true"
        await asyncio.sleep(0.002)
    return time.monotonic() - started


@pytest.mark.leaves_traces
async def test_cancelled_after_five_tokens(sdk, slow_mock):
    async with sdk.client(slow_mock) as client:
        assert await sdk.plain(client)
        before = _native._live()
        tokens = []

        async def read() -> None:
            async with contextlib.aclosing(sdk.stream(client)) as stream:
                async for text in stream:
                    tokens.append(text)
                    # more than once: before Python 3.12 asyncio.wait_for, which langchain-openai uses for each chunk,
                    # loses a cancellation when the chunk is there already
                    if len(tokens) >= 5:
                        asyncio.current_task().cancel()

        gone = slow_mock.stats.disconnects
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(read())
        assert await until(lambda: slow_mock.stats.disconnects > gone, 2) < 0.5
        assert 5 <= len(tokens) < 200  # what has arrived in one piece is read without waiting

        def settled() -> bool:
            gc.collect()
            now = _native._live()
            return now["xfer"] <= before["xfer"] and now["slot"] <= before["slot"]

        await until(settled, 2)
        assert await sdk.plain(client)  # the place is free again


@pytest.mark.leaves_traces
async def test_nothing_stays_alive(sdk, mock_llm):
    """After the client is closed and forgotten, counters are where they were."""
    gc.collect()
    before = _native._live()

    async def use() -> None:
        async with sdk.client(mock_llm) as client:
            await sdk.plain(client)
            async for _ in sdk.stream(client):
                break

    await use()

    def settled() -> bool:
        gc.collect()
        return all(count <= before[name] for name, count in _native._live().items())

    await until(settled, 5)
