"""The loops a client is measured in, and the clocks.

Job: closed loop, burst, waiting, open loop, client per request; CPU time of all threads, latencies, loop stall,
memory. Not its job: libraries (the other modules), printing (worker.py).
"""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from pathlib import Path
from typing import Any

from .base import Client, Spec
from .registry import make_client

now = time.perf_counter


def rss_kb(field: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def quantile(values: Any, q: float) -> float:
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return float(ordered[min(len(ordered) - 1, int(q * len(ordered)))])


class Meter:
    """Latencies and failures of the calls, and the window in which they count."""

    def __init__(self) -> None:
        self.latency = array("d")
        self.failures = 0
        self.error = ""
        self._first = 0
        self._failures0 = 0

    def fail(self, what: object) -> None:
        self.failures += 1
        if not self.error:
            self.error = (
                what[:300] if isinstance(what, str) else f"{type(what).__name__}: {what}"[:300]
            )

    def check(self, answer: Any, client: Client) -> None:
        if isinstance(answer, BaseException):
            self.fail(answer)
        elif (found := client.result(answer)) != client.expected:
            self.fail(f"wrong answer: {str(found)[:200]}")

    def begin(self) -> None:
        self._first, self._failures0 = len(self.latency), self.failures
        self._cpu, self._wall = time.process_time(), now()

    def end(self, calls: int = 0) -> dict[str, Any]:
        """The figures since `begin`. `calls`: how many there were, if each was not timed."""
        seconds, cpu = now() - self._wall, time.process_time() - self._cpu
        window = self.latency[self._first :]
        calls = calls or len(window)
        return {
            "calls": calls,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "cpu_us_per_call": cpu * 1e6 / calls if calls else None,
            "calls_per_s": calls / seconds if seconds else 0.0,
            "p50_ms": quantile(window, 0.5) * 1e3 if window else None,
            "p99_ms": quantile(window, 0.99) * 1e3 if window else None,
            "failures": self.failures - self._failures0,
        }


class Stall:
    """How late a task that sleeps 1 ms wakes up, at most, while it runs."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _tick(self) -> None:
        while True:
            before = now()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, now() - before - 0.001)

    async def __aenter__(self) -> Stall:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0.01)
        self.worst = 0.0
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        await asyncio.sleep(0)  # let a late wake-up be seen
        await asyncio.sleep(0.002)
        self._task.cancel()


async def _once(one: Any, expected: Any, meter: Meter) -> None:
    """One call: checked and timed."""
    begin = now()
    try:
        answer = await one()
        if answer != expected:
            meter.fail(f"wrong answer: {str(answer)[:200]}")
    except Exception as e:
        meter.fail(e)
    meter.latency.append(now() - begin)


async def closed(client: Client, spec: Spec, meter: Meter) -> dict[str, Any]:
    """`inflight` workers, each makes its next call when the last has ended."""
    one, expected = client.post, client.expected
    if spec.mode == "stream":
        one, expected = client.stream, client.expected_stream
    elif spec.mode == "fresh":
        one = _fresh(spec)
    running = True
    latency = meter.latency

    async def work() -> None:
        while running:
            begin = now()
            try:
                answer = await one()
                if answer != expected:
                    meter.fail(f"wrong answer: {str(answer)[:200]}")
            except Exception as e:
                meter.fail(e)
            latency.append(now() - begin)

    tasks = [asyncio.create_task(work()) for _ in range(spec.inflight)]
    warm = 2 * spec.inflight if spec.warmup < 0 else spec.warmup
    begin = now()
    while len(latency) < warm and now() - begin < spec.warmup_seconds:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    meter.begin()
    await asyncio.sleep(spec.seconds)
    # a slow client may not have ended one call yet
    while len(latency) == meter._first and now() - begin < 60:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    result = meter.end()
    running = False
    for task in tasks:  # the process ends without them
        task.cancel()
    if spec.mode == "stream":
        events = result["calls"] * len(expected)
        result["events"] = events
        result["cpu_us_per_event"] = result["cpu_seconds"] * 1e6 / events if events else None
    return result


def _fresh(spec: Spec) -> Any:
    """A client for each request, as programs do that do not know better."""

    async def one() -> Any:
        client = make_client(spec)
        await client.open()
        try:
            return await client.post()
        finally:
            await client.close()

    return one


async def sleeps(spec: Spec) -> float:
    """The loop stall that gathering as many `asyncio.sleep` calls makes, in ms."""
    async with Stall() as stall:
        await asyncio.gather(*[asyncio.sleep(0.1) for _ in range(spec.calls)])
    return stall.worst * 1e3


async def burst(client: Client, spec: Spec, meter: Meter) -> dict[str, Any]:
    """`calls` calls at once through one gather, on a client that has no connection yet."""
    base_stall = await sleeps(spec)
    gc.collect()
    base = rss_kb()
    meter.begin()
    async with Stall() as stall:
        begin = now()
        answers = await asyncio.gather(
            *[client.start() for _ in range(spec.calls)], return_exceptions=True
        )
        took = now() - begin
    result = meter.end(calls=spec.calls)
    for answer in answers:
        meter.check(answer, client)
    result["failures"] = meter.failures
    result["seconds"] = took
    result["calls_per_s"] = spec.calls / took
    result["stall_ms"] = stall.worst * 1e3
    result["stall_sleep_ms"] = base_stall
    result["kb_per_call"] = (rss_kb("VmHWM") - base) / spec.calls
    return result


async def waiting(client: Client, spec: Spec, meter: Meter) -> dict[str, Any]:
    """Memory while `calls` calls wait for a slow origin. Sampled until the first answer."""
    await _once(client.post, client.expected, meter)
    gc.collect()
    base = rss_kb()
    tasks = [
        asyncio.create_task(_once(client.post, client.expected, meter)) for _ in range(spec.calls)
    ]
    first, peak, begin = len(meter.latency), base, now()
    meter.begin()
    while len(meter.latency) == first and now() - begin < 60:
        peak = max(peak, rss_kb())
        await asyncio.sleep(0.1)
    await asyncio.wait(tasks, timeout=60)
    result = meter.end()
    result["kb_per_call"] = (peak - base) / spec.calls
    return result


async def open_loop(client: Client, spec: Spec, meter: Meter) -> dict[str, Any]:
    """Calls on an absolute schedule; latency counts from the scheduled time, so a late start is not forgiven."""
    total = int(spec.rate * spec.seconds)
    done: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        try:
            answer = await client.post()
            if answer != client.expected:
                meter.fail(f"wrong answer: {str(answer)[:200]}")
        except Exception as e:
            meter.fail(e)
        meter.latency.append(now() - due)

    async def run(count: int) -> None:
        start, sent = now(), 0
        while sent < count:
            due = min(count, int((now() - start) * spec.rate) + 1)
            while sent < due:
                task = asyncio.create_task(one(start + sent / spec.rate))
                done.add(task)
                task.add_done_callback(done.discard)
                sent += 1
            await asyncio.sleep(max(0.0, start + sent / spec.rate - now()))
        while done and now() - start < spec.seconds + 8:
            await asyncio.wait(done, timeout=1)

    await run(int(spec.rate * 0.3))
    meter.begin()
    await run(total)
    result = meter.end()
    result["rate"] = spec.rate
    result["p999_ms"] = quantile(meter.latency[meter._first :], 0.999) * 1e3
    return result


async def measure(spec: Spec) -> dict[str, Any]:
    """Opens the client, runs the mode, returns the figures."""
    meter = Meter()
    loops = {
        "closed": closed,
        "stream": closed,
        "fresh": closed,
        "burst": burst,
        "waiting": waiting,
        "open": open_loop,
    }
    base = rss_kb()
    client = make_client(spec)
    if spec.mode != "fresh":
        await client.open()
    result = await loops[spec.mode](client, spec, meter)
    result.update(client.extra())
    result["total_calls"] = max(len(meter.latency), result["calls"])
    result["error"] = meter.error
    result["rss_kb"] = rss_kb("VmHWM")
    result["rss_base_kb"] = base
    result["versions"] = client.versions()
    return result
