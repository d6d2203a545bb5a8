"""Hooks, counters and logging: what is told, and that no secret is."""

from __future__ import annotations

import asyncio
import logging

import llmcurl
import pytest
from llm.common import KEY, PROVIDERS, make
from llmcurl.testing import Failure, Reply, ToolCall
from servers.chaos import Chaos


@pytest.fixture(params=PROVIDERS)
def provider(request) -> str:
    return request.param


async def test_hooks_are_called_in_the_order_of_things(provider, mock_llm) -> None:
    seen: list[str] = []
    hooks = llmcurl.Hooks(
        on_start=lambda call: seen.append(f"start {call.kind}"),
        on_attempt=lambda call, attempt: seen.append(f"attempt {attempt.number}"),
        on_retry=lambda call, attempt, error: seen.append(
            f"retry {attempt.status} {attempt.retry_in is not None}"
        ),
        on_first_token=lambda call, attempt: seen.append("first token"),
        on_end=lambda call, error: seen.append(
            f"end {call.result.text if call.result else None} {error}"
        ),
    )
    mock_llm.script(Failure.server_error(503), "well", "done")
    async with make(
        provider, mock_llm, observers=[hooks], retry=llmcurl.Retry(2, backoff=0.01)
    ) as llm:
        assert (await llm.chat("x")).text == "well"
        assert seen == ["start chat", "attempt 1", "retry 503 True", "attempt 2", "end well None"]
        seen.clear()
        async with llm.stream("x") as stream:
            assert seen[-1] == "first token"
            await stream.reply()
        assert seen == ["start stream", "attempt 1", "first token", "end done None"]


async def test_waiting_for_a_limit_is_told(mock_llm) -> None:
    waited: list[float] = []
    hooks = llmcurl.Hooks(on_limit_wait=lambda call, attempt: waited.append(attempt.waited))
    mock_llm.configure(latency=0.1)
    limit = llmcurl.RateLimit(concurrency=1)
    totals = llmcurl.Totals()
    async with make("openai", mock_llm, observers=[hooks, totals], limit=limit) as llm:
        await asyncio.gather(llm.chat("a"), llm.chat("b"))
    assert len(waited) == 1 and waited[0] >= 0.05
    assert totals.stats()["limit_waits"] == 1 and totals.stats()[
        "limit_wait_seconds"
    ] == pytest.approx(waited[0])


async def test_plain_calls_have_hooks_too(chaos: Chaos) -> None:
    ends: list[tuple] = []
    hooks = llmcurl.Hooks(
        on_end=lambda call, error: ends.append((call.kind, call.attempts[-1].status, type(error)))
    )
    async with llmcurl.AsyncClient(observers=[hooks]) as client:
        await client.get(chaos.url("/ok?status=404"))
        call = client.get(chaos.url("/stall"))
        await chaos.wait_for_request("/stall")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(llmcurl.TimeoutException):
            await client.get(chaos.url("/stall"), timeout=0.05)
    assert ends[0] == ("http", 404, type(None))
    assert ends[1][2] is asyncio.CancelledError and issubclass(ends[2][2], llmcurl.TimeoutException)


def test_what_cannot_be_called_is_refused_at_once() -> None:
    async def later(*_: object) -> None: ...

    with pytest.raises(TypeError, match="on_retry must be a function"):
        llmcurl.Hooks(on_retry=1)
    with pytest.raises(TypeError, match="plain function"):
        llmcurl.Hooks(on_end=later)
    with pytest.raises(TypeError, match="observers must be"):
        llmcurl.AsyncClient(observers=[print])


@pytest.mark.leaves_traces  # the log records have tracebacks
async def test_a_hook_that_fails_changes_nothing(mock_llm, caplog) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mine")

    mock_llm.script("fine")
    async with make(
        "openai", mock_llm, observers=[llmcurl.Hooks(on_start=fail, on_end=fail)]
    ) as llm:
        assert (await llm.chat("x")).text == "fine"
    assert [record.name for record in caplog.records] == ["llmcurl.traffic"] * 2


@pytest.mark.leaves_traces  # the log records have tracebacks
async def test_an_observer_without_numbers_leaves_those_of_others(mock_llm, caplog) -> None:
    class Failing(llmcurl.Observer):
        def stats(self) -> dict[str, float]:
            raise RuntimeError("mine")

    async with make("openai", mock_llm, observers=[Failing(), llmcurl.Totals()]) as llm:
        await llm.chat("x")
        assert llm.stats()["calls_ok"] == 1
    assert [record.name for record in caplog.records] == ["llmcurl.traffic"]


