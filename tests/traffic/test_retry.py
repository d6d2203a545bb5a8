"""Retries: what is sent again, when, and what the error tells."""

from __future__ import annotations

import asyncio
import pickle
import time
from email.utils import formatdate

import pytest
from llmcurl import (
    AsyncClient,
    ConnectError,
    Observer,
    OpenAI,
    OverloadedError,
    RateLimit,
    RateLimitError,
    RemoteProtocolError,
    Retry,
    RetryBudget,
    ServerError,
)
from llmcurl.testing import Failure, Raw
from llmcurl.traffic import retry_after_of

QUICK = Retry(3, backoff=0.01)
PLAIN = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
NO_PORT = "http://127.0.0.1:1/v1"


@pytest.fixture
async def llm(mock_llm):
    async with OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", retry=QUICK) as llm:
        yield llm


@pytest.fixture
async def http(mock_llm):
    async with AsyncClient(base_url=mock_llm.openai_url, retry=QUICK) as client:
        yield client


class Told(Observer):
    """Writes down what it is told."""

    def __init__(self):
        self.events = []
        self.calls = []

    def started(self, call):
        self.events.append("started")
        self.calls.append(call)

    def attempt_started(self, call, attempt):
        self.events.append(f"attempt {attempt.number}")

    def opened(self, call, attempt):
        self.events.append("opened")
        assert attempt.response.status_code == 200

    def attempt_ended(self, call, attempt, error):
        self.events.append((attempt.status, attempt.safety, type(error).__name__))

    def finished(self, call, error):
        self.events.append("finished")


# What is tried again ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_answered_with_a_status_that_passes(llm, mock_llm, status):
    mock_llm.script(Failure.server_error(status), "fine")
    assert (await llm.chat("x")).text == "fine"
    assert mock_llm.stats.requests == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
async def test_answered_for_good(llm, mock_llm, status):
    mock_llm.script(Failure.server_error(status), "not asked for")
    with pytest.raises(Exception) as caught:
        await llm.chat("x")
    assert [a.safety for a in caught.value.attempts] == [
        "answered"
    ] and mock_llm.stats.requests == 1


async def test_the_last_error_has_the_history(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(0.01), Failure.server_error(), Failure.overloaded(503))
    with pytest.raises(OverloadedError) as caught:
        await llm.chat("x")
    first, second, third = caught.value.attempts
    assert (first.error, first.status, first.retry_after) == ("RateLimitError", 429, 0.01)
    assert (second.error, second.status) == ("ServerError", 500) and "500" in second.message
    assert third.status == 503 and third.retry_in is None and first.retry_in >= 0.01
    assert 0 <= first.started <= first.ended < second.started < third.ended
    again = pickle.loads(pickle.dumps(caught.value))
    assert [a.status for a in again.attempts] == [429, 500, 503]


async def test_never_sent():
    async with OpenAI(base_url=NO_PORT, api_key="k", model="m", retry=QUICK) as llm:
        with pytest.raises(ConnectError) as caught:
            await llm.chat("x")
    assert [a.safety for a in caught.value.attempts] == ["never_sent"] * 3


@pytest.mark.parametrize("failure", [Failure.cut(0), Failure.reset(0), Failure.cut(2)], ids=str)
async def test_a_post_that_was_cut_is_not_sent_again(llm, mock_llm, failure):
    mock_llm.script(failure, "not asked for")
    with pytest.raises(Exception) as caught:
        await llm.chat("x")
    assert [a.safety for a in caught.value.attempts] == ["maybe_sent"]
    assert mock_llm.stats.requests == 1
    assert (await llm.chat("x")).text == "not asked for"  # the script was not used up


async def test_unless_the_caller_says_so(llm, mock_llm):
    mock_llm.script(Failure.cut(0), "again")
    retry = Retry(2, backoff=0.01, maybe_sent=True)
    assert (await llm.chat("x", retry=retry)).text == "again" and mock_llm.stats.requests == 2


async def test_or_a_key_goes_with_it_minted_once(llm, mock_llm):
    mock_llm.script(Failure.cut(0), Failure.cut(0), "again", "other")
    assert (await llm.chat("x", idempotency_key=True)).text == "again"
    await llm.chat("x", idempotency_key="mine")
    keys = [request.headers.get("idempotency-key") for request in mock_llm.requests]
    assert len(keys[0]) == 36 and keys[0] == keys[1] == keys[2] and keys[3] == "mine"


async def test_idempotent_methods_are_sent_again(http, mock_llm):
    mock_llm.script(Raw(b"one", status=503), Raw(b"two"))
    answer = await http.put("/things/1", content=b"x")
    assert answer.text == "two"


async def test_plain_http(http, mock_llm):
    mock_llm.script(Failure.rate_limit(0.01), "fine")
    answer = await http.post("/chat/completions", json=PLAIN)
    assert answer.status_code == 200 and mock_llm.stats.requests == 2
    assert [attempt.status for attempt in answer.attempts] == [429, 200]


