"""Google's Gemini: generateContent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack
from urllib.parse import quote

import msgspec

from .._models import Response
from ._base import LLM, LLMOptions, Params, env, set_unless
from ._embeddings import Embeddings
from ._lenient import EventDecoder
from ._messages import call_names, image_of, parts_of, text_of
from ._reply import Reply
from ._schema import schema_of
from ._stream import Assembler, ErrorEvent
from ._tools import Tool
from ._types import Choice, Delta, ModelInfo, TokenLogprob, ToolCall, ToolCallDelta, Usage

__all__ = ["Gemini", "GeminiReply"]

_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
}

# What of a reply is read --------------------------------------------------------------------


class _FunctionCall(msgspec.Struct):
    name: str = ""
    args: msgspec.Raw = msgspec.Raw(b"{}")
    id: str | None = None


class _Part(msgspec.Struct):
    text: str | None = None
    thought: bool | None = None
    function_call: _FunctionCall | None = msgspec.field(default=None, name="functionCall")


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Logprob(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0  # zeros are left out of Google's JSON


class _Top(msgspec.Struct, rename="camel"):
    candidates: list[_Logprob] = []


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Logprob] = []
    top_candidates: list[_Top] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    logprobs_result: _Logprobs | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    cached_content_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: _Feedback | None = None


class GeminiReply(Reply):
    """An answer of generateContent."""

    __slots__ = ()
    provider: ClassVar[str] = "gemini"
    decode: ClassVar[Any] = msgspec.json.Decoder(_Answer, strict=False).decode

    def _candidate(self) -> _Candidate:
        candidates: list[_Candidate] = self._read().candidates or []
        return candidates[0] if candidates else _Candidate()

    @property
    def text(self) -> str:
        return _text(self._candidate(), False)

    @property
    def reasoning(self) -> str:
        return _text(self._candidate(), True)

    @property
    def tool_calls(self) -> list[ToolCall]:
        return _calls(self._candidate())

    @property
    def finish_reason(self) -> str | None:
        return self._reason(self._candidate())

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        return _logprobs(self._candidate())

    @property
    def choices(self) -> list[Choice]:
        return [
            Choice(
                _text(candidate, False),
                _text(candidate, True),
                _calls(candidate),
                self._reason(candidate),
                _logprobs(candidate),
            )
            for candidate in self._read().candidates or ()
        ]

    def _reason(self, candidate: _Candidate) -> str | None:
        reason = candidate.finish_reason
        if reason is None:
            feedback = self._read().prompt_feedback
            return "content_filter" if feedback and feedback.block_reason else None
        if reason == "STOP" and _calls(candidate):
            return "tool_calls"
        return _FINISH.get(reason, reason)

    @property
    def usage(self) -> Usage:
        usage = self._read().usage_metadata or _Usage()
        made, thought = usage.candidates_token_count, usage.thoughts_token_count
        if made is not None or thought is not None:
            made = (made or 0) + (thought or 0)
        return Usage(usage.prompt_token_count, made, usage.cached_content_token_count, thought)

    @property
    def model(self) -> str:
        return self._read().model_version or ""

    @property
    def id(self) -> str:
        return self._read().response_id or ""

    @property
    def message(self) -> dict[str, Any]:
        candidates = self.json().get("candidates") or [{}]
        content = candidates[0].get("content") or {}
        return {"role": "model", "parts": [], **content}


def _text(candidate: _Candidate, thought: bool) -> str:
    parts = (candidate.content or _Content()).parts or ()
    return "".join(part.text or "" for part in parts if bool(part.thought) is thought)


def _calls(candidate: _Candidate) -> list[ToolCall]:
    return [
        ToolCall(call.name, bytes(call.args).decode(), call.id or "")
        for part in (candidate.content or _Content()).parts or ()
        if (call := part.function_call) is not None
    ]


def _logprobs(candidate: _Candidate) -> list[TokenLogprob] | None:
    found = candidate.logprobs_result
    if found is None:
        return None
    tops = [
        [TokenLogprob(one.token, one.log_probability) for one in top.candidates]
        for top in found.top_candidates
    ]
    return [
        TokenLogprob(one.token, one.log_probability, None, tops[i] if i < len(tops) else [])
        for i, one in enumerate(found.chosen_candidates)
    ]


# Streams --------------------------------------------------------------------------------------


class _CandidateSoFar:
    """One answer of a stream: its parts, a text part's text in pieces."""

    __slots__ = ("fields", "parts")

    def __init__(self) -> None:
        self.parts: list[tuple[dict[str, Any], list[str]]] = []
        self.fields: dict[str, Any] = {}

    def text_of(self, fields: dict[str, Any]) -> list[str]:
        """The pieces of the last part, if it is of text with just these fields; else of a new
        one. A part with a signature ends there."""
        if self.parts and self.parts[-1] == ({}, []):
            self.parts.pop()  # stood ready for a text that did not come
        if not self.parts or self.parts[-1][0] != fields:
            self.parts.append((fields, []))
        return self.parts[-1][1]

    def full(self, index: int) -> dict[str, Any]:
        parts = []
        for fields, pieces in self.parts:
            if pieces:
                parts.append({"text": "".join(pieces), **fields})
            elif fields and fields != {"thought": True}:
                parts.append(fields)
        content = {"parts": parts, "role": "model"}
        return {**self.fields, "content": content, "index": index}


