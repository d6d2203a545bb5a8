"""A model that calls functions, several at once."""

from __future__ import annotations

import asyncio
from typing import Literal

from _llm import connect
from llmcurl.llm import Run
from llmcurl.testing import Reply, ToolCall


async def get_weather(city: str, unit: Literal["C", "F"] = "C") -> dict[str, object]:
    """The weather in a city, now."""
    await asyncio.sleep(0.3)  # a call to some service
    return {"city": city, "degrees": 21 if unit == "C" else 70}


async def search(query: str, limit: int = 3) -> list[str]:
    """Searches the web."""
    await asyncio.sleep(0.3)
    return [f"{query}: result {number}" for number in range(1, limit + 1)]


def population(city: str) -> int:
    """Inhabitants of a city."""
    return {"Oslo": 717_710}.get(city, 0)  # a sync function runs in a thread


async def main() -> Run:
    async with connect() as (llm, mock):
        if mock is not None:
            calls = (
                ToolCall("get_weather", {"city": "Oslo"}),
                ToolCall("search", {"query": "events in Oslo", "limit": 2}),
                ToolCall("population", {"city": "Oslo"}),
            )
            mock.script(Reply(tool_calls=calls), "Oslo: 21 degrees, 717,710 people, two events.")
        return await llm.run("What about Oslo?", tools=[get_weather, search, population])


if __name__ == "__main__":
    result = asyncio.run(main())
    for call, answer, _ in result.calls:
        print(f"{call.name}({call.arguments}) -> {answer}")
    print(result.text, result.usage)
