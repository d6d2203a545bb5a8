"""The two packages as parameters, and one case run over the reference transport and ours."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from llmcurl.testing import MockConfig
from llmcurl.testing.plugin import _mock_llm_defaults, _mock_llm_process, mock_llm

__all__ = [
    "Package",
    "Seen",
    "_mock_llm_defaults",
    "_mock_llm_process",
    "as_sent",
    "facts",
    "mock_llm",
    "package",
    "slow_mock",
]

#: Errors are compared by class and by what they belong to; texts differ.
Case = Callable[[Any], Awaitable[Any]]


@dataclass
class Seen:
    """What the caller saw of one case, and what the server received."""

    result: Any = None
    error: str | None = None
    error_request: tuple[str, str] | None = None
    requests: list[Any] = field(default_factory=list)


def as_sent(raw: bytes) -> bytes:
    """A request as the server received it, but for what libcurl 8 writes in another way that means
    the same: the escapes of a URL are in capitals (RFC 3986, 6.2.2.1)."""
    line, end, rest = raw.partition(b"\r\n")
    return re.sub(rb"%[0-9a-f]{2}", lambda found: found[0].upper(), line, flags=re.I) + end + rest


class Package:
    """httpx or httpx2: its module, its own transport, ours."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module = pytest.importorskip(name)
        self.transport_class = importlib.import_module(
            f"llmcurl.transports.{name}"
        ).AsyncCurlTransport

    def reference(self, **options: Any) -> Any:
        return self.module.AsyncHTTPTransport(**options)

    def ours(self, **options: Any) -> Any:
        return self.transport_class(**options)

    @contextlib.asynccontextmanager
    async def client(self, transport: Any, **options: Any) -> AsyncIterator[Any]:
        async with self.module.AsyncClient(transport=transport, **options) as client:
            yield client

    async def observe(self, case: Case, transport: Any, server: Any = None, **options: Any) -> Seen:
        """Runs `case(client)`; `options` are the client's."""
        seen = Seen()
        if server is not None:
            server.reset_log()
        async with self.client(transport, **options) as client:
            try:
                seen.result = await case(client)
            except Exception as error:  # noqa: BLE001 - the class is what is compared
                seen.error = f"{type(error).__module__}.{type(error).__name__}"
                request = getattr(error, "_request", None)
                seen.error_request = None if request is None else (request.method, str(request.url))
        if server is not None:
            seen.requests = server.requests()
            await server.wait_closed()
        return seen

    async def both(
        self, case: Case, server: Any = None, transport: dict | None = None, **options: Any
    ) -> tuple[Seen, Seen]:
        """The reference's view of a case, and ours."""
        given = transport or {}
        theirs = await self.observe(case, self.reference(**given), server, **options)
        ours = await self.observe(case, self.ours(**given), server, **options)
        return theirs, ours


@pytest.fixture(params=["httpx", "httpx2"])
def package(request: pytest.FixtureRequest) -> Package:
    return Package(request.param)


def facts(response: Any) -> dict[str, Any]:
    """What a caller can see of a response that was read."""
    return {
        "status": response.status_code,
        "version": response.http_version,
        "reason": response.extensions.get("reason_phrase"),
        "headers": list(response.headers.raw),
        "content": response.content,
        "downloaded": response.num_bytes_downloaded,
        "closed": response.is_closed,
        "url": str(response.url),
    }


@pytest.fixture
def slow_mock(mock_llm: Any) -> Any:
    """The mock with a long answer, an event every 20 ms."""
    mock_llm.configure(token_interval=0.02, reply=MockConfig(reply="word " * 400).reply)
    return mock_llm
