"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

import msgspec

from ._base import LLM, LLMOptions, Params, env, set_unless
from ._lenient import EventDecoder
from ._messages import image_of, parts_of
from ._reply import Reply
from ._schema import schema_of
from ._stream import Assembler, ErrorEvent
from ._tools import Tool
from ._types import Delta, ModelInfo, ToolCall, ToolCallDelta, Usage

__all__ = ["Anthropic", "AnthropicReply"]

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

#: How Anthropic wants arguments back that are no JSON ("fine-grained tool streaming").
_NO_JSON = "INVALID_JSON"

# What of a reply is read --------------------------------------------------------------------


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Details(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Reply(msgspec.Struct):
    content: list[_Block]
    id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class AnthropicReply(Reply):
    """A message of the assistant's."""

    __slots__ = ()
    provider: ClassVar[str] = "anthropic"
    decode: ClassVar[Any] = msgspec.json.Decoder(_Reply, strict=False).decode

    @property
    def text(self) -> str:
        return "".join(b.text or "" for b in self._read().content if b.type == "text")

    @property
    def reasoning(self) -> str:
        return "".join(b.thinking or "" for b in self._read().content if b.type == "thinking")

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(block.name or "", _arguments(block.input), block.id or "")
            for block in self._read().content
            if block.type == "tool_use"
        ]

    @property
    def finish_reason(self) -> str | None:
        reason: str | None = self._read().stop_reason
        return _FINISH.get(reason or "", reason)

    @property
    def usage(self) -> Usage:
        usage = self._read().usage or _Usage()
        spent = usage.input_tokens
        if spent is not None:
            # Anthropic counts what it reads from or writes to its cache apart.
            spent += usage.cache_read_input_tokens or 0
            spent += usage.cache_creation_input_tokens or 0
        thought = (usage.output_tokens_details or _Details()).thinking_tokens
        return Usage(spent, usage.output_tokens, usage.cache_read_input_tokens, thought)

    @property
    def model(self) -> str:
        return self._read().model or ""

    @property
    def id(self) -> str:
        return self._read().id or ""

    @property
    def message(self) -> dict[str, Any]:
        return {"role": "assistant", "content": self.json()["content"]}


def _arguments(given: msgspec.Raw) -> str:
    """The JSON text of a call's input."""
    text = bytes(given).decode()
    if _NO_JSON in text:
        value = msgspec.json.decode(text)
        if isinstance(value, dict) and value.keys() == {_NO_JSON}:
            return str(value[_NO_JSON])
    return text


# Streams --------------------------------------------------------------------------------------


class _BlockSoFar:
    """A content block of a stream."""

    __slots__ = ("fields", "pieces")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        self.pieces: dict[str, list[str]] = {}

    def add(self, name: str, text: str) -> None:
        self.pieces.setdefault(name, []).append(text)

    def full(self) -> dict[str, Any]:
        made = dict(self.fields)
        for name, pieces in self.pieces.items():
            text = "".join(pieces)
            if name == "input":
                try:
                    made[name] = msgspec.json.decode(text) if text.strip() else made.get(name) or {}
                except msgspec.DecodeError:
                    made[name] = {_NO_JSON: text}  # cut off in the middle, or the model's mistake
            else:
                made[name] = (made.get(name) or "") + text
        return made


