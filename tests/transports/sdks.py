"""The code blocks of docs/sdks.md, run as they stand, and how each SDK is asked once something.

Where the endpoints are, the SDKs learn from the environment, so that nothing has to be added to the blocks.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["SDKS", "Sdk", "environment"]

DOCS = Path(__file__).parents[2] / "docs" / "sdks.md"
BLOCKS = dict(
    re.findall(r"^### ([^\n]+)\n[^#]*?```python\n(.*?)```", DOCS.read_text(), re.S | re.M)
)
QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]


def environment(mock: Any) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": mock.openai_url, "OPENAI_API_BASE": mock.openai_url, "OPENAI_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": mock.base_url, "ANTHROPIC_API_KEY": "k",
        "GOOGLE_GEMINI_BASE_URL": mock.base_url, "GOOGLE_API_KEY": "k", "OLLAMA_HOST": mock.base_url,
        "OPENAI_AGENTS_DISABLE_TRACING": "1", "CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true",
        "LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }  # fmt: skip


def version(package: str) -> int:
    try:
        return int(importlib.metadata.version(package).partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


class Sdk:
    """One block. `needs`: distribution -> its major version, 0 = any."""

    block: str
    needs: dict[str, int]
    whole = True  # its streams are streams to the caller, too
    breaks = True  # a stream may be left half-way (PydanticAI stumbles over its own GeneratorExit)
    closes = True  # a stream that is given up is closed, not left to the garbage collector

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[dict[str, Any]]:
        """What the block defines."""
        for package, major in self.needs.items():
            found = version(package)
            if not found and not self._installed(package):
                pytest.skip(f"{package} is not installed")
            if major and found != major:
                pytest.skip(f"for {package} {major}")
        names: dict[str, Any] = {}
        code = BLOCKS[self.block]
        if version("openai") == 2 and "openai" not in self.needs:
            code = code.replace("httpx2", "httpx")  # as the text says
        exec(compile(code, str(DOCS), "exec"), names)
        try:
            yield names
        finally:
            await self.close(names)

    def _installed(self, package: str) -> bool:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return bool(importlib.metadata.version(package))
        return False

    async def close(self, names: dict[str, Any]) -> None:
        if "http" in names:
            await names["http"].aclose()
        elif "client" in names:
            await names["client"].close()

    async def plain(self, names: dict[str, Any]) -> str:
        raise NotImplementedError

    def stream(self, names: dict[str, Any]) -> AsyncIterator[str]:
        raise NotImplementedError


class OpenAI3(Sdk):
    block = "openai 3"
    needs = {"openai": 3}

    async def plain(self, names) -> str:
        answer = await names["client"].chat.completions.create(model="gpt-5", messages=MESSAGES)
        return answer.choices[0].message.content

    async def stream(self, names) -> AsyncIterator[str]:
        async for chunk in await names["client"].chat.completions.create(
            model="gpt-5", messages=MESSAGES, stream=True
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


class OpenAI2(OpenAI3):
    block = "openai 2"
    needs = {"openai": 2}


class OpenAI2OnHttpx2(OpenAI3):
    block = "openai 2 on httpx2"
    needs = {"openai": 2, "httpx2": 0}


class Instructor(OpenAI3):
    block = "instructor"
    needs = {"instructor": 0, "openai": 3}

    async def plain(self, names) -> str:
        # without a response_model it hands the answer through
        answer = await names["patched"].chat.completions.create(
            model="gpt-5", messages=MESSAGES, response_model=None
        )
        return answer.choices[0].message.content


class Anthropic(Sdk):
    block = "anthropic"
    needs = {"anthropic": 2}

    async def plain(self, names) -> str:
        answer = await names["client"].messages.create(
            model="claude-x", max_tokens=100, messages=MESSAGES
        )
        return answer.content[0].text

    async def stream(self, names) -> AsyncIterator[str]:
        async with names["client"].messages.stream(
            model="claude-x", max_tokens=100, messages=MESSAGES
        ) as stream:
            async for text in stream.text_stream:
                yield text


class Gemini(Sdk):
    block = "google-genai"
    needs = {"google-genai": 3}

    async def plain(self, names) -> str:
        return (
            await names["client"].models.generate_content(model="gemini-x", contents=QUESTION)
        ).text

    async def stream(self, names) -> AsyncIterator[str]:
        async for chunk in await names["client"].models.generate_content_stream(
            model="gemini-x", contents=QUESTION
        ):
            if chunk.text:
                yield chunk.text

    async def close(self, names) -> None:
        await names["client"].aclose()


class Ollama(Sdk):
    block = "ollama"
    needs = {"ollama": 0}

    async def plain(self, names) -> str:
        return (await names["client"].chat(model="qwen3:8b", messages=MESSAGES)).message.content

    async def stream(self, names) -> AsyncIterator[str]:
        async for part in await names["client"].chat(
            model="qwen3:8b", messages=MESSAGES, stream=True
        ):
            if part.message.content:
                yield part.message.content

    async def close(self, names) -> None:
        await names["client"]._client.aclose()


class ChatOpenAI(Sdk):
    block = "LangChain, ChatOpenAI"
    needs = {"langchain-openai": 0}

    async def plain(self, names) -> str:
        return (await names["model"].ainvoke(QUESTION)).text

    async def stream(self, names) -> AsyncIterator[str]:
        async for chunk in names["model"].astream(QUESTION):
            if chunk.text:
                yield chunk.text


class ChatAnthropic(ChatOpenAI):
    block = "LangChain, ChatAnthropic"
    needs = {"langchain-anthropic": 0}


class ChatGemini(ChatOpenAI):
    block = "LangChain, ChatGoogleGenerativeAI"
    needs = {"langchain-google-genai": 0}

    async def close(self, names) -> None:
        await names["model"].client.aio.aclose()


class ChatOllama(ChatOpenAI):
    block = "LangChain, ChatOllama"
    needs = {"langchain-ollama": 0}

    async def close(self, names) -> None:
        await names["model"]._async_client._client.aclose()


class LangGraph(Sdk):
    block = "LangGraph"
    needs = {"langgraph": 0, "langchain-openai": 0}

    async def plain(self, names) -> str:
        return (await names["graph"].ainvoke({"messages": [("user", QUESTION)]}))["messages"][
            -1
        ].text

    async def stream(self, names) -> AsyncIterator[str]:
        async for chunk, _ in names["graph"].astream(
            {"messages": [("user", QUESTION)]}, stream_mode="messages"
        ):
            if chunk.text:
                yield chunk.text


class Agents(Sdk):
    block = "OpenAI Agents SDK"
    needs = {"openai-agents": 0, "openai": 3}

    async def plain(self, names) -> str:
        return (
            await importlib.import_module("agents").Runner.run(names["agent"], QUESTION)
        ).final_output

    async def stream(self, names) -> AsyncIterator[str]:
        run = importlib.import_module("agents").Runner.run_streamed(names["agent"], QUESTION)
        try:
            async for event in run.stream_events():
                if (
                    event.type == "raw_response_event"
                    and event.data.type == "response.output_text.delta"
                ):
                    yield event.data.delta
        finally:
            run.cancel()


class PydanticAI(Sdk):
    block = "PydanticAI"
    needs = {"pydantic-ai-slim": 0}
    breaks = False

    async def plain(self, names) -> str:
        return (await names["agent"].run(QUESTION)).output

    async def stream(self, names) -> AsyncIterator[str]:
        async with names["agent"].run_stream(QUESTION) as run:
            async for text in run.stream_text(delta=True, debounce_by=None):
                yield text


class AutoGen(Sdk):
    block = "AutoGen"
    needs = {"autogen-ext": 0}
    closes = False

    def messages(self):
        return [
            importlib.import_module("autogen_core.models").UserMessage(
                content=QUESTION, source="user"
            )
        ]

    async def plain(self, names) -> str:
        return (await names["model"].create(self.messages())).content

    async def stream(self, names) -> AsyncIterator[str]:
        async with contextlib.aclosing(names["model"].create_stream(self.messages())) as parts:
            async for part in parts:
                if isinstance(part, str):
                    yield part


class LiteLLM(Sdk):
    block = "LiteLLM, OpenAI routes"
    needs = {"litellm": 0}
    model = "openai/gpt-4o"

    def options(self, names) -> dict[str, Any]:
        return {"model": self.model, "messages": MESSAGES}

    async def plain(self, names) -> str:
        litellm = importlib.import_module("litellm")
        return (await litellm.acompletion(**self.options(names))).choices[0].message.content

    async def stream(self, names) -> AsyncIterator[str]:
        litellm = importlib.import_module("litellm")
        stream = await litellm.acompletion(**self.options(names), stream=True)
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    async def close(self, names) -> None:
        await super().close(names)
        litellm = sys.modules["litellm"]
        litellm.aclient_session = None
        litellm.in_memory_llm_clients_cache.flush_cache()


class LiteLLMOthers(LiteLLM):
    block = "LiteLLM, other routes"
    model = "anthropic/claude-sonnet-4-5"

    def options(self, names) -> dict[str, Any]:
        return {**super().options(names), "client": names["handler"]}


class CrewAI(Sdk):
    block = "CrewAI"
    needs = {"crewai": 0}
    whole = False  # it hands its streams to an event bus

    async def plain(self, names) -> str:
        return await names["llm"].acall(QUESTION)

    async def stream(self, names) -> AsyncIterator[str]:
        names["llm"].stream = True
        yield await names["llm"].acall(QUESTION)


SDKS = [
    OpenAI3, OpenAI2, OpenAI2OnHttpx2, Anthropic, Gemini, Ollama, ChatOpenAI, ChatAnthropic, ChatGemini, ChatOllama, LangGraph,
    Agents, PydanticAI, Instructor, AutoGen, LiteLLM, LiteLLMOthers, CrewAI,
]  # fmt: skip
