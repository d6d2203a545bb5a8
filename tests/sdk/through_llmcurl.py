"""A pytest plugin for the suites that httpx and the SDKs publish: their clients get our transport where they would
make their own.

    PYTHONPATH=python:tests/sdk python -m pytest -p through_llmcurl .../httpx-0.28.1/tests
"""

from __future__ import annotations

import importlib
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """libcurl's loop is asyncio's."""
    for item in items:
        if "[trio" in item.name or item.name.endswith("trio]"):
            item.add_marker(pytest.mark.skip(reason="trio"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"{len(made)} requests went through llmcurl")
