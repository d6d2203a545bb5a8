"""MockLLM on the wire: requests in every framing, answers in four protocols, times, failures, counters, a process of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import llmcurl.testing
from llmcurl.testing import Failure, MockLLM, Raw, Reply, ToolCall
from llmcurl.testing._wheel import TICK, Wheel

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "What is the answer?"}]
BODY = {"model": "mock-1", "messages": MESSAGES}
STREAM = {**BODY, "stream": True}

REQUESTS = {
    "openai": (CHAT, BODY),
    "anthropic": ("/v1/messages", {**BODY, "max_tokens": 9}),
    "gemini": ("/v1beta/models/mock-1:generateContent", {"contents": [{"parts": [{"text": "What?"}]}]}),
    "ollama": ("/api/chat", {**BODY, "stream": False}),
}

STREAMS = {
    "openai": (CHAT, STREAM),
    "anthropic": ("/v1/messages", {**STREAM, "max_tokens": 9}),
    "gemini": ("/v1beta/models/mock-1:streamGenerateContent?alt=sse", REQUESTS["gemini"][1]),
    "ollama": ("/api/chat", STREAM),
}


def text_of(name: str, answer: dict) -> str:
    if name == "openai":
        return answer["choices"][0]["message"]["content"]
    if name == "anthropic":
        return answer["content"][0]["text"]
    if name == "gemini":
        return answer["candidates"][0]["content"]["parts"][0]["text"]
    return answer["message"]["content"]


def error_of(name: str, answer: dict) -> str:
    return answer["error"] if name == "ollama" else answer["error"]["message"]


@contextlib.asynccontextmanager
async def mock_and_client(**settings) -> AsyncIterator[tuple[MockLLM, httpx.AsyncClient]]:
    async with MockLLM(**settings) as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False, timeout=5) as client:
            yield mock, client


async def talk(mock: MockLLM, data: bytes, *, pieces: int = 0) -> bytes:
    """Send bytes, all at once or in pieces of a size, and read until the server closes or is silent for 0.2 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mock.port)
    step = pieces or len(data)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        if pieces:
            await asyncio.sleep(0)
    got = b""
    with contextlib.suppress(TimeoutError):
        while part := await asyncio.wait_for(reader.read(65536), 0.2):
            got += part
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return got


def raw(body: dict, *, path: str = CHAT, version: str = "1.1", extra: str = "") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: x\r\n{extra}Content-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


# -- plain answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_scripted_text_comes_back_in_each_protocol(name):
    path, body = REQUESTS[name]
    async with mock_and_client(script=["forty-two"]) as (mock, client):
        answer = await client.post(path, json=body)
        assert answer.status_code == 200
        assert text_of(name, answer.json()) == "forty-two"
        again = await client.post(path, json=body)
        assert text_of(name, again.json()) == mock.config.reply.text


@pytest.mark.parametrize("name", REQUESTS)
async def test_echo_gives_back_the_prompt(name):
    path, body = REQUESTS[name]
    async with mock_and_client(echo=True) as (_, client):
        for text in ("one", 'two "quoted" \n ünïcode 🎈', "textMOCKslot", ""):
            said = json.loads(json.dumps(body).replace("What is the answer?", "§").replace("What?", "§"))
            said = json.loads(json.dumps(said).replace('"\\u00a7"', json.dumps(text)))
            assert text_of(name, (await client.post(path, json=said)).json()) == text


async def test_each_answer_has_its_own_id():
    async with mock_and_client() as (_, client):
        answers = [await client.post(CHAT, json=BODY) for _ in range(3)]
        assert len({a.json()["id"] for a in answers}) == 3
        assert len({a.headers["x-request-id"] for a in answers}) == 3


async def test_a_function_decides_the_answer():
    seen = []

    def decide(request):
        seen.append(request)
        return "odd" if request.number % 2 else None

    async with mock_and_client(reply=decide) as (mock, client):
        texts = [text_of("openai", (await client.post(CHAT, json=BODY)).json()) for _ in range(2)]
        assert texts == ["odd", mock.config.reply.text]
        assert seen[0].json == BODY
        assert seen[0].path == CHAT


