"""Limits and deadlines, at full length.

    python benchmarks/limits.py [--calls 2000] [--rpm 600] [--only deadline,one,four,wrong]

`one`: calls through one `RateLimit` against a mock (a process of its own) that refuses what comes too fast with 429 and
Retry-After. `four`: the same calls from four processes that share the limit through Redis (Debian's, started here).
`wrong`: a limit that was told twice what the server allows, and has to learn from the refusals.
`deadline`: deadline=30 with two retries against a server that never answers. Prints the tables of docs/quality.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "python"), str(HERE.parent / "tests")]

from llmcurl import DeadlineExceeded, OpenAI, RateLimit, Retry  # noqa: E402
from llmcurl.testing import Failure, MockLLM, SpawnedMock  # noqa: E402

WORKERS = 4


async def calls(base_url: str, count: int, rpm: float, redis: str | None) -> int:
    """Makes the calls all at once; how many succeeded."""
    async with RateLimit(rpm=rpm, redis=redis, name="benchmark") as limit:
        async with OpenAI(
            base_url=base_url, api_key="k", model="m", limit=limit, retry=Retry(9)
        ) as llm:
            replies = await asyncio.gather(
                *(llm.chat(f"call {n}") for n in range(count)), return_exceptions=True
            )
    return sum(not isinstance(reply, BaseException) for reply in replies)


def busiest(times: Sequence[float], span: float) -> int:
    """The most requests in any `span` seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - span:
            first += 1
        most = max(most, last - first + 1)
    return most


def wrong(args: argparse.Namespace) -> None:
    with mock_of(args) as mock:
        succeeded = asyncio.run(calls(mock.openai_url, args.calls, 2 * args.rpm, None))
        report("one, told twice the limit", mock, args, succeeded)


def report(how: str, mock: SpawnedMock, args: argparse.Namespace, succeeded: int) -> None:
    times = [request.at for request in mock.requests]
    took, ideal = times[-1] - times[0], (args.calls - 1) / (args.rpm / 60)
    minute = busiest(times, 60.0)
    print(
        f"| {how} | {succeeded:,} of {args.calls:,} | {len(times):,} | {mock.stats.rate_limited} | {minute} "
        f"({minute / args.rpm - 1:+.1%}) | {took:.1f} s | {ideal:.1f} s | {took / ideal - 1:+.2%} |",
        flush=True,
    )


def mock_of(args: argparse.Namespace) -> SpawnedMock:
    # The mock lets 2 % of a minute's requests come at once.
    return MockLLM.spawn(rpm=args.rpm, rate_burst=0.02, latency=0.2, keep_requests=20 * args.calls)


def one(args: argparse.Namespace) -> None:
    with mock_of(args) as mock:
        report(
            "one process",
            mock,
            args,
            asyncio.run(calls(mock.openai_url, args.calls, args.rpm, None)),
        )


def four(args: argparse.Namespace) -> None:
    from servers import databases

    async def workers(url: str, redis: str) -> int:
        command = [
            sys.executable,
            __file__,
            "--worker",
            url,
            redis,
            "--calls",
            str(args.calls // WORKERS),
            "--rpm",
            str(args.rpm),
        ]
        running = [
            await asyncio.create_subprocess_exec(*command, stdout=-1) for _ in range(WORKERS)
        ]
        return sum([int((await process.communicate())[0]) for process in running])

    with databases.redis() as redis, mock_of(args) as mock:
        report("four, through Redis", mock, args, asyncio.run(workers(mock.openai_url, redis)))


async def deadlines(seconds: float) -> None:
    """What ends when, against a black hole."""
    retry = Retry(3, maybe_sent=True)
    with MockLLM.spawn(failure=Failure.black_hole()) as mock:
        async with OpenAI(base_url=mock.openai_url, api_key="k", model="m", retry=retry) as llm:

            async def chat(**options: object) -> tuple[str, float, int]:
                begun = time.monotonic()
                try:
                    await llm.chat("x", deadline=seconds, **options)
                except DeadlineExceeded as error:
                    return "chat", time.monotonic() - begun, len(error.attempts)
                raise AssertionError("it answered")

            async def stream() -> tuple[str, float, int]:
                begun = time.monotonic()
                try:
                    async with llm.stream("x", deadline=seconds, timeout=seconds * 0.4):
                        raise AssertionError("it answered")
                except DeadlineExceeded as error:
                    return "stream", time.monotonic() - begun, len(error.attempts)

            tries = [chat(), *(chat(timeout=seconds * part) for part in (0.4, 0.45)), stream()]
            for what, took, attempts in await asyncio.gather(*tries):
                print(f"| {what} | {seconds:g} s | {attempts} | {took:.3f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--only", default="deadline,one,four,wrong")
    parser.add_argument("--worker", nargs=2, metavar=("URL", "REDIS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        url, redis = args.worker
        print(asyncio.run(calls(url, args.calls, args.rpm, redis)))
        return
    print(f"{args.calls:,} calls at {args.rpm} rpm; load {os.getloadavg()[0]:.1f}\n")
    only = args.only.split(",")
    if "deadline" in only:
        print("| call | deadline | attempts | ended after |\n|---|---|---|---|")
        asyncio.run(deadlines(args.deadline))
        print()
    print(
        "| processes | succeeded | requests at the server | refused | most in a minute | time | ideal | |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    if "one" in only:
        one(args)
    if "four" in only:
        four(args)
    if "wrong" in only:
        wrong(args)


if __name__ == "__main__":
    main()
