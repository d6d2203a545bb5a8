"""What MockLLM answers: four protocols, plain and streamed, at the times and with the failures it was told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from llmcurl.testing import Failure, MockLLM, Raw, Reply, ToolCall
from llmcurl.testing._wheel import TICK, Wheel

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "What is the answer?"}]
BODY = {"model": "mock-1", "messages": MESSAGES}
STREAM = {**BODY, "stream": True}

REQUESTS = {
    "openai": (CHAT, BODY),
    "anthropic": ("/v1/messages", {**BODY, "max_tokens": 9}),
    "gemini": (
        "/v1beta/models/mock-1:generateContent",
        {"contents": [{"parts": [{"text": "What?"}]}]},
    ),
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
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False, timeout=30) as client:
            yield mock, client


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
            said = json.loads(
                json.dumps(body).replace("What is the answer?", "§").replace("What?", "§")
            )
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
        while not mock.stats.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        release.set()
        assert text_of("openai", (await call).json()) == "released"


async def test_tools_reasoning_and_usage():
    reply = Reply(
        tool_calls=(ToolCall("weather", {"city": "Oslo"}),),
        reasoning="Let me see.",
        input_tokens=7,
        output_tokens=9,
    )
    async with mock_and_client(reply=reply) as (_, client):
        openai = (await client.post(CHAT, json=BODY)).json()
        choice = openai["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {
            "city": "Oslo"
        }
        assert choice["message"]["reasoning_content"] == "Let me see."
        assert openai["usage"]["total_tokens"] == 16
        anthropic = (
            await client.post(*REQUESTS["anthropic"][:1], json=REQUESTS["anthropic"][1])
        ).json()
        assert [part["type"] for part in anthropic["content"]] == ["thinking", "tool_use"]
        assert anthropic["content"][1]["input"] == {"city": "Oslo"}
        assert anthropic["stop_reason"] == "tool_use"
        gemini = (await client.post(REQUESTS["gemini"][0], json=REQUESTS["gemini"][1])).json()
        parts = gemini["candidates"][0]["content"]["parts"]
        assert parts[0]["thought"] and parts[1]["functionCall"] == {
            "name": "weather",
            "args": {"city": "Oslo"},
        }
        ollama = (await client.post("/api/chat", json=REQUESTS["ollama"][1])).json()
        assert ollama["message"]["tool_calls"][0]["function"]["name"] == "weather"
        assert (ollama["prompt_eval_count"], ollama["eval_count"]) == (7, 9)


async def test_embeddings_are_equal_for_equal_texts_and_the_same_in_every_form():
    async with mock_and_client(embedding_size=8) as (_, client):
        body = {"model": "e", "input": ["a", "b", "a"]}
        plain = (await client.post("/v1/embeddings", json=body)).json()["data"]
        packed = (
            await client.post("/v1/embeddings", json={**body, "encoding_format": "base64"})
        ).json()["data"]
        ollama = (await client.post("/api/embed", json=body)).json()["embeddings"]
        content = {"content": {"parts": [{"text": "a"}]}}
        gemini = (await client.post("/v1beta/models/e:embedContent", json=content)).json()
        batch = (
            await client.post("/v1beta/models/e:batchEmbedContents", json={"requests": [content]})
        ).json()
        first = plain[0]["embedding"]
        assert len(first) == 8 and sum(x * x for x in first) == pytest.approx(1, abs=1e-6)
        assert first == plain[2]["embedding"] != plain[1]["embedding"]
        assert list(struct.unpack("<8f", base64.b64decode(packed[0]["embedding"]))) == first
        assert (
            ollama[0] == gemini["embedding"]["values"] == batch["embeddings"][0]["values"] == first
        )
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
    [
        {"authorization": "Bearer secret"},
        {"x-api-key": "secret"},
        {"x-goog-api-key": "secret"},
        {"api-key": "secret"},
    ],
)
async def test_a_key_is_checked_where_each_protocol_puts_it(headers):
    async with mock_and_client(api_key="secret") as (_, client):
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200
        assert (await client.post(CHAT + "?key=secret", json=BODY)).status_code == 200
        assert (await client.post(CHAT, json=BODY)).status_code == 401


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
        text = (
            await client.post(CHAT, json={**STREAM, "stream_options": {"include_usage": True}})
        ).text
        lines = [line for line in text.split("\n") if line]
        assert lines[-1] == "data: [DONE]"
        last = json.loads(lines[-2][6:])
        assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
        assert len({json.loads(line[6:])["id"] for line in lines[:-1]}) == 1


async def test_gemini_without_sse_streams_one_json_array():
    path = STREAMS["gemini"][0].partition("?")[0]
    async with mock_and_client(reply="a b c") as (_, client):
        answers = (await client.post(path, json=STREAMS["gemini"][1])).json()
        assert (
            "".join(a["candidates"][0]["content"]["parts"][0]["text"] for a in answers) == "a b c"
        )


async def test_latency_ttft_and_token_interval_are_kept():
    async with mock_and_client(reply="a b c", latency=0.05, ttft=1.5, token_interval=0.05) as (
        _,
        client,
    ):
        start = time.perf_counter()
        await client.post(CHAT, json=BODY)
        assert 0.04 <= time.perf_counter() - start < 15
        start = time.perf_counter()
        times = []
        async with client.stream("POST", "/api/chat", json=STREAM) as response:
            head = time.perf_counter() - start
            async for _ in response.aiter_raw():
                times.append(time.perf_counter() - start)
        assert 0.04 <= head < 1.4
        assert len(times) >= 3
        assert times[0] >= 1.49 and times[-1] >= 1.59
        assert times[-1] < 15


async def test_the_wheel_is_never_early_and_at_most_a_tick_late():
    loop = asyncio.get_running_loop()
    wheel = Wheel(loop)
    late: list[float] = []
    deadlines: list[float] = []

    class Target:
        def on_timer(self, token: int) -> None:
            late.append(loop.time() - deadlines[token])

    target = Target()
    for _ in range(10):  # a busy machine is late by itself
        late.clear()
        deadlines[:] = [loop.time() + i * 0.0037 for i in range(30)]
        for number in reversed(range(30)):
            wheel.add(deadlines[number], target, number)
        while len(late) < 30:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert min(late) > -1e-6
        if sorted(late)[5] < 2 * TICK:
            break
    assert sorted(late)[5] < 2 * TICK
    wheel.close()


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    "failure",
    [
        Failure.rate_limit(3),
        Failure.server_error(),
        Failure.overloaded(),
        Failure.unauthorized(),
        Failure.context_length(),
    ],
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
    async with mock_and_client(script=[Failure(kind=kind, after=3, reply=Reply("a b c d e"))]) as (
        _,
        client,
    ):
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
            await client.post(CHAT, json=body, timeout=httpx.Timeout(20, read=0.1))
        while not mock.stats.disconnects:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert mock.stats.disconnects == 1
        assert mock.stats.in_flight == 0


@pytest.mark.parametrize("name", STREAMS)
async def test_a_malformed_event_stands_among_good_ones(name):
    path, body = STREAMS[name]
    async with mock_and_client(script=[Failure.malformed_event(after=1, reply=Reply("a b"))]) as (
        _,
        client,
    ):
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
        async with mock_and_client(failure=Failure.server_error(), failure_rate=0.3, seed=5) as (
            _,
            client,
        ):
            return [(await client.post(CHAT, json=BODY)).status_code for _ in range(40)]

    first = await run()
    assert first == await run()
    assert 3 < first.count(500) < 25


async def test_failures_and_raw_answers_also_reach_embeddings_and_unknown_paths():
    async with mock_and_client() as (mock, client):
        mock.script(
            Failure.rate_limit(), "kept for a chat", Raw(b"hello", content_type="text/plain")
        )
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
