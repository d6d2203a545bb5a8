"""What a type checker knows of a program that uses the package: right calls pass, wrong ones do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import asyncio
from typing import assert_type

import llmcurl
from llmcurl.llm import Delta, Reply, ServerSentEvent


async def main() -> None:
    async with llmcurl.AsyncClient(base_url="http://x") as client:
        assert_type(await client.post("/a", json={"b": 1}, timeout=3), llmcurl.Response)
        assert_type(await asyncio.gather(*[client.get("/a")]), list[llmcurl.Response])
        assert_type(await asyncio.wait_for(client.get("/a"), 3), llmcurl.Response)
        async with client.stream("POST", "/a", content=b"") as response:
            async for event in response.aiter_events():
                assert_type(event, ServerSentEvent)
        client.post("/a", jsn={})  # type: ignore[call-arg]
        client.stream("GET", "/a", timeot=3)  # type: ignore[call-arg]
    async with llmcurl.OpenAI(model="m", client=client, timeout=3) as llm:
        assert_type(await llm.chat(["x"], temperature=0.5), Reply)
        async with llm.stream("x") as stream:
            async for delta in stream:
                assert_type(delta, Delta)
        assert_type((await llm.embed("x"))[0][0], float)
    llmcurl.Anthropic(modle="m")  # type: ignore[call-arg]
"""


@pytest.mark.timeout(300)
def test_a_program_of_a_users(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(program)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
