"""MockLLM on the wire: requests in every framing, what it counts and records, HTTPS, a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import llmcurl.testing
import pytest
from llmcurl.testing import Failure, MockLLM, Raw, Reply, ToolCall

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "What is the answer?"}]
BODY = {"model": "mock-1", "messages": MESSAGES}
STREAM = {**BODY, "stream": True}


def text_of(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


@contextlib.asynccontextmanager
async def mock_and_client(**settings) -> AsyncIterator[tuple[MockLLM, httpx.AsyncClient]]:
    async with MockLLM(**settings) as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False, timeout=30) as client:
            yield mock, client


async def talk(mock: MockLLM, data: bytes, *, pieces: int = 0) -> bytes:
    """Send bytes, all at once or in pieces of a size, and read until the server closes or is silent for twice 0.1 s.

    Twice, since after one of them all may have stood still, the server too.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.port)
    step = pieces or len(data)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        if pieces:
            await asyncio.sleep(0)
    got, silent = b"", 0
    while silent < 2:
        try:
            part = await asyncio.wait_for(reader.read(65536), 0.1)
        except TimeoutError:
            silent += 1
            continue
        if not part:
            break
        got, silent = got + part, 0
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return got


def raw(body: dict, *, path: str = CHAT, version: str = "1.1", extra: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{extra}Content-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


# -- framing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1, 7])
async def test_requests_may_be_cut_anywhere_and_follow_one_another(pieces):
    async with MockLLM(echo=True) as mock:
        bodies = [
            {**BODY, "messages": [{"role": "user", "content": f"number {i}"}]} for i in range(3)
        ]
        got = await talk(mock, b"".join(raw(body) for body in bodies), pieces=pieces)
        assert [got.count(f"number {i}".encode()) for i in range(3)] == [1, 1, 1]
        assert got.index(b"number 0") < got.index(b"number 1") < got.index(b"number 2")


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_chunked_bodies_with_extensions_and_trailers(pieces):
    data = json.dumps(BODY).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = (
        b"5;a=b\r\n"
        + data[:5]
        + b"\r\n"
        + b"%X\r\n" % (len(data) - 5)
        + data[5:]
        + b"\r\n0\r\nX-T: 1\r\n\r\n"
    )
    async with MockLLM() as mock:
        got = await talk(mock, (head + chunks) * 2, pieces=pieces)
        assert got.count(b"HTTP/1.1 200 OK") == 2
        assert [request.json for request in mock.requests] == [BODY, BODY]


async def test_requests_that_arrive_during_an_answer_wait_for_it():
    async with MockLLM(latency=0.03) as mock:
        got = await talk(mock, raw(BODY) * 3)
        assert got.count(b"HTTP/1.1 200 OK") == 3
        assert mock.stats.max_in_flight == 1


async def test_expect_100_continue_is_answered():
    data = json.dumps(BODY).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    async with MockLLM() as mock:
        reader, writer = await asyncio.open_connection("127.0.0.1", mock.port)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(data)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
async def test_close_and_http_1_0_end_the_connection_after_the_answer(body):
    async with MockLLM() as mock:
        closing = await talk(mock, raw(body, extra="Connection: close\r\n"))
        assert b"\r\nconnection: close\r\n" in closing
        old = await talk(mock, raw(body, version="1.0"))
        assert b"transfer-encoding" not in old
        assert old.endswith(b"data: [DONE]\n\n" if body is STREAM else b"}")
        assert mock.stats.open_connections == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/3.0\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_what_is_no_http_is_refused_and_the_connection_closed(data, status):
    async with MockLLM() as mock:
        got = await talk(mock, data)
        assert got.split(b" ")[1] == status
        assert mock.stats.requests == 0


async def test_a_large_body_arrives_whole_and_is_kept_up_to_the_bound():
    content = "x" * 3_000_000
    async with mock_and_client(keep_body=1000, echo=True) as (mock, client):
        answer = await client.post(
            CHAT, json={**BODY, "messages": [{"role": "user", "content": content}]}
        )
        assert text_of(answer.json()) == content
        assert len(mock.requests[0].body) == 1000 < mock.requests[0].size


async def test_a_thousand_delayed_answers_take_as_long_as_one():
    async with MockLLM(latency=1.0) as mock:
        start = time.perf_counter()

        async def one() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", mock.port)
            writer.write(raw(BODY))
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

        lines = await asyncio.gather(*(one() for _ in range(1000)))
        assert set(lines) == {b"HTTP/1.1 200 OK\r\n"}
        assert time.perf_counter() - start < 100  # one after the other: 1,000
        assert mock.stats.connections == 1000
        assert mock.stats.max_in_flight > 100


# -- what it saw -------------------------------------------------------------------------------------------------------


async def test_requests_are_recorded_with_headers_and_bodies_up_to_a_bound():
    async with mock_and_client(keep_requests=2) as (mock, client):
        for number in range(3):
            await client.post(CHAT + f"?n={number}", json=BODY, headers={"X-Number": str(number)})
        assert [r.number for r in mock.requests] == [2, 3]
        last = mock.requests[-1]
        assert (last.method, last.path, last.query) == ("POST", CHAT, {"n": "2"})
        assert last.headers["x-number"] == "2"
        assert last.json == BODY


async def test_a_client_that_leaves_is_counted():
    async with mock_and_client(latency=60) as (mock, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=BODY, timeout=httpx.Timeout(20, read=0.05))
        while not mock.stats.disconnects:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        stats = mock.stats
        assert (stats.disconnects, stats.in_flight, stats.answered, stats.requests) == (1, 0, 0, 1)


async def test_reset_forgets_and_configure_changes():
    async with mock_and_client(script=["never"]) as (mock, client):
        await client.get("/v1/models")
        mock.reset()
        assert (mock.stats.requests, mock.requests, mock.scripted) == (0, [], 0)
        mock.configure(reply="new")
        assert text_of((await client.post(CHAT, json=BODY)).json()) == "new"
        with pytest.raises(TypeError):
            mock.configure(latncy=1)


async def test_control_calls_are_not_counted():
    async with mock_and_client() as (mock, client):
        assert (await client.get("/__mock__/stats")).json()["requests"] == 0
        assert (
            await client.post("/__mock__/script", json={"replies": ["one", {"text": "two"}]})
        ).json() == {"scripted": 2}
        assert (await client.post("/__mock__/config", json={"nope": 1})).status_code == 400
        assert (
            await client.post("/__mock__/script", json={"replies": [{"type": "X"}]})
        ).status_code == 400
        assert (await client.get("/__mock__/nope")).status_code == 404
        assert mock.stats.connections == mock.stats.requests == 0
        texts = [text_of((await client.post(CHAT, json=BODY)).json()) for _ in range(2)]
        assert texts == ["one", "two"]
        assert mock.stats.connections == 1


# -- other ways to run it ----------------------------------------------------------------------------------------------


async def test_the_mock_serves_https(authority):
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.good)
    async with MockLLM(ssl=context, reply="secure") as mock:
        async with httpx.AsyncClient(
            base_url=mock.base_url, verify=False, trust_env=False
        ) as client:
            assert mock.base_url.startswith("https://")
            assert text_of((await client.post(CHAT, json=BODY)).json()) == "secure"


