"""A mock in a process of its own: starting it, steering it over `/__mock__/`, ending it with the parent."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ._config import MockConfig
from ._replies import Outcome, as_outcome, to_json
from ._stats import RecordedRequest, Stats

START_TIMEOUT = 30.0
"""Seconds the process may take until it listens."""


class SpawnedMock:
    """Handle of a mock in another process; use it with `with` or `async with`.

    The process ends with the block, and when the parent dies. Reading `stats` or `requests` and steering make one
    blocking HTTP call of about a millisecond each. RuntimeError if the process does not start or refuses a setting.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listeners: int = 8,
        script: Iterable[Outcome | str] = (),
        **settings: Any,
    ) -> None:
        if callable(settings.get("reply")):
            raise TypeError(
                "a function cannot answer in another process; script replies, or run the mock in-process"
            )
        if settings.get("reply", "") is None:
            del settings["reply"]
        self._options = {
            "host": host,
            "port": port,
            "listeners": listeners,
            "config": MockConfig(**settings).to_json(),
            "script": [to_json(as_outcome(item)) for item in script],
        }
        self._host = host
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process and wait until it listens."""
        root = str(Path(__file__).resolve().parents[2])
        env = dict(os.environ)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "llmcurl.testing._process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(self._options).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            code = self._process.wait()
            self._forget()
            raise RuntimeError(
                f"the mock's process ended with status {code} before it listened; see its stderr"
            )
        ready = json.loads(line)
        if "error" in ready:
            self._process.wait()
            self._forget()
            raise RuntimeError(f"the mock did not start: {ready['error']}")
        self._port = ready["port"]

    def close(self) -> None:
        """End the process and wait for it. Idempotent."""
        process = self._process
        if process is None:
            return
        self._close_pipes()
        try:
            process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._forget()

    def _close_pipes(self) -> None:
        process = self._process
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        pass

    def _forget(self) -> None:
        self._close_pipes()
        self._process = None

    def __enter__(self) -> SpawnedMock:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> SpawnedMock:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.close)

    # -- addresses -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Process id. RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the mock does not run")
        return self._process.pid

    @property
    def port(self) -> int:
        return self._port

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end: the base for Anthropic, Gemini and Ollama clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base for OpenAI clients, with /v1."""
        return self.base_url + "/v1"

    # -- control ---------------------------------------------------------------------------------------------

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        fields = self._control("GET", "stats")
        fields.pop("scripted")
        return Stats(**fields)

    @property
    def scripted(self) -> int:
        """How many scripted replies are still to be given."""
        return int(self._control("GET", "stats")["scripted"])

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last requests, oldest first."""
        return [
            RecordedRequest.from_dict(fields)
            for fields in self._control("GET", "requests")["requests"]
        ]

    @property
    def attempts(self) -> dict[str, int]:
        """How often each request came, by its `count_by` header (Idempotency-Key)."""
        return self._control("GET", "attempts")

    def script(self, *replies: Outcome | str) -> None:
        """Queue answers for the next requests, in order of arrival. TypeError for what is no reply."""
        self._control(
            "POST", "script", {"replies": [to_json(as_outcome(reply)) for reply in replies]}
        )

    def configure(self, **settings: Any) -> None:
        """Change settings for the requests to come. TypeError for an unknown name."""
        whole = MockConfig(**settings).to_json()
        self._control("POST", "config", {name: whole[name] for name in settings})

    def reset(self) -> None:
        """Forget the script, the recorded requests and the counters; open connections stay."""
        self._control("POST", "reset", {})

    def _control(self, method: str, name: str, body: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30.0)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, f"/__mock__/{name}", payload, {"Connection": "close"})
            response = connection.getresponse()
            value = json.loads(response.read())
        except OSError as exc:
            raise RuntimeError(f"the mock's process does not answer: {exc}") from exc
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"the mock refused {method} {name}: {value.get('error')}")
        assert isinstance(value, dict)
        return value