class _Assembler:
    """Answers in pieces to one answer."""

    def __init__(self) -> None:
        self._decode = EventDecoder()
        self.done = False
        self.over = False  # it has no mark for that
        self._head: dict[str, Any] = {}
        self._candidates: dict[int, _CandidateSoFar] = {0: _CandidateSoFar()}
        self._calls = 0
        self.append: Callable[[str], Any] = self._candidates[0].text_of({}).append

    def event(self, data: bytes) -> list[Delta]:
        answer = self._decode(data)
        if answer.get("error"):
            raise ErrorEvent
        deltas: list[Delta] = []
        candidates = answer.pop("candidates", None) or ()
        self._head.update(answer)
        if (answer.get("promptFeedback") or {}).get("blockReason"):
            self.done = True
        for candidate in candidates:
            index = candidate.get("index") or 0
            so_far = self._candidates.setdefault(index, _CandidateSoFar())
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._part(so_far, index, part, deltas)
            for key, value in candidate.items():
                if key == "logprobsResult" and isinstance(so_far.fields.get(key), dict):
                    _extend(so_far.fields[key], value)
                elif key not in ("content", "index"):
                    so_far.fields[key] = value
            if candidate.get("finishReason") not in (None, "", "FINISH_REASON_UNSPECIFIED"):
                self.done = True
        self.append = self._candidates[0].text_of({}).append
        return deltas

    def _part(
        self, so_far: _CandidateSoFar, index: int, part: dict[str, Any], deltas: list[Delta]
    ) -> None:
        text = part.get("text")
        if isinstance(text, str):
            fields = {key: value for key, value in part.items() if key != "text"}
            so_far.text_of(fields).append(text)
            if text and part.get("thought"):
                deltas.append(Delta(reasoning=text, choice=index))
            elif text:
                deltas.append(Delta(text, choice=index))
            return
        so_far.parts.append((part, []))
        if call := part.get("functionCall"):
            if "name" not in call:
                raise ValueError("arguments of functions in pieces (partialArgs) are not supported")
            arguments = msgspec.json.encode(call.get("args") or {}).decode()
            piece = ToolCallDelta(self._calls, call["name"], call.get("id") or "", arguments)
            self._calls += 1
            deltas.append(Delta(tool_call=piece, choice=index))

    def full(self, usage: bytes | None) -> dict[str, Any]:
        head = dict(self._head)
        if usage is not None and not self.done:
            head["usageMetadata"] = msgspec.json.decode(usage).get("usageMetadata")
        candidates = [c.full(index) for index, c in sorted(self._candidates.items())]
        return {**head, "candidates": candidates}


