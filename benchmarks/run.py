"""Runs the benchmarks: interleaved rounds in shuffled order, results as JSON, a report with plots.

    python benchmarks/run.py                    about 10 minutes: results/<date>.json, REPORT.md, plots/
    python benchmarks/run.py --quick            about 90 seconds, into build/bench-quick
    python benchmarks/run.py --only h1-64,h2-1000 --clients floor,llmcurl,pycurl --rounds 7

Not its job: the list of scenarios (scenarios.py), reading the results (report.py).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import environment
from origin import Origin
from proof import prove, tool_versions
from runners import Bench
from scenarios import Scenario, cells, rounds_of

HERE = Path(__file__).resolve().parent


class Progress:
    """A bar on a terminal, a line per tenth elsewhere. Goes to standard error."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.begin = total, 0, time.monotonic()
        self._tty, self._tenth = sys.stderr.isatty(), -1

    def show(self, what: str) -> None:
        share = self.done / max(self.total, 1)
        took = time.monotonic() - self.begin
        left = f"{took / share * (1 - share):4.0f} s left" if self.done >= 3 else ""
        if self._tty:
            bar = ("#" * round(share * 30)).ljust(30, ".")
            sys.stderr.write(f"\r[{bar}] {self.done}/{self.total} {left} {what[:40]:40}")
            if self.done == self.total:
                sys.stderr.write("\n")
        elif int(share * 10) != self._tenth:
            self._tenth = int(share * 10)
            sys.stderr.write(f"{self.done}/{self.total} {took:.0f} s {left}\n")
        sys.stderr.flush()


def schedule(
    parts: list[tuple[Scenario, str]], rounds: int, seed: int
) -> list[tuple[int, Scenario, str]]:
    """Every cell once per round, as long as it takes part, each round in an order of its own."""
    rng = random.Random(seed)
    out = []
    most = max((rounds or scenario.rounds) for scenario, _ in parts)
    for number in range(most):
        part = [(number, s, c) for s, c in parts if number < (rounds or rounds_of(s, c))]
        rng.shuffle(part)
        out += part
    return out


def split_cpus(pin: bool) -> tuple[set[int] | None, set[int] | None]:
    """Cores of the clients and of the origin; None: all."""
    cpus = sorted(os.sched_getaffinity(0))
    if not pin or len(cpus) < 2:
        return None, None
    return set(cpus[:-1]), {cpus[-1]}


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--quick", action="store_true", help="a few scenarios, short")
    p.add_argument("--only", default="", help="scenarios, comma-separated")
    p.add_argument("--clients", default="", help="clients, comma-separated")
    p.add_argument("--rounds", type=int, default=0, help="instead of each scenario's own number")
    p.add_argument(
        "--minutes", type=float, default=0, help="start no further round after this long"
    )
    p.add_argument("--seed", type=int, default=0, help="of the order; 0: a new one")
    p.add_argument("--out", type=Path, help="directory for results, report and plots (benchmarks/)")
    p.add_argument(
        "--python", type=Path, help="interpreter with the peers (build/bench-venv is made)"
    )
    p.add_argument(
        "--path", type=Path, help="a built llmcurl to measure; by default this one is built"
    )
    p.add_argument(
        "--curl-prefix",
        help="libcurl of llmcurl and the floor (LLMCURL_CURL_PREFIX, else that of the wheels, else the system's)",
    )
    p.add_argument("--pin", action="store_true", help="give the origin a core of its own")
    return p.parse_args()


def run(args: argparse.Namespace) -> dict[str, Any]:
    environment.ensure_tools()
    python = args.python or environment.ensure_python()
    prefix = environment.libcurl_prefix(args.curl_prefix)
    floor = environment.build_floor(prefix)
    # a copy of its own, so that a build while this runs changes nothing
    lib = (
        environment.snapshot(args.path) if args.path else environment.build_package(python, prefix)
    )
    native = environment.native_info(python, str(lib))
    parts = cells(args.quick, args.only, args.clients)
    if native is None:
        parts = [(s, c) for s, c in parts if "llmcurl" not in c]
    if not parts:
        raise SystemExit("nothing to run: see --only and --clients")
    seed = args.seed or random.randrange(1, 10**6)
    order = schedule(parts, args.rounds or (2 if args.quick else 0), seed)
    client_cpus, origin_cpus = split_cpus(args.pin)
    begin, load_before = time.monotonic(), os.getloadavg()[0]
    limit = args.minutes * 60 or (85 if args.quick else 600)
    results: list[dict[str, Any]] = []
    with Origin(environment.BUILD / "origin", cpus=origin_cpus) as origin:
        bench = Bench(origin, python, floor, str(lib), client_cpus, args.quick)
        proof = prove(origin, 1 if args.quick else 3, client_cpus)
        progress = Progress(len(order))
        dropped = 0
        for number, scenario, client in order:
            if number and time.monotonic() - begin > limit:
                dropped += 1
            else:
                progress.show(f"{scenario.key} {client}")
                results.append({"round": number, **bench.run(scenario, client)})
            progress.done += 1
        progress.show("done")
        meta = {
            "date": datetime.datetime.now().isoformat(timespec="seconds"),
            "quick": args.quick,
            "seconds": round(time.monotonic() - begin),
            "seed": seed,
            "dropped": dropped,
            "pinned": client_cpus is not None,
            "revision": environment.revision(),
            "llmcurl": native,
            "machine": environment.machine(),
            "load_before": load_before,
            "curl": "the wheels' build"
            if prefix == str(environment.BUILD / "deps" / "prefix")
            else prefix or "the system's",
            "origin": {"nginx": origin.version(), "workers": origin.workers, **tool_versions()},
        }
    return {"meta": meta, "proof": proof, "results": results}


def main() -> None:
    args = parse()
    out = args.out or (environment.BUILD / "bench-quick" if args.quick else HERE)
    data = run(args)
    name = data["meta"]["date"].replace(":", "").replace("T", "-") + ".json"
    (out / "results").mkdir(parents=True, exist_ok=True)
    path = out / "results" / name
    path.write_text(json.dumps(data, indent=1) + "\n")
    # the plots need the peers' interpreter, which has matplotlib
    python = args.python or environment.ensure_python()
    os.execv(str(python), [str(python), str(HERE / "report.py"), str(path), "--out", str(out)])


if __name__ == "__main__":
    main()
