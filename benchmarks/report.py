"""Reads the results of one run and writes REPORT.md and the plots.

    python benchmarks/report.py benchmarks/results/<date>.json [--out benchmarks]

Not its job: measuring.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import plots
from claims import CLAIMS
from scenarios import NO_HTTP2, SCENARIOS, Scenario

Runs = dict[tuple[str, str], list[dict[str, Any]]]


def by_cell(data: dict[str, Any]) -> Runs:
    out: Runs = {}
    for record in data["results"]:
        out.setdefault((record["scenario"], record["client"]), []).append(record)
    return out


def values(runs: Runs, scenario: str, client: str, field: str) -> list[float]:
    return [
        r[field] for r in runs.get((scenario, client), []) if isinstance(r.get(field), (int, float))
    ]


def middle(runs: Runs, scenario: str, client: str, field: str) -> float | None:
    found = values(runs, scenario, client, field)
    return median(found) if found else None


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _head_section(data: dict[str, Any]) -> str:
    meta = data["meta"]
    machine, origin, native = meta["machine"], meta["origin"], meta["llmcurl"] or {}
    lines = [
        "# Benchmarks: the report of one run",
        "",
        f"{meta['date']}, {meta['seconds']} s, revision {meta['revision']}, order seed {meta['seed']}. "
        f"Made by `make bench{'-quick' if meta['quick'] else ''}`; read `benchmarks/README.md` for the method.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory']}, Linux {machine['kernel']}, "
        f"load {meta.get('load_before', 0):.1f} before and {machine['load']:.1f} at the end.",
        f"- Python {machine['python']}; llmcurl {native.get('version', 'not built')} on libcurl "
        f"{native.get('libcurl', '-')} ({meta.get('curl', '?')}), {native.get('ssl', '')}.",
        f"- Origin: nginx {origin['nginx']}, {origin['workers']} worker"
        f"{', on a core of its own' if meta['pinned'] else ''}.",
        "- `floor` is C on libcurl with our design, `native` is our C objects without the Python layer.",
        "- The headline is CPU time, user and system, of all threads of the client. Medians of the rounds, in "
        "brackets the lowest and the highest.",
    ]
    if machine["load"] > machine["cores"] + 1:
        lines.append(
            "- **The machine was busy with other work.** Calls/s, latencies and stalls say little;"
        )
        lines.append("  compare CPU per call only, and with care.")
    if meta["dropped"]:
        lines.append(f"- The time was up: {meta['dropped']} runs of later rounds were left out.")
    return "\n".join(lines) + "\n"


def _proof_section(data: dict[str, Any], runs: Runs) -> str:
    rows = [
        [
            name,
            p["client"],
            number(p["calls_per_s"]),
            number(p["cpu_us_per_call"]),
            str(p["failures"]),
        ]
        for name, p in data["proof"].items()
    ]
    text = "## The origin, and the limit above the floor\n\n"
    text += table(["listener", "tool", "calls/s", "us of CPU per call", "failures"], rows)
    full = sorted(
        {(r["scenario"], r["client"]) for r in data["results"] if r.get("origin_load", 0) > 0.85}
    )
    if full:
        text += (
            "\nIn these runs the origin was busy for more than 85 % of a core. Calls/s and latencies are then "
            "the origin's, CPU per call is still the client's: "
            + ", ".join(f"{s} {c}" for s, c in full)
            + ".\n"
        )
    dropped = sorted(
        {(r["scenario"], r["client"]) for r in data["results"] if r.get("listen_overflows")}
    )
    if dropped:
        text += (
            "\nWhile these ran the kernel dropped connection attempts because a listen queue was full (a second of "
            "delay each; the counter is the whole machine's): "
            + ", ".join(f"{s} {c}" for s, c in dropped)
            + ".\n"
        )
    return text


def _claims_section(data: dict[str, Any], runs: Runs) -> str:
    def lookup(scenario: str, client: str, field: str) -> float | None:
        if scenario != "*":
            return middle(runs, scenario, client, field)
        found = [
            r[field]
            for (_, c), records in runs.items()
            if c.partition("+")[0] == client
            for r in records
            if field in r
        ]
        return float(sum(found)) if found else None

    version = str((data["meta"]["llmcurl"] or {}).get("libcurl", "0.0")).split(".")
    libcurl = (int(version[0]), int(version[1]))
    rows = [
        [
            claim.text,
            f"{'>=' if claim.at_least else '<='} {claim.bound:g}",
            number(claim.value(lookup)),
            claim.verdict(lookup, libcurl),
        ]
        for claim in CLAIMS
    ]
    return "## What is claimed\n\n" + table(["claim", "bound", "measured", ""], rows)


def _row(scenario: Scenario, client: str, runs: Runs, best: float | None) -> list[str] | None:
    records = runs.get((scenario.key, client), [])
    if not records:
        return None
    name = client + (" (HTTP/1.1)" if scenario.protocol == "h2" and client in NO_HTTP2 else "")
    key = scenario.headline
    found = values(runs, scenario.key, client, key)
    errors = [r["error"] for r in records if r.get("error")]
    if not found and not values(runs, scenario.key, client, "calls_per_s"):
        return [name, errors[0] if errors else "no figure", *[""] * 6]
    spread = f" [{number(min(found))} - {number(max(found))}]" if len(found) > 1 else ""
    ours = f"{median(found) / best:.2f}" if best and found and key != "stall_excess_ms" else ""
    failures = sum(r.get("failures", 0) for r in records)
    return [
        name,
        number(median(found) if found else None) + spread,
        ours,
        number(middle(runs, scenario.key, client, "calls_per_s")),
        number(middle(runs, scenario.key, client, "p50_ms")),
        number(middle(runs, scenario.key, client, "p99_ms")),
        number((middle(runs, scenario.key, client, "rss_kb") or 0) / 1024),
        (f"**{failures}** {errors[0] if errors else ''}" if failures else "0").replace("|", "/"),
    ]


def _scenario_section(scenario: Scenario, runs: Runs) -> str:
    ours = middle(runs, scenario.key, "llmcurl", scenario.headline)
    clients = sorted(
        (c for s, c in runs if s == scenario.key),
        key=lambda c: middle(runs, scenario.key, c, scenario.headline) or float("inf"),
    )
    rows = [row for client in clients if (row := _row(scenario, client, runs, ours))]
    if not rows:
        return ""
    text = f"### {scenario.title}\n\n`{scenario.key}`, {scenario.unit}\n\n"
    text += table(
        [
            "client",
            scenario.unit,
            "x llmcurl",
            "calls/s",
            "p50 ms",
            "p99 ms",
            "peak MB",
            "failures",
        ],
        rows,
    )
    if scenario.mode == "burst":
        extra = [
            [
                c,
                *[
                    number(middle(runs, scenario.key, c, f))
                    for f in (
                        "stall_ms",
                        "stall_sleep_ms",
                        "cpu_us_per_call",
                        "kb_per_call",
                        "seconds",
                    )
                ],
            ]
            for c in clients
        ]
        text += "\n" + table(
            ["client", "stall ms", "of asyncio.sleep", "us of CPU per call", "KB per call", "s"],
            extra,
        )
    if scenario.mode == "open":
        extra = [
            [c, *[number(middle(runs, scenario.key, c, f)) for f in ("cpu_us_per_call", "p999_ms")]]
            for c in clients
        ]
        text += "\n" + table(["client", "us of CPU per call", "p99.9 ms"], extra)
    return text


def _losses_section(runs: Runs) -> str:
    """Scenarios where somebody other than the floor is ahead of llmcurl."""
    lines = []
    for scenario in SCENARIOS:
        ours = middle(runs, scenario.key, "llmcurl", scenario.headline)
        if ours is None:
            continue
        ahead = []
        for key, client in runs:
            if key != scenario.key or client in ("floor", "native") or "llmcurl" in client:
                continue
            theirs = middle(runs, key, client, scenario.headline)
            if theirs is not None and theirs < ours:
                ahead.append(f"{client} {number(theirs)}")
        if ahead:
            lines.append(
                f"- {scenario.title} ({scenario.unit}): llmcurl {number(ours)}, {', '.join(ahead)}"
            )
    return (
        "## Where others are ahead\n\n"
        + ("\n".join(lines) if lines else "Nowhere in this run.")
        + "\n"
    )


def _versions_section(data: dict[str, Any]) -> str:
    found: dict[str, str] = {}
    floor = set()
    for record in data["results"]:
        if record["client"] == "floor" and "libcurl" in record:
            floor.add(f"libcurl {record['libcurl']} {record['ssl']}")
        for name, version in record.get("versions", {}).items():
            key = f"{name} in {record['client'].partition('+')[0]}" if name == "libcurl" else name
            found[key] = version
    origin = {k: v for k, v in data["meta"]["origin"].items() if k != "workers"}
    parts = [f"{k} {v}" for k, v in sorted({**found, **origin}.items())]
    parts += [f"floor: {f}" for f in sorted(floor)]
    return "## Versions\n\n" + ", ".join(parts) + ".\n"


def _soak_section(path: Path) -> str:
    """What soak.py has found, per libcurl."""
    text = "## A million HTTP/2 calls\n\n10,000 in flight over TLS, made by `make bench-soak`, apart from the run above. "
    text += "`rescues`: lanes that the safety net found silent with work left (docs/architecture.md, *Silence*).\n\n"
    if not path.exists():
        return text + "Not run.\n"
    rows = [
        [r["libcurl"], f"{r['calls']:,}", number(r["seconds"]), str(r["failures"]), str(r["stuck"]),
         str(r["rescues"]), number(r["slowest_s"]), number(r["cpu_us_per_call"]), r["revision"]]
        for _, r in sorted(json.loads(path.read_text()).items())
    ]  # fmt: skip
    head = [
        "libcurl",
        "calls",
        "s",
        "failures",
        "stuck",
        "rescues",
        "slowest s",
        "us of CPU per call",
        "revision",
    ]
    return text + table(head, rows)


LIMITS = """## Limits

