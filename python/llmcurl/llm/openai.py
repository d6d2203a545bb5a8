"""OpenAI's chat completions, as spoken by vLLM, Azure and every compatible server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack
from urllib.parse import quote

import msgspec

from .._models import Response
from ._base import LLM, NO_ERROR, LLMOptions, Params, env, set_unless
from ._embeddings import Embeddings
from ._errors import InvalidReply
from ._lenient import EventDecoder
from ._messages import parts_of
from ._reply import Reply
from ._schema import strict_schema_of
from ._stream import Assembler, ErrorEvent
from ._types import Choice, Delta, ModelInfo, TokenLogprob, ToolCall, ToolCallDelta, Usage

__all__ = ["OpenAI", "OpenAIReply"]

# What of a reply is read --------------------------------------------------------------------


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None
    id: str | int | None = None
    custom: _Custom | None = None


class _Message(msgspec.Struct):
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw(b"null")  # may be most of the answer


class _Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | None = None
    refusal: list[TokenLogprob] | None = None


class _ChoiceError(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Errors(msgspec.Struct):
    choices: list[_ChoiceError]


_decode_errors = msgspec.json.Decoder(_Errors).decode
_decode_logprobs = msgspec.json.Decoder(_Logprobs | None).decode


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    id: str | int | None = None
    model: str | None = None
    usage: _Usage | None = None


class OpenAIReply(Reply):
    """A chat completion."""

    __slots__ = ()
    provider: ClassVar[str] = "openai"
    decode: ClassVar[Any] = msgspec.json.Decoder(_Completion, strict=False).decode

    def _choice(self) -> _Choice:
        choices: list[_Choice] = self._read().choices
        return choices[0] if choices else _Choice(_Message())

    @property
    def text(self) -> str:
        return _text(self._choice().message)

    @property
    def reasoning(self) -> str:
        return _reasoning(self._choice().message)

    @property
    def tool_calls(self) -> list[ToolCall]:
        return _calls(self._choice().message)

    @property
    def finish_reason(self) -> str | None:
        return _reason(self._choice())

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        return self._logprobs(self._choice())

    @property
    def choices(self) -> list[Choice]:
        return [
            Choice(
                _text(choice.message),
                _reasoning(choice.message),
                _calls(choice.message),
                _reason(choice),
                self._logprobs(choice),
            )
            for choice in self._read().choices
        ]

    def _logprobs(self, choice: _Choice) -> list[TokenLogprob] | None:
        try:
            found = _decode_logprobs(choice.logprobs)
        except msgspec.DecodeError as error:
            raise InvalidReply(
                f"the logprobs have not the expected form: {error}", provider=self.provider
            ) from error
        return None if found is None else found.content or found.refusal

    @property
    def usage(self) -> Usage:
        usage = self._read().usage or _Usage()
        return Usage(
            usage.prompt_tokens,
            usage.completion_tokens,
            (usage.prompt_tokens_details or _Details()).cached_tokens,
            (usage.completion_tokens_details or _Details()).reasoning_tokens,
        )

    @property
    def model(self) -> str:
        return self._read().model or ""

    @property
    def id(self) -> str:
        return str(self._read().id or "")

    @property
    def message(self) -> dict[str, Any]:
        choices = self.json().get("choices") or [{"message": {"role": "assistant", "content": ""}}]
        # Null fields are told, but not taken back by all servers.
        return {
            key: value
            for key, value in choices[0]["message"].items()
            if value is not None and value != [] or key == "content"
        }


def _text(message: _Message) -> str:
    content = message.content
    if isinstance(content, list):
        content = "".join(_part_text(part) for part in content if isinstance(part, (str, dict)))
    return (content if isinstance(content, str) else "") or message.refusal or ""


def _reasoning(message: _Message) -> str:
    told = message.reasoning_content or message.reasoning
    if told or not isinstance(message.content, list):
        return told or ""
    return "".join(_thought(part) for part in message.content)


def _calls(message: _Message) -> list[ToolCall]:
    made = []
    for call in message.tool_calls or ():
        if (custom := call.custom) is not None:
            made.append(ToolCall(custom.name or "", custom.input or "", str(call.id or "")))
            continue
        function = call.function or _Function()
        arguments = function.arguments or "{}"
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        made.append(ToolCall(function.name or "", arguments, str(call.id or "")))
    return made


def _reason(choice: _Choice) -> str | None:
    reason = choice.finish_reason or None
    return "tool_calls" if reason == "function_call" else reason


# Streams --------------------------------------------------------------------------------------


class _ChoiceSoFar:
    """One answer of a stream."""

    __slots__ = ("calls", "fields", "finish", "logprobs", "reasoning", "slots", "texts", "thoughts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []  # Mistral's, which are parts of the content
        self.reasoning: dict[str, list[str]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.slots: dict[int, int] = {}  # the server's index -> ours, where they differ
        self.fields: dict[str, Any] = {}
        self.finish: str | None = None
        self.logprobs: dict[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        content: Any = None
        if self.texts or not (self.calls or "refusal" in self.fields):
            content = "".join(self.texts)
        if self.thoughts:
            thought = [{"type": "text", "text": "".join(self.thoughts)}]
            content = [
                {"type": "thinking", "thinking": thought},
                {"type": "text", "text": content or ""},
            ]
        made: dict[str, Any] = {"role": "assistant", "content": content}
        for name, pieces in self.reasoning.items():
            made[name] = "".join(pieces)
        if self.calls:
            made["tool_calls"] = [_whole_call(call) for _, call in sorted(self.calls.items())]
        return {**self.fields, **made}


def _whole_call(call: dict[str, Any]) -> dict[str, Any]:
    made = {**call}
    arguments, function = "".join(made.pop("arguments")), made.pop("function")
    return made if "custom" in made else {**made, "function": {**function, "arguments": arguments}}


class _Assembler:
    """Chunks to a chat completion."""

    def __init__(self) -> None:
        self._decode = EventDecoder()
        self.done = self.over = False
        self._head: dict[str, Any] = {}
        self._usage: Any = None
        self._choices: dict[int, _ChoiceSoFar] = {0: _ChoiceSoFar()}
        self.append = self._choices[0].texts.append

    def event(self, data: bytes) -> list[Delta]:
        if data.strip() == b"[DONE]":
            self.done = self.over = True
            return []
        chunk = self._decode(data)
        if chunk.get("error"):
            raise ErrorEvent
        if chunk.get("object") == "error":  # older vLLM
            raise ErrorEvent
        choices = chunk.pop("choices", None) or ()
        if (usage := chunk.pop("usage", None)) is not None:
            self._usage = usage
        for key, value in chunk.items():
            if value is not None or key not in self._head:
                self._head[key] = value
        deltas: list[Delta] = []
        for choice in choices:
            self._choice(choice, deltas)
        return deltas

    def _choice(self, choice: dict[str, Any], deltas: list[Delta]) -> None:
        if choice.get("error"):  # OpenRouter
            raise ErrorEvent
        index = choice.get("index") or 0
        so_far = self._choices.setdefault(index, _ChoiceSoFar())
        if reason := choice.get("finish_reason"):  # some servers send "" until the end
            so_far.finish = reason
            self.done = True
        if isinstance(probs := choice.get("logprobs"), dict):
            kept = so_far.logprobs = so_far.logprobs or {}
            for key, value in probs.items():
                if isinstance(value, list) and isinstance(kept.get(key), list):
                    kept[key] += value
                elif kept.get(key) is None:
                    kept[key] = value
        said: dict[str, Any] = choice.get("delta") or {}
        if not (said or so_far.texts or so_far.calls):
            said = choice.get("message") or {}  # a server that does not stream after all
        for key, value in said.items():
            if key == "content":
                for part in [value] if isinstance(value, str) else value or ():
                    if text := _part_text(part):
                        so_far.texts.append(text)
                        deltas.append(Delta(text, choice=index))
                    elif thought := _thought(part):
                        so_far.thoughts.append(thought)
                        deltas.append(Delta(reasoning=thought, choice=index))
            elif key in ("reasoning_content", "reasoning") and isinstance(value, str):
                if value:
                    so_far.reasoning.setdefault(key, []).append(value)
                    # Some servers send the same text under both names.
                    if key == "reasoning_content" or "reasoning_content" not in said:
                        deltas.append(Delta(reasoning=value, choice=index))
            elif key == "tool_calls":
                for call in value or ():
                    deltas.append(Delta(tool_call=_merge(so_far, call), choice=index))
            elif key == "role" or value is None:
                continue
            elif key == "refusal":
                so_far.fields[key] = (so_far.fields.get(key) or "") + value
                if value:
                    deltas.append(Delta(value, choice=index))
            else:
                so_far.fields[key] = _added(so_far.fields.get(key), value)

    def full(self, usage: bytes | None) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": choice.logprobs,
                "finish_reason": choice.finish,
            }
            for index, choice in sorted(self._choices.items())
        ]
        return {
            **self._head,
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage,
        }


def _part_text(part: Any) -> str:
    return part if isinstance(part, str) else str(part.get("text") or "")


def _thought(part: Any) -> str:
    """The text in a part of content that is a thought, as Mistral has it."""
    if not isinstance(part, dict) or part.get("type") != "thinking":
        return ""
    return "".join(_part_text(piece) for piece in part.get("thinking") or ())


def _added(old: Any, new: Any) -> Any:
    """A field of which the stream gives pieces (audio, function_call): texts and lists grow."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _added(old.get(key), value) for key, value in new.items()}}
    if type(old) is type(new) in (str, list):
        return old + new
    return old if new is None else new


