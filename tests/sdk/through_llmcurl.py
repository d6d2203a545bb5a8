"""A pytest plugin for the suites that httpx and the SDKs publish: their clients get our transport where they would
make their own.

    PYTHONPATH=python:tests/sdk python -m pytest -p through_llmcurl .../httpx-0.28.1/tests
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

made: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    for name in ("httpx", "httpx2"):
        try:
            package = importlib.import_module(name)
        except ImportError:
            continue
        ours = importlib.import_module(f"llmcurl.transports.{name}").AsyncCurlTransport
        start = ours.handle_async_request

        async def handle(self: Any, request: Any, start: Any = start) -> Any:
            made.append(request)
            return await start(self, request)

        ours.handle_async_request = handle
        for module in (package, importlib.import_module(f"{name}._client")):
            if hasattr(module, "AsyncHTTPTransport"):
                module.AsyncHTTPTransport = ours


def expected() -> dict[str, str]:
    """Prefix of a test's id -> why it is expected to fail."""
    path = os.environ.get("LLMCURL_UPSTREAM")
    lines = Path(path).read_text().splitlines() if path else []
    return dict(
        line.split(" | ", 1) for line in lines if " | " in line and not line.startswith("#")
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = expected()
    for item in items:
        if "[trio" in item.name or item.name.endswith("trio]"):
            item.add_marker(pytest.mark.skip(reason="libcurl's loop is asyncio's"))
        for prefix, reason in reasons.items():
            if item.nodeid.startswith(prefix):
                item.add_marker(pytest.mark.xfail(reason=reason, strict=False))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"{len(made)} requests went through llmcurl")