- Client and origin share one machine: the kernel's loopback work counts in part for the client. No network, no loss.
- The origin is one nginx worker. Fast clients reach its limit; the section on the origin names the runs.
- Nothing is pinned to a core unless the line on the origin says so (`--pin`): a program is not either. It matters for
  libraries with threads of their own: on one core pyreqwest costs about a third less CPU, the others the same.
- Every library runs with limits lifted and timeouts off where it allows that. Other settings give other figures.
- aiohttp and httpx-aiohttp speak HTTP/1.1 only.
- The wheels' libcurl, which llmcurl and the floor use here if the head of this report says so, is changed in one
  place (`scripts/patch_curl.py`); it has smaller send buffers, no parts that llmcurl does not use, and is optimized
  together with the extension (`scripts/build_deps.py`). pycurl brings a libcurl of its own.
- Absolute figures drift from machine to machine and from day to day; ratios within one run hold better.
- The authors of this report are the authors of llmcurl. The harness is in the repository: check it.
"""


def write(data: dict[str, Any], out: Path) -> Path:
    runs = by_cell(data)
    names = plots.draw(data, out / "plots")
    sections = [
        _head_section(data),
        _claims_section(data, runs),
        _losses_section(runs),
        _proof_section(data, runs),
    ]
    if names:
        sections.append("## Plots\n\n" + "\n".join(f"![{n}](plots/{n}.png)" for n in names) + "\n")
    sections.append(_soak_section(Path(__file__).resolve().parent / "results" / "soak.json"))
    tables = [t for s in SCENARIOS if (t := _scenario_section(s, runs))]
    sections += ["## All scenarios\n", *tables, LIMITS, _versions_section(data)]
    path = out / "REPORT.md"
    path.write_text("\n".join(sections))
    return path


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("results", type=Path)
    p.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = p.parse_args()
    data = json.loads(args.results.read_text())
    path = write(data, args.out)
    print(_claims_section(data, by_cell(data)))
    print(f"results: {args.results}\nreport:  {path}")


if __name__ == "__main__":
    main()