async def test_a_coroutine_function_decides_the_answer_and_may_take_its_time():
    release = asyncio.Event()

    async def decide(request):
        await release.wait()
        return "released"

    async with mock_and_client(reply=decide) as (mock, client):
        call = asyncio.ensure_future(client.post(CHAT, json=BODY))
        while not mock.stats.in_flight:
            await asyncio.sleep(0.001)
        release.set()
        assert text_of("openai", (await call).json()) == "released"


async def test_tools_reasoning_and_usage():
    reply = Reply(
        tool_calls=(ToolCall("weather", {"city": "Oslo"}),), reasoning="Let me see.", input_tokens=7, output_tokens=9
    )
    async with mock_and_client(reply=reply) as (_, client):
        openai = (await client.post(CHAT, json=BODY)).json()
        choice = openai["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
        assert choice["message"]["reasoning_content"] == "Let me see."
        assert openai["usage"]["total_tokens"] == 16
        anthropic = (await client.post(*REQUESTS["anthropic"][:1], json=REQUESTS["anthropic"][1])).json()
        assert [part["type"] for part in anthropic["content"]] == ["thinking", "tool_use"]
        assert anthropic["content"][1]["input"] == {"city": "Oslo"}
        assert anthropic["stop_reason"] == "tool_use"
        gemini = (await client.post(REQUESTS["gemini"][0], json=REQUESTS["gemini"][1])).json()
        parts = gemini["candidates"][0]["content"]["parts"]
        assert parts[0]["thought"] and parts[1]["functionCall"] == {"name": "weather", "args": {"city": "Oslo"}}
        ollama = (await client.post("/api/chat", json=REQUESTS["ollama"][1])).json()
        assert ollama["message"]["tool_calls"][0]["function"]["name"] == "weather"
        assert (ollama["prompt_eval_count"], ollama["eval_count"]) == (7, 9)


async def test_embeddings_are_equal_for_equal_texts_and_the_same_in_every_form():
    async with mock_and_client(embedding_size=8) as (_, client):
        body = {"model": "e", "input": ["a", "b", "a"]}
        plain = (await client.post("/v1/embeddings", json=body)).json()["data"]
        packed = (await client.post("/v1/embeddings", json={**body, "encoding_format": "base64"})).json()["data"]
        ollama = (await client.post("/api/embed", json=body)).json()["embeddings"]
        content = {"content": {"parts": [{"text": "a"}]}}
        gemini = (await client.post("/v1beta/models/e:embedContent", json=content)).json()
        batch = (await client.post("/v1beta/models/e:batchEmbedContents", json={"requests": [content]})).json()
        first = plain[0]["embedding"]
        assert len(first) == 8 and sum(x * x for x in first) == pytest.approx(1, abs=1e-6)
        assert first == plain[2]["embedding"] != plain[1]["embedding"]
        assert list(struct.unpack("<8f", base64.b64decode(packed[0]["embedding"]))) == first
        assert ollama[0] == gemini["embedding"]["values"] == batch["embeddings"][0]["values"] == first
        short = (await client.post("/v1/embeddings", json={**body, "dimensions": 3})).json()
        assert len(short["data"][0]["embedding"]) == 3


async def test_models_are_listed_in_each_protocol():
    async with mock_and_client(models=("m",)) as (_, client):
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "m"
        header = {"anthropic-version": "2023-06-01"}
        assert (await client.get("/v1/models", headers=header)).json()["data"][0]["type"] == "model"
        assert (await client.get("/v1beta/models")).json()["models"][0]["name"] == "models/m"
        assert (await client.get("/api/tags")).json()["models"][0]["model"] == "m"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, b"{", 400),
        (CHAT, b"[]", 400),
        (CHAT, b'{"model":"m"}', 400),
        (CHAT, b'{"messages":[{"role":"user","content":"x"}]}', 400),
        ("/v1/messages", b'{"model":"m","messages":[{"role":"user","content":"x"}]}', 400),
        ("/v1beta/models/m:generateContent", b"{}", 400),
        ("/api/chat", b"{}", 400),
        ("/nowhere", b"{}", 404),
    ],
)
async def test_a_wrong_request_is_refused_in_the_words_of_the_protocol(path, body, status):
    async with mock_and_client() as (_, client):
        answer = await client.post(path, content=body)
        assert answer.status_code == status
        assert "error" in answer.json()


