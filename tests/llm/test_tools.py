"""Functions as tools, and the rounds of a model that calls them."""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass
from typing import Literal

import pytest
from common import PROVIDERS, make, until
from llmcurl.llm import Tool, ToolError, TooManyRounds
from llmcurl.testing import Reply, ToolCall
from servers.thread import until_sync


@dataclass
class Place:
    city: str
    zip: int | None = None


async def get_weather(place: Place, unit: Literal["C", "F"] = "C") -> dict:
    """The weather of a place."""
    return {"city": place.city, "degrees": 20, "unit": unit}


def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


@pytest.fixture(params=PROVIDERS)
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


class TestTool:
    def test_description(self):
        tool = Tool(get_weather)
        assert (tool.name, tool.description) == ("get_weather", "The weather of a place.")
        schema = tool.parameters
        assert schema["type"] == "object" and schema["required"] == ["place"]
        assert schema["additionalProperties"] is False
        assert schema["properties"]["unit"] == {"enum": ["C", "F"], "default": "C"}
        place = schema["properties"]["place"]
        assert place["required"] == ["city"] and "$ref" not in str(schema)

    def test_other_names(self):
        tool = Tool(add, name="plus", description="")
        assert (tool.name, tool.description, repr(tool)) == ("plus", "", "<Tool plus>")

    async def test_call(self):
        assert await Tool(add)({"a": "4"}) == 5
        assert (await Tool(get_weather)({"place": {"city": "Oslo"}}))["city"] == "Oslo"
        with pytest.raises(ValueError):
            await Tool(add)({"b": 1})

    async def test_pydantic_models(self):
        pydantic = pytest.importorskip("pydantic")

        class City(pydantic.BaseModel):
            name: str = pydantic.Field(min_length=2)
            people: int | None = None

        async def look(city: City, more: list[City] | None = None) -> City:
            return city

        look.__annotations__ |= {"city": City, "more": list[City], "return": City}
        tool = Tool(look)
        assert tool.parameters["properties"]["city"]["required"] == ["name"]
        assert tool.parameters["properties"]["more"]["items"]["type"] == "object"
        assert await tool({"city": {"name": "Oslo"}}) == City(name="Oslo")
        with pytest.raises(ValueError, match="at least 2 characters"):
            await tool({"city": {"name": "O"}})

    async def test_partial_functions(self):
        tool = Tool(functools.partial(add, b=5))
        assert (tool.name, tool.description) == ("add", "Adds.")
        assert tool.parameters["properties"]["a"] == {"type": "integer"}
        assert await tool({"a": 1}) == 6

    def test_a_type_without_a_schema(self):
        def send(socket: threading.Thread) -> None: ...

        send.__annotations__["socket"] = threading.Thread
        with pytest.raises(TypeError, match="tool send: .*Thread"):
            Tool(send)

    async def test_objects_and_methods(self):
        class Adder:
            """Adds more."""

            def __call__(self, a: int) -> int:
                return a + 2

            async def method(self, a: int, tags: list[str] = []) -> int:  # noqa: B006
                tags.append("x")
                return a + len(tags)

        assert await Tool(Adder(), name="adder")({"a": 1}) == 3
        tool = Tool(Adder().method)
        assert [await tool({"a": 1}), await tool({"a": 1})] == [2, 2]

    def test_what_cannot_be_described(self):
        with pytest.raises(TypeError, match="cannot give"):
            Tool(lambda *args: None)
        with pytest.raises(TypeError):
            Tool(lambda a, /: None)


async def test_run(llm, mock_llm):
    calls = (
        ToolCall("get_weather", {"place": {"city": "Oslo"}}, id="c1"),
        ToolCall("add", {"a": 2, "b": 3}, id="c2"),
    )
    mock_llm.script(Reply(tool_calls=calls), "It is 20 degrees, and 5.")
    done = await llm.run("Weather and sum?", tools=[get_weather, add], max_tokens=50)
    assert done.text == "It is 20 degrees, and 5." and done.rounds == 2
    assert [(call.name, result, failed) for call, result, failed in done.calls] == [
        ("get_weather", '{"city":"Oslo","degrees":20,"unit":"C"}', False),
        ("add", "5", False),
    ]
    assert done.usage.output_tokens > done.reply.usage.output_tokens
    first, second = (request.json for request in mock_llm.requests)
    assert "get_weather" in str(first["tools"]) and "degrees" in str(second)
    assert done.messages[0] == {"role": "user", "content": "Weather and sum?"}
    # the conversation can be taken up again
    mock_llm.script("Bye.")
    assert (await llm.chat([*done.messages, "Bye."])).text == "Bye."


async def test_calls_run_at_once_and_sync_ones_in_threads(llm, mock_llm):
    threads, begun = set(), []

    async def slow(n: int) -> int:
        begun.append(n)
        await until(lambda: len(begun) == 4)
        return n

    def blocking(n: int) -> int:
        threads.add(threading.current_thread())
        begun.append(n)
        until_sync(lambda: len(begun) == 4)
        return n

    calls = tuple(ToolCall(name, {"n": i}) for i in range(2) for name in ("slow", "blocking"))
    mock_llm.script(Reply(tool_calls=calls), "done")
    done = await llm.run("go", tools=[slow, blocking])
    assert len(begun) == 4 and not any(failed for _, _, failed in done.calls)
    assert [result for _, result, _ in done.calls] == ["0", "0", "1", "1"]
    assert threads and threading.main_thread() not in threads


test_calls_run_at_once_and_sync_ones_in_threads = pytest.mark.leaves_traces(
    test_calls_run_at_once_and_sync_ones_in_threads  # the loop keeps its threads
)


async def fails(why: str) -> None:
    raise KeyError(why)


async def test_a_failure_is_told(llm, mock_llm):
    calls = (ToolCall("fails", {"why": "me"}), ToolCall("nothing", {}), ToolCall("fails", {}))
    mock_llm.script(Reply(tool_calls=calls), "I see.")
    done = await llm.run("go", tools=[fails])
    results = [result for _, result, failed in done.calls if failed]
    assert results[0] == "KeyError: 'me'" and "no tool called 'nothing'" in results[1]
    assert results[2].startswith("ValidationError") and "KeyError" in str(mock_llm.requests[1].json)


async def test_a_failure_is_raised_and_the_others_are_stopped(llm, mock_llm):
    stopped = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    calls = (ToolCall("endless", {}), ToolCall("fails", {"why": "me"}))
    mock_llm.script(Reply(tool_calls=calls))
    with pytest.raises(ToolError, match="'fails' failed") as error:
        await llm.run("go", tools=[endless, fails], on_tool_error="raise")
    assert isinstance(error.value.__cause__, KeyError) and error.value.tool == "fails"
    assert stopped == [True]


async def test_rounds_are_limited(llm, mock_llm):
    async def one() -> int:
        return 1

    mock_llm.configure(reply=Reply(tool_calls=(ToolCall("one", {}),)))
    with pytest.raises(TooManyRounds) as error:
        await llm.run("go", tools=[one], max_rounds=3)
    assert len(mock_llm.requests) == 3 and error.value.partial.tool_calls


async def test_arguments(llm):
    with pytest.raises(ValueError, match="max_rounds"):
        await llm.run("go", tools=[], max_rounds=0)
    with pytest.raises(ValueError, match="on_tool_error"):
        await llm.run("go", tools=[], on_tool_error="ignore")
    with pytest.raises(TypeError, match="a tool must be"):
        await llm.run("go", tools=[5])
