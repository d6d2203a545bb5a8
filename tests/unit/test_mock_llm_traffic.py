"""MockLLM under load: enforced limits and their headers, workers, uneven latencies, attempts, and silence."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from llmcurl.testing import Failure, MockLLM, Reply
from llmcurl.testing._traffic import Bucket, duration

from .test_mock_llm import BODY, CHAT, REQUESTS, STREAMS, error_of

HOUR = 3600.0


@contextlib.asynccontextmanager
async def mock_and_client(**settings) -> AsyncIterator[tuple[MockLLM, httpx.AsyncClient]]:
    async with MockLLM(**settings) as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False, timeout=20) as client:
            yield mock, client


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
async def test_more_requests_than_rpm_get_429_and_the_time_to_wait(name):
    path, body = REQUESTS[name]
    async with mock_and_client(rpm=3, rate_window=HOUR) as (mock, client):
        answers = [await client.post(path, json=body) for _ in range(5)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
        wait = float(answers[3].headers["retry-after"])
        assert HOUR / 3 - 30 < wait <= HOUR / 3
        assert "requests per min" in error_of(name, answers[3].json())
        assert mock.stats.rate_limited == 2
        assert (await client.get("/v1/models")).status_code == 200, "a look-up costs nothing"


async def test_a_refused_request_takes_nothing_from_the_script_and_each_key_has_its_own_budget():
    async with mock_and_client(rpm=1, rate_window=HOUR, script=["one", "two"]) as (mock, client):

        async def ask(key: str) -> httpx.Response:
            return await client.post(CHAT, json=BODY, headers={"Authorization": f"Bearer {key}"})

        assert (await ask("a")).status_code == 200
        assert (await ask("a")).status_code == 429
        assert mock.scripted == 1
        answer = await ask("b")
        assert answer.json()["choices"][0]["message"]["content"] == "two"
        mock.reset()
        assert (await ask("a")).status_code == 200, "a reset fills the budgets"


async def test_who_waits_as_long_as_told_gets_through():
    async with mock_and_client(rpm=20, rate_window=2.0, rate_burst=0.05) as (mock, client):
        for _ in range(4):
            assert (await client.post(CHAT, json=BODY)).status_code == 200
            refused = await client.post(CHAT, json=BODY)
            if refused.status_code == 429:  # a slow machine may have waited long enough by itself
                await asyncio.sleep(float(refused.headers["retry-after"]))
        assert mock.stats.rate_limited <= 4


async def test_tokens_are_counted_with_the_answer_and_refused_when_used_up():
    reply = Reply("x", input_tokens=30, output_tokens=60)
    async with mock_and_client(tpm=100, rate_window=HOUR, reply=reply) as (mock, client):
        first = await client.post(CHAT, json=BODY)
        assert first.headers["x-ratelimit-remaining-tokens"] == "10"
        assert first.headers["x-ratelimit-limit-tokens"] == "100"
        assert "x-ratelimit-limit-requests" not in first.headers
        second = await client.post(CHAT, json=BODY)
        assert second.status_code == 429
        assert "tokens per min" in second.json()["error"]["message"]
        assert mock.stats.tokens == 90


async def test_openai_and_anthropic_say_what_is_left_in_their_headers():
    async with mock_and_client(rpm=10, tpm=100_000, rate_window=HOUR) as (_, client):
        path, body = STREAMS["openai"]
        headers = (await client.post(path, json=body)).headers
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-remaining-requests"] == "9"
        assert re.fullmatch(r"(5m5\d(\.\d+)?|6m0)s", headers["x-ratelimit-reset-requests"])
        path, body = REQUESTS["anthropic"]
        headers = (await client.post(path, json=body)).headers
        assert headers["anthropic-ratelimit-requests-limit"] == "10"
        assert headers["anthropic-ratelimit-requests-remaining"] == "8"
        full = datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])
        assert 600 < (full - datetime.now(UTC)).total_seconds() <= 721
        path, body = REQUESTS["gemini"]
        assert not any("ratelimit" in h for h in (await client.post(path, json=body)).headers)


async def test_the_headers_of_one_answer_are_not_those_of_the_next():
    async with mock_and_client(rpm=10, rate_window=HOUR, echo=True) as (_, client):
        left = []
        for text in ("one", "two", "two"):
            body = {**BODY, "messages": [{"role": "user", "content": text}]}
            answer = await client.post(CHAT, json=body, headers={"Connection": "close"})
            assert answer.json()["choices"][0]["message"]["content"] == text
            left += answer.headers.get_list("x-ratelimit-remaining-requests")
        assert left == ["9", "8", "7"]


def test_a_bucket_refills_at_its_rate_and_no_further():
    bucket = Bucket(10.0, 2.0, 0.0)
    bucket.take(0.0, 10.0)
    assert bucket.wait(0.0, 1.0) == pytest.approx(0.5)
    assert bucket.wait(0.5, 1.0) == 0.0
    assert bucket.reset_in(1.0) == pytest.approx(4.0)
    assert bucket.level(1000.0) == 10.0
    assert bucket.wait(1000.0, 99.0) == 0.0, "more than the bucket holds passes when it is full"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.12, "120ms"), (1.5, "1.5s"), (60.0, "1m0s"), (3725.0, "1h2m5s")],
)
def test_times_are_written_as_openai_writes_them(seconds, text):
    assert duration(seconds) == text


# -- capacity ----------------------------------------------------------------------------------------------------------


async def test_more_than_max_concurrent_at_once_get_429():
    async def held(request):
        while mock.stats.rate_limited < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return "x"

    async with mock_and_client(max_concurrent=2, reply=held) as (mock, client):
        answers = await asyncio.gather(*(client.post(CHAT, json=BODY) for _ in range(5)))
        assert sorted(a.status_code for a in answers) == [200, 200, 429, 429, 429]
        assert mock.stats.rate_limited == 3
        assert "retry-after" not in next(a for a in answers if a.status_code == 429).headers


async def test_requests_wait_for_a_worker_in_their_order():
    holes = [Failure.black_hole()] * 2
    async with mock_and_client(workers=2, latency=0.1, script=holes) as (mock, client):
        stuck = [asyncio.ensure_future(client.post(CHAT, json=BODY)) for _ in holes]
        while mock.stats.requests < 2:
            await asyncio.sleep(0.005)
        calls = [asyncio.ensure_future(client.post(CHAT, json=BODY)) for _ in range(3)]
        while mock.stats.waiting < 3:
            await asyncio.sleep(0.005)
        begun = time.monotonic()
        stuck[0].cancel()  # one worker for all three
        answers = await asyncio.gather(*calls)
        assert all(a.status_code == 200 for a in answers)
        assert time.monotonic() - begun > 0.27
        assert mock.stats.waiting == 0
        stuck[1].cancel()


async def test_a_client_that_leaves_frees_its_worker_and_its_place_in_the_queue():
    async with MockLLM(workers=1, script=[Failure.black_hole()]) as mock:
        async with httpx.AsyncClient(base_url=mock.base_url, trust_env=False) as client:
            stuck = asyncio.ensure_future(client.post(CHAT, json=BODY))
            while mock.stats.requests < 1:
                await asyncio.sleep(0.005)
            gone = asyncio.ensure_future(client.post(CHAT, json=BODY))
            while mock.stats.waiting < 1:
                await asyncio.sleep(0.005)
            gone.cancel()
            while mock.stats.waiting:
                await asyncio.sleep(0.005)
            last = asyncio.ensure_future(client.post(CHAT, json=BODY))
            while mock.stats.waiting < 1:
                await asyncio.sleep(0.005)
            stuck.cancel()
            assert (await last).status_code == 200


# -- times -------------------------------------------------------------------------------------------------------------


async def test_latencies_have_a_tail_and_the_same_one_for_the_same_seed():
    settings = {"latency": 0.02, "jitter": 0.5, "slow_rate": 0.2, "slow_factor": 6.0, "seed": 4}

    async def times() -> list[float]:
        async with MockLLM(**settings) as mock:
            return [mock._traffic.stretch() for _ in range(2000)]

    drawn = await times()
    assert drawn == await times()
    drawn.sort()
    assert 0.9 < drawn[1000] < 1.6, "the median stays near the set latency"
    assert 250 < sum(1 for factor in drawn if factor > 3.0) < 650
    async with mock_and_client(latency=0.02, slow_rate=1.0, slow_factor=10.0) as (_, client):
        begun = time.monotonic()
        await client.post(CHAT, json=BODY)
        assert time.monotonic() - begun >= 0.19


async def test_a_slow_stream_is_slow_to_its_first_event_only():
    reply = Reply(tokens=("a", "b", "c"), ttft=0.05, token_interval=0.01)
    path, body = STREAMS["openai"]
    async with mock_and_client(reply=reply, slow_rate=1.0, slow_factor=4.0) as (_, client):
        begun = time.monotonic()
        async with client.stream("POST", path, json=body) as answer:
            assert time.monotonic() - begun < 20
            async for _chunk in answer.aiter_raw():
                break
        assert time.monotonic() - begun >= 0.19


# -- attempts ----------------------------------------------------------------------------------------------------------


async def test_attempts_are_counted_by_the_named_header_and_the_first_ones_can_fail():
    settings = {"failure": Failure.overloaded(503), "fail_first": 2}
    async with mock_and_client(**settings) as (mock, client):

        async def ask(ident: str) -> int:
            answer = await client.post(CHAT, json=BODY, headers={"Idempotency-Key": ident})
            return answer.status_code

        assert [await ask("a") for _ in range(3)] == [503, 503, 200]
        assert [await ask("b") for _ in range(2)] == [503, 503]
        assert (await client.post(CHAT, json=BODY)).status_code == 200, "without the header: none"
        assert mock.attempts == {"a": 3, "b": 2}
        mock.configure(count_by="X-Request-Id")
        await client.post(CHAT, json=BODY, headers={"x-request-id": "c"})
        assert mock.attempts == {"a": 3, "b": 2, "c": 1}
        mock.reset()
        assert mock.attempts == {}


def test_a_spawned_mock_tells_attempts_and_enforces_limits():
    with MockLLM.spawn(rpm=2, rate_window=HOUR) as mock:
        headers = {"idempotency-key": "k"}
        with httpx.Client(base_url=mock.base_url, trust_env=False) as client:
            seen = [client.post(CHAT, json=BODY, headers=headers).status_code for _ in range(3)]
        assert seen == [200, 200, 429]
        assert mock.attempts == {"k": 3}
        assert mock.stats.rate_limited == 1


# -- silence -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [REQUESTS, STREAMS], ids=["plain", "stream"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_is_received_and_the_connection_closed_without_a_byte(name, table):
    path, body = table[name]
    async with mock_and_client(failure=Failure.close()) as (mock, client):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            await client.post(path, json=body)
        assert mock.stats.requests == 1


@pytest.mark.parametrize("table", [REQUESTS, STREAMS], ids=["plain", "stream"])
async def test_a_black_hole_takes_a_request_and_says_nothing(table):
    path, body = table["openai"]
    async with mock_and_client(failure=Failure.black_hole()) as (mock, client):
        call = asyncio.ensure_future(client.post(path, json=body))
        while mock.stats.requests < 1:
            await asyncio.sleep(0.005)
        done, _ = await asyncio.wait([call], timeout=0.1)
        assert not done
        assert mock.stats.in_flight == 1
        call.cancel()
        while mock.stats.disconnects < 1:
            await asyncio.sleep(0.005)


BEATS = {
    "openai": b": keep-alive\n\n",
    "anthropic": b'event: ping\ndata: {"type": "ping"}\n\n',
    "gemini": b": keep-alive\r\n\r\n",
    "ollama": b"\n",
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_without_a_first_token_can_still_give_signs_of_life(name):
    path, body = STREAMS[name]
    async with mock_and_client(failure=Failure.no_first_token(keepalive=0.01)) as (_, client):
        async with client.stream("POST", path, json=body) as answer:
            assert answer.status_code == 200
            seen = b""
            async for chunk in answer.aiter_raw():
                seen += chunk
                if len(seen) >= 3 * len(BEATS[name]):
                    break
            assert seen.startswith(BEATS[name] * 3)


async def test_signs_of_life_follow_what_had_arrived():
    path, body = STREAMS["openai"]
    failure = Failure.stall(after=1, keepalive=0.01, reply=Reply(tokens=("a", "b")))
    async with mock_and_client(failure=failure) as (_, client):
        async with client.stream("POST", path, json=body) as answer:
            seen = b""
            async for chunk in answer.aiter_raw():
                seen += chunk
                if seen.count(b": keep-alive") >= 2:
                    break
        assert b'"content":"a"' in seen and b'"content":"b"' not in seen


@pytest.mark.parametrize(
    "bad",
    [
        {"rpm": 0},
        {"workers": -1},
        {"rate_window": 0},
        {"jitter": -1},
        {"rpm": 5, "rate_burst": 0.1},
    ],
    ids=repr,
)
def test_wrong_settings_fail_at_once(bad):
    with pytest.raises(ValueError):
        MockLLM(**bad)
