"""A provider that refuses what comes too fast: one limit for all calls, retries, and a deadline."""

from __future__ import annotations

import asyncio

from _llm import connect
from llmcurl import DeadlineExceeded, RateLimit, Retry, StreamTimedOut, StreamTimeout
from llmcurl.testing import Failure


async def main(calls: int = 30) -> tuple[int, int, list[str]]:
    """Answers, refusals at the server, and how two calls ended that had no time."""
    options = {"limit": RateLimit(rpm=1200), "retry": Retry(5), "deadline": 60.0}
    refused, ended = 0, []
    async with connect(options, rpm=1200, rate_burst=0.02) as (llm, mock):
        replies = await asyncio.gather(*(llm.chat(f"City number {n}") for n in range(calls)))
        if mock is not None:
            refused = mock.stats.rate_limited
            mock.script(Failure.black_hole(), Failure.stall(2))
        try:
            await llm.chat("Think for a long time.", deadline=1.0)
        except DeadlineExceeded as error:
            ended.append(f"{error.phase}, {len(error.attempts)} attempt")
        try:
            async with llm.stream("A story", stream_timeout=StreamTimeout(idle=0.2)) as stream:
                await stream.reply()
        except StreamTimedOut as error:
            ended.append(f"{error.which}, {error.partial.text!r} arrived")
    return len(replies), refused, ended


if __name__ == "__main__":
    print(asyncio.run(main()))