def _slot(so_far: _ChoiceSoFar, piece: dict[str, Any], ident: str, name: str) -> int:
    """Which call a piece belongs to. Servers leave out the index, or the id of later pieces, or
    give every call the index 0."""
    calls, given = so_far.calls, piece.get("index")
    after = max(calls, default=-1) + 1
    if given is None:
        known = [number for number, call in calls.items() if ident and call["id"] == ident]
        if known:
            return known[0]
        return after if ident or name or not calls else after - 1
    index = so_far.slots.get(given, given)
    if ident and index in calls and calls[index]["id"] not in ("", ident):
        index = so_far.slots[given] = after
    return int(index)


def _merge(so_far: _ChoiceSoFar, piece: dict[str, Any]) -> ToolCallDelta:
    """Adds a piece of a tool call."""
    custom = piece.get("custom") or {}
    function = piece.get("function") or custom
    name, ident = function.get("name") or "", str(piece.get("id") or "")
    index = _slot(so_far, piece, ident, name)
    call = so_far.calls.setdefault(
        index, {"id": "", "type": "function", "function": {"name": ""}, "arguments": []}
    )
    arguments = function.get("arguments") or custom.get("input") or ""
    if not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    # Some servers repeat them with each piece.
    ident, call["id"] = ("" if ident == call["id"] else ident), ident or call["id"]
    known = call["function"]
    name, known["name"] = ("" if name == known["name"] else name), name or known["name"]
    call["arguments"].append(arguments)
    for key, value in piece.items():
        if key == "custom":
            call[key] = _added(call.get(key), value)
            call["type"] = key
        elif key not in ("index", "id", "type", "function") and value is not None:
            call[key] = value
    return ToolCallDelta(index, name, ident, arguments)


