"""Carrying out the lines of a batch file: the client that a `Spec` describes, and one call of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from .._config import UNSET
from ..llm import LLM, Anthropic, Gemini, Ollama, OpenAI, Usage
from ._batchfile import CHAT, Answer, Form, Item, one_line
from ._limit import RateLimit
from ._llm import Job, call_llm
from ._retry import Retry

if TYPE_CHECKING:
    from .._models import Response
    from ..llm import Reply

__all__ = ["PROVIDERS", "Spec", "client_of", "sender", "sender_of"]

PROVIDERS: dict[str, Callable[..., LLM]] = {
    "openai": OpenAI,
    "anthropic": Anthropic,
    "gemini": Gemini,
    "ollama": Ollama,
}


class Spec(msgspec.Struct, frozen=True):
    """How to send, as plain data: it travels to the workers of a cluster. Without the key, which
    each process takes from its own environment.

    Attributes:
        provider: one of `PROVIDERS`. base_url, model: of the client; None: its defaults.
        override: `model` also for lines that name another one.
        defaults: parameters of lines that do not give them.
        retries: further attempts. timeout, deadline: seconds. rpm, tpm: see `RateLimit`.
        redis, limit_name: where, and under which name, the limit is shared; None: this process
            alone.
        idempotency: an Idempotency-Key goes with each line, the same in each run.
    """

    provider: str = "openai"
    base_url: str | None = None
    model: str | None = None
    override: bool = False
    defaults: dict[str, Any] = {}
    retries: int = 4
    timeout: float | None = None
    deadline: float | None = None
    rpm: float | None = None
    tpm: float | None = None
    redis: str | None = None
    limit_name: str = "default"
    idempotency: bool = False

    def __repr__(self) -> str:
        # Dask's workers log the arguments of a task that fails, and URLs may have passwords.
        return f"<Spec {self.provider} {self.model}>"


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Body(msgspec.Struct):
    model: str = ""
    usage: _Usage | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


@asynccontextmanager
async def client_of(spec: Spec) -> AsyncIterator[LLM]:
    """The client, while the block lasts. Raises: as its class."""
    options: dict[str, Any] = {"model": spec.model}
    if spec.base_url is not None:
        options["base_url"] = spec.base_url
    if spec.timeout is not None:
        options["timeout"] = spec.timeout
    if spec.deadline is not None:
        options["deadline"] = spec.deadline
    if spec.retries:
        options["retry"] = Retry(attempts=spec.retries + 1)
    if spec.rpm is None and spec.tpm is None:
        async with PROVIDERS[spec.provider](**options) as llm:
            yield llm
        return
    shared: dict[str, Any] = {}
    if spec.redis is not None:
        # A limit that cannot be shared would be exceeded: then the lines fail, and are resumed.
        shared = {"redis": spec.redis, "name": spec.limit_name, "when_lost": "closed"}
    limit = RateLimit(spec.rpm, spec.tpm, **shared)
    try:
        async with PROVIDERS[spec.provider](**options, limit=limit) as llm:
            yield llm
    finally:
        await limit.aclose()


@asynccontextmanager
async def sender(spec: Spec, form: Form) -> AsyncIterator[Callable[[Item], Any]]:
    """A function that carries out an item, while the block lasts."""
    async with client_of(spec) as llm:
        yield sender_of(llm, spec, form)


def sender_of(llm: LLM, spec: Spec, form: Form) -> Callable[[Item], Coroutine[Any, Any, Answer]]:
    """A function that carries out an item with that client."""
    return _Sender(llm, spec, form)


class _Sender:
    def __init__(self, llm: LLM, spec: Spec, form: Form) -> None:
        self._llm = llm
        self._spec = spec
        self._raw = form == "openai" and isinstance(llm, OpenAI)

    async def __call__(self, item: Item) -> Answer:
        """The answer to an item. Raises: as `LLM.chat`."""
        spec = self._spec
        body = {**spec.defaults, **item.body}
        if spec.model is not None and (spec.override or not body.get("model")):
            body["model"] = spec.model
        for name in ("stream", "stream_options"):  # the whole answer is wanted
            body.pop(name, None)
        key = None
        if spec.idempotency:
            key = hashlib.blake2b(item.key.encode() + b"\n" + item.raw, digest_size=16).hexdigest()
        if self._raw:
            return await self._send(item.url, body, key)
        if item.url != CHAT:
            raise ValueError(f"{self._llm.provider} has no {item.url}")
        messages = body.pop("messages")
        return _answer_of(await self._llm.chat(messages, idempotency_key=key, **body))

    async def _send(self, url: str, body: dict[str, Any], key: str | None) -> Answer:
        """The body as it is, to the endpoint that it is meant for."""
        llm = self._llm
        if not body.get("model"):
            body["model"] = llm._chosen(None)
        chat = url == CHAT
        path = llm._chat_path(body, False) if chat else url.removeprefix("/v1")
        kind = "embed" if url.endswith("/embeddings") else "chat"
        job = Job(llm, kind, path, body, None, UNSET, 0, key)

        def read(response: Response) -> Answer:
            content = response.content
            llm._check(response, content)
            return _raw_answer(response, content)

        return await call_llm(job, UNSET, UNSET, read)


def _raw_answer(response: Response, content: bytes) -> Answer:
    try:
        found = _decode_body(content)
    except msgspec.ValidationError:  # "model": null, say: it is an answer, and paid for
        found = _Body()
    usage = None
    if (told := found.usage) is not None:
        taken = told.prompt_tokens if told.input_tokens is None else told.input_tokens
        made = told.completion_tokens if told.output_tokens is None else told.output_tokens
        usage = Usage(taken, made)
    request_id = response.headers.get("x-request-id") or ""
    return Answer(
        response.status_code, request_id, one_line(content), "", None, [], found.model, usage
    )


def _answer_of(reply: Reply) -> Answer:
    calls = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in reply.tool_calls]
    return Answer(
        reply.response.status_code,
        reply.request_id,
        one_line(reply.raw),
        reply.text,
        reply.finish_reason,
        calls,
        reply.model,
        reply.usage,
    )