async def test_the_wrong_method_is_405():
    async with mock_and_client() as (_, client):
        assert (await client.get(CHAT)).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer secret"}, {"x-api-key": "secret"}, {"x-goog-api-key": "secret"}, {"api-key": "secret"}],
)
async def test_a_key_is_checked_where_each_protocol_puts_it(headers):
    async with mock_and_client(api_key="secret") as (_, client):
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200
        assert (await client.post(CHAT + "?key=secret", json=BODY)).status_code == 200
        assert (await client.post(CHAT, json=BODY)).status_code == 401


# -- framing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [0, 1, 7])
async def test_requests_may_be_cut_anywhere_and_follow_one_another(pieces):
    async with MockLLM(echo=True) as mock:
        bodies = [{**BODY, "messages": [{"role": "user", "content": f"number {i}"}]} for i in range(3)]
        got = await talk(mock, b"".join(raw(body) for body in bodies), pieces=pieces)
        assert [got.count(f"number {i}".encode()) for i in range(3)] == [1, 1, 1]
        assert got.index(b"number 0") < got.index(b"number 1") < got.index(b"number 2")


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_chunked_bodies_with_extensions_and_trailers(pieces):
    data = json.dumps(BODY).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"5;a=b\r\n" + data[:5] + b"\r\n" + b"%X\r\n" % (len(data) - 5) + data[5:] + b"\r\n0\r\nX-T: 1\r\n\r\n"
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
        answer = await client.post(CHAT, json={**BODY, "messages": [{"role": "user", "content": content}]})
        assert text_of("openai", answer.json()) == content
        assert len(mock.requests[0].body) == 1000 < mock.requests[0].size


# -- streams and times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_carries_every_token_in_order(name):
    path, body = STREAMS[name]
    tokens = tuple(f"t{i} " for i in range(400))
    async with mock_and_client(reply=Reply(tokens=tokens)) as (_, client):
        text = (await client.post(path, json=body)).text
        at = [text.index(f'"t{i} "') for i in range(400)]
        assert at == sorted(at)


async def test_an_openai_stream_ends_with_usage_if_asked_and_done():
    async with mock_and_client(reply="a b c") as (_, client):
        text = (await client.post(CHAT, json={**STREAM, "stream_options": {"include_usage": True}})).text
        lines = [line for line in text.split("\n") if line]
        assert lines[-1] == "data: [DONE]"
        last = json.loads(lines[-2][6:])
        assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
        assert len({json.loads(line[6:])["id"] for line in lines[:-1]}) == 1


async def test_gemini_without_sse_streams_one_json_array():
    path = STREAMS["gemini"][0].partition("?")[0]
    async with mock_and_client(reply="a b c") as (_, client):
        answers = (await client.post(path, json=STREAMS["gemini"][1])).json()
        assert "".join(a["candidates"][0]["content"]["parts"][0]["text"] for a in answers) == "a b c"


async def test_latency_ttft_and_token_interval_are_kept():
    async with mock_and_client(reply="a b c", latency=0.05, ttft=0.1, token_interval=0.05) as (_, client):
        start = time.perf_counter()
        await client.post(CHAT, json=BODY)
        assert 0.05 <= time.perf_counter() - start < 0.2
        start = time.perf_counter()
        times = []
        async with client.stream("POST", "/api/chat", json=STREAM) as response:
            head = time.perf_counter() - start
            async for _ in response.aiter_raw():
                times.append(time.perf_counter() - start)
        assert 0.05 <= head < 0.1
        assert len(times) >= 3
        assert times[0] >= 0.1 and times[-1] >= 0.2
        assert times[-1] < 0.5


async def test_a_thousand_delayed_answers_take_as_long_as_one():
    async with MockLLM(latency=0.2) as mock:
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
        assert time.perf_counter() - start < 5
        assert mock.stats.connections == 1000
        assert mock.stats.max_in_flight > 100


