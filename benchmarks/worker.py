"""One process, one client, one scenario: reads a specification, prints one line of JSON.

python benchmarks/worker.py '{"client": "aiohttp", "mode": "closed", "url": "http://127.0.0.1:8080/chat"}'
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
import sys

from clients.base import Spec
from clients.harness import measure


def main() -> None:
    spec = Spec.from_json(sys.argv[1])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    if spec.loop == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(lambda _loop, _context: None)
    result = loop.run_until_complete(measure(spec))
    result.update(client=spec.client, python=platform.python_version(), loop=spec.loop)
    print(json.dumps(result), flush=True)
    # closing thousands of connections politely is not measured and can take long
    os._exit(0)


if __name__ == "__main__":
    main()
