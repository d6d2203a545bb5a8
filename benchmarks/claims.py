"""What the report checks: bounds on ratios of medians and on absolute figures.

Job: the list and its verdicts. Not its job: measuring, tables (report.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: (scenario, client, field) to the median of the run, None when it was not measured; scenario "*" adds up all runs.
Lookup = Callable[[str, str, str], float | None]

CPU = "cpu_us_per_call"


@dataclass(frozen=True)
class Claim:
    """`top` / `bottom` of `field`, or `top` alone, against `bound`."""

    text: str
    top: tuple[str, str]  # scenario, client
    bottom: tuple[str, str] | None
    bound: float
    at_least: bool = False  # the figure must reach the bound instead of not exceeding it
    field: str = CPU
    libcurl: tuple[int, int] = (0, 0)  # holds from this version of llmcurl's libcurl

    def value(self, lookup: Lookup) -> float | None:
        top = lookup(*self.top, self.field)
        if top is None or self.bottom is None:
            return top
        bottom = lookup(*self.bottom, self.field)
        return top / bottom if bottom else None

    def verdict(self, lookup: Lookup, libcurl: tuple[int, int]) -> str:
        value = self.value(lookup)
        if value is None:
            return "not measured"
        if value >= self.bound if self.at_least else value <= self.bound:
            return "met"
        if libcurl < self.libcurl:
            return f"missed, but claimed from libcurl {self.libcurl[0]}.{self.libcurl[1]} on"
        return "**missed**"


def _against(
    scenario: str, bounds: dict[str, float], text: str, libcurl: tuple[int, int] = (0, 0)
) -> list[Claim]:
    """How much more each of others costs than llmcurl."""
    return [
        Claim(
            f"{text}: {other} against us",
            (scenario, other),
            (scenario, "llmcurl"),
            bound,
            True,
            libcurl=libcurl,
        )
        for other, bound in bounds.items()
    ]


CLAIMS: list[Claim] = [
    Claim("64 in flight against the floor", ("h1-64", "llmcurl"), ("h1-64", "floor"), 1.3),
    *_against(
        "h1-64", {"pycurl": 2.4, "aiohttp": 4.0, "pyreqwest": 4.0, "httpx2": 30.0}, "64 in flight"
    ),
    *_against("h1-5000", {"pycurl": 3.0, "pyreqwest": 3.0, "aiohttp": 3.0}, "5,000 in flight"),
    Claim("5,000 in flight against our own 64", ("h1-5000", "llmcurl"), ("h1-64", "llmcurl"), 1.5),
    Claim(
        "HTTP/2, 1,000 in flight against the floor",
        ("h2-1000", "llmcurl"),
        ("h2-1000", "floor"),
        1.35,
        libcurl=(8, 22),
    ),
    *_against("h2-1000", {"pycurl": 1.5}, "HTTP/2, 1,000 in flight", libcurl=(8, 22)),
    Claim(
        "100,000 at once: time against the floor",
        ("burst-h2-100k", "llmcurl"),
        ("burst-h2-100k", "floor"),
        1.3,
        field="seconds",
    ),
    Claim(
        "100,000 in flight, KB per call",
        ("wait-h2-100k", "llmcurl"),
        None,
        24.0,
        field="kb_per_call",
    ),
    Claim(
        "10,000 waiting calls, HTTP/1.1, KB per call",
        ("wait-10000", "llmcurl"),
        None,
        16.0,
        field="kb_per_call",
    ),
    Claim(
        "loop stall of 1,000 TLS calls above asyncio.sleep, ms",
        ("burst-tls", "llmcurl"),
        None,
        15.0,
        field="stall_excess_ms",
    ),
    Claim(
        "loop stall of 5,000 calls above asyncio.sleep, ms",
        ("burst-5000", "llmcurl"),
        None,
        15.0,
        field="stall_excess_ms",
    ),
    Claim(
        "a text delta of the LLM client, us",
        ("sse-20", "llmcurl-chat"),
        None,
        1.5,
        field="cpu_us_per_event",
    ),
    Claim("a reply of the LLM client, us", ("sdk-64", "llmcurl-chat"), None, 45.0),
    Claim(
        "calls set free by the safety net, all runs", ("*", "llmcurl"), None, 0.0, field="rescues"
    ),
    Claim("failed or wrong answers, all runs", ("*", "llmcurl"), None, 0.0, field="failures"),
]