async def test_totals_count_outcomes_retries_and_tokens(provider, mock_llm) -> None:
    totals = llmcurl.Totals()
    mock_llm.script("one two", Failure.server_error(503), "three", Failure.unauthorized())
    async with make(provider, mock_llm, observers=[totals]) as llm:
        first = await llm.chat("x")
        second = await llm.chat("x", retry=llmcurl.Retry(2, backoff=0.01))
        with pytest.raises(llmcurl.AuthenticationError):
            await llm.chat("x")
        stats = llm.stats()
    assert stats["calls"] == 3 and stats["calls_ok"] == 2 and stats["calls_client_error"] == 1
    assert stats["attempts"] == 4 and stats["retries"] == 1
    for name in ("input_tokens", "output_tokens"):
        assert stats[name] == getattr(first.usage, name) + getattr(second.usage, name)
    # the HTTP side of the same
    assert (stats["ok"], stats["client_errors"], stats["server_errors"]) == (2, 1, 1)
    assert stats["started"] == 4 and stats["reused"] == 3 and stats["connections_opened"] == 1
    assert stats["bytes_sent"] > 0 and stats["bytes_received"] > 0


async def test_a_clients_numbers_stay_when_it_is_closed(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient()
    for status in (200, 204, 404, 500):
        await client.get(chaos.url(f"/ok?status={status}"))
    await client.post(chaos.url("/echo"), content=b"x" * 1000)
    with pytest.raises(llmcurl.ReadTimeout):
        await client.get(chaos.url("/stall"), timeout=llmcurl.Timeout(30, read=0.05))
    cancelled, abandoned = client.get(chaos.url("/stall")), client.get(chaos.url("/stall"))
    await chaos.wait_for_request("/stall", 3)
    cancelled.cancel()
    await client.aclose()
    with pytest.raises(llmcurl.ClientClosed):
        await abandoned
    stats = client.stats()
    expected = {
        "ok": 3,
        "client_errors": 1,
        "server_errors": 1,
        "timeouts": 1,
        "cancelled": 2,
        "failed": 0,
    }
    assert {name: stats[name] for name in expected} == expected
    assert stats["started"] == 8 and stats["bytes_sent"] == 1000 and stats["bytes_received"] >= 1000
    assert "active" not in stats and stats["connections_opened"] >= 3


async def test_calls_are_logged_without_secrets(provider, mock_llm, caplog) -> None:
    caplog.set_level(logging.DEBUG, "llmcurl")
    mock_llm.script(Failure.server_error(503), "the answer", "streamed", Failure.unauthorized())
    async with make(provider, mock_llm) as llm:
        await llm.chat("the question", retry=llmcurl.Retry(2, backoff=0.01))
        async with llm.stream("the question") as stream:
            await stream.reply()
        with pytest.raises(llmcurl.AuthenticationError):
            await llm.chat("the question")
    records = [record for record in caplog.records if record.name == "llmcurl.calls"]
    levels = [record.levelname for record in records]
    assert levels == ["INFO", "DEBUG", "DEBUG", "DEBUG"]
    retry, chat, streamed, failed = (record.getMessage() for record in records)
    assert "attempt 1" in retry and "again in" in retry
    assert (
        ": 200 in " in chat and "model mock-1" in chat and "attempts 2" in chat and "tokens" in chat
    )
    assert "first token after" in streamed and "401 AuthenticationError" in failed
    assert records[1].call["outcome"] == "ok" and records[3].call["outcome"] == "client_error"
    for record in records:
        text = record.getMessage() + repr(record.__dict__)
        for secret in (KEY, "the question", "the answer"):
            assert secret not in text


async def test_nothing_is_logged_and_nothing_added_when_logging_is_off(chaos: Chaos) -> None:
    logging.getLogger("llmcurl.calls").setLevel(logging.NOTSET)
    async with llmcurl.AsyncClient() as client:
        assert client._control is None and client._direct


async def test_observers_are_told_of_tools(mock_llm) -> None:
    told: list[tuple] = []

    class Tools(llmcurl.Observer):
        def tool_started(self, provider, tool):
            told.append(("begin", provider, tool.name))
            return lambda text, error: told.append(("end", tool.name, text, type(error)))

    async def weather(city: str) -> str:
        """The weather."""
        return f"rain in {city}"

    async def broken() -> str:
        """Fails."""
        raise RuntimeError("no")

    mock_llm.script(
        Reply(tool_calls=(ToolCall("weather", {"city": "Rome"}), ToolCall("broken", {}))), "wet"
    )
    async with make("openai", mock_llm, observers=[Tools()]) as llm:
        run = await llm.run("?", tools=[weather, broken])
    assert run.text == "wet"
    assert sorted(told) == [
        ("begin", "openai", "broken"),
        ("begin", "openai", "weather"),
        ("end", "broken", "", RuntimeError),
        ("end", "weather", "rain in Rome", type(None)),
    ]
