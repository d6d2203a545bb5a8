"""An exact number of calls in a closed loop, to be run under callgrind. Not its job: measuring.

python loop.py SPEC CALLS        SPEC as in clients/base.py, JSON
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clients.base import Spec  # noqa: E402
from clients.registry import make_client  # noqa: E402


async def run(spec: Spec, calls: int) -> int:
    client = make_client(spec)
    await client.open()
    one, expected = client.post, client.expected
    if spec.mode == "stream":
        one, expected = client.stream, client.expected_stream
    left, wrong = calls, 0

    async def work() -> None:
        nonlocal left, wrong
        while left > 0:
            left -= 1
            wrong += await one() != expected

    await asyncio.gather(*[work() for _ in range(spec.inflight)])
    return wrong


def main() -> None:
    spec = Spec.from_json(sys.argv[1])
    wrong = asyncio.new_event_loop().run_until_complete(run(spec, int(sys.argv[2])))
    if wrong:
        print(wrong, "wrong answers")
    sys.stdout.flush()
    os._exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
