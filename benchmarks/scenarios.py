"""What is measured: one Scenario per table of the report.

Job: the list, with the clients, rounds and lengths of the full and the quick run. Not its job: running (run.py),
reading the figures (report.py).

A client name may end in +uvloop. `floor` is the C program of floor/, `floor` and the libraries get the same URL,
body, number in flight and certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FAST = ("floor", "llmcurl", "pycurl", "pyreqwest", "aiohttp")
#: Libraries whose cost grows with the square of the concurrency take part up to this many calls in flight.
CEILING = {
    "httpx": 64,
    "niquests": 1000,
    "httpx2": 1000,
    "curl_cffi": 1000,
    "httpx-aiohttp": 1000,
    "openai": 1000,
}
#: Of these no claim speaks: two rounds show where they stand.
BESIDE = frozenset(
    {"curl_cffi", "httpx", "httpx-aiohttp", "niquests", "native", "httpx2-llmcurl"}
    | {"llmcurl+uvloop", "aiohttp+uvloop"}
)
NO_HTTP2 = ("aiohttp", "httpx-aiohttp", "openai-aiohttp")


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    mode: str  # see clients/harness.py
    protocol: str  # h1, tls, h2: the origin's listeners
    path: str
    clients: tuple[str, ...]
    rounds: int = 3
    seconds: float = 1.2
    quick: tuple[str, ...] = ()  # the clients of the quick run
    headline: str = "cpu_us_per_call"
    unit: str = "us of CPU per call"
    spec: dict[str, Any] = field(default_factory=dict)


def _closed(
    key: str, title: str, protocol: str, inflight: int, clients: tuple[str, ...], **more: Any
) -> Scenario:
    spec = {"inflight": inflight, "http2": protocol == "h2", **more.pop("spec", {})}
    return Scenario(
        key,
        title,
        more.pop("mode", "closed"),
        protocol,
        more.pop("path", "/chat"),
        clients,
        spec=spec,
        **more,
    )


SCENARIOS: tuple[Scenario, ...] = (
    # -- cost against concurrency, HTTP/1.1 in clear
    _closed("h1-1", "1 in flight, HTTP/1.1", "h1", 1, (*FAST, "httpx2"), rounds=2),
    _closed(
        "h1-64",
        "64 in flight, HTTP/1.1",
        "h1",
        64,
        (
            *FAST,
            "native",
            "curl_cffi",
            "httpx",
            "httpx2",
            "httpx2-llmcurl",
            "httpx-aiohttp",
            "niquests",
            "llmcurl+uvloop",
            "aiohttp+uvloop",
        ),
        rounds=4,
        quick=(*FAST, "httpx2"),
    ),
    _closed(
        "h1-1000",
        "1,000 in flight, HTTP/1.1",
        "h1",
        1000,
        (*FAST, "curl_cffi", "httpx-aiohttp"),
        quick=FAST,
    ),
    _closed("h1-5000", "5,000 in flight, HTTP/1.1", "h1", 5000, FAST, seconds=2.0),
    _closed(
        "h1-10000",
        "10,000 in flight, HTTP/1.1",
        "h1",
        10000,
        ("floor", "llmcurl", "pyreqwest"),
        rounds=1,
        seconds=2.0,
    ),
    # -- TLS and HTTP/2
    _closed("tls-64", "64 in flight, HTTP/1.1 over TLS", "tls", 64, (*FAST, "httpx2"), rounds=2),
    _closed(
        "h2-64",
        "64 in flight, HTTP/2 over TLS",
        "h2",
        64,
        ("floor", "llmcurl", "pycurl", "pyreqwest", "httpx2"),
        rounds=2,
    ),
    _closed(
        "h2-1000",
        "1,000 in flight, HTTP/2 over TLS",
        "h2",
        1000,
        ("floor", "llmcurl", "native", "pycurl", "pyreqwest"),
        quick=("floor", "llmcurl", "pycurl"),
    ),
    _closed(
        "h2-10000",
        "10,000 in flight, HTTP/2 over TLS",
        "h2",
        10000,
        ("floor", "llmcurl", "pyreqwest"),
        rounds=1,
        seconds=2.0,
    ),
    # -- shapes
    _closed(
        "prompt-64",
        "50 KB prompt, 64 in flight",
        "h1",
        64,
        (*FAST, "httpx2"),
        rounds=1,
        spec={"body_bytes": 51200},
    ),
    _closed(
        "embed-16",
        "1.5 MB embeddings answer, 16 in flight",
        "h1",
        16,
        (*FAST, "httpx2"),
        rounds=2,
        path="/embeddings",
    ),
    # -- event streams
    _closed(
        "sse-20",
        "400 events of 200 bytes in a burst, 20 streams",
        "h1",
        20,
        (*FAST, "httpx2", "llmcurl-chat", "openai", "openai-aiohttp", "openai-llmcurl"),
        rounds=2,
        mode="stream",
        path="/sse",
        headline="cpu_us_per_event",
        unit="us of CPU per event",
        quick=("floor", "llmcurl", "aiohttp"),
    ),
    _closed(
        "sse-each-20",
        "400 events, each alone on the wire, 20 streams",
        "h1",
        20,
        (*FAST, "httpx2"),
        rounds=1,
        mode="stream",
        path="/sse/each",
        headline="cpu_us_per_event",
        unit="us of CPU per event",
    ),
    # -- bursts from cold
    Scenario(
        "burst-tls",
        "1,000 calls at once, a verified TLS connection each",
        "burst",
        "tls",
        "/chat",
        (*FAST, "httpx2"),
        quick=("floor", "llmcurl", "pycurl", "aiohttp"),
        headline="stall_excess_ms",
        unit="ms of loop stall above asyncio.sleep",
        spec={"calls": 1000},
    ),
    Scenario(
        "burst-5000",
        "5,000 calls at once, HTTP/1.1",
        "burst",
        "h1",
        "/chat",
        FAST,
        headline="stall_excess_ms",
        unit="ms of loop stall above asyncio.sleep",
        spec={"calls": 5000},
    ),
    Scenario(
        "burst-h2-100k",
        "100,000 calls at once, HTTP/2 over TLS",
        "burst",
        "h2",
        "/chat",
        ("floor", "llmcurl"),
        rounds=3,
        headline="seconds",
        unit="s until all are answered",
        spec={"calls": 100_000, "http2": True},
    ),
    # -- memory
    Scenario(
        "wait-10000",
        "10,000 calls that wait, HTTP/1.1",
        "waiting",
        "h1",
        "/delay/6000",
        FAST,
        rounds=1,
        headline="kb_per_call",
        unit="KB per waiting call",
        spec={"calls": 10_000},
    ),
    Scenario(
        "wait-h2-10000",
        "10,000 calls that wait, HTTP/2 over TLS",
        "waiting",
        "h2",
        "/delay/4000",
        ("floor", "llmcurl"),
        rounds=1,
        headline="kb_per_call",
        unit="KB per waiting call",
        spec={"calls": 10_000, "http2": True},
    ),
    Scenario(
        "wait-h2-100k",
        "100,000 calls that wait, HTTP/2 over TLS",
        "waiting",
        "h2",
        "/delay/12000",
        ("floor", "llmcurl"),
        rounds=1,
        headline="kb_per_call",
        unit="KB per waiting call",
        spec={"calls": 100_000, "http2": True},
    ),
    # -- latency under an absolute schedule
    Scenario(
        "open-2000",
        "2,000 calls/s on an absolute schedule",
        "open",
        "h1",
        "/chat",
        ("llmcurl", "pycurl", "pyreqwest", "aiohttp"),
        rounds=1,
        seconds=3.0,
        headline="p99_ms",
        unit="ms, 99th percentile from the scheduled time",
        spec={"rate": 2000},
    ),
    Scenario(
        "open-8000",
        "8,000 calls/s on an absolute schedule",
        "open",
        "h1",
        "/chat",
        ("llmcurl", "pycurl", "pyreqwest", "aiohttp"),
        rounds=1,
        seconds=3.0,
        headline="p99_ms",
        unit="ms, 99th percentile from the scheduled time",
        spec={"rate": 8000},
    ),
    # -- habits and layers
    _closed(
        "reuse-16",
        "one client for all requests, verified TLS, 16 in flight",
        "tls",
        16,
        ("llmcurl", "pycurl", "aiohttp", "httpx2"),
        rounds=1,
    ),
    _closed(
        "fresh-16",
        "a client per request, verified TLS, 16 in flight",
        "tls",
        16,
        ("llmcurl", "pycurl", "aiohttp", "httpx2"),
        rounds=1,
        mode="fresh",
    ),
    _closed(
        "sdk-64",
        "Chat completions as objects, 64 in flight",
        "h1",
        64,
        ("llmcurl-chat", "openai", "openai-aiohttp", "openai-llmcurl"),
        rounds=2,
    ),
)


def rounds_of(scenario: Scenario, client: str) -> int:
    return min(scenario.rounds, 2) if client in BESIDE else scenario.rounds


def cells(quick: bool, only: str = "", clients: str = "") -> list[tuple[Scenario, str]]:
    """Scenario and client of each thing to run, before rounds. `only`, `clients`: comma-separated names."""
    keys, names = set(filter(None, only.split(","))), set(filter(None, clients.split(",")))
    out = []
    for scenario in SCENARIOS:
        if keys and scenario.key not in keys:
            continue
        for client in scenario.quick if quick and not keys else scenario.clients:
            if not names or client in names:
                out.append((scenario, client))
    return out