async def test_the_wheel_is_never_early_and_at_most_a_tick_late():
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    late: list[float] = []
    deadlines = [loop.time() + i * 0.0037 for i in range(30)]

    class Target:
        def on_timer(self, token: int) -> None:
            late.append(loop.time() - deadlines[token])

    target = Target()
    for number in reversed(range(30)):
        wheel.add(deadlines[number], target, number)
    while len(late) < 30:
        await asyncio.sleep(0.01)
    assert min(late) > -0.001
    assert sorted(late)[15] < 3 * TICK
    wheel.close()


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    "failure",
    [Failure.rate_limit(3), Failure.server_error(), Failure.overloaded(), Failure.unauthorized(), Failure.context_length()],
    ids=lambda failure: str(failure.status) + (failure.code or ""),
)
async def test_error_answers_are_in_the_words_of_each_protocol(name, failure):
    path, body = REQUESTS[name]
    async with mock_and_client(script=[failure]) as (_, client):
        answer = await client.post(path, json=body)
        assert answer.status_code == failure.status
        assert answer.headers.get("retry-after") == (None if failure.retry_after is None else "3")
        assert error_of(name, answer.json())


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("kind", ["cut", "reset"])
async def test_a_cut_stream_gives_its_first_events_and_then_breaks(name, kind):
    path, body = STREAMS[name]
    async with mock_and_client(script=[Failure(kind=kind, after=3, reply=Reply("a b c d e"))]) as (_, client):
        got = b""
        with pytest.raises(httpx.TransportError):
            async with client.stream("POST", path, json=body) as response:
                async for part in response.aiter_raw():
                    got += part
        if kind == "cut":
            assert b'" c"' in got and b'" d"' not in got


@pytest.mark.parametrize("after", [0, 2])
async def test_a_cut_plain_answer_breaks_before_or_in_the_body(after):
    async with mock_and_client(script=[Failure.cut(after=after)]) as (mock, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json=BODY)
        assert (await client.post(CHAT, json=BODY)).status_code == 200
        assert mock.stats.disconnects == 0


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
async def test_a_stall_leaves_the_connection_open_until_the_client_goes(body):
    async with mock_and_client(script=[Failure.stall()]) as (mock, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=body, timeout=0.1)
        await asyncio.sleep(0.02)
        assert mock.stats.disconnects == 1
        assert mock.stats.in_flight == 0


@pytest.mark.parametrize("name", STREAMS)
async def test_a_malformed_event_stands_among_good_ones(name):
    path, body = STREAMS[name]
    async with mock_and_client(script=[Failure.malformed_event(after=1, reply=Reply("a b"))]) as (_, client):
        text = (await client.post(path, json=body)).text
        bad = 0
        for line in text.replace("data: ", "").splitlines():
            if line.startswith("{"):
                try:
                    json.loads(line)
                except ValueError:
                    bad += 1
        assert bad == 1
        assert '" b"' in text


@pytest.mark.parametrize("name", STREAMS)
async def test_an_error_object_inside_a_200_stream(name):
    path, body = STREAMS[name]
    async with mock_and_client(script=[Failure.error_event(after=2)]) as (_, client):
        answer = await client.post(path, json=body)
        assert answer.status_code == 200
        last = [line for line in answer.text.splitlines() if "{" in line][-1]
        assert error_of(name, json.loads(last[last.index("{") :]))


@pytest.mark.parametrize("name", STREAMS)
async def test_a_json_error_where_a_stream_was_asked_for(name):
    path, body = STREAMS[name]
    async with mock_and_client(script=[Failure.json_error()]) as (_, client):
        answer = await client.post(path, json=body)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert error_of(name, answer.json())


async def test_a_part_of_the_requests_fails_the_same_ones_for_the_same_seed():
    async def run() -> list[int]:
        async with mock_and_client(failure=Failure.server_error(), failure_rate=0.3, seed=5) as (_, client):
            return [(await client.post(CHAT, json=BODY)).status_code for _ in range(40)]

    first = await run()
    assert first == await run()
    assert 3 < first.count(500) < 25