# Requests -------------------------------------------------------------------------------------


def _response_format(schema: Any) -> Params:
    made, strict = strict_schema_of(schema)
    name = str(made.get("title") or getattr(schema, "__name__", "reply"))
    name = "".join(c if c.isalnum() and c.isascii() or c in "_-" else "_" for c in name)[:64]
    inner = {"name": name, "schema": made, "strict": strict}
    return {"type": "json_schema", "json_schema": inner}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str) and choice not in ("auto", "none", "required"):
        return {"type": "function", "function": {"name": choice}}
    return choice


def _signed(options: LLMOptions) -> bool:
    """Whether the headers given hold what stands for a key, such as a token of Entra's."""
    return any(
        name.lower() in ("authorization", "api-key") for name in options.get("headers") or ()
    )


class OpenAI(LLM):
    """OpenAI, and every server that speaks its chat completions (``base_url=``).

    Environment: OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID; for Azure
    AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT, OPENAI_API_VERSION.

    Args:
        organization, project: sent along.
        azure_endpoint, api_version: Azure's URLs and key style: the model is the deployment.
        Others as `LLM`. With a `base_url` of one's own no key is needed.
    """

    provider: ClassVar[str] = "openai"
    reply_type: ClassVar[type[Reply]] = OpenAIReply

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        azure_endpoint: str | None = None,
        api_version: str | None = None,
        **options: Unpack[LLMOptions],
    ) -> None:
        self._azure = azure_endpoint is not None or api_version is not None
        self._organization = organization or env("OPENAI_ORG_ID")
        self._project = project or env("OPENAI_PROJECT_ID")
        self._version = ""
        if self._azure:
            azure_endpoint = azure_endpoint or base_url or env("AZURE_OPENAI_ENDPOINT")
            if azure_endpoint is None:
                raise ValueError("azure_endpoint= or AZURE_OPENAI_ENDPOINT is missing")
            version = api_version or env("OPENAI_API_VERSION")
            if version is None:
                raise ValueError("api_version= or OPENAI_API_VERSION is missing")
            self._version = f"?api-version={quote(version, safe='')}"
            url = azure_endpoint.rstrip("/")
            if not url.endswith("/openai"):
                url += "/openai"
            names: tuple[str, ...] = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY")
        else:
            given = base_url or env("OPENAI_BASE_URL")
            url = given or "https://api.openai.com/v1"
            names = ("OPENAI_API_KEY",)
        key = api_key or env(*names)
        if key is None and (self._azure or given is None) and not _signed(options):
            raise self._no_key(*names)
        # OpenAI's later models refuse max_tokens; most other servers know nothing else.
        self._completion_tokens = url.startswith("https://api.openai.com/")
        super().__init__(api_key=key, base_url=url, **options)

    def _auth_headers(self) -> dict[str, str]:
        fields = {}
        if self._key:
            fields = (
                {"api-key": self._key} if self._azure else {"Authorization": f"Bearer {self._key}"}
            )
        if self._organization:
            fields["OpenAI-Organization"] = self._organization
        if self._project:
            fields["OpenAI-Project"] = self._project
        return fields

    def _path(self, path: str, model: str) -> str:
        if not self._azure:
            return path
        return f"/deployments/{quote(model, safe='')}{path}{self._version}"

    def _chat_path(self, body: Params, stream: bool) -> str:
        return self._path("/chat/completions", body["model"])

    def _chat_body(self, messages: list[Params], params: Params, stream: bool) -> Params:
        for message in messages:
            if isinstance(content := message.get("content"), list):
                message["content"] = parts_of(content)
        if (system := params.pop("system", None)) is not None:
            messages.insert(0, {"role": "system", "content": system})
        if (schema := params.pop("schema", None)) is not None:
            set_unless(params, "response_format", _response_format(schema))
        if "tool_choice" in params:
            params["tool_choice"] = _tool_choice(params["tool_choice"])
        if self._completion_tokens and "max_tokens" in params:
            set_unless(params, "max_completion_tokens", params.pop("max_tokens"))
        if stream:
            params["stream"] = True
            set_unless(params, "stream_options", {"include_usage": True})
            if params["stream_options"] is False:  # for servers that refuse it
                del params["stream_options"]
        return {"messages": messages, **params}

    def _check_choices(self, response: Response, body: bytes) -> None:
        try:
            choices = _decode_errors(body).choices
        except msgspec.DecodeError:
            return  # has no choices
        if choices and bytes(choices[0].error) not in NO_ERROR:
            error = self._refusal(response, body)
            error.partial = OpenAIReply(body, response)
            raise error

    def _tool_results(self, results: Sequence[tuple[ToolCall, str, bool]]) -> list[Params]:
        return [
            {"role": "tool", "tool_call_id": call.id, "content": text} for call, text, _ in results
        ]

    def _assembler(self) -> Assembler:
        return _Assembler()

    # Embeddings and models ------------------------------------------------------------------

    def _embed_request(self, texts: list[str], model: str, params: Params) -> tuple[str, Params]:
        # A third of the bytes of JSON's numbers, and no parsing of them.
        body = {"model": model, "input": texts, "encoding_format": "base64", **params}
        return self._path("/embeddings", model), body

    def _embeddings(self, response: Response, model: str) -> Embeddings:
        found = _decode_embeddings(response.content)
        used = (found.usage or _Usage()).prompt_tokens
        rows = [row.embedding for row in sorted(found.data, key=lambda row: row.index)]
        return Embeddings(rows, model=found.model or model, usage=Usage(used), response=response)

    async def models(self) -> list[ModelInfo]:
        path = f"/models{self._version}"
        return [ModelInfo(item["id"], item) for item in (await self._get(path)).get("data") or ()]


class _Row(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Rows(msgspec.Struct):
    data: list[_Row]
    model: str | None = None
    usage: _Usage | None = None


_decode_embeddings = msgspec.json.Decoder(_Rows).decode
