"""Four prompts at once: the time of one, not of four."""

from __future__ import annotations

import asyncio
import time

from _llm import connect

PROMPTS = ["Name a river.", "Name a mountain.", "Name a city.", "Name a sea."]


async def main(latency: float = 5.0) -> tuple[list[str], float]:
    async with connect(latency=latency, echo=True) as (llm, _):
        start = time.perf_counter()
        replies = await asyncio.gather(*(llm.chat(prompt) for prompt in PROMPTS))
        seconds = time.perf_counter() - start
    return [reply.text for reply in replies], seconds


if __name__ == "__main__":
    texts, seconds = asyncio.run(main())
    for prompt, text in zip(PROMPTS, texts, strict=True):
        print(f"{prompt} {text}")
    print(f"{len(texts)} calls took {seconds:.2f} s")
