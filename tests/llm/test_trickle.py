"""Many slow token streams on one loop: none loses an event or gets another's. Figures: benchmarks/trickle/trickle.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.no_asan  # a process of its own
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_streams_that_trickle(loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    command = [
        sys.executable,
        ROOT / "benchmarks/trickle/trickle.py",
        "--clients",
        "llmcurl",
        "--rounds",
        "1",
    ]
    command += ["--streams", "400", "--events", "10", "--interval", "50", "--loop", loop]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[0])
    assert (result["events"], result["wrong_streams"], result["failures"]) == (4000, 0, 0)
