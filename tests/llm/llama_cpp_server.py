"""llama.cpp's server, with a real model of random numbers: `make llama`. Outside CI, since it has to be compiled.

Not named test_*: it is collected only when it is asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from llmcurl import AsyncClient
from llmcurl.llm import BadRequestError, ContextLengthError, OpenAI, StreamInterrupted

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-llama" / "bin" / "python"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    home = tmp_path_factory.mktemp("llama")
    subprocess.run([PYTHON, ROOT / "tests/servers/tiny_gguf.py", home / "tiny.gguf"], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        PYTHON,
        "-m",
        "llama_cpp.server",
        "--model",
        home / "tiny.gguf",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += [
        "--n_ctx",
        "256",
        "--n_threads",
        "1",
        "--chat_format",
        "chatml",
        "--logits_all",
        "true",
    ]
    log = home / "log"
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=env, stdin=subprocess.DEVNULL
        )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
async def llm(address):
    async with OpenAI(base_url=address, model="tiny", timeout=60) as llm:
        yield llm


async def test_an_answer(llm):
    reply = await llm.chat("the sky", max_tokens=24, temperature=0)
    assert reply.text and reply.finish_reason in ("length", "stop")
    assert reply.usage.output_tokens and reply.id.startswith("chatcmpl-")


@pytest.mark.parametrize("prompt", ["the sky", "a blue sky", "sky " * 20])
async def test_the_same_events_as_anothers_reading(llm, address, prompt):
    """The bytes of the stream, split and decoded by json and str alone, say the same."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "max_tokens": 60,
        "temperature": 0,
    }
    async with AsyncClient() as client:
        raw = (await client.post(f"{address}/chat/completions", json=body, timeout=60)).content
    events = [
        json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: {")
    ]
    wanted = [text for event in events if (text := event["choices"][0]["delta"].get("content"))]
    async with llm.stream(prompt, max_tokens=60, temperature=0) as stream:
        found = [text async for text in stream.text_stream]
    reply = await stream.reply()
    assert found == wanted and len(found) > 1 and reply.text == "".join(wanted)
    assert reply.finish_reason == events[-1]["choices"][0]["finish_reason"]


async def test_logprobs(llm):
    reply = await llm.chat("the", max_tokens=5, temperature=0, logprobs=True, top_logprobs=3)
    assert reply.logprobs and all(one.logprob <= 0 and one.top_logprobs for one in reply.logprobs)


async def test_schema(llm):
    schema = {"type": "object", "properties": {"n": {"type": "boolean"}}, "required": ["n"]}
    reply = await llm.chat(
        "x", max_tokens=60, response_format={"type": "json_object", "schema": schema}
    )
    if reply.finish_reason == "stop":  # a model of noise may not come to the end of its JSON
        assert set(reply.parse(dict)) == {"n"}


async def test_leaving_early_lets_the_next_one_in(llm):
    async with llm.stream("the sky", max_tokens=200, temperature=1.5) as stream:
        async for _ in stream.text_stream:
            break
    with pytest.raises(StreamInterrupted):
        await stream.reply()
    assert (await llm.chat("the", max_tokens=4)).finish_reason in ("length", "stop")


async def test_several_at_once(llm):
    replies = await asyncio.gather(
        *(llm.chat("the sky", max_tokens=8, temperature=0) for _ in range(4))
    )
    assert len({reply.text for reply in replies}) == 1


async def test_a_prompt_that_is_too_long(llm):
    with pytest.raises(BadRequestError) as error:
        await llm.chat("blue " * 2000, max_tokens=4)
    assert isinstance(error.value, ContextLengthError)


async def test_models(llm):
    assert len(await llm.models()) == 1
