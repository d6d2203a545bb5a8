"""Pairs two revisions of llmcurl: builds both, runs them in turn, prints the ratio of their CPU per call.

    python benchmarks/compare.py A B [--only h1-64,h1-1000] [--pairs 9]

A and B are git revisions; `.` is the working tree. Each is built in build/compare/<id>, with the libcurl that
LLMCURL_CURL_PREFIX names, the wheels' if it is built, or the system's. Harness and origin are those of this checkout for both.
Exit code 1 when B costs more than --fail times A (off by default).

Not its job: peers (run.py).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import environment
from origin import Origin
from run import Progress, split_cpus
from runners import Bench
from scenarios import SCENARIOS

DEFAULT = "h1-1,h1-64,h1-1000,h2-1000,sse-20"


def _git(*args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(environment.ROOT), *args], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"git {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout.strip()


def build(revision: str, python: Path, prefix: str) -> tuple[str, Path]:
    """(name, directory with the built package) of a revision."""
    built_with = prefix or "system"
    if revision == ".":
        name, source = "tree", environment.ROOT
        target = environment.BUILD / "compare" / "tree"
        shutil.rmtree(target, ignore_errors=True)
        source = target / "source"
        shutil.copytree(
            environment.ROOT,
            source,
            ignore=shutil.ignore_patterns(
                ".git", ".venv", "build", "*.so", "__pycache__", "results"
            ),
        )
    else:
        name = _git("rev-parse", "--short=10", f"{revision}^{{commit}}")
        target = environment.BUILD / "compare" / name
        source = target / "source"
        stamp = target / "built"
        if stamp.exists() and stamp.read_text() == built_with:
            return name, target / "lib"
        shutil.rmtree(target, ignore_errors=True)
        source.mkdir(parents=True)
        archive = subprocess.Popen(
            ["git", "-C", str(environment.ROOT), "archive", name], stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x", "-C", str(source)], stdin=archive.stdout, check=True)
        if archive.wait():
            raise SystemExit(f"git archive {name} failed")
    try:
        lib = environment.build_package(python, prefix, source, target / "lib")
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
    (target / "built").write_text(built_with)
    return name, lib


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("a")
    p.add_argument("b")
    p.add_argument("--only", default=DEFAULT, help=f"scenarios ({DEFAULT})")
    p.add_argument("--pairs", type=int, default=9)
    p.add_argument(
        "--fail", type=float, default=0.0, help="exit 1 when B / A exceeds this in a scenario"
    )
    p.add_argument("--python", type=Path, help="interpreter (build/bench-venv is made)")
    p.add_argument("--pin", action="store_true", help="give the origin a core of its own")
    args = p.parse_args()
    environment.ensure_tools()
    python = args.python or environment.ensure_python()
    sides = {}
    prefix = environment.libcurl_prefix()
    for side, revision in (("A", args.a), ("B", args.b)):
        print(f"building {side}: {revision}", file=sys.stderr)
        sides[side] = build(revision, python, prefix)
    chosen = [s for s in SCENARIOS if s.key in args.only.split(",")]
    client_cpus, origin_cpus = split_cpus(args.pin)
    found: dict[tuple[str, str], list[float]] = {}
    bad: list[str] = []
    with Origin(environment.BUILD / "origin", cpus=origin_cpus) as origin:
        benches = {
            side: Bench(origin, python, Path("/nonexistent"), str(lib), client_cpus)
            for side, (_, lib) in sides.items()
        }
        order = [s for _ in range(args.pairs) for s in chosen]
        random.shuffle(order)
        progress = Progress(2 * len(order))
        for scenario in order:
            pair = ["A", "B"]
            random.shuffle(pair)
            for side in pair:
                progress.show(f"{scenario.key} {side}")
                result = benches[side].run(scenario, "llmcurl")
                value = result.get(scenario.headline)
                if value is None or result.get("failures"):
                    bad.append(f"{side} {scenario.key}: {result.get('error')}")
                    value = float("nan")
                found.setdefault((scenario.key, side), []).append(value)
                progress.done += 1
        progress.show("done")
    print(
        f"A = {args.a} ({sides['A'][0]}), B = {args.b} ({sides['B'][0]}), {args.pairs} pairs; below 1.00 B is cheaper"
    )
    print(f"{'scenario':14} {'A':>9} {'B':>9} {'B/A':>7}   {'quartiles':>15}  B cheaper in   unit")
    worst = 0.0
    for scenario in chosen:
        a, b = found[scenario.key, "A"], found[scenario.key, "B"]
        ratios = sorted(y / x for x, y in zip(a, b, strict=True) if x == x and y == y and x)
        if not ratios:
            print(f"{scenario.key:14} no figure")
            continue
        middle = median(ratios)
        worst = max(worst, middle)
        low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
        wins = sum(r < 1 for r in ratios)
        print(
            f"{scenario.key:14} {median(a):9.2f} {median(b):9.2f} {middle:7.3f}   {low:7.3f}-{high:.3f}"
            f"  {wins:5} of {len(ratios):<5}  {scenario.unit}"
        )
    for text in bad:
        print("failed:", text)
    (environment.BUILD / "compare" / "last.json").write_text(
        json.dumps({f"{k} {side}": v for (k, side), v in found.items()}, indent=1)
    )
    if bad or (args.fail and worst > args.fail):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
