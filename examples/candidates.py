"""The same prompt to several at once: the first good answer wins, the others are cancelled."""

from __future__ import annotations

import asyncio

from _llm import connect
from llmcurl import first_of
from llmcurl.testing import Failure
from llmcurl.testing import Reply as Answer


async def main() -> tuple[str, int]:
    async with connect() as (llm, mock):
        if mock is not None:
            mock.script(
                Failure.overloaded(), Answer("slow", latency=30), Answer("fast", latency=0.05)
            )
        # Cancelling a call closes its connection: the server stops, too.
        reply = await first_of(*(llm.chat("Why is the sky blue?") for _ in range(3)))
        while mock is not None and mock.stats.in_flight:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)
        return reply.text, 0 if mock is None else mock.stats.disconnects


if __name__ == "__main__":
    text, cancelled = asyncio.run(main())
    print(f"the first answer: {text} ({cancelled} cancelled at the server)")
