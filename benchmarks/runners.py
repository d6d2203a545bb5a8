"""Runs one cell (a scenario with one client) in its own process and returns its figures.

Job: command lines, pinning, time limits, the origin's share. Not its job: the order of the cells (run.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from origin import Origin, listen_overflows
from scenarios import CEILING, Scenario

HERE = Path(__file__).resolve().parent


@dataclass
class Bench:
    """What all cells of one run share."""

    origin: Origin
    python: Path
    floor: Path
    path: str  # PYTHONPATH: where llmcurl is
    client_cpus: set[int] | None = None
    quick: bool = False

    def _process(
        self, command: list[str], limit: float, env: dict[str, str] | None = None
    ) -> dict[str, Any]:
        cpus = self.client_cpus
        pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=limit,
                preexec_fn=pin,
                env={**os.environ, **(env or {})},
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no result after {limit:.0f} s", "failures": 1}
        for line in reversed(done.stdout.splitlines()):
            if line.startswith("{"):
                result: dict[str, Any] = json.loads(line)
                return result
        text = (done.stderr or done.stdout).strip().split("\n")[-1][:300]
        return {"error": f"exit {done.returncode}: {text}", "failures": 1}

    def run(self, scenario: Scenario, client: str) -> dict[str, Any]:
        begin = time.monotonic()
        overflows, busy = listen_overflows(), sum(self.origin.cpu_seconds())
        name, _, loop = client.partition("+")
        if name == "floor":
            result = self._floor(scenario)
        else:
            result = self._worker(scenario, name, loop or "asyncio")
        busy = sum(self.origin.cpu_seconds()) - busy
        result["process_seconds"] = time.monotonic() - begin
        result["listen_overflows"] = listen_overflows() - overflows
        calls = result.get("total_calls") or 0
        if calls and result.get("calls_per_s"):
            # the origin's CPU per call times the calls per second: 1.0 is one core full
            result["origin_load"] = busy / calls * result["calls_per_s"]
        if "stall_ms" in result:
            result["stall_excess_ms"] = result["stall_ms"] - result["stall_sleep_ms"]
        result.update(scenario=scenario.key, client=client)
        return result

    def _seconds(self, scenario: Scenario) -> float:
        return min(scenario.seconds, 0.8) if self.quick else scenario.seconds

    def _worker(self, scenario: Scenario, name: str, loop: str) -> dict[str, Any]:
        seconds = self._seconds(scenario)
        protocol = scenario.protocol
        spec = {
            "client": name,
            "loop": loop,
            "mode": scenario.mode,
            "url": self.origin.url(protocol, scenario.path),
            "expect": str(self.origin.expect(scenario.path)),
            "ca": str(self.origin.ca) if protocol != "h1" else None,
            "seconds": seconds,
            **scenario.spec,
        }
        if scenario.spec.get("inflight", 0) > CEILING.get(name, 10**9):
            return {"error": "left out: too slow at this concurrency"}
        command = [str(self.python), str(HERE / "worker.py"), json.dumps(spec)]
        # a plain environment: no proxies, and never the bytecode cache of somebody else
        env = {"PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "*"}
        return self._process(command, 40 + 2 * seconds + scenario.spec.get("calls", 0) / 1000, env)

    def _floor(self, scenario: Scenario) -> dict[str, Any]:
        spec = scenario.spec
        calls = spec.get("calls", 0)
        command = [
            str(self.floor),
            "-c",
            str(calls or spec["inflight"]),
            "--expect",
            str(self.origin.expect(scenario.path)),
            "-b",
            str(spec.get("body_bytes", 1024)),
        ]
        if calls:  # burst, waiting: all at once, from cold
            command += ["-n", str(calls), "--warmup", "0"]
        else:
            command += ["-t", str(self._seconds(scenario))]
        if spec.get("http2"):
            command.append("--http2")
        if scenario.protocol != "h1":
            command += ["--ca", str(self.origin.ca)]
        if scenario.mode == "stream":
            command.append("--sse")
        result = self._process([*command, self.origin.url(scenario.protocol, scenario.path)], 150)
        if calls and "rss_kb" in result:
            result["kb_per_call"] = (result["rss_kb"] - result["rss_base_kb"]) / calls
        return result