def _extend(kept: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds the lists of a later piece."""
    for key, value in more.items():
        if isinstance(value, list) and isinstance(kept.get(key), list):
            kept[key] += value
        else:
            kept[key] = value


# Requests -------------------------------------------------------------------------------------

#: Our names of parameters, and where generationConfig has them.
_CONFIG = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "top_logprobs": "logprobs",
}


def _part(part: Params) -> Params:
    if part.get("type") == "text":
        return {"text": part.get("text", "")}
    image = image_of(part)
    if image is None:
        return part
    if image.url is not None:
        file = {"fileUri": image.url}
        if image.media_type:
            file["mimeType"] = image.media_type
        return {"fileData": file}
    return {"inlineData": {"mimeType": image.media_type, "data": image.data}}


def _result(text: Any) -> Params:
    """A tool's result: Gemini wants an object."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError):
        value = text
    return value if isinstance(value, dict) else {"result": value}


def _contents(messages: list[Params]) -> tuple[list[str], list[Params]]:
    """System texts apart, and the others as contents."""
    system: list[str] = []
    contents: list[Params] = []
    names = call_names(messages)
    for message in messages:
        role = message.get("role")
        if "parts" in message:
            contents.append(message)
        elif role in ("system", "developer"):
            system.append(text_of(message.get("content")))
        elif role == "tool":
            ident = str(message.get("tool_call_id") or "")
            answer: Params = {
                "name": message.get("name") or names.get(ident) or ident,
                "response": _result(text_of(message.get("content"))),
            }
            part = {"functionResponse": answer}
            if contents and "functionResponse" in contents[-1]["parts"][0]:
                contents[-1]["parts"].append(part)
            else:
                contents.append({"role": "user", "parts": [part]})
        else:
            calls = message.get("tool_calls") or ()
            content = message.get("content")
            parts = [_part(part) for part in parts_of(content if content or not calls else None)]
            for call in calls:
                function = call["function"]
                arguments = function.get("arguments") or "{}"
                if isinstance(arguments, str):
                    arguments = msgspec.json.decode(arguments)
                parts.append({"functionCall": {"name": function["name"], "args": arguments}})
            contents.append({"role": "model" if role == "assistant" else "user", "parts": parts})
    return system, contents


def _tool_config(choice: Any) -> Any:
    if not isinstance(choice, str):
        return choice
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}.get(choice)
    if mode:
        return {"functionCallingConfig": {"mode": mode}}
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice]}}


