"""Show what this installation consists of and how many calls the system lets it make at once."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from typing import Any

from ._limits import calls_allowed, fd_limits

HELP = "versions, features and limits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `info`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def collect() -> dict[str, Any]:
    """The facts, by name. ImportError if the extension is not built."""
    import llmcurl
    from llmcurl import _native

    curl = _native.curl_info()
    features = set(curl["features"])
    limits = fd_limits()
    return {
        "llmcurl": getattr(llmcurl, "__version__", "unknown"),
        "python": platform.python_version(),
        "libcurl": curl["version"],
        "libcurl_built_with": curl.get("built_with"),
        "tls": curl["ssl_version"],
        "shared_ca_store": bool(curl.get("ssl_store")),
        "http2": "HTTP2" in features,
        "brotli": "brotli" in features or _has("brotli", "brotlicffi"),
        "zstd": "zstd" in features or _has("zstandard", "compression.zstd", "backports.zstd"),
        "curl_features": sorted(features),
        "fd_soft": None if limits is None else limits[0],
        "fd_hard": None if limits is None else limits[1],
    }


def _has(*modules: str) -> bool:
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return True
    return False


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    try:
        facts = collect()
    except ImportError as exc:
        print(
            f"llmcurl's extension cannot be loaded: {exc}\nBuild it with `make` or `pip install .`",
            file=sys.stderr,
        )
        return 1
    if args.json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    for line in render(facts):
        print(line)
    return 0


def render(facts: dict[str, Any]) -> list[str]:
    """The facts as lines for people."""

    def yes(name: str) -> str:
        return "yes" if facts[name] else "no"

    built = facts["libcurl_built_with"]
    curl = facts["libcurl"] + (
        f" (built with the headers of {built})" if built and built != facts["libcurl"] else ""
    )
    lines = [
        f"llmcurl    {facts['llmcurl']}  (Python {facts['python']})",
        f"libcurl    {curl}",
        f"TLS        {facts['tls']}, one CA store for all connections: {yes('shared_ca_store')}",
        f"features   h2: {yes('http2')}, br: {yes('brotli')}, zstd: {yes('zstd')}",
    ]
    soft, hard = facts["fd_soft"], facts["fd_hard"]
    if soft is None:
        lines.append("open files no limit known")
        return lines
    lines.append(
        f"open files {soft:,} allowed: about {calls_allowed(soft):,} calls at once over HTTP/1.1"
    )
    if hard > soft:
        more = f"`ulimit -n {hard}`" if hard < 1 << 30 else "`ulimit -n`"
        lines.append(f"           up to {hard:,} with {more} in the shell, without root")
    return lines
