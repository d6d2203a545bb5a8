"""Counts instructions per call, by step and by library, with valgrind's callgrind.

    python benchmarks/micro/run.py            prints the table beside TABLE.md's figures
    python benchmarks/micro/run.py --write    replaces TABLE.md

Two runs with different numbers of calls are subtracted, so that the start of the interpreter and the connects drop
out. Counts do not depend on the speed or the load of the machine; they depend on compiler, libcurl and Python.
The work of the kernel is not counted. Not its job: time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import environment  # noqa: E402
from answers import SSE_EVENTS  # noqa: E402
from callgrind_file import plain, read  # noqa: E402
from origin import Origin  # noqa: E402
from steps import CALL_STEPS, STREAM_STEPS, Step  # noqa: E402

TABLE = HERE / "TABLE.md"
LIBRARIES = (
    ("llmcurl", "_native"),
    ("libcurl", "libcurl"),
    ("nghttp2", "nghttp2"),
    ("TLS", "libssl"),
    ("TLS", "libcrypto"),
    ("asyncio in C", "_asyncio"),
    ("libc", "libc.so"),
    ("libc", "ld-linux"),
    ("libc", "libpthread"),
    ("Python", "python"),
)


def callgrind(python: Path, path: str, spec: dict[str, Any], calls: int, out: Path) -> Path:
    target = out / f"{spec['name']}-{calls}.callgrind"
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={target}",
        str(python),
        str(HERE / "loop.py"),
        json.dumps(spec),
        str(calls),
    ]
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONHASHSEED": "0",
        "NO_PROXY": "*",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)
    if done.returncode:
        raise SystemExit(f"{spec['name']}: {done.stdout[-300:]}{done.stderr[-1500:]}")
    return target


def per_call(small: dict[Any, int], big: dict[Any, int], calls: int) -> dict[Any, float]:
    return {key: (value - small.get(key, 0)) / calls for key, value in big.items()}


def symbols(prefix: str) -> dict[str, str]:
    """Function to library, for what is linked into the extension statically."""
    out: dict[str, str] = {}
    archives = {
        "libcurl.a": "libcurl",
        "libnghttp2.a": "nghttp2",
        "libssl.a": "TLS",
        "libcrypto.a": "TLS",
    }
    for archive, label in archives.items():
        path = Path(prefix) / "lib" / archive
        if prefix and path.exists():
            text = subprocess.run(["nm", str(path)], capture_output=True, text=True).stdout
            names = (line.split() for line in text.splitlines())
            out.update({plain(w[2]): label for w in names if len(w) == 3 and w[1] in "tT"})
    return out


def library(name: str, function: str, linked: dict[str, str]) -> str:
    if "_native" in name and function in linked:
        return linked[function]
    base = name.rpartition("/")[2]
    for label, part in LIBRARIES:
        if part in base:
            return label
    return "other"


def measure(
    spec: dict[str, Any],
    steps: tuple[Step, ...],
    calls: tuple[int, int],
    python: Path,
    path: str,
    out: Path,
    linked: dict[str, str],
) -> list[tuple[str, float]]:
    """(row, instructions per call, of a stream per event)."""
    with ThreadPoolExecutor(2) as pool:
        small, big = pool.map(lambda n: read(callgrind(python, path, spec, n, out)), calls)
    streams = spec["mode"] == "stream"
    count = (calls[1] - calls[0]) * (SSE_EVENTS if streams else 1)
    own = per_call(small.own, big.own, count)
    inclusive = per_call(small.inclusive, big.inclusive, count)
    rows = [("all of an event" if streams else "all of a call", sum(own.values()))]
    for step in steps:
        cost = next((inclusive[f] for f in step.functions if inclusive.get(f, 0) >= 1), None)
        if cost is not None:
            rows.append((step.name, cost))
    by_library: dict[str, float] = {}
    for (function, name), value in own.items():
        label = library(name, function, linked)
        by_library[label] = by_library.get(label, 0.0) + value
    rows += [
        (f"in {label}", value) for label, value in sorted(by_library.items(), key=lambda i: -i[1])
    ]
    return [(row, value) for row, value in rows if value >= 1]


def stored() -> dict[str, int]:
    """Figures of TABLE.md: "section/row" to instructions."""
    out, section = {}, ""
    for line in TABLE.read_text().splitlines() if TABLE.exists() else []:
        if line.startswith("## "):
            section = line[3:]
        found = re.match(r"^\| (.+?) \| ([\d,]+) \|", line)
        if found:
            out[f"{section}/{found.group(1)}"] = int(found.group(2).replace(",", ""))
    return out


def versions(python: Path, path: str) -> str:
    native = environment.native_info(python, path) or {}
    cc = subprocess.run(["cc", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    return (
        f"Python {environment.machine()['python']}, libcurl {native.get('libcurl', '?')}, cc {cc}, "
        f"revision {environment.revision()}"
    )


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--write", action="store_true", help="replace TABLE.md")
    p.add_argument("--only", default="", help="sections, by a part of their titles")
    p.add_argument("--python", type=Path, help="interpreter (build/bench-venv is made)")
    p.add_argument(
        "--path", type=Path, help="a built llmcurl to count; by default this one is built"
    )
    args = p.parse_args()
    environment.ensure_tools("valgrind")
    python = args.python or environment.ensure_python()
    out = environment.BUILD / "micro"
    out.mkdir(parents=True, exist_ok=True)
    before = stored()
    prefix = environment.libcurl_prefix()
    linked = symbols(prefix)
    lib = (
        environment.snapshot(args.path) if args.path else environment.build_package(python, prefix)
    )
    text = [
        "# Instructions per call",
        "",
        f"{versions(python, str(lib))}. Made by `python benchmarks/micro/run.py --write`; user-space "
        "instructions, counted by callgrind. A step is counted with all that it calls, so that steps lie "
        "inside each other; the rows that begin with `in` add up to all.",
        "",
    ]
    with Origin(environment.BUILD / "origin") as origin:
        for title, name, client, protocol, where, inflight, calls, steps in SECTIONS:
            if args.only and args.only not in title:
                continue
            spec = {
                "name": name,
                "client": client,
                "mode": "stream" if steps is STREAM_STEPS else "closed",
                "url": origin.url(protocol, where),
                "expect": str(origin.expect(where)),
                "inflight": inflight,
                "ca": str(origin.ca) if protocol != "h1" else None,
                "http2": protocol == "h2",
            }
            rows = measure(spec, steps, calls, python, str(lib), out, linked)
            text += [f"## {title}", "", "| step | instructions |", "|---|---|"]
            print(f"\n{title}")
            for row, value in rows:
                old = before.get(f"{title}/{row}")
                change = f"{(value / old - 1) * 100:+6.1f} %" if old else ""
                print(f"  {row:52} {value:10,.0f} {change}")
                text.append(f"| {row} | {value:,.0f} |")
            text.append("")
    if args.write:
        TABLE.write_text("\n".join(text))
        print(f"\nwritten: {TABLE}")


# The origin waits: callgrind slows the client down so much that the answer would be there before libcurl looks.
SECTIONS: tuple[tuple[str, str, str, str, str, int, tuple[int, int], tuple[Step, ...]], ...] = (
    (
        "The native layer, 1 in flight",
        "native-1",
        "native",
        "h1",
        "/delay/20",
        1,
        (100, 500),
        CALL_STEPS,
    ),
    (
        "The native layer, 64 in flight",
        "native-64",
        "native",
        "h1",
        "/delay/300",
        64,
        (320, 2560),
        CALL_STEPS,
    ),
    (
        "AsyncClient, 1 in flight",
        "client-1",
        "llmcurl",
        "h1",
        "/delay/20",
        1,
        (100, 500),
        CALL_STEPS,
    ),
    (
        "AsyncClient, 64 in flight",
        "client-64",
        "llmcurl",
        "h1",
        "/delay/300",
        64,
        (320, 2560),
        CALL_STEPS,
    ),
    (
        "AsyncClient, 64 in flight, HTTP/2",
        "h2-64",
        "llmcurl",
        "h2",
        "/delay/300",
        64,
        (320, 2560),
        CALL_STEPS,
    ),
    (
        "An event of a stream of 400",
        "sse-1",
        "llmcurl",
        "h1",
        "/sse",
        1,
        (4, 20),
        STREAM_STEPS,
    ),
)


if __name__ == "__main__":
    main()
