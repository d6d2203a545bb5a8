"""A stand-in for the extension, so that the Python layer is tested before it is built."""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any


class RawResponse:
    """What `llmcurl._native.RawResponse` gives to Python, in Python."""

    __slots__ = (
        "_body",
        "_extra",
        "_head",
        "_method",
        "_stream",
        "_timings",
        "_url",
        "http_version",
        "reused",
        "status_code",
    )

    def __init__(
        self,
        status_code: int,
        *,
        head: bytes = b"",
        body: bytes = b"",
        url: str = "",
        method: str = "",
        http_version: str = "HTTP/1.1",
    ) -> None:
        self.status_code = status_code
        self.http_version = http_version
        self.reused = False
        self._head, self._body, self._url, self._method = head, body, url, method
        self._timings: tuple[float, ...] = (-1.0,) * 9
        self._stream: Any = None
        self._extra: dict[str, Any] | None = None


try:
    importlib.import_module("llmcurl._native")
except ImportError:
    stand_in = types.ModuleType("llmcurl._native")
    stand_in.RawResponse = RawResponse  # type: ignore[attr-defined]
    sys.modules["llmcurl._native"] = stand_in