async def test_plain_http_hands_out_the_last_bad_answer(http, mock_llm):
    mock_llm.script(*[Failure.server_error()] * 4)
    answer = await http.post("/chat/completions", json=PLAIN)
    assert answer.status_code == 500 and mock_llm.stats.requests == 3
    assert (await http.post("/chat/completions", json=PLAIN, retry=None)).status_code == 500
    assert mock_llm.stats.requests == 4


async def test_a_post_of_plain_http_that_was_cut(http, mock_llm):
    mock_llm.script(Failure.cut(0), Failure.cut(0), "fine")
    with pytest.raises(RemoteProtocolError) as caught:
        await http.post("/chat/completions", json=PLAIN)
    assert len(caught.value.attempts) == 1 and mock_llm.stats.requests == 1
    headers = {"Idempotency-Key": "of the caller"}
    assert (await http.post("/chat/completions", json=PLAIN, headers=headers)).status_code == 200
    assert mock_llm.stats.requests == 3


async def test_plain_http_streamed(http, mock_llm):
    mock_llm.script(Failure.server_error(), Raw(chunks=(b"a", b"b"), content_type="text/plain"))
    async with http.stream("POST", "/x", content=b"x") as answer:
        assert await answer.aread() == b"ab"
    assert mock_llm.stats.requests == 2


async def test_a_body_that_cannot_be_sent_twice(http, mock_llm):
    async def body():
        yield b"once"

    mock_llm.script(Raw(b"busy", status=503), Raw(b"not asked for"))
    answer = await http.post("/x", content=body())
    assert answer.status_code == 503 and mock_llm.stats.requests == 1


async def test_a_redirect_was_an_answer(mock_llm):
    """What comes after it may not be called never sent."""
    mock_llm.script(Raw(status=307, headers=(("location", NO_PORT),)))
    async with AsyncClient(
        base_url=mock_llm.openai_url, retry=QUICK, follow_redirects=True
    ) as http:
        with pytest.raises(ConnectError) as caught:
            await http.post("/x", content=b"x")
    assert [a.safety for a in caught.value.attempts] == ["maybe_sent"]


async def test_before_the_first_token_of_a_stream(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(0.01), Failure.error_event(0), "fine at last")
    async with llm.stream("x") as stream:
        assert (await stream.reply()).text == "fine at last"
    assert [a.status for a in stream.call.attempts] == [429, 200, 200]


@pytest.mark.parametrize("hooks", [False, True])
async def test_the_settings_of_client_and_llm_do_not_multiply(mock_llm, hooks):
    seen = []

    async def hook(request):
        seen.append(request.method)

    mock_llm.configure(failure=Failure.server_error())
    options = {"event_hooks": {"request": [hook]}} if hooks else {}
    async with AsyncClient(retry=QUICK, **options) as client:
        for own, expected in (({}, 3), ({"retry": Retry(2, backoff=0.01)}, 2)):
            llm = OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", client=client, **own)
            mock_llm.reset()
            with pytest.raises(ServerError):
                await llm.chat("x")
            with pytest.raises(ServerError):
                async with llm.stream("x"):
                    pass
            assert mock_llm.stats.requests == 2 * expected
    assert len(seen) == (10 if hooks else 0)


async def test_embeddings(llm, mock_llm):
    mock_llm.script(Failure.server_error())
    assert len(await llm.embed(["a", "b"])) == 2


async def test_a_quota_that_is_used_up_is_not_waited_for(llm, mock_llm):
    mock_llm.script(Failure(status=429, code="insufficient_quota", retry_after=0.01))
    with pytest.raises(RateLimitError):
        await llm.chat("x")
    assert mock_llm.stats.requests == 1


@pytest.mark.parametrize(("said", "status", "requests"), [("false", 500, 1), ("true", 400, 2)])
async def test_the_server_decides(llm, mock_llm, said, status, requests):
    mock_llm.script(Failure.server_error(status, headers=(("x-should-retry", said),)), "fine")
    try:
        await llm.chat("x")
    except ServerError:
        assert said == "false"
    assert mock_llm.stats.requests == requests


