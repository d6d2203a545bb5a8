"""`Hedge` against a server with a long tail, `Fallback` against one that stalls.

Job: latencies of plain and hedged calls in alternating blocks against one mock in another process, and what the
hedging cost; how soon the next model's first token comes when the first one stalls. Not its job: throughput.

    python benchmarks/several.py
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec("llmcurl") is None:
    sys.path.insert(0, str(ROOT / "python"))

from llmcurl import Fallback, Hedge, OpenAI  # noqa: E402
from llmcurl.testing import Failure, MockLLM  # noqa: E402


async def chat(llm: Any) -> float:
    """Seconds until the answer."""
    started = time.perf_counter()
    await llm.chat("x")
    return time.perf_counter() - started


async def first_token(llm: Any) -> float:
    """Seconds until the first token of a stream."""
    started = time.perf_counter()
    async with llm.stream("x") as stream:
        await anext(stream.text_stream)
        return time.perf_counter() - started


async def block(llm: Any, measure: Any, calls: int, workers: int) -> list[float]:
    """Latencies of so many calls, `workers` at a time."""
    left = iter(range(calls))
    found: list[float] = []

    async def work() -> None:
        for _ in left:
            found.append(await measure(llm))

    await asyncio.gather(*(work() for _ in range(workers)))
    return found


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


async def hedging(calls: int, blocks: int, workers: int) -> list[str]:
    """Rows of a Markdown table."""
    rows = [
        "| call | | p50 ms | p95 ms | p99 ms | requests per call |",
        "|---|---|---|---|---|---|",
    ]
    settings = {
        "latency": 0.05,
        "ttft": 0.05,
        "jitter": 0.25,
        "slow_rate": 0.02,
        "slow_factor": 15.0,
        "seed": 3,
    }
    for name, measure in (("chat", chat), ("stream, first token", first_token)):
        with MockLLM.spawn(**settings, keep_requests=1) as mock:
            async with OpenAI(base_url=mock.openai_url, api_key="k", model="m") as llm:
                hedge = Hedge(llm, after="p95")
                ways = {"plain": llm, 'Hedge(after="p95")': hedge}
                found: dict[str, list[float]] = {way: [] for way in ways}
                sent = dict.fromkeys(ways, 0)
                for _ in range(blocks):
                    for way, model in ways.items():
                        before = mock.stats.requests
                        found[way] += await block(model, measure, calls // blocks, workers)
                        sent[way] += mock.stats.requests - before
                for way, values in found.items():
                    p50, p95, p99 = (quantile(values, part) * 1e3 for part in (0.5, 0.95, 0.99))
                    rows.append(
                        f"| {name} | {way} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {sent[way] / len(values):.3f} |"
                    )
                plain, hedged = (quantile(values, 0.99) for values in found.values())
                stats = hedge.stats()
                rows.append(
                    f"| {name} | p99 hedged / plain | | | {hedged / plain:.2f} | wins {stats.wins}, cancelled {stats.cancelled} |"
                )
    return rows


async def stalling(times: int, after: float) -> list[str]:
    """What came of streams whose first model stalls."""
    with (
        MockLLM.spawn(failure=Failure.no_first_token(keepalive=0.05)) as stalled,
        MockLLM.spawn() as good,
    ):
        async with OpenAI(base_url=stalled.openai_url, api_key="k", model="a") as first:
            async with OpenAI(base_url=good.openai_url, api_key="k", model="b") as second:
                await first_token(second)  # a connection is there
                late = []
                for _ in range(times):
                    # with a circuit of its own: the first model is asked each time
                    late.append(await first_token(Fallback([first, second], after=after)) - after)
                end = time.monotonic() + 10.0
                while (gone := stalled.stats.disconnects) < times and time.monotonic() < end:
                    await asyncio.sleep(0.01)
    return [
        f"{times} streams, after={after:g}: the next model's first token comes {statistics.median(late) * 1e3:.1f} ms "
        f"(median), {max(late) * 1e3:.1f} ms (worst) after the set time; {gone} of {times} stalled requests were "
        "cancelled at the server."
    ]


def main() -> int:
    """Prints the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--stalls", type=int, default=50)
    args = parser.parse_args()
    for line in asyncio.run(hedging(args.calls, args.blocks, args.workers)):
        print(line)
    print()
    for line in asyncio.run(stalling(args.stalls, 0.2)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
