"""10,000 token streams at once on one loop, four tokens a second each: CPU per event, memory per stream, order.

    python benchmarks/trickle/trickle.py                        llmcurl, in pairs with aiohttp if it is installed
    python benchmarks/trickle/trickle.py --clients llmcurl --rounds 1 --streams 1000

The origin (origin.c) gives every stream its events in a phase of its own, so each event comes alone on its connection.
The CPU is that of the client's process, user and system, from when all streams are open until the last one has ended
(`cpu_us_per_event`), and with the opening of the connections (`all_us_per_event`). Memory is resident memory above that
before the first call: with all streams open and silent, and at its highest. Every event of every stream is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def origin_program() -> Path:
    """The compiled origin."""
    program = ROOT / "build" / "bench-trickle-origin"
    source = HERE / "origin.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        program.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


def rss_kb(field: str = "VmRSS") -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


# -- clients: an async generator that calls `opened` when the head is there, then gives the texts ------------


class Llmcurl:
    """The native LLM client's text stream."""

    def __init__(self, url: str, streams: int) -> None:
        import llmcurl

        limits = llmcurl.Limits(max_connections=None, max_keepalive_connections=None)
        client = llmcurl.AsyncClient(limits=limits, timeout=None, trust_env=False)
        self.llm = llmcurl.OpenAI(base_url=url, api_key="none", model="m", client=client)

    async def stream(self, opened: Callable[[], Awaitable[None]], texts: list[str]) -> None:
        async with self.llm.stream("Tell me.") as stream:
            await opened()
            async for text in stream.text_stream:
                texts.append(text)

    def extra(self) -> dict[str, Any]:
        from llmcurl._pools import reactor_for

        return {"steps": reactor_for(asyncio.get_running_loop()).stats().get("steps")}

    async def close(self) -> None:
        await self.llm.client.aclose()


class Aiohttp:
    """Lines and json.loads, as programs without an SDK do."""

    def __init__(self, url: str, streams: int) -> None:
        import aiohttp

        self.url = f"{url}/chat/completions"
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(None)
        )

    async def stream(self, opened: Callable[[], Awaitable[None]], texts: list[str]) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "Tell me."}], "stream": True}
        async with self.session.post(self.url, json=body) as response:
            await opened()
            async for line in response.content:
                if line.startswith(b"data: {"):
                    texts.append(json.loads(line[6:])["choices"][0]["delta"]["content"])

    def extra(self) -> dict[str, Any]:
        return {}

    async def close(self) -> None:
        await self.session.close()


CLIENTS = {"llmcurl": Llmcurl, "aiohttp": Aiohttp}


def check(streams: list[list[str]], events: int) -> int:
    """How many streams have not all their events, their own ones, in order."""
    wrong, seen = 0, set()
    for texts in streams:
        name = texts[0].partition("/")[0] if texts else ""
        wrong += texts != [f"{name}/{n:04d} " for n in range(events)] or name in seen
        seen.add(name)
    return wrong


async def measure(args: argparse.Namespace, url: str) -> dict[str, Any]:
    client: Any = CLIENTS[args.client](url, args.streams)
    found: list[list[str]] = [[] for _ in range(args.streams)]
    missing = args.streams
    figures: dict[str, Any] = {}
    gc.collect()
    gc.freeze()
    base = rss_kb()
    begin = time.process_time()
    start_cpu = start = 0.0

    async def opened() -> None:
        nonlocal missing, start, start_cpu
        missing -= 1
        if not missing:  # the origin waits a second before the first event
            figures["open_kb_per_stream"] = (rss_kb() - base) / args.streams
            figures.update(client.extra())
            start, start_cpu = time.monotonic(), time.process_time()

    results = await asyncio.gather(
        *(client.stream(opened, texts) for texts in found), return_exceptions=True
    )
    cpu, end = time.process_time(), time.monotonic()
    events = sum(len(texts) for texts in found)
    failures = [repr(r) for r in results if r is not None]
    steps = client.extra().get("steps")
    await client.close()
    return {
        "client": args.client,
        "loop": args.loop,
        "streams": args.streams,
        "events": events,
        "seconds": end - start,
        "cpu_us_per_event": (cpu - start_cpu) * 1e6 / max(events, 1),
        "all_us_per_event": (cpu - begin) * 1e6 / max(events, 1),
        "open_kb_per_stream": figures.get("open_kb_per_stream"),
        "peak_kb_per_stream": (rss_kb("VmHWM") - base) / args.streams,
        "events_per_step": events / (steps - figures["steps"]) if steps else None,
        "wrong_streams": check(found, args.events),
        "failures": len(failures),
        "error": failures[0][:300] if failures else "",
        "loadavg": os.getloadavg()[0],
    }


def worker(args: argparse.Namespace) -> int:
    """One client, one run; prints a line of JSON."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < args.streams + 100:
        print(
            f"the descriptor limit is {hard}: too low for {args.streams} streams", file=sys.stderr
        )
        return 1
    command = [str(origin_program()), str(args.streams), str(args.events), str(args.interval)]
    factory: Any = None
    if args.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as origin:
        assert origin.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(origin.stdout.readline())}/v1"
            with asyncio.Runner(loop_factory=factory) as runner:
                result = runner.run(measure(args, url))
                ticks = Path(f"/proc/{origin.pid}/stat").read_text().rpartition(")")[2].split()
                result["origin_cpu_seconds"] = sum(map(int, ticks[11:13])) / os.sysconf(
                    "SC_CLK_TCK"
                )
                print(json.dumps(result), flush=True)
                os._exit(0 if origin.terminate() is None else 1)
        finally:
            origin.kill()
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--streams", type=int, default=10_000)
    add("--events", type=int, default=20, help="of each stream")
    add("--interval", type=int, default=250, metavar="MS", help="between two events of a stream")
    add("--rounds", type=int, default=3)
    add("--clients", default="llmcurl,aiohttp")
    add("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    add("--client", choices=tuple(CLIENTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        return worker(args)
    names = [name for name in args.clients.split(",") if importlib.util.find_spec(name)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    failed = 0
    for _ in range(args.rounds):
        for name in names:
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--client", name],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"{name}: exit {done.returncode}", file=sys.stderr)
                return 1
            result = json.loads(done.stdout)
            print(json.dumps(result), flush=True)
            failed += result["wrong_streams"] + result["failures"]
            runs[name].append(result)
    for name, results in runs.items():
        print(f"{name:<10}", end="")
        for field, unit in (
            ("cpu_us_per_event", "us CPU per event"),
            ("all_us_per_event", "with opening"),
            ("open_kb_per_stream", "KB per open stream"),
            ("peak_kb_per_stream", "at most"),
        ):
            print(f" {statistics.median(r[field] for r in results):8.1f} {unit}", end="")
        print()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
