"""A million HTTP/2 calls over TLS, 10,000 in flight: does any get stuck?

    python benchmarks/soak.py [--calls 1000000] [--inflight 10000] [--curl-prefix /opt/curl-8.14]

Builds llmcurl against that libcurl (as run.py does) and adds a line to results/soak.json, which the report shows.
A call is stuck when it has no answer after --stuck seconds; it is given up then, and the run goes on.
Exit code 1 if a call failed or got stuck.

Not its job: cost against others (run.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "soak.json"


async def soak(spec: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: closed loop until all calls are made."""
    import llmcurl
    from llmcurl import _native
    from llmcurl._pools import reactor_for

    expected = spec["expected"].encode()
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 960 + b'"}]}'
    left, failures, stuck, slowest, done = spec["calls"], 0, 0, 0.0, 0
    client = llmcurl.AsyncClient(
        verify=spec["ca"], http2=True, http1=True, trust_env=False, timeout=llmcurl.Timeout(None, total=spec["stuck"]),
        headers={"Content-Type": "application/json"}, limits=llmcurl.Limits(max_connections=None),
    )  # fmt: skip

    async def work() -> None:
        nonlocal left, failures, stuck, slowest, done
        while left > 0:
            left -= 1
            begin = time.monotonic()
            try:
                answer = await client.post(spec["url"], content=body)
                failures += answer.status_code != 200 or answer.content != expected
            except llmcurl.TimeoutException:
                stuck += 1
            except llmcurl.TransportError:
                failures += 1
            slowest = max(slowest, time.monotonic() - begin)
            done += 1

    async def progress() -> None:
        while True:
            await asyncio.sleep(2)
            share = done / spec["calls"]
            print(
                f"\r[{'#' * round(share * 30):.<30}] {done:,} of {spec['calls']:,}",
                end="",
                file=sys.stderr,
            )

    begin = time.monotonic()
    bar = asyncio.create_task(progress())
    await asyncio.gather(*[work() for _ in range(spec["inflight"])])
    bar.cancel()
    print(file=sys.stderr)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "libcurl": _native.curl_info()["version"],
        "calls": done,
        "inflight": spec["inflight"],
        "seconds": time.monotonic() - begin,
        "failures": failures,
        "stuck": stuck,
        "slowest_s": slowest,
        "rescues": reactor_for(asyncio.get_running_loop()).stats()["rescues"],
        "cpu_us_per_call": (usage.ru_utime + usage.ru_stime) * 1e6 / max(done, 1),
    }


def child() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = asyncio.new_event_loop().run_until_complete(soak(json.loads(sys.argv[2])))
    print(json.dumps(result), flush=True)
    os._exit(0)


def main() -> None:
    import environment
    from origin import Origin

    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--calls", type=int, default=1_000_000)
    p.add_argument("--inflight", type=int, default=10_000)
    p.add_argument(
        "--stuck", type=float, default=60.0, help="seconds after which a call counts as stuck"
    )
    p.add_argument("--python", type=Path, help="interpreter (build/bench-venv is made)")
    p.add_argument(
        "--curl-prefix",
        help="libcurl (LLMCURL_CURL_PREFIX, else that of the wheels, else the system's)",
    )
    args = p.parse_args()
    environment.ensure_tools()
    python = args.python or environment.ensure_python()
    prefix = environment.libcurl_prefix(args.curl_prefix)
    lib = environment.build_package(python, prefix, lib=environment.BUILD / "soak-lib")
    with Origin(environment.BUILD / "origin") as origin:
        spec = {
            "url": origin.url("h2", "/chat"),
            "ca": str(origin.ca),
            "expected": origin.expect("/chat").read_text(),
            "calls": args.calls,
            "inflight": args.inflight,
            "stuck": args.stuck,
        }
        done = subprocess.run(
            [str(python), __file__, "--child", json.dumps(spec)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(lib)},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the run ended with {done.returncode}")
    result = json.loads(done.stdout.splitlines()[-1])
    result["revision"] = environment.revision()
    print(json.dumps(result, indent=1))
    if args.calls >= 1_000_000:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(
            json.dumps({**kept, result["libcurl"]: result}, indent=1, sort_keys=True) + "\n"
        )
    if result["failures"] or result["stuck"]:
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        main()