class _Assembler:
    """Events to a message."""

    def __init__(self) -> None:
        self._decode = EventDecoder()
        self.done = self.over = False
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._blocks: dict[int, _BlockSoFar] = {}
        self._calls: dict[int, int] = {}
        self.append: Callable[[str], Any] = self._block(0).pieces.setdefault("text", []).append

    def _block(self, index: int) -> _BlockSoFar:
        return self._blocks.setdefault(index, _BlockSoFar({"type": "text"}))

    def event(self, data: bytes) -> list[Delta]:
        event = self._decode(data)
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "content_block_start":
            return self._start(event["index"], event["content_block"])
        if kind == "message_start":
            self._message.update(event["message"])
            self._message["usage"] = dict(self._message.get("usage") or {})
        elif kind == "message_delta":
            self._message.update(event["delta"])
            usage = self._message.setdefault("usage", {})
            usage.update({k: v for k, v in (event.get("usage") or {}).items() if v is not None})
        elif kind == "message_stop":
            self.done = self.over = True
        elif kind == "error" or "error" in event:
            raise ErrorEvent
        # "ping", "content_block_stop", and what may come: new kinds are to be ignored.
        return []

    def _start(self, index: int, fields: dict[str, Any]) -> list[Delta]:
        block = self._blocks[index] = _BlockSoFar(dict(fields))
        if fields["type"] == "tool_use":
            number = self._calls[index] = len(self._calls)
            given = fields.get("input")  # compatible servers give it at once
            arguments = msgspec.json.encode(given).decode() if given else ""
            call = ToolCallDelta(
                number, fields.get("name") or "", fields.get("id") or "", arguments
            )
            return [Delta(tool_call=call)]
        if fields["type"] == "text":
            self.append = block.pieces.setdefault("text", []).append
            return [Delta(fields["text"])] if fields.get("text") else []
        return []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Delta]:
        block = self._block(index)
        kind = delta.get("type")
        if kind == "text_delta":
            self.append = block.pieces.setdefault("text", []).append
            self.append(delta["text"])
            return [Delta(delta["text"])] if delta["text"] else []
        if kind == "thinking_delta":
            block.add("thinking", delta["thinking"])
            return [Delta(reasoning=delta["thinking"])] if delta["thinking"] else []
        if kind == "input_json_delta":
            block.add("input", delta["partial_json"])
            if index in self._calls and delta["partial_json"]:
                piece = ToolCallDelta(self._calls[index], arguments=delta["partial_json"])
                return [Delta(tool_call=piece)]
        elif kind == "signature_delta":
            block.add("signature", delta["signature"])
        elif kind == "citations_delta":
            block.fields["citations"] = [
                *(block.fields.get("citations") or ()),
                delta["citation"],
            ]
        return []

    def full(self, usage: bytes | None) -> dict[str, Any]:
        content = [block.full() for _, block in sorted(self._blocks.items())]
        # The block that stands ready for a stream that names none.
        content = [b for b in content if b != {"type": "text", "text": ""}]
        return {**self._message, "content": content}


# Requests -------------------------------------------------------------------------------------


def _part(part: Params) -> Params:
    image = image_of(part)
    if image is None:
        return part
    if image.url is not None:
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": source}


def _messages(messages: list[Params]) -> tuple[list[Any], list[Params]]:
    """System texts apart, and the others in Anthropic's form."""
    system: list[Any] = []
    made: list[Params] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            system.append(content)
            continue
        if role == "tool":
            block = {
                "type": "tool_result",
                "tool_use_id": message.get("tool_call_id"),
                "content": content,
            }
            if made and made[-1].get("_results"):
                made[-1]["content"].append(block)
            else:
                made.append({"role": "user", "content": [block], "_results": True})
            continue
        if calls := message.get("tool_calls"):
            blocks = [p for p in parts_of(content) if p.get("text") != ""]
            for call in calls:
                function = call["function"]
                arguments = function.get("arguments") or "{}"
                if isinstance(arguments, str):
                    arguments = msgspec.json.decode(arguments)
                blocks.append(
                    {
                        "type": "tool_use",
                        "id": call["id"],
                        "name": function["name"],
                        "input": arguments,
                    }
                )
            made.append({"role": "assistant", "content": blocks})
        elif isinstance(content, list):
            made.append({**message, "content": [_part(part) for part in parts_of(content)]})
        else:
            made.append(message)
    for message in made:
        message.pop("_results", None)
    return system, made


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, str):
        return choice
    kind = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
    return {"type": kind} if kind else {"type": "tool", "name": choice}


