"""Line coverage of csrc/ by everything that runs it: the suite, the C tests, and the failures of csrc/fault; of python/ by the suite.

Each is a build of its own with gcov's counters (LLMCURL_COVERAGE=1), so that a source has several sets of counts; a line is covered
when one of them has seen it. `scripts/cov.py [--report] [--least PERCENT]`; without --report it builds and runs first, which
takes a while. Arguments after -- go to pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PYTHON = BUILD / "coverage-python"
SUITE = [
    "-q",
    "-p",
    "no:cacheprovider",
    "--ignore=tests/test_source.py",
    "--ignore=tests/test_core.py",
    "--ignore=tests/typing",
]


def build(where: str, **switches: str) -> str:
    out = str(BUILD / where)
    env = {**os.environ, "LLMCURL_COVERAGE": "1", **switches}
    command = [
        sys.executable,
        "-W",
        "ignore",
        "setup.py",
        "-q",
        "build_py",
        "--build-lib",
        out,
        "build_ext",
        "--build-lib",
        out,
    ]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    return out


def run(*command: str, **env: str) -> int:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **env}, check=False
    ).returncode


def lines() -> dict[str, dict[int, int]]:
    """source -> line -> how often it ran, of all builds together."""
    found: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for data in sorted(BUILD.glob("**/*.gcda")):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout", str(data)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for text in done.stdout.splitlines():
            for file in json.loads(text)["files"]:
                name = file["file"].removeprefix(f"{ROOT}/")
                if name.startswith(("csrc/core/", "csrc/py/")):
                    for line in file["lines"]:
                        found[name][line["line_number"]] += line["count"]
    return found


def ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 -> "1-3 7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number <= parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def report(least: float) -> int:
    found = lines()
    if not found:
        print("no counts: run without --report first", file=sys.stderr)
        return 1
    total = covered = 0
    for name in sorted(found):
        counts = found[name]
        missed = [number for number in sorted(counts) if not counts[number]]
        total += len(counts)
        covered += len(counts) - len(missed)
        print(
            f"{name:<28} {len(counts):>5} lines {100 * (1 - len(missed) / len(counts)):6.1f} %  {ranges(missed)}"
        )
    percent = 100 * covered / total
    print(f"csrc: {covered} of {total} lines, {percent:.1f} %")
    return 0 if percent >= least else 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", action="store_true", help="of the counts that are there")
    parser.add_argument("--least", type=float, default=90.0)
    parser.add_argument("pytest", nargs="*")
    args = parser.parse_args()
    code = 0
    if not args.report:
        for data in BUILD.glob("**/*.gcda"):
            data.unlink()
        code |= run("scripts/test_c.py", "--coverage")
        measured = ["-m", "coverage", "run", f"--data-file={PYTHON}", "--source=llmcurl"]
        code |= run(*measured, "-m", "pytest", *SUITE, *args.pytest, PYTHONPATH=build("cov"))
        code |= run("tests/fault/drive.py", PYTHONPATH=build("cov-fault", LLMCURL_FAULT="1"))
    if PYTHON.exists():
        run("-m", "coverage", "report", f"--data-file={PYTHON}", "--skip-covered", "--sort=cover")
    return report(args.least) or code


if __name__ == "__main__":
    sys.exit(main())
