"""Many HTTP/2 calls over TLS at once, and how often the net below libcurl had to catch one.

    python benchmarks/rescues.py [--calls 1000000] [--inflight 10000]

Against nginx with fixed answers; every answer is checked. A lane that falls silent gets one curl_multi_perform;
what that frees is a rescue. The count should be 0. One line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import llmcurl
from answers import chat_answer
from clients.llmcurl_client import reactor_counters
from llmcurl import _native
from origin import Origin


async def run(url: str, ca: str, calls: int, inflight: int) -> dict[str, object]:
    expected = chat_answer()
    left, wrong = calls, 0
    versions: set[str] = set()

    async def worker(client: llmcurl.AsyncClient) -> None:
        nonlocal left, wrong
        while left > 0:
            left -= 1
            response = await client.post(url, content=b"x" * 1000)
            versions.add(response.http_version)
            wrong += response.status_code != 200 or response.content != expected

    async with llmcurl.AsyncClient(verify=ca, timeout=llmcurl.Timeout(None, read=120), trust_env=False) as client:
        begin, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(worker(client) for _ in range(inflight)))
        took, cpu = time.monotonic() - begin, time.process_time() - cpu
        return {
            "calls": calls, "inflight": inflight, "wrong": wrong, "http": sorted(versions), "seconds": round(took, 1),
            "cpu_us_per_call": round(cpu / calls * 1e6, 1), "libcurl": _native.curl_info()["version"],
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, **reactor_counters(),
        }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--inflight", type=int, default=10_000)
    args = parser.parse_args()
    where = Path("build/rescues").resolve()
    origin = Origin(where)
    with origin:
        found = asyncio.run(run(origin.url("h2", "/chat"), str(origin.ca), args.calls, args.inflight))
    print(json.dumps(found))
    return 1 if found["wrong"] or found["rescues"] else 0


if __name__ == "__main__":
    sys.exit(main())
