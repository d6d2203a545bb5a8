"""Many prompts, a few at a time, with a checkpoint: run it again and nothing is asked twice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import llmcurl
from _llm import connect

WORDS = "river mountain city sea star tree".split()


async def main(checkpoint: Path) -> tuple[dict[str, str], int]:
    """The answers, and how many of them were there from before."""
    answers = {}
    async with connect() as (llm, mock):
        if mock is not None:
            mock.configure(echo=True)
        prompts = [f"Name a {word}." for word in WORDS]
        run = llmcurl.batch(
            prompts,
            llm.chat,
            concurrency=3,
            checkpoint=checkpoint,
            # what the checkpoint keeps of a reply, and what is given for one that it has
            dump=lambda reply: reply.text,
        )
        async for result in run:
            if result.error is not None:
                print(result.input, "failed:", result.error, file=sys.stderr)
            else:
                answers[result.input] = result.value if result.restored else result.value.text
        return answers, run.stats().restored


if __name__ == "__main__":
    found, restored = asyncio.run(main(Path("answers.jsonl")))
    for prompt, text in found.items():
        print(f"{prompt} {text}")
    print(f"{restored} of them from answers.jsonl")
