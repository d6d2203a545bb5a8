"""Proof that the origin is faster than its clients: wrk over HTTP/1.1, h2load over HTTP/2.

Job: run both tools against the origin's /chat, return calls/s and their CPU per call.
Not its job: the origin, the clients.

    python benchmarks/proof.py            starts an origin of its own
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from origin import Origin

BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 960 + b'"}]}'


def _run(cmd: list[str], cpus: set[int] | None) -> tuple[str, float]:
    """Standard output and CPU seconds of a command."""
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    process = subprocess.Popen(
        cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=pin
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{cmd[0]} failed: {out[-400:]}")
    return out, usage.ru_utime + usage.ru_stime


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def run_wrk(url: str, inflight: int, seconds: float, cpus: set[int] | None) -> dict[str, Any]:
    """wrk's POSTs in a closed loop. Works for the h1 and the tls listener."""
    with tempfile.TemporaryDirectory() as tmp:
        script = Path(tmp) / "post.lua"
        body = BODY.decode()
        script.write_text(
            f"wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = [[{body}]]\n"
        )
        duration = max(1, round(seconds))
        cmd = ["wrk", "-t1", f"-c{inflight}", f"-d{duration}s", "--latency", "-s", str(script), url]
        out, cpu = _run(cmd, cpus)
    calls = _number(r"(\d+) requests in", out)
    bad = _number(r"Non-2xx or 3xx responses: (\d+)", out)
    found = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    bad += sum(map(int, found.groups())) if found else 0
    return {
        "client": "wrk",
        "calls": int(calls),
        "calls_per_s": _number(r"Requests/sec:\s+([\d.]+)", out),
        "cpu_us_per_call": cpu * 1e6 / max(calls, 1),
        "failures": int(bad),
    }


def run_h2load(url: str, inflight: int, seconds: float, cpus: set[int] | None) -> dict[str, Any]:
    """h2load's POSTs over HTTP/2, 64 streams a connection."""
    streams = min(64, inflight)
    connections = max(1, inflight // streams)
    with tempfile.NamedTemporaryFile() as body:
        body.write(BODY)
        body.flush()
        cmd = [
            "h2load",
            "-t1",
            f"-c{connections}",
            f"-m{streams}",
            f"-D{max(1, round(seconds))}",
            "--warm-up-time=1s",
            "-d",
            body.name,
            "-H",
            "content-type: application/json",
            url,
        ]
        out, cpu = _run(cmd, cpus)
    calls = _number(r"requests: (\d+) total", out)
    rate = _number(r"finished in [\d.]+\w+, ([\d.]+) req/s", out)
    # the CPU time includes the second of warm-up, whose calls the tool does not count
    counted = calls + rate
    return {
        "client": "h2load",
        "calls": int(calls),
        "calls_per_s": rate,
        "cpu_us_per_call": cpu * 1e6 / max(counted, 1),
        "failures": int(_number(r"(\d+) failed", out) + _number(r"(\d+) errored", out)),
    }


def prove(
    origin: Origin, seconds: float, cpus: set[int] | None = None
) -> dict[str, dict[str, Any]]:
    """One figure per protocol; a tool that is not installed is missing from the result."""
    out: dict[str, dict[str, Any]] = {}
    if shutil.which("wrk"):
        out["h1"] = run_wrk(origin.url("h1", "/chat"), 64, seconds, cpus)
        out["tls"] = run_wrk(origin.url("tls", "/chat"), 64, seconds, cpus)
    if shutil.which("h2load"):
        out["h2"] = run_h2load(origin.url("h2", "/chat"), 1024, seconds, cpus)
    return out


def tool_versions() -> dict[str, str]:
    out = {}
    for tool, args in (("wrk", ["-v"]), ("h2load", ["--version"])):
        if shutil.which(tool):
            done = subprocess.run([tool, *args], capture_output=True, text=True)
            text = (done.stdout + done.stderr).split("\n")[0].split(" [")[0].strip()
            out[tool] = text.removeprefix(tool).strip().rpartition("/")[2]
    return out


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp, Origin(Path(tmp)) as origin:
        print(json.dumps({"tools": tool_versions(), **prove(origin, 3)}, indent=1))


if __name__ == "__main__":
    main()
