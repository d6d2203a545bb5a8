"""Gather many chat completions on one event loop and say what it cost.

Starts a mock LLM server in its own process, sends it N requests at once through llmcurl.AsyncClient, and checks every
answer. Exit status 1 if a call failed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._limits import make_room
from ._measure import StallMeter, cpu_seconds, rss_bytes, sleep_baseline
from ._progress import Bar, progress

if TYPE_CHECKING:
    from ..testing import SpawnedMock, Stats

HELP = "gather 1,000 chat completions against a mock and measure"

PATH = "/v1/chat/completions"
MODEL = "mock-1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    add = parser.add_argument
    add("--calls", type=_positive, default=1000, metavar="N", help="how many calls (default: 1000)")
    add(
        "--latency",
        type=float,
        default=1.0,
        metavar="S",
        help="seconds each answer takes (default: 1)",
    )
    add(
        "--http2", choices=("no",), default="no", help="the mock speaks HTTP/1.1 only (default: no)"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


@dataclass
class Outcome:
    """What a run showed. Times in seconds, memory in bytes."""

    calls: int
    latency: float
    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    stall: float = 0.0
    sleep_stall: float = 0.0
    stats: Stats | None = None
    failures: Counter[str] = field(default_factory=Counter)


def prompt(number: int) -> str:
    """The prompt of one call; the mock echoes it, so that a mixed-up answer is noticed."""
    return f"Say the number of this call: {number}"


def payload(number: int) -> dict[str, Any]:
    """The request body of one call."""
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": prompt(number)},
        ],
    }


def check(number: int, answer: Any) -> str | None:
    """What is wrong with an answer (a response or an exception), or None."""
    if isinstance(answer, BaseException):
        return f"{type(answer).__name__}: {answer}"
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    try:
        text = answer.json()["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as exc:
        return f"unreadable answer: {type(exc).__name__}"
    return None if text == prompt(number) else "the answer belongs to another call"


class Watch:
    """Looks at the calls every 20 ms: moves the bar, and notes the resident memory until the first answer.

    A callback per call would do the same, and show up in the numbers.
    """

    PERIOD = 0.02

    def __init__(self, calls: Sequence[Any], bar: Bar) -> None:
        self._calls = calls
        self._bar = bar
        self._done = 0
        self.memory = 0

    def look(self) -> None:
        """Count the answered calls from the front of the line."""
        calls, count = self._calls, self._done
        while count < len(calls) and calls[count].done():
            count += 1
        if count == 0 or not self.memory:
            self.memory = max(self.memory, rss_bytes())
        if count > self._done:
            self._bar.update(count - self._done)
            self._done = count

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self.PERIOD)
            self.look()


async def measure(
    mock: SpawnedMock, calls: int, latency: float, client_type: Any, bar: Bar
) -> Outcome:
    """Gather the calls and measure them; failures are counted, not raised."""
    outcome = Outcome(calls, latency)
    outcome.sleep_stall = await sleep_baseline(calls, min(latency, 1.0))
    async with client_type(base_url=mock.base_url) as client:
        await client.post(
            PATH, json=payload(0)
        )  # what is loaded once is no part of the cost of a call
        mock.reset()
        bodies = [payload(number) for number in range(calls)]
        gc.collect()
        before = rss_bytes()
        async with StallMeter() as meter:
            cpu, start = cpu_seconds(), time.perf_counter()
            pending = [asyncio.ensure_future(client.post(PATH, json=body)) for body in bodies]
            watch = Watch(pending, bar)
            watcher = asyncio.ensure_future(watch.run())
            answers: Sequence[Any] = await asyncio.gather(*pending, return_exceptions=True)
            outcome.wall, outcome.cpu = time.perf_counter() - start, cpu_seconds() - cpu
        watcher.cancel()
        watch.look()
        outcome.stall = meter.worst
        outcome.memory = max(0, watch.memory - before)
        outcome.stats = mock.stats
    for number, answer in enumerate(answers):
        wrong = check(number, answer)
        if wrong is not None:
            outcome.failures[wrong] += 1
    return outcome


def duration(seconds: float) -> str:
    """Seconds, as people say them."""
    if seconds < 120:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def render(outcome: Outcome) -> list[str]:
    """The result as lines for people."""
    calls, stats = outcome.calls, outcome.stats
    serial = calls * outcome.latency
    bad = sum(outcome.failures.values())
    lines = [
        f"{calls - bad:,} of {calls:,} calls of {outcome.latency:g} s answered and checked",
        f"wall time          {duration(outcome.wall)}  (one after the other: {duration(serial)})",
        f"CPU per call       {outcome.cpu / calls * 1e6:.0f} us",
        f"memory per call    {outcome.memory / calls / 1024:.1f} KB in flight",
        f"worst loop stall   {outcome.stall * 1e3:.0f} ms"
        f"  (gathering {calls:,} asyncio.sleep: {outcome.sleep_stall * 1e3:.0f} ms)",
    ]
    if stats is not None:
        lines.append(
            f"connections used   {stats.connections:,}  (at most {stats.max_in_flight:,} calls at once)"
        )
    lines += [f"FAILED {count:,} x {text}" for text, count in outcome.failures.most_common(5)]
    return lines


def run(args: argparse.Namespace) -> int:
    """Run the demo; 1 if a call failed or the limits forbid it."""
    try:
        import llmcurl

        client_type = llmcurl.AsyncClient
    except (ImportError, AttributeError) as exc:
        print(
            f"llmcurl cannot be loaded: {exc}\nBuild it with `make` or `pip install .`",
            file=sys.stderr,
        )
        return 1
    from ..testing import MockLLM

    try:
        note = make_room(args.calls)
    except OSError as exc:
        print(exc, file=sys.stderr)
        return 1
    if note:
        print(note)
    with MockLLM.spawn(latency=args.latency, echo=True) as mock:
        print(
            f"mock LLM in process {mock.pid}, {args.latency:g} s per answer; {args.calls:,} calls at once ..."
        )
        bar = progress(args.calls)
        try:
            outcome = asyncio.run(measure(mock, args.calls, args.latency, client_type, bar))
        finally:
            bar.close()
    for line in render(outcome):
        print(line)
    return 1 if outcome.failures else 0