# How long it waits --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        (
            {
                "retry-after": formatdate(1000010, usegmt=True),
                "date": formatdate(1000000, usegmt=True),
            },
            10.0,
        ),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after-ms": "x"}, None),
        ({"retry-after-ms": "nan", "retry-after": "2"}, 2.0),
        ({"retry-after": formatdate(0, usegmt=True), "date": "today"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_of(headers) == seconds


@pytest.mark.parametrize("said", ["nan", "inf", "1e400"])
async def test_a_retry_after_without_an_end_is_none(mock_llm, said):
    limit = RateLimit()
    mock_llm.script(Failure.rate_limit(None, headers=(("Retry-After", said),)), "fine", "fine")
    async with OpenAI(
        model="m",
        api_key="k",
        base_url=mock_llm.openai_url,
        retry=Retry(2, backoff=0.01),
        limit=limit,
    ) as client:
        reply = await asyncio.wait_for(client.chat("x"), 30)
        assert reply.attempts[0].retry_after is None
        await asyncio.wait_for(client.chat("the limit is not held back either"), 30)


async def test_retry_after_is_kept_to(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(None, headers=(("retry-after-ms", "300"),)), "fine")
    await llm.chat("x")
    first, second = mock_llm.requests
    assert second.at - first.at >= 0.29


async def test_a_wait_beyond_the_deadline_is_not_begun(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(3600), "not asked for")
    begun = time.monotonic()
    with pytest.raises(RateLimitError) as caught:
        await llm.chat("x", deadline=60)
    assert time.monotonic() - begun < 30 and caught.value.retry_after == 3600
    assert mock_llm.stats.requests == 1


async def test_a_wait_that_is_too_long(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(7), "not asked for")
    with pytest.raises(RateLimitError):
        await llm.chat("x", retry=Retry(max_retry_after=5))


async def test_budget(mock_llm):
    """When all fails, retries stay a part of the calls."""
    mock_llm.configure(failure=Failure.server_error())
    budget = RetryBudget(0.2, per_second=0.0)
    retry = Retry(10, backoff=0.0, budget=budget)
    async with OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", retry=retry) as llm:
        outcomes = await asyncio.gather(
            *(llm.chat("x") for _ in range(100)), return_exceptions=True
        )
    assert all(isinstance(outcome, ServerError) for outcome in outcomes)
    assert 100 < mock_llm.stats.requests <= 120
    assert budget.balance < 1.0


def test_budget_fills_again():
    budget = RetryBudget(0.5, per_second=1000.0, ttl=0.01)
    assert sum(budget.withdraw() for _ in range(1000)) >= 10
    time.sleep(0.02)
    assert budget.withdraw()


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"backoff": -1},
        {"backoff": float("nan")},
        {"max_backoff": float("inf")},
        {"max_retry_after": -1},
        {"statuses": 429},
        {"statuses": "429"},
        {"jitter": 2},
        {"budget": 3},
    ],  # fmt: skip
)
def test_refused(wrong):
    with pytest.raises((TypeError, ValueError)):
        Retry(**wrong)


def test_a_budget_refuses_what_is_no_number():
    with pytest.raises(ValueError, match=r"RetryBudget\.ratio must be finite"):
        RetryBudget(float("nan"))
    with pytest.raises(TypeError, match=r"RetryBudget\.per_second must be a number"):
        RetryBudget(per_second="10")


async def test_more_attempts_than_a_float_doubles(mock_llm):
    mock_llm.configure(failure=Failure.server_error(503), failure_rate=1.0)
    endless = Retry(1100, backoff=1e-6, max_backoff=1e-6, budget=None)
    async with OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m", retry=endless) as llm:
        with pytest.raises(OverloadedError) as caught:
            await llm.chat("x")
    assert len(caught.value.attempts) == 1100


async def test_refused_by_clients():
    with pytest.raises(TypeError, match="retry must be a Retry"):
        AsyncClient(retry=3)
    with pytest.raises(TypeError, match="limit must be a RateLimit"):
        OpenAI(api_key="k", limit=3)
    async with OpenAI(api_key="k", model="m") as llm:
        with pytest.raises(TypeError, match="idempotency_key"):
            await llm.chat("x", idempotency_key=3)
        with pytest.raises(TypeError, match="priority"):
            await llm.chat("x", retry=None, priority="high")


# Who is told ---------------------------------------------------------------------------------


async def test_observers(mock_llm):
    told = Told()
    mock_llm.script(Failure.server_error(), "fine")
    async with OpenAI(
        base_url=mock_llm.openai_url, api_key="sk-secret", model="m", retry=QUICK, observers=[told]
    ) as llm:
        await llm.chat("x")
        async with llm.stream("x") as stream:
            await stream.reply()
    assert told.events == [
        "started", "attempt 1", (500, "answered", "ServerError"), "attempt 2", (200, "", "NoneType"), "finished",
        "started", "attempt 1", "opened", (200, "", "NoneType"), "finished",
    ]  # fmt: skip
    assert told.calls[1].result.text and told.calls[1].usage.output_tokens
    assert told.calls[0].result.text == "fine" and told.calls[0].usage.output_tokens == 1
    assert told.calls[0].kind == "chat" and told.calls[1].kind == "stream"
    assert "sk-secret" not in repr(told.calls)


@pytest.mark.leaves_traces  # the log record has the traceback
async def test_an_observers_mistake_is_logged_only(mock_llm, caplog):
    class Wrong(Observer):
        def finished(self, call, error):
            raise RuntimeError("an observer's mistake")

    async with OpenAI(
        base_url=mock_llm.openai_url, api_key="k", model="m", observers=[Wrong()]
    ) as llm:
        await llm.chat("x")
    assert "an observer's mistake" in caplog.text


async def test_observers_of_plain_http_and_cancelled_calls(mock_llm):
    told = Told()
    mock_llm.script(Failure.black_hole())
    async with AsyncClient(base_url=mock_llm.openai_url, observers=[told]) as http:
        call = http.post("/chat/completions", json=PLAIN)
        while mock_llm.stats.requests < 1:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while "finished" not in told.events:
            await asyncio.sleep(0)
    assert told.events == ["started", "attempt 1", (None, "", "CancelledError"), "finished"]