class Anthropic(LLM):
    """Anthropic.

    Environment: ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, ANTHROPIC_BASE_URL.

    Args:
        auth_token: instead of a key.
        max_tokens: of calls that name none: Anthropic wants a limit.
        version: of the API. The default takes no temperature, top_p and top_k;
            "2023-06-01" does, where the model allows them.
        Others as `LLM`.
    """

    provider: ClassVar[str] = "anthropic"
    reply_type: ClassVar[type[Reply]] = AnthropicReply

    def __init__(
        self,
        *,
        api_key: str | None = None,
        auth_token: str | None = None,
        base_url: str | None = None,
        max_tokens: int = 4096,
        version: str = "2026-10-21",
        **options: Unpack[LLMOptions],
    ) -> None:
        key = api_key or (None if auth_token else env("ANTHROPIC_API_KEY"))
        # The version of 2023 takes keys in a field of their own.
        self._bearer = key is None or version >= "2026"
        key = key or auth_token or env("ANTHROPIC_AUTH_TOKEN")
        given = base_url or env("ANTHROPIC_BASE_URL")
        if key is None and given is None:
            raise self._no_key("ANTHROPIC_API_KEY")
        self._version = version
        self._max_tokens = max_tokens
        url = given or "https://api.anthropic.com"
        super().__init__(api_key=key, base_url=url, **options)

    def _auth_headers(self) -> dict[str, str]:
        fields = {"anthropic-version": self._version}
        if self._key and self._bearer:
            fields["Authorization"] = f"Bearer {self._key}"
        elif self._key:
            fields["X-Api-Key"] = self._key
        return fields

    def _chat_path(self, body: Params, stream: bool) -> str:
        return "/v1/messages"

    def _chat_body(self, messages: list[Params], params: Params, stream: bool) -> Params:
        system, made = _messages(messages)
        given = params.pop("system", None)
        if given is not None:
            system.insert(0, given)
        if len(system) == 1:
            params["system"] = system[0]
        elif system:
            params["system"] = [part for content in system for part in parts_of(content)]
        if (stop := params.pop("stop", None)) is not None:
            set_unless(params, "stop_sequences", [stop] if isinstance(stop, str) else list(stop))
        if (schema := params.pop("schema", None)) is not None:
            kept = dict(params.get("output_config") or {})
            kept.setdefault("format", {"type": "json_schema", "schema": schema_of(schema)})
            params["output_config"] = kept
        if "tool_choice" in params:
            params["tool_choice"] = _tool_choice(params["tool_choice"])
        params.setdefault("max_tokens", self._max_tokens)
        if stream:
            params["stream"] = True
        return {"messages": made, **params}

    def _tool(self, tool: Tool | Params) -> Params:
        if isinstance(tool, Tool):
            return {
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.parameters,
            }
        if tool.get("type") == "function" and isinstance(function := tool.get("function"), dict):
            made = {"name": function["name"], "input_schema": function.get("parameters") or {}}
            if "description" in function:
                made["description"] = function["description"]
            return made
        return tool

    def _tool_results(self, results: Sequence[tuple[ToolCall, str, bool]]) -> list[Params]:
        blocks = []
        for call, text, failed in results:
            block: Params = {"type": "tool_result", "tool_use_id": call.id, "content": text}
            if failed:
                block["is_error"] = True
            blocks.append(block)
        return [{"role": "user", "content": blocks}]

    def _assembler(self) -> Assembler:
        return _Assembler()

    # Models -----------------------------------------------------------------------------------

    async def models(self) -> list[ModelInfo]:
        found: list[ModelInfo] = []
        query = {"limit": "1000"}
        while True:
            page = await self._get("/v1/models", query)
            found += [ModelInfo(item["id"], item) for item in page.get("data") or ()]
            if not page.get("has_more") or not page.get("last_id"):
                return found
            query["after_id"] = page["last_id"]
