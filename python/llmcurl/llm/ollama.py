"""Ollama's /api/chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

import msgspec

from .._models import Response
from ._base import LLM, LLMOptions, Params, env, set_unless
from ._embeddings import Embeddings
from ._lenient import EventDecoder
from ._messages import call_names, image_of, parts_of, text_of
from ._reply import Reply
from ._schema import schema_of
from ._stream import Assembler, ErrorEvent
from ._types import Delta, ModelInfo, TokenLogprob, ToolCall, ToolCallDelta, Usage

__all__ = ["Ollama", "OllamaReply"]

# What of a reply is read --------------------------------------------------------------------


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Answer(msgspec.Struct):
    message: _Message
    model: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[TokenLogprob] | None = None


class OllamaReply(Reply):
    """An answer of /api/chat."""

    __slots__ = ()
    provider: ClassVar[str] = "ollama"
    decode: ClassVar[Any] = msgspec.json.Decoder(_Answer, strict=False).decode

    @property
    def text(self) -> str:
        return self._read().message.content or ""

    @property
    def reasoning(self) -> str:
        return self._read().message.thinking or ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(call.function.name, bytes(call.function.arguments).decode(), call.id or "")
            for call in self._read().message.tool_calls or ()
        ]

    @property
    def finish_reason(self) -> str | None:
        answer = self._read()
        reason: str | None = answer.done_reason
        if reason is None and answer.done:
            reason = "stop"  # older versions do not say
        return "tool_calls" if reason == "stop" and answer.message.tool_calls else reason

    @property
    def usage(self) -> Usage:
        answer = self._read()
        return Usage(answer.prompt_eval_count, answer.eval_count)

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        return self._read().logprobs  # type: ignore[no-any-return]

    @property
    def model(self) -> str:
        return self._read().model or ""

    @property
    def id(self) -> str:
        return ""  # Ollama gives none

    @property
    def message(self) -> dict[str, Any]:
        return dict(self.json()["message"])


# Streams --------------------------------------------------------------------------------------


class _Assembler:
    """Lines to one answer."""

    def __init__(self) -> None:
        self._decode = EventDecoder()
        self.done = self.over = False
        self._head: dict[str, Any] = {}
        self._fields: dict[str, Any] = {}
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        self._thinking: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self.append: Callable[[str], Any] = self._texts.append

    def event(self, data: bytes) -> list[Delta]:
        line = self._decode(data)
        if line.get("error"):
            raise ErrorEvent
        message = line.pop("message", None) or {}
        if logprobs := line.pop("logprobs", None):
            self._logprobs += logprobs
        self._head.update(line)
        deltas: list[Delta] = []
        if thinking := message.pop("thinking", None):
            self._thinking.append(thinking)
            deltas.append(Delta(reasoning=thinking))
        if text := message.pop("content", None):
            self._texts.append(text)
            deltas.append(Delta(text))
        for call in message.pop("tool_calls", None) or ():
            function = call["function"]
            arguments = msgspec.json.encode(function.get("arguments") or {}).decode()
            piece = ToolCallDelta(
                len(self._calls), function["name"], call.get("id") or "", arguments
            )
            self._calls.append(call)
            deltas.append(Delta(tool_call=piece))
        self._fields.update(message)
        if line.get("done"):
            self.done = self.over = True
        return deltas

    def full(self, usage: bytes | None) -> dict[str, Any]:
        message = {"role": "assistant", **self._fields, "content": "".join(self._texts)}
        if self._thinking:
            message["thinking"] = "".join(self._thinking)
        if self._calls:
            message["tool_calls"] = self._calls
        more = {"logprobs": self._logprobs} if self._logprobs else {}
        return {**self._head, "message": message, **more}


# Requests -------------------------------------------------------------------------------------

#: Our names of parameters, and what Ollama's options call them.
_OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}


def _message(message: Params, names: dict[str, str]) -> Params:
    made = dict(message)
    content = message.get("content")
    if message.get("role") == "tool":
        ident = made.pop("tool_call_id", None)
        name = made.pop("name", None) or names.get(str(ident))
        if name:
            made.setdefault("tool_name", name)
    if isinstance(content, list):
        images = []
        for part in parts_of(content):
            if (image := image_of(part)) is not None:
                if image.url is not None:
                    raise ValueError("Ollama takes images as bytes, not by URL")
                images.append(image.data)
        made["content"] = text_of(content)
        if images:
            made["images"] = images
    if calls := message.get("tool_calls"):
        made.setdefault("content", "")
        made["tool_calls"] = [_call(call) for call in calls]
    return made


def _call(call: Params) -> Params:
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        function["arguments"] = msgspec.json.decode(function["arguments"] or "{}")
    return {**call, "function": function}


class Ollama(LLM):
    """Ollama, here or elsewhere.

    Environment: OLLAMA_HOST (as Ollama itself reads it: host, host:port or a URL),
    OLLAMA_API_KEY (of ollama.com, or a proxy).

    Args: as `LLM`.
    """

    provider: ClassVar[str] = "ollama"
    reply_type: ClassVar[type[Reply]] = OllamaReply

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        **options: Unpack[LLMOptions],
    ) -> None:
        url = base_url or _host(env("OLLAMA_HOST"))
        super().__init__(api_key=api_key or env("OLLAMA_API_KEY"), base_url=url, **options)

    def _auth_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _chat_path(self, body: Params, stream: bool) -> str:
        return "/api/chat"

    def _chat_body(self, messages: list[Params], params: Params, stream: bool) -> Params:
        names = call_names(messages)
        made = [_message(message, names) for message in messages]
        if (system := params.pop("system", None)) is not None:
            made.insert(0, {"role": "system", "content": text_of(system)})
        options: Params = {}
        for ours, theirs in _OPTIONS.items():
            if (value := params.pop(ours, None)) is not None:
                options[theirs] = value
        if (stop := params.pop("stop", None)) is not None:
            options["stop"] = [stop] if isinstance(stop, str) else list(stop)
        options.update(params.pop("options", None) or {})
        if options:
            params["options"] = options
        if (schema := params.pop("schema", None)) is not None:
            set_unless(params, "format", schema_of(schema))
        return {"messages": made, **params, "stream": stream}

    def _tool_results(self, results: Sequence[tuple[ToolCall, str, bool]]) -> list[Params]:
        return [
            {"role": "tool", "tool_name": call.name, "content": text} for call, text, _ in results
        ]

    def _assembler(self) -> Assembler:
        return _Assembler()

    # Embeddings and models ------------------------------------------------------------------

    def _embed_request(self, texts: list[str], model: str, params: Params) -> tuple[str, Params]:
        return "/api/embed", {"model": model, "input": texts, **params}

    def _embeddings(self, response: Response, model: str) -> Embeddings:
        found = _decode_embeddings(response.content)
        usage = Usage(found.prompt_eval_count)
        return Embeddings(
            found.embeddings, model=found.model or model, usage=usage, response=response
        )

    async def models(self) -> list[ModelInfo]:
        found = (await self._get("/api/tags")).get("models") or ()
        return [ModelInfo(item.get("model") or item["name"], item) for item in found]


def _host(text: str | None) -> str:
    """A URL from OLLAMA_HOST; 0.0.0.0 is where a server listens, not where it is."""
    host = (text or "").strip().rstrip("/")
    if "://" in host:
        return host
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, "11434"
    name = name if name not in ("", "0.0.0.0", "[::]") else "127.0.0.1"
    return f"http://{name}:{port}"


class _Rows(msgspec.Struct):
    embeddings: list[list[float]]
    model: str | None = None
    prompt_eval_count: int | None = None


_decode_embeddings = msgspec.json.Decoder(_Rows).decode
