"""LiteLLM's proxy as a private process: an OpenAI and Anthropic server that nobody here wrote.

Job: write its configuration, start it out of .venv-litellm (scripts/venv), wait until it answers, stop it. Some of its
models are answered by the proxy itself (`mock_response`), the others by `upstream`, a MockLLM.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .databases import ENV
from .nginx import Missing

PROGRAM = Path(__file__).resolve().parents[2] / ".venv-litellm" / "bin" / "litellm"
START_TIMEOUT = 120.0  # seconds; it takes 7 s of CPU
TEXT = "The proxy says: snow \u2603, tea \U0001f375, and \u201cquotes\u201d."


class Proxy(NamedTuple):
    """Where it listens, and the key it wants."""

    url: str
    key: str


def _models(upstream_openai: str, upstream: str) -> list[dict]:
    def model(name: str, kind: str, **more: str) -> dict:
        return {"model_name": name, "litellm_params": {"model": kind, "api_key": "k", **more}}

    return [
        model("canned", "openai/gpt-4o", mock_response=TEXT),
        model("canned-claude", "anthropic/claude-sonnet-4-5", mock_response=TEXT),
        model("limited", "openai/gpt-4o", mock_response="litellm.RateLimitError"),
        model("too-long", "openai/gpt-4o", mock_response="litellm.ContextWindowExceededError"),
        model("down", "openai/gpt-4o", mock_response="litellm.InternalServerError"),
        model("passed-on", "hosted_vllm/mock-1", api_base=upstream_openai),  # chat completions
        model("passed-on-claude", "anthropic/mock-1", api_base=upstream),
    ]


@contextlib.contextmanager
def litellm(upstream_openai: str, upstream: str) -> Iterator[Proxy]:
    """A running proxy. Missing if .venv-litellm is not there."""
    if not PROGRAM.exists():
        raise Missing("there is no .venv-litellm; `scripts/venv litellm` makes it")
    with tempfile.TemporaryDirectory(prefix="llmcurl-litellm-") as name:
        home = Path(name)
        key = "sk-" + secrets.token_hex(24)
        config = {
            "model_list": _models(upstream_openai, upstream),
            "general_settings": {"master_key": key},
            "litellm_settings": {"num_retries": 0, "telemetry": False},
            "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        }
        # JSON is YAML, but for surrogates
        (home / "config.yaml").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # It would fetch prices from the network otherwise.
        env = {**ENV, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": name, "LITELLM_LOG": "ERROR"}
        for variable in [v for v in env if v.startswith("PYTHON") or v.lower().endswith("_proxy")]:
            del env[variable]
        command = [
            str(PROGRAM),
            "--config",
            str(home / "config.yaml"),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=home, start_new_session=True
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(process, url, home / "log")
            yield Proxy(url, key)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            opener.open(f"{url}/health/liveliness", timeout=20).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                process.wait()
                text = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"the proxy did not start:\n{text}") from None
            time.sleep(0.1)
