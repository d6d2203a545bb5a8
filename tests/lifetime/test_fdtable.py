"""The kernel's table of descriptors is large before connections need it: growing it later holds the loop up."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT = 1024  # the usual one

PROGRAM = """
import asyncio, resource, sys, threading
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (%d, hard))
import llmcurl

def size():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("FDSize"))

async def main():
    print(size())
    if "threads" in sys.argv:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    async with llmcurl.AsyncClient(watch="threads" in sys.argv) as client:
        call = client.get("http://127.0.0.1:1/")
        while "threads" in sys.argv and size() < %d:
            await asyncio.sleep(0.01)  # the watcher's thread is at it
        print(size())
        try:
            await call
        except llmcurl.ConnectError:
            pass

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["alone", "threads"])
def test_the_table_of_descriptors_is_large_from_the_first_call_on(how: str) -> None:
    program = PROGRAM % (LIMIT, LIMIT)
    done = subprocess.run(
        [sys.executable, "-c", program, how], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before < LIMIT <= after
