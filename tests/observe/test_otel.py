"""Spans and metrics as OpenTelemetry's conventions want them, seen by the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import llmcurl
import pytest
from llm.common import KEY, PROVIDERS, make
from llmcurl.testing import Failure, Reply, ToolCall
from servers.chaos import Chaos

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from llmcurl.otel import OpenTelemetry  # noqa: E402
from opentelemetry.sdk.metrics import MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

NAMES = {"gemini": "gcp.gemini"}


class Telemetry:
    """The SDK's end, and the observer at ours."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    @property
    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = []
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found += [(metric.unit, point) for point in metric.data.data_points]
        return found


@pytest.fixture
def telemetry():
    made = Telemetry()
    yield made
    made.meters.shutdown()


@pytest.fixture(params=PROVIDERS)
def provider(request) -> str:
    return request.param


def operation_of(provider: str) -> str:
    return "generate_content" if provider == "gemini" else "chat"


async def test_chat(provider, mock_llm, telemetry) -> None:
    mock_llm.script("the answer is long")
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        reply = await llm.chat("a question", temperature=0.5, max_tokens=99, stop=["END"])
    (span,) = telemetry.spans
    operation = operation_of(provider)
    assert (
        span.name == f"{operation} mock-1"
        and span.kind is SpanKind.CLIENT
        and span.status.status_code is StatusCode.UNSET
    )
    found = dict(span.attributes)
    host, _, port = mock_llm.base_url.removeprefix("http://").partition(":")
    expected = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": NAMES.get(provider, provider),
        "gen_ai.request.model": "mock-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 99,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.response.model": reply.model,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": reply.usage.input_tokens,
        "gen_ai.usage.output_tokens": reply.usage.output_tokens,
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found.get("gen_ai.response.id", "") == reply.id
    assert "error.type" not in found and "gen_ai.request.stream" not in found
    text = repr(found)
    assert "question" not in text and "answer" not in text and KEY not in text

    ((unit, duration),) = telemetry.points("gen_ai.client.operation.duration")
    assert unit == "s" and duration.count == 1 and duration.sum > 0
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "server.address",
    } <= set(duration.attributes)
    usage = {
        point.attributes["gen_ai.token.type"]: (unit, point.sum)
        for unit, point in telemetry.points("gen_ai.client.token.usage")
    }
    assert usage == {
        "input": ("{token}", reply.usage.input_tokens),
        "output": ("{token}", reply.usage.output_tokens),
    }


async def test_stream(provider, mock_llm, telemetry) -> None:
    mock_llm.script("a streamed answer")
    mock_llm.configure(ttft=0.1)
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        async with llm.stream("x") as stream:
            assert not telemetry.spans
            reply = await stream.reply()
    (span,) = telemetry.spans
    found = span.attributes
    assert (
        span.name == f"{operation_of(provider)} mock-1" and found["gen_ai.request.stream"] is True
    )
    assert (
        0.09
        < found["gen_ai.response.time_to_first_chunk"]
        < (span.end_time - span.start_time) / 1e9
    )
    assert found["gen_ai.usage.output_tokens"] == reply.usage.output_tokens
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    ((unit, first),) = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert (
        unit == "s"
        and first.count == 1
        and first.sum == found["gen_ai.response.time_to_first_chunk"]
    )


@pytest.mark.parametrize("provider", ["openai", "gemini", "ollama"])
async def test_embeddings(provider, mock_llm, telemetry) -> None:
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        vectors = await llm.embed(["a", "b"])
    (span,) = telemetry.spans
    assert (
        span.name == "embeddings mock-1"
        and span.attributes["gen_ai.operation.name"] == "embeddings"
    )
    assert span.attributes["gen_ai.embeddings.dimension.count"] == vectors.dimensions
    assert span.attributes.get("gen_ai.usage.input_tokens") == vectors.usage.input_tokens
    ((_, duration),) = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["gen_ai.operation.name"] == "embeddings"


async def test_a_run_with_tools(provider, mock_llm, telemetry) -> None:
    tracer = telemetry.tracers.get_tracer("test")

    async def weather(city: str) -> str:
        """The weather."""
        with tracer.start_as_current_span("inside"):
            return f"rain in {city}"

    async def broken() -> str:
        """Fails."""
        raise LookupError("nothing there")

    mock_llm.script(
        Reply(tool_calls=(ToolCall("weather", {"city": "Rome"}), ToolCall("broken", {}))), "wet"
    )
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        with tracer.start_as_current_span("the user's"):
            await llm.run("?", tools=[weather, broken])
    spans = {span.name: span for span in telemetry.spans}
    chat = f"{operation_of(provider)} mock-1"
    assert sorted(span.name for span in telemetry.spans) == sorted(
        [chat, "execute_tool broken", "execute_tool weather", "inside", chat, "the user's"]
    )
    outer = spans["the user's"].context.span_id
    for span in telemetry.spans:
        if span.name == "inside":
            assert span.parent.span_id == spans["execute_tool weather"].context.span_id
        elif span.name != "the user's":
            assert span.parent.span_id == outer
    tool = spans["execute_tool weather"].attributes
    assert tool["gen_ai.operation.name"] == "execute_tool" and tool["gen_ai.tool.name"] == "weather"
    assert spans["execute_tool broken"].attributes["error.type"] == "LookupError"
    assert spans["execute_tool broken"].status.status_code is StatusCode.ERROR
    assert "Rome" not in repr([dict(span.attributes) for span in telemetry.spans])
    counts = {
        point.attributes["gen_ai.tool.name"]: point.count
        for _, point in telemetry.points("gen_ai.execute_tool.duration")
    }
    assert counts == {"weather": 1, "broken": 1}


