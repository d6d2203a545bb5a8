"""`python -m llmcurl batch --dask`: the same batch, carried out by the workers of a cluster."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from llmcurl import testing
from llmcurl.llm import RateLimitError
from llmcurl.testing import Failure
from llmcurl.traffic._batchrun import Spec
from llmcurl.traffic._dask import _portable
from servers import databases
from servers.nginx import Missing

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = str(Path(testing.__file__).parents[2])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PACKAGE}

pytestmark = [pytest.mark.no_asan, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("distributed")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/servers/dask_cluster.py")],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    address = process.stdout.readline().strip()
    assert address.startswith("tcp://"), address
    yield address
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


def command(folder: Path, mock, address: str, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "llmcurl", "batch", str(folder / "in.jsonl"), str(folder / "out.jsonl"),
         "--dask", address, "--base-url", mock.openai_url, "--model", "mock-1", *options],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def read(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_batch_on_a_cluster(cluster, tmp_path, mock_llm):
    mock_llm.configure(echo=True, latency=0.05)
    mock_llm.script(Failure.bad_request())
    with (tmp_path / "in.jsonl").open("w") as file:
        for number in range(300):
            file.write(json.dumps({"id": str(number), "prompt": f"text {number}"}) + "\n")
    done = command(tmp_path, mock_llm, cluster, "--concurrency", "80", "--chunk", "20")
    assert done.returncode == 1, done.stderr
    lines = read(tmp_path)
    failed = [line for line in lines if line["error"]]
    assert len(lines) == 300 and len(failed) == 1 and failed[0]["error"]["status"] == 400
    assert all(line["text"] == f"text {line['key']}" for line in lines if not line["error"])
    stats = mock_llm.stats
    assert stats.requests == 300 and 20 < stats.max_in_flight <= 80

    again = command(tmp_path, mock_llm, cluster, "--resume", "--retry-failed", "all")
    assert again.returncode == 0, again.stderr
    assert mock_llm.stats.requests == 301 and len(read(tmp_path)) == 300


def test_the_workers_share_the_limit(cluster, tmp_path, mock_llm):
    pytest.importorskip("redis")
    mock_llm.configure(rpm=1200, rate_burst=0.02)  # 24 at once, then 20 a second
    (tmp_path / "in.jsonl").write_text("".join(f'"text {number}"\n' for number in range(90)))
    try:
        with databases.redis() as url:
            options = [
                "--redis",
                url,
                "--rpm",
                "900",
                "--retries",
                "0",
                "--concurrency",
                "90",
                "--chunk",
                "15",
            ]
            done = command(tmp_path, mock_llm, cluster, *options)
    except Missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert done.returncode == 0, done.stderr
    # two workers that keep to it alone would send 30 a second
    assert mock_llm.stats.rate_limited == 0 and len(read(tmp_path)) == 90


def test_nobody_at_that_address(tmp_path, mock_llm):
    pytest.importorskip("distributed")
    (tmp_path / "in.jsonl").write_text('"a"\n')
    environment = {**ENVIRONMENT, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    done = subprocess.run(
        [sys.executable, "-m", "llmcurl", "batch", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"),
         "--dask", "tcp://127.0.0.1:1", "--base-url", mock_llm.openai_url, "--model", "m"],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr and mock_llm.stats.requests == 0


def test_what_travels_does_not_show_its_passwords():
    spec = Spec(redis="redis://:secret@host/0", base_url="http://u:secret@host/v1", model="m")
    assert "secret" not in repr(spec) and "m" in repr(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_errors_survive_the_way():
    class Local(Exception):
        pass

    error = RateLimitError("slow down", provider="openai", status=429, retry_after=3.0)
    assert _portable(error) is error and _portable(5) == 5
    other = _portable(Local("x"))
    assert type(other) is RuntimeError and "Local: x" in str(other)
