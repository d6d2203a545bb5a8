"""OpenTelemetry: spans and metrics of calls by the GenAI and HTTP semantic conventions.

    from llmcurl.otel import OpenTelemetry
    async with llmcurl.OpenAI(model="gpt-5", observers=[OpenTelemetry()]) as llm: ...

Needs the extra ``llmcurl[otel]``, that is the API; what becomes of the data is up to the SDK that the
program sets up. Names and units follow OpenTelemetry's conventions for generative AI clients
(gen-ai-spans, gen-ai-metrics) and for HTTP clients (http-spans, http-metrics).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise ImportError(
        "llmcurl.otel needs OpenTelemetry's API: pip install 'llmcurl[otel]'"
    ) from error

from ._arguments import flag
from ._otel_content import input_messages, output_messages, system_instructions
from ._urls import DEFAULT_PORTS, URL
from ._version import __version__
from .traffic._record import Attempt, CallRecord, Observer

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from ._watch import LoopBlock
    from .llm._types import ToolCall

__all__ = ["OpenTelemetry"]

_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

#: gen_ai.provider.name; Ollama has no name there, and custom ones are allowed.
_PROVIDERS = {"gemini": "gcp.gemini"}

#: Boundaries that the conventions advise.
_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_FIRST = [
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
]
_TOKENS = [4**power for power in range(14)]
_HTTP = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"}
)

#: Attribute of the request -> the providers' names for it.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens", "max_completion_tokens", "maxOutputTokens", "num_predict"),
    "temperature": ("temperature",),
    "top_p": ("top_p", "topP"),
    "top_k": ("top_k", "topK"),
    "frequency_penalty": ("frequency_penalty", "frequencyPenalty"),
    "presence_penalty": ("presence_penalty", "presencePenalty"),
    "seed": ("seed",),
    "stop_sequences": ("stop", "stop_sequences", "stopSequences"),
    "choice.count": ("n", "candidateCount"),
}

#: Where a request has the form that the reply is to follow.
_AS_JSON = ("response_format", "format", "output_config", "responseSchema", "responseJsonSchema")


class OpenTelemetry(Observer):
    """An observer that makes a span of each call, and measures it.

    One span per call, whatever number of attempts it takes (events "llmcurl.retry" tell of them):
    "chat MODEL" (Gemini: "generate_content MODEL"), "embeddings MODEL", "execute_tool NAME" of
    `LLM.run`, and of other calls the HTTP method. The parent is the span that is current where the
    call is made. Metrics: gen_ai.client.operation.duration, gen_ai.client.token.usage,
    gen_ai.client.operation.time_to_first_chunk, gen_ai.execute_tool.duration,
    http.client.request.duration, and llmcurl.loop.blocked.

    Args:
        tracer_provider, meter_provider: default: the global ones.
        capture_content: put messages, replies and the arguments and results of tools into the
            spans, as JSON. Default: no, unless
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is "true".
        http: also of calls that are no LLM calls.

    Raises:
        TypeError: an argument that cannot be.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        capture_content: bool | None = None,
        http: bool = True,
    ) -> None:
        for name, provider, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if provider is not None and not hasattr(provider, method):
                raise TypeError(f"{name} must be one of OpenTelemetry's, not {provider!r}")
        for name, value in (("capture_content", capture_content), ("http", http)):
            if value is not None:
                flag(f"OpenTelemetry.{name}", value)
        if capture_content is None:
            capture_content = os.environ.get(_CONTENT, "").strip().lower() == "true"
        self._content = capture_content
        self._http = http
        self._tracer = trace.get_tracer("llmcurl", __version__, tracer_provider)
        meter = metrics.get_meter("llmcurl", __version__, meter_provider)

        def histogram(name: str, unit: str, text: str, bounds: list[Any]) -> Any:
            return meter.create_histogram(
                name, unit, text, explicit_bucket_boundaries_advisory=bounds
            )

        self._duration = histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration.", _SECONDS
        )
        self._usage = histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            _TOKENS,
        )
        self._first = histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time to the first token.", _FIRST
        )
        self._tool = histogram(
            "gen_ai.execute_tool.duration", "s", "Duration of tool calls.", _SECONDS
        )
        self._requests = histogram(
            "http.client.request.duration", "s", "Duration of HTTP client requests.", _HTTP
        )
        self._blocked = histogram(
            "llmcurl.loop.blocked",
            "s",
            "How long ready events waited for a blocked loop.",
            _SECONDS,
        )

    # Calls ------------------------------------------------------------------------------------

    def started(self, call: CallRecord) -> None:
        if call.kind == "http":
            if not self._http:
                return
            method = call.method if call.method in _METHODS else "_OTHER"
            name = method if method != "_OTHER" else "HTTP"
            known: dict[str, Any] = {"http.request.method": method}
        else:
            operation = _operation(call)
            name = f"{operation} {call.model}".rstrip()
            known = {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": _PROVIDERS.get(call.provider, call.provider),
            }
            if call.model:
                known["gen_ai.request.model"] = call.model
        known.update(_server(call.url))
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=known)
        call.data[self] = span, known
        if span.is_recording():
            if call.kind == "http":
                span.set_attribute("url.full", call.url)
            else:
                span.set_attributes(_request(call))
                if self._content and call.body is not None and call.kind != "embed":
                    _put(span, "gen_ai.input.messages", input_messages(call.body))
                    _put(span, "gen_ai.system_instructions", system_instructions(call.body))

    def attempt_ended(
        self, call: CallRecord, attempt: Attempt, error: BaseException | None
    ) -> None:
        if attempt.retry_in is None or (found := call.data.get(self)) is None:
            return
        facts: dict[str, Any] = {
            "llmcurl.attempt": attempt.number,
            "llmcurl.retry_in": attempt.retry_in,
        }
        if attempt.status is not None:
            facts["http.response.status_code"] = attempt.status
        if attempt.error:
            facts["error.type"] = attempt.error
        found[0].add_event("llmcurl.retry", facts)

    def opened(self, call: CallRecord, attempt: Attempt) -> None:
        if (found := call.data.get(self)) is None or call.kind != "stream":
            return
        span, known = found
        seconds = call.elapsed - (attempt.started or 0.0)
        span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._first.record(seconds, known, context=trace.set_span_in_context(span))

    def finished(self, call: CallRecord, error: BaseException | None) -> None:
        found = call.data.pop(self, None)
        if found is None:
            return
        span: Span = found[0]
        measured: dict[str, Any] = dict(found[1])
        attempt = call.attempts[-1] if call.attempts else None
        status = attempt.status if attempt is not None else None
        failure = _error_type(error, status)
        if failure is not None:
            measured["error.type"] = failure
        in_span = trace.set_span_in_context(span)  # exemplars of the metrics name it
        details: dict[str, Any] = {}
        if status is not None:
            details["http.response.status_code"] = status
        if len(call.attempts) > 1:
            details["http.request.resend_count"] = len(call.attempts) - 1
        if call.kind == "http":
            version = getattr(call.result, "http_version", "")
            if version:
                measured["network.protocol.version"] = version.partition("/")[2]
            if status is not None:
                measured["http.response.status_code"] = status
            self._requests.record(call.elapsed, measured, context=in_span)
        else:
            self._finish(call, span, measured, details, in_span)
        if span.is_recording():
            span.set_attributes({**measured, **details})
            if failure is not None:
                text = (
                    "cancelled" if isinstance(error, asyncio.CancelledError) else str(error or "")
                )
                span.set_status(Status(StatusCode.ERROR, text or None))
        span.end()

    def _finish(
        self,
        call: CallRecord,
        span: Span,
        measured: dict[str, Any],
        details: dict[str, Any],
        in_span: context.Context,
    ) -> None:
        """What an LLM call adds: the reply, its tokens, the metrics."""
        result = call.result
        if result is not None:
            if model := getattr(result, "model", ""):
                measured["gen_ai.response.model"] = model
            if ident := getattr(result, "id", ""):
                details["gen_ai.response.id"] = ident
            if reason := getattr(result, "finish_reason", None):
                details["gen_ai.response.finish_reasons"] = [reason]
            if call.kind == "embed" and (size := getattr(result, "dimensions", 0)):
                details["gen_ai.embeddings.dimension.count"] = size
            if self._content and call.kind != "embed" and span.is_recording():
                _put(span, "gen_ai.output.messages", output_messages(result))
        self._duration.record(call.elapsed, measured, context=in_span)
        usage = call.usage
        if usage is None:
            return
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count is not None:
                details[f"gen_ai.usage.{kind}_tokens"] = count
                attributes = {k: v for k, v in measured.items() if k != "error.type"}
                attributes["gen_ai.token.type"] = kind
                self._usage.record(count, attributes, context=in_span)
        if usage.cached_tokens is not None:
            details["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if usage.reasoning_tokens is not None:
            details["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens

    # Tools and loops --------------------------------------------------------------------------

    def tool_started(
        self, provider: str, tool: ToolCall
    ) -> Callable[[str, BaseException | None], object]:
        known: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.type": "function",
        }
        span = self._tracer.start_span(f"execute_tool {tool.name}", attributes=known)
        if tool.id:
            span.set_attribute("gen_ai.tool.call.id", tool.id)
        if self._content:
            span.set_attribute("gen_ai.tool.call.arguments", tool.arguments)
        begun = time.monotonic()
        token = context.attach(trace.set_span_in_context(span))

        def ended(text: str, error: BaseException | None) -> None:
            context.detach(token)
            if error is not None:
                known["error.type"] = type(error).__qualname__
                span.set_attribute("error.type", known["error.type"])
                span.set_status(Status(StatusCode.ERROR, str(error) or None))
            elif self._content:
                span.set_attribute("gen_ai.tool.call.result", text)
            seconds = time.monotonic() - begun
            self._tool.record(seconds, known, context=trace.set_span_in_context(span))
            span.end()

        return ended

    def loop_blocked(self, block: LoopBlock) -> None:
        if block.over:
            self._blocked.record(
                block.duration,
                {"code.file.path": block.file, "code.function.name": block.function},
            )


def _operation(call: CallRecord) -> str:
    if call.kind == "embed":
        return "embeddings"
    return "generate_content" if call.provider == "gemini" else "chat"


def _server(url: str) -> dict[str, Any]:
    parsed = URL(url)
    port = parsed.port or DEFAULT_PORTS.get(parsed.scheme)
    known: dict[str, Any] = {"server.address": parsed.host}
    if port is not None:
        known["server.port"] = port
    return known


def _request(call: CallRecord) -> dict[str, Any]:
    """What the request asks for, apart from its messages."""
    body = call.body or {}
    found: dict[str, Any] = {}
    if call.kind == "stream":
        found["gen_ai.request.stream"] = True
    places: list[Mapping[str, Any]] = [body]
    for name in ("generationConfig", "options"):
        if isinstance(inner := body.get(name), Mapping):
            places.append(inner)
    for attribute, names in _PARAMETERS.items():
        for place in places:
            for name in names:
                value = place.get(name)
                if value is None:
                    continue
                if attribute == "stop_sequences":
                    value = [value] if isinstance(value, str) else list(value)
                if attribute != "choice.count" or value != 1:
                    found[f"gen_ai.request.{attribute}"] = value
    if any(name in place for place in places for name in _AS_JSON):
        found["gen_ai.output.type"] = "json"
    return found


def _error_type(error: BaseException | None, status: int | None) -> str | None:
    """The conventions' error.type: the error's class, or the status of an answer without one."""
    if error is not None:
        return type(error).__qualname__
    return str(status) if status is not None and status >= 400 else None


def _put(span: Span, name: str, text: str | None) -> None:
    if text is not None:
        span.set_attribute(name, text)