async def test_an_error_and_the_retries_before_it(provider, mock_llm, telemetry) -> None:
    mock_llm.script(Failure.server_error(503), Failure.server_error(503))
    retry = llmcurl.Retry(2, backoff=0.01)
    async with make(provider, mock_llm, observers=[telemetry.observer], retry=retry) as llm:
        with pytest.raises(llmcurl.LLMError) as caught:
            await llm.chat("x")
    (span,) = telemetry.spans
    kind = type(caught.value).__name__
    assert span.status.status_code is StatusCode.ERROR and span.attributes["error.type"] == kind
    assert (
        span.attributes["http.response.status_code"] == 503
        and span.attributes["http.request.resend_count"] == 1
    )
    (event,) = span.events
    assert event.name == "llmcurl.retry" and event.attributes["http.response.status_code"] == 503
    ((_, duration),) = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == kind


@pytest.mark.parametrize("streamed", [False, True])
async def test_cancellation(provider, mock_llm, telemetry, streamed) -> None:
    mock_llm.configure(latency=30.0)

    async def use(llm: Any) -> None:
        if not streamed:
            await llm.chat("x")
        async with llm.stream("x") as stream:
            await stream.reply()

    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        task = asyncio.ensure_future(use(llm))
        while not llm.stats().get("active"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (span,) = telemetry.spans
    assert (
        span.attributes["error.type"] == "CancelledError"
        and span.status.status_code is StatusCode.ERROR
    )
    ((_, duration),) = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "CancelledError"


async def test_a_stream_that_is_left_has_its_span(provider, mock_llm, telemetry) -> None:
    mock_llm.script("one two three four five six")
    mock_llm.configure(token_interval=0.05)
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        async with llm.stream("x") as stream:
            async for _ in stream.text_stream:
                break
    (span,) = telemetry.spans
    assert (
        "gen_ai.response.time_to_first_chunk" in span.attributes
        and "error.type" not in span.attributes
    )


async def test_content_is_kept_on_request(provider, mock_llm) -> None:
    telemetry = Telemetry(capture_content=True)

    async def weather(city: str) -> str:
        """The weather."""
        return f"rain in {city}"

    mock_llm.script(Reply(tool_calls=(ToolCall("weather", {"city": "Rome"}),)), "the answer")
    async with make(provider, mock_llm, observers=[telemetry.observer]) as llm:
        await llm.run("the question", tools=[weather], system="be brief")
    chats = [span for span in telemetry.spans if "mock-1" in span.name]
    asked = json.loads(chats[1].attributes["gen_ai.input.messages"])
    told = [part for message in asked for part in message["parts"]]
    assert {"type": "text", "content": "the question"} in told
    assert [part["name"] for part in told if part["type"] == "tool_call"] == ["weather"]
    (response,) = [part for part in told if part["type"] == "tool_call_response"]
    assert "rain in Rome" in json.dumps(response)
    assert "be brief" in chats[1].attributes.get("gen_ai.system_instructions", "") + json.dumps(
        asked
    )
    (answer,) = json.loads(chats[1].attributes["gen_ai.output.messages"])
    assert answer == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "the answer"}],
        "finish_reason": "stop",
    }
    (tool,) = [span for span in telemetry.spans if span.name == "execute_tool weather"]
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"city": "Rome"}
    assert tool.attributes["gen_ai.tool.call.result"] == "rain in Rome"
    assert KEY not in repr([dict(span.attributes) for span in telemetry.spans])
    telemetry.meters.shutdown()


def test_the_environment_may_ask_for_content(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    assert OpenTelemetry()._content and not OpenTelemetry(capture_content=False)._content


async def test_plain_calls(chaos: Chaos, telemetry) -> None:
    async with llmcurl.AsyncClient(observers=[telemetry.observer]) as client:
        await client.get(chaos.url("/ok?status=404&api_key=sk-1"))
        with pytest.raises(llmcurl.TimeoutException) as caught:
            await client.post(chaos.url("/stall"), json={}, timeout=0.05)
    missing, late = telemetry.spans
    assert missing.name == "GET" and late.name == "POST" and missing.kind is SpanKind.CLIENT
    found = missing.attributes
    assert found["http.response.status_code"] == 404 and found["error.type"] == "404"
    assert (
        found["url.full"].endswith("/ok?status=404&api_key=***")
        and found["network.protocol.version"] == "1.1"
    )
    assert late.attributes["error.type"] == type(caught.value).__name__
    points = {
        point.attributes["http.request.method"]: point
        for _, point in telemetry.points("http.client.request.duration")
    }
    assert (
        points["GET"].attributes["http.response.status_code"] == 404 and points["POST"].count == 1
    )


async def test_plain_calls_may_be_left_out(chaos: Chaos) -> None:
    telemetry = Telemetry(http=False)
    async with llmcurl.AsyncClient(observers=[telemetry.observer]) as client:
        await client.get(chaos.url("/ok"))
    assert not telemetry.spans and not telemetry.points("http.client.request.duration")
    telemetry.meters.shutdown()