class Gemini(LLM):
    """Google's Gemini API.

    Environment: GOOGLE_API_KEY or GEMINI_API_KEY, GOOGLE_GEMINI_BASE_URL,
    GOOGLE_GENAI_API_VERSION.

    Args:
        version: of the API: "v1" (the default), "v1beta" ("beta" for short)...
        Others as `LLM`.
    """

    provider: ClassVar[str] = "gemini"
    reply_type: ClassVar[type[Reply]] = GeminiReply

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        version: str | None = None,
        **options: Unpack[LLMOptions],
    ) -> None:
        key = api_key or env("GOOGLE_API_KEY", "GEMINI_API_KEY")
        given = base_url or env("GOOGLE_GEMINI_BASE_URL")
        if key is None and given is None:
            raise self._no_key("GOOGLE_API_KEY", "GEMINI_API_KEY")
        version = version or env("GOOGLE_GENAI_API_VERSION") or "v1"
        self._version = "v1beta" if version == "beta" else version
        url = given or "https://generativelanguage.googleapis.com"
        super().__init__(api_key=key, base_url=url, **options)

    def _auth_headers(self) -> dict[str, str]:
        # Not in the query: URLs end up in logs.
        return {"x-goog-api-key": self._key} if self._key else {}

    def _model_path(self, model: str) -> str:
        name = model if "/" in model else f"models/{model}"
        return f"/{self._version}/{quote(name)}"

    def _chat_path(self, body: Params, stream: bool) -> str:
        path = self._model_path(body.pop("model"))
        return path + (":streamGenerateContent?alt=sse" if stream else ":generateContent")

    def _chat_body(self, messages: list[Params], params: Params, stream: bool) -> Params:
        system, contents = _contents(messages)
        given = params.pop("system", None)
        if given is not None:
            system.insert(0, text_of(given))
        if system:
            parts = [{"text": text} for text in system]
            set_unless(params, "systemInstruction", {"parts": parts})
        config: Params = {}
        for ours, theirs in _CONFIG.items():
            if (value := params.pop(ours, None)) is not None:
                config[theirs] = value
        if (stop := params.pop("stop", None)) is not None:
            config["stopSequences"] = [stop] if isinstance(stop, str) else list(stop)
        if params.pop("logprobs", None):
            config["responseLogprobs"] = True
        if (schema := params.pop("schema", None)) is not None:
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = schema_of(schema)
        config.update(params.pop("generationConfig", None) or {})
        if config:
            params["generationConfig"] = config
        if tools := params.pop("tools", None):
            functions = [tool for tool in tools if "name" in tool]
            others = [tool for tool in tools if "name" not in tool]
            params["tools"] = [{"functionDeclarations": functions}] * bool(functions) + others
        if (choice := params.pop("tool_choice", None)) is not None:
            set_unless(params, "toolConfig", _tool_config(choice))
        return {"contents": contents, **params}

    def _tool(self, tool: Tool | Params) -> Params:
        if isinstance(tool, Tool):
            return {
                "name": tool.name,
                "description": tool.description,
                "parametersJsonSchema": tool.parameters,
            }
        if tool.get("type") == "function" and isinstance(function := tool.get("function"), dict):
            made = {key: value for key, value in function.items() if key in ("name", "description")}
            made["parametersJsonSchema"] = function.get("parameters") or {}
            return made
        return tool

    def _tool_results(self, results: Sequence[tuple[ToolCall, str, bool]]) -> list[Params]:
        parts = []
        for call, text, failed in results:
            answer: Params = {
                "name": call.name,
                "response": {"error": text} if failed else _result(text),
            }
            if call.id:
                answer["id"] = call.id
            parts.append({"functionResponse": answer})
        return [{"role": "user", "parts": parts}]

    def _assembler(self) -> Assembler:
        return _Assembler()

    # Embeddings and models ------------------------------------------------------------------

    def _embed_request(self, texts: list[str], model: str, params: Params) -> tuple[str, Params]:
        name = model if "/" in model else f"models/{model}"
        requests = [
            {"model": name, "content": {"parts": [{"text": text}]}, **params} for text in texts
        ]
        return self._model_path(model) + ":batchEmbedContents", {"requests": requests}

    def _embeddings(self, response: Response, model: str) -> Embeddings:
        rows = [row.values for row in _decode_embeddings(response.content).embeddings]
        return Embeddings(rows, model=model, usage=Usage(), response=response)

    async def models(self) -> list[ModelInfo]:
        found: list[ModelInfo] = []
        query = {"pageSize": "1000"}
        while True:
            page = await self._get(f"/{self._version}/models", query)
            for item in page.get("models") or ():
                found.append(ModelInfo(item["name"].removeprefix("models/"), item))
            if not page.get("nextPageToken"):
                return found
            query["pageToken"] = page["nextPageToken"]


class _Row(msgspec.Struct):
    values: list[float]


class _Rows(msgspec.Struct):
    embeddings: list[_Row]


_decode_embeddings = msgspec.json.Decoder(_Rows).decode
