"""Retrieval-augmented generation on one event loop: llmcurl, Redis, PostgreSQL and files.

    REDIS_URL=redis://localhost DATABASE_URL=postgresql://localhost/rag python examples/rag.py

1. At once: the question's embedding (50 ms), the answers given lately out of Redis (5 ms), who asks, and
   what they may read, out of PostgreSQL (20 ms). Takes 50 ms, not 75.
2. If a question of the same meaning was answered before, that is the answer: no model is asked.
3. Vector search in PostgreSQL (30 ms), then the passages found are read from their files, all at once.
4. The model (seconds). Its answer goes into the cache.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import aiofiles
import asyncpg
import redis.asyncio as redis
from llmcurl.llm import LLM, OpenAI
from llmcurl.testing import MockLLM, RecordedRequest, Reply

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (id int PRIMARY KEY, name text NOT NULL, team text NOT NULL);
CREATE TABLE IF NOT EXISTS passages (
  id serial PRIMARY KEY, team text NOT NULL, path text NOT NULL UNIQUE, embedding real[] NOT NULL
);
"""

# Vectors have length 1: their product is the cosine. With the pgvector extension: ORDER BY embedding <#> $1.
SEARCH = """
SELECT path, (SELECT sum(a * b) FROM unnest(embedding, $1::real[]) AS pair(a, b)) AS score
FROM passages WHERE team = $2 ORDER BY score DESC LIMIT $3
"""

SAME = 0.95  # cosine from which on two questions mean the same
KEPT = 100  # answers in the cache of a team
CACHE_SECONDS = 3600


@dataclasses.dataclass
class Answer:
    """What came out, and when each step began and ended (seconds from the question)."""

    text: str
    sources: list[str]
    cached: bool
    steps: dict[str, tuple[float, float]]


class Rag:
    """The pipeline. It owns none of its connections."""

    def __init__(self, llm: LLM, cache: redis.Redis, database: asyncpg.Pool, embedder: str) -> None:
        self.llm = llm
        self.cache = cache
        self.database = database
        self.embedder = embedder

    async def add(self, team: str, paths: Sequence[Path]) -> None:
        """Reads the files of a team and files them by their meaning."""
        texts = await asyncio.gather(*(read(path) for path in paths))
        vectors = await self.llm.embed(texts, model=self.embedder)
        rows = [(team, str(path), list(v)) for path, v in zip(paths, vectors, strict=True)]
        await self.database.executemany(
            "INSERT INTO passages (team, path, embedding) VALUES ($1, $2, $3)", rows
        )

    async def ask(self, person: int, question: str) -> Answer:
        """The answer to a question. LookupError: nobody has that number."""
        begun = time.perf_counter()
        steps: dict[str, tuple[float, float]] = {}

        async def timed(name: str, work: Awaitable[T]) -> T:
            start = time.perf_counter() - begun
            try:
                return await work
            finally:
                steps[name] = (start, time.perf_counter() - begun)

        vectors, recent, who = await asyncio.gather(
            timed("embedding", self.llm.embed(question, model=self.embedder)),
            timed("cache", self.cache.lrange(f"answers:{person}", 0, KEPT - 1)),
            timed("metadata", self.database.fetchrow("SELECT * FROM people WHERE id = $1", person)),
        )
        if who is None:
            raise LookupError(f"there is no person {person}")
        vector = vectors[0]
        if (known := same_question(vector, recent)) is not None:
            return Answer(known, [], True, steps)

        found = await timed("search", self.database.fetch(SEARCH, list(vector), who["team"], 2))
        paths = [row["path"] for row in found]
        passages = await timed("files", asyncio.gather(*(read(Path(path)) for path in paths)))
        prompt = "\n\n".join([*passages, f"{who['name']} asks: {question}"])
        reply = await timed(
            "model", self.llm.chat(prompt, system="Answer from the passages given.")
        )
        await timed("store", self.store(person, vector, reply.text))
        return Answer(reply.text, paths, False, steps)

    async def store(self, person: int, vector: memoryview, text: str) -> None:
        """Keeps an answer with its question's vector."""
        size = len(vector).to_bytes(4, "big")
        async with self.cache.pipeline() as pipe:
            pipe.lpush(f"answers:{person}", size + vector.tobytes() + text.encode())
            pipe.ltrim(f"answers:{person}", 0, KEPT - 1)
            pipe.expire(f"answers:{person}", CACHE_SECONDS)
            await pipe.execute()


def same_question(vector: memoryview, recent: Sequence[bytes]) -> str | None:
    """The answer to the first question of the same meaning."""
    for entry in recent:
        end = 4 + 4 * int.from_bytes(entry[:4], "big")
        other = array("f", entry[4:end])
        if sum(a * b for a, b in zip(vector, other, strict=True)) >= SAME:
            return entry[end:].decode()
    return None


async def read(path: Path) -> str:
    """A file's text; the loop goes on meanwhile."""
    async with aiofiles.open(path, encoding="utf-8") as file:
        return await file.read()


def model_of_the_demo(request: RecordedRequest) -> Reply | None:
    """A mock's answer: the first passage it was given."""
    if request.path.endswith("/embeddings"):
        return None
    prompt = request.json["messages"][-1]["content"]
    return Reply(f"I read: {prompt.splitlines()[0]}", latency=MODEL_SECONDS)


MODEL_SECONDS = 3.0


async def main(redis_url: str, database_url: str) -> list[Answer]:
    """Two people ask; one asks twice."""
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, text in (
            ("rivers", "The Rhine flows into the North Sea."),
            ("lakes", "Lake Constance has three states on its shores."),
            ("seas", "The Baltic Sea is brackish."),
        ):
            files[name] = Path(folder, f"{name}.txt")
            files[name].write_text(text)
        async with (
            MockLLM(latency=0.05, reply=model_of_the_demo) as mock,
            OpenAI(base_url=mock.openai_url, model="mock-1") as llm,
            redis.from_url(redis_url) as cache,
            asyncpg.create_pool(database_url, min_size=2, max_size=10) as database,
        ):
            await database.execute(SCHEMA)
            await database.execute("TRUNCATE people, passages")
            await database.executemany(
                "INSERT INTO people VALUES ($1, $2, $3)", [(1, "Ada", "geo"), (2, "Bob", "sea")]
            )
            await cache.delete("answers:1", "answers:2")
            rag = Rag(llm, cache, database, "mock-1")
            await rag.add("geo", [files["rivers"], files["lakes"]])
            await rag.add("sea", [files["seas"]])
            both = await asyncio.gather(
                rag.ask(1, "The Rhine flows into the North Sea."), rag.ask(2, "Is it salty?")
            )
            return [*both, await rag.ask(1, "The Rhine flows into the North Sea.")]


if __name__ == "__main__":
    try:
        urls = os.environ["REDIS_URL"], os.environ["DATABASE_URL"]
    except KeyError as missing:
        sys.exit(f"set {missing.args[0]}: see the first lines of {__file__}")
    for answer in asyncio.run(main(*urls)):
        print("from the cache:" if answer.cached else "from the model:", answer.text)
        for name, (start, end) in answer.steps.items():
            print(f"  {name:<10} {start * 1000:7.1f} - {end * 1000:7.1f} ms")
