"""What a client is: the specification of a run and the class each library fills.

Job: Spec, Client, the JSON walk shared by all that read token events. Not its job: loops and clocks (harness.py).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass
class Spec:
    """One run, as run.py writes it: one client, one scenario."""

    client: str
    mode: str  # closed, stream, burst, waiting, open, fresh, sleep
    url: str
    expect: str = ""  # file with the expected answer
    inflight: int = 64
    seconds: float = 2.0
    calls: int = 0  # burst and waiting: how many
    rate: float = 0.0  # open: calls per second
    warmup: int = -1  # calls; -1: 2 x inflight
    warmup_seconds: float = 5.0  # and no longer than this
    body_bytes: int = 1024
    http2: bool = False
    ca: str | None = None
    loop: str = "asyncio"  # or uvloop
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in json.loads(text).items() if k in known})

    @property
    def body(self) -> bytes:
        head, tail = b'{"model":"m","messages":[{"role":"user","content":"', b'"}]}'
        return head + b"x" * max(0, self.body_bytes - len(head) - len(tail)) + tail

    @property
    def tls(self) -> bool:
        return self.url.startswith("https:")

    @property
    def connections(self) -> int:
        """Calls that are in flight at once at most."""
        return max(self.inflight, self.calls)

    def read_ca(self) -> bytes:
        return Path(self.ca).read_bytes() if self.ca else b""

    def ssl_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


HEADERS = {"Content-Type": "application/json", "Accept": "*/*"}


def delta(data: bytes | str) -> str:
    """The text of one chat chunk."""
    text: str = json.loads(data)["choices"][0]["delta"]["content"]
    return text


class LineSplitter:
    """Lines of a byte stream: feed chunks, get the deltas they complete (for libraries without lines)."""

    def __init__(self) -> None:
        self._rest = b""
        self.texts: list[str] = []

    def feed(self, chunk: bytes) -> None:
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data: {"):
                self.texts.append(delta(line[6:]))


class Client:
    """One library. `post` and `stream` return what `expected` and `expected_stream` must equal."""

    packages: tuple[str, ...] = ()

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.body = spec.body
        self.expected: Any = None
        self.expected_stream: Any = None
        if spec.expect:
            with open(spec.expect, "rb") as f:
                self.set_expected(f.read())

    def set_expected(self, answer: bytes) -> None:
        if answer.startswith(b"data:"):
            texts = [delta(line[6:]) for line in answer.split(b"\n") if line.startswith(b"data: {")]
            self.expected_stream = texts
        else:
            self.expected = (200, answer)

    async def open(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def post(self) -> Any:
        raise NotImplementedError

    def start(self) -> Awaitable[Any]:
        """A call for `asyncio.gather`, the way the library's users would give it one."""
        return self.post()

    def result(self, answer: Any) -> Any:
        """What `expected` must equal, of what a call of `start` gave."""
        return answer

    async def stream(self) -> Any:
        """Reads the event stream, returns the list of delta texts."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        return {name: metadata.version(name) for name in self.packages}

    def extra(self) -> dict[str, Any]:
        """What the library reports of itself after the run."""
        return {}