async def test_failures_and_raw_answers_also_reach_embeddings_and_unknown_paths():
    async with mock_and_client() as (mock, client):
        mock.script(Failure.rate_limit(), "kept for a chat", Raw(b"hello", content_type="text/plain"))
        body = {"model": "e", "input": "a"}
        assert (await client.post("/v1/embeddings", json=body)).status_code == 429
        assert (await client.post("/v1/embeddings", json=body)).status_code == 200
        assert text_of("openai", (await client.post(CHAT, json=BODY)).json()) == "kept for a chat"
        assert (await client.get("/any/path")).text == "hello"


async def test_connections_close_after_the_set_number_of_answers():
    async with mock_and_client(max_requests_per_connection=2) as (mock, client):
        for _ in range(6):
            assert (await client.post(CHAT, json=BODY)).status_code == 200
            await asyncio.sleep(0.005)
        assert mock.stats.connections == 3


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
    async with mock_and_client(latency=5) as (mock, client):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=BODY, timeout=0.05)
        await asyncio.sleep(0.02)
        stats = mock.stats
        assert (stats.disconnects, stats.in_flight, stats.answered, stats.requests) == (1, 0, 0, 1)


async def test_reset_forgets_and_configure_changes():
    async with mock_and_client(script=["never"]) as (mock, client):
        await client.get("/v1/models")
        mock.reset()
        assert (mock.stats.requests, mock.requests, mock.scripted) == (0, [], 0)
        mock.configure(reply="new")
        assert text_of("openai", (await client.post(CHAT, json=BODY)).json()) == "new"
        with pytest.raises(TypeError):
            mock.configure(latncy=1)


async def test_control_calls_are_not_counted():
    async with mock_and_client() as (mock, client):
        assert (await client.get("/__mock__/stats")).json()["requests"] == 0
        assert (await client.post("/__mock__/script", json={"replies": ["one", {"text": "two"}]})).json() == {"scripted": 2}
        assert (await client.post("/__mock__/config", json={"nope": 1})).status_code == 400
        assert (await client.post("/__mock__/script", json={"replies": [{"type": "X"}]})).status_code == 400
        assert (await client.get("/__mock__/nope")).status_code == 404
        assert mock.stats.connections == mock.stats.requests == 0
        texts = [text_of("openai", (await client.post(CHAT, json=BODY)).json()) for _ in range(2)]
        assert texts == ["one", "two"]
        assert mock.stats.connections == 1


# -- other ways to run it ----------------------------------------------------------------------------------------------


async def test_the_mock_serves_https(authority):
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.good)
    async with MockLLM(ssl=context, reply="secure") as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, verify=False, trust_env=False) as client:
            assert mock.base_url.startswith("https://")
            assert text_of("openai", (await client.post(CHAT, json=BODY)).json()) == "secure"


def test_a_spawned_mock_is_steered_over_http():
    with MockLLM.spawn(latency=0.01, script=[Failure.rate_limit(2)]) as mock:
        with httpx.Client(base_url=mock.base_url, trust_env=False) as client:
            assert client.post(CHAT, json=BODY).headers["retry-after"] == "2"
            reply = Reply(tool_calls=(ToolCall("f", {"a": 1}),))
            mock.script(reply, Failure.context_length(), Raw(chunks=(b"a", b"b")), "text")
            assert mock.scripted == 4
            assert client.post(CHAT, json=BODY).json()["choices"][0]["finish_reason"] == "tool_calls"
            assert client.post(CHAT, json=BODY).json()["error"]["code"] == "context_length_exceeded"
            assert client.post(CHAT, json=BODY).text == "ab"
            assert text_of("openai", client.post(CHAT, json=BODY).json()) == "text"
            mock.configure(echo=True, latency=0)
            assert text_of("openai", client.post(CHAT, json=BODY).json()) == "What is the answer?"
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
        [sys.executable, "-m", "pytest", "-q", "-p", "llmcurl.testing.plugin", "-p", "no:cacheprovider", "test_user.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