def test_a_spawned_mock_is_steered_over_http():
    with MockLLM.spawn(latency=0.01, script=[Failure.rate_limit(2)]) as mock:
        with httpx.Client(base_url=mock.base_url, trust_env=False) as client:
            assert client.post(CHAT, json=BODY).headers["retry-after"] == "2"
            reply = Reply(tool_calls=(ToolCall("f", {"a": 1}),))
            mock.script(reply, Failure.context_length(), Raw(chunks=(b"a", b"b")), "text")
            assert mock.scripted == 4
            assert (
                client.post(CHAT, json=BODY).json()["choices"][0]["finish_reason"] == "tool_calls"
            )
            assert client.post(CHAT, json=BODY).json()["error"]["code"] == "context_length_exceeded"
            assert client.post(CHAT, json=BODY).text == "ab"
            assert text_of(client.post(CHAT, json=BODY).json()) == "text"
            mock.configure(echo=True, latency=0)
            assert text_of(client.post(CHAT, json=BODY).json()) == "What is the answer?"
            stats = mock.stats
            assert (stats.requests, stats.connections, stats.max_in_flight) == (6, 1, 1)
            assert mock.requests[0].json == BODY
            assert mock.requests[0].headers["content-type"] == "application/json"
            mock.reset()
            assert mock.requests == []


async def test_a_spawned_mock_as_async_context_ends_with_the_block():
    async with MockLLM.spawn() as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False) as client:
            assert (await client.post(CHAT, json=BODY)).status_code == 200
        port = mock.port
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


def test_a_spawned_mock_that_cannot_listen_says_so():
    with MockLLM.spawn(listeners=1) as mock:
        with pytest.raises(RuntimeError, match="did not start"):
            MockLLM.spawn(listeners=1, port=mock.port).start()


def test_a_function_cannot_go_to_another_process():
    with pytest.raises(TypeError, match="another process"):
        MockLLM.spawn(reply=lambda request: "x")


@pytest.mark.parametrize("bad", [{"latency": -1}, {"reply": 5}, {"unknown": 1}])
def test_wrong_settings_fail_at_once(bad):
    with pytest.raises((TypeError, ValueError)):
        MockLLM(**bad)


USER_TESTS = """
import json, urllib.request

def ask(mock):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(mock.openai_url + "/chat/completions", body)
    with opener.open(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]

def test_one(mock_llm):
    mock_llm.configure(reply="changed")
    mock_llm.script("scripted", "left over")
    assert ask(mock_llm) == "scripted"
    assert len(mock_llm.requests) == 1

def test_two(mock_llm):
    assert mock_llm.requests == []
    assert ask(mock_llm).startswith("The mock answers")
"""


def test_the_pytest_fixture_gives_a_fresh_mock_to_each_test(tmp_path):
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    root = str(Path(llmcurl.testing.__file__).parents[2])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "llmcurl.testing.plugin",
            "-p",
            "no:cacheprovider",
            "test_user.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
