"""The body of a mock's own process: `serve` runs one until it is told to stop.

`python -m llmcurl.testing._process` reads one JSON line of options on stdin, writes {"port": ...} or {"error": ...} to
stdout, and ends when stdin does, so that no mock outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from .._preflight import raise_fd_limit
from ._config import MockConfig
from ._replies import from_json
from ._server import MockLLM


async def serve(mock: MockLLM, until: Callable[[], Awaitable[object]]) -> None:
    """Run `mock` until `until()` is done. OSError if the address cannot be had."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        raise_fd_limit()
    # Nothing here makes cycles per request; with 10,000 connections open each full collection would cost 50 ms.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    async with mock:
        await until()


def build(options: dict[str, Any]) -> MockLLM:
    """The mock described by a `SpawnedMock`. ValueError for a wrong description."""
    config = MockConfig(**MockConfig.changes_from_json(options["config"]))
    settings = {name: getattr(config, name) for name in MockConfig.__dataclass_fields__}
    return MockLLM(
        host=options["host"],
        port=options["port"],
        listeners=options["listeners"],
        script=[from_json(item) for item in options["script"]],
        **settings,
    )


def main() -> int:
    """Entry point of the process."""
    options = json.loads(sys.stdin.buffer.readline())
    mock = build(options)

    async def parent_gone() -> None:
        print(json.dumps({"port": mock.port}), flush=True)
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        stdin = sys.stdin.fileno()

        def readable() -> None:
            if not os.read(stdin, 4096):
                gone.set()

        loop.add_reader(stdin, readable)
        await gone.wait()
        loop.remove_reader(stdin)

    try:
        asyncio.run(serve(mock, parent_gone))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        print(json.dumps({"error": str(exc)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
