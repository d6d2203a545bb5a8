"""Say what N calls at once need, and whether this machine and process have it.

Reads the limits of open files and ports, the CPU quota, memory, DNS, proxy and CA settings, and the versions of
libcurl and Python. With a URL it also makes one GET request there and tells how it went. Exit status 0: the calls
will work; 1: something they need is missing, or the URL cannot be reached.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from ._numbers import above, whole

if TYPE_CHECKING:
    from .._preflight import Check

HELP = "what N calls need, and whether it is there"

_MARKS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "problem": "PROBLEM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="also make a request there")
    add("--calls", type=whole, default=1000, metavar="N", help="calls in flight (default: 1000)")
    add("--raise", action="store_true", dest="lift", help="raise the limit of open files first")
    add("--json", action="store_true", help="print JSON")
    add("--timeout", type=above, default=10.0, metavar="S", help="for the request (default: 10)")


def run(args: argparse.Namespace) -> int:
    """Look, judge, tell."""
    try:
        from .._preflight import judge, look, raise_fd_limit

        if args.lift:
            raise_fd_limit()
        facts = look()
    except ImportError as error:
        print(f"llmcurl's extension cannot be loaded: {error}", file=sys.stderr)
        return 1
    url: str | None = args.url
    checks = judge(facts, args.calls, tls=url is None or url.startswith("https"))
    if url is not None:
        checks.append(asyncio.run(_request(url, args.calls, args.timeout)))
    good = not any(check.level == "problem" for check in checks)
    if args.json:
        document: dict[str, Any] = {
            "calls": args.calls,
            "ok": good,
            "checks": [dataclasses.asdict(check) for check in checks],
            "facts": dataclasses.asdict(facts),
        }
        print(json.dumps(document, indent=2))
        return 0 if good else 1
    for check in checks:
        print(f"{_MARKS[check.level]} {check.name}: {check.text}")
    print()
    problems = sum(check.level == "problem" for check in checks)
    print(
        f"{args.calls:,} calls at once will work here."
        if good
        else f"{args.calls:,} calls at once will not work as it is: {problems} "
        f"{'thing is' if problems == 1 else 'things are'} to be put right, see PROBLEM."
    )
    return 0 if good else 1


async def _request(url: str, calls: int, seconds: float) -> Check:
    """One request, as the calls would make it."""
    import llmcurl

    from .._preflight import STREAMS, Check

    try:
        async with llmcurl.AsyncClient(timeout=llmcurl.Timeout(seconds, total=seconds)) as client:
            response = await client.get(url)
    except (llmcurl.HTTPError, llmcurl.InvalidURL, ValueError) as error:
        return Check("URL", "problem", f"{type(error).__name__}: {error}")
    times = response.timings
    steps = [
        ("name", None, times.dns),
        ("connect", times.dns, times.connect),
        ("TLS", times.connect, times.tls),
    ]
    took = ", ".join(
        f"{name} {(end - (begin or times.queued or 0.0)) * 1000:.0f} ms"
        for name, begin, end in steps
        if end
    )
    text = (
        f"{response.url.masked} answers {response.status_code} over {response.http_version} after "
        f"{(times.first_byte or 0.0) * 1000:.0f} ms ({took})."
    )
    if response.http_version == "HTTP/2":
        text += f" {calls:,} calls will take about {-(-calls // STREAMS):,} connections."
    return Check("URL", "ok", text)
