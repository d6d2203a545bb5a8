"""Descriptors run out: calls wait if others will finish, else one error says which limit and how to raise it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

_COMMON = """
import asyncio, os, resource
import llmcurl
from llmcurl.testing import MockLLM

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"
"""

_WAIT = """
async def main():
    async with MockLLM.spawn(latency=0.05) as mock:
        async with llmcurl.AsyncClient(base_url=mock.base_url) as client:
            client._bind()
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            calls = [client.post(PATH, json=BODY) for _ in range(300)]
            answers = await asyncio.wait_for(asyncio.gather(*calls), 30)
            assert {answer.status_code for answer in answers} == {200}
            assert client.stats()["connections_opened"] <= 20
asyncio.run(main())
print("all answered")
"""

_NONE = """
async def main():
    async with MockLLM.spawn() as mock:
        async with llmcurl.AsyncClient(base_url=mock.base_url) as client:
            client._bind()
            held = []
            try:
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            try:
                await asyncio.wait_for(client.post(PATH, json=BODY), 20)
            except Exception as raised:
                error = raised
            for fd in held:
                os.close(fd)
            assert type(error) is llmcurl.FileDescriptorLimit, error
            print(error)
            assert (await client.post(PATH, json=BODY)).status_code == 200
asyncio.run(main())
"""


def _run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_COMMON + script)],
        capture_output=True, text=True, timeout=60, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_calls_wait_for_descriptors_that_others_will_give_back() -> None:
    assert "all answered" in _run(_WAIT)


def test_without_any_the_error_names_the_limit_and_how_to_raise_it() -> None:
    said = _run(
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))\n" + _NONE
    )
    assert "RLIMIT_NOFILE is 256" in said and "ulimit -n" in said
