"""Draws the plots of a report with matplotlib.

Job: cost against concurrency, cost per event, memory per call, loop stall. Not its job: tables (report.py).
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

COLOURS = {
    "floor": "#888888",
    "llmcurl": "#d62728",
    "pycurl": "#1f77b4",
    "pyreqwest": "#ff7f0e",
    "aiohttp": "#2ca02c",
    "httpx": "#9467bd",
    "httpx2": "#8c564b",
    "curl_cffi": "#17becf",
}

Cells = dict[tuple[str, str], dict[str, float]]


def _medians(data: dict[str, Any]) -> Cells:
    lists: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in data["results"]:
        fields = lists.setdefault((record["scenario"], record["client"]), {})
        for name, value in record.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                fields.setdefault(name, []).append(value)
    return {cell: {k: median(v) for k, v in fields.items()} for cell, fields in lists.items()}


def _concurrency(plt: Any, cells: Cells, prefix: str, title: str, path: Path) -> bool:
    lines: dict[str, list[tuple[int, float]]] = {}
    for (scenario, client), fields in cells.items():
        head, _, count = scenario.rpartition("-")
        if head == prefix and count.isdigit() and "cpu_us_per_call" in fields:
            lines.setdefault(client, []).append((int(count), fields["cpu_us_per_call"]))
    lines = {c: sorted(points) for c, points in lines.items()}
    if not any(len(points) > 1 for points in lines.values()):
        return False
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for client, points in sorted(lines.items(), key=lambda item: item[1][-1][1]):
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            label=client,
            color=COLOURS.get(client),
            linewidth=2.5 if client == "llmcurl" else 1.4,
            linestyle="--" if "+" in client else "-",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("calls in flight")
    axes.set_ylabel("us of CPU per call")
    axes.set_title(title)
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _bars(
    plt: Any, cells: Cells, scenario: str, field: str, title: str, unit: str, path: Path
) -> bool:
    found = {c: f[field] for (s, c), f in cells.items() if s == scenario and field in f}
    if len(found) < 2:
        return False
    names = sorted(found, key=lambda c: found[c], reverse=True)
    figure, axes = plt.subplots(figsize=(7.5, 0.5 + 0.42 * len(names)))
    bars = axes.barh(
        names,
        [max(found[n], 0.0) for n in names],
        color=[COLOURS.get(n.partition("+")[0], "#bbbbbb") for n in names],
    )
    axes.bar_label(bars, [f"{found[n]:,.1f}" for n in names], padding=3, fontsize=8)
    if max(found.values()) > 50 * max(min(found.values()), 0.01):
        axes.set_xscale("symlog")
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def draw(data: dict[str, Any], where: Path) -> list[str]:
    """Writes <name>.png files into `where`; returns the names. Empty without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    where.mkdir(parents=True, exist_ok=True)
    cells = _medians(data)
    done = []
    for prefix, title in (
        ("h1", "Cost against concurrency, HTTP/1.1"),
        ("h2", "Cost against concurrency, HTTP/2 over TLS"),
    ):
        if _concurrency(plt, cells, prefix, title, where / f"concurrency-{prefix}.png"):
            done.append(f"concurrency-{prefix}")
    bars = (
        (
            "h1-64",
            "cpu_us_per_call",
            "64 calls in flight, HTTP/1.1",
            "us of CPU per call",
            "cost-64",
        ),
        (
            "sse-20",
            "cpu_us_per_event",
            "Token events, 400 in a burst",
            "us of CPU per event",
            "events",
        ),
        (
            "wait-10000",
            "kb_per_call",
            "Memory of a waiting call, 10,000 in flight",
            "KB per call",
            "memory",
        ),
        (
            "burst-tls",
            "stall_excess_ms",
            "Loop stall, 1,000 TLS calls at once",
            "ms above asyncio.sleep",
            "stall-tls",
        ),
        (
            "burst-5000",
            "stall_excess_ms",
            "Loop stall, 5,000 calls at once",
            "ms above asyncio.sleep",
            "stall-5000",
        ),
    )
    for scenario, field, title, unit, name in bars:
        if _bars(plt, cells, scenario, field, title, unit, where / f"{name}.png"):
            done.append(name)
    return done
