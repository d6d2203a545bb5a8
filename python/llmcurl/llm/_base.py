"""`LLM`: what the clients of all providers have in common."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

import msgspec

from .._client import AsyncClient
from .._config import UNSET, TimeoutTypes, Unset, build_timeout
from .._content import encode_json
from .._exceptions import InvalidURL
from .._headers import Headers
from .._logging import with_call_log
from .._models import Response
from .._native import DeltaParser
from .._pools import add_observed, header_list
from .._redact import mask_url, secrets_of
from ._embeddings import Embeddings
from ._errors import AuthenticationError, InvalidReply, LLMError, error_of_answer
from ._events import MAX_EVENT
from ._http import open_stream
from ._lenient import repaired
from ._messages import Conversation, messages_of
from ._reply import Reply
from ._run import Run, run
from ._stream import Assembler, Stream
from ._tools import Tool, tools_of
from ._types import ModelInfo, ToolCall

if TYPE_CHECKING:
    from ..traffic import DeadlineTypes, LimitTypes, Observer, Retry, StreamTimeout
    from ..traffic._control import Control

__all__ = ["LLM", "NO_ERROR", "LLMOptions", "Params", "env", "set_unless"]

Params = dict[str, Any]


class LLMOptions(TypedDict, total=False):
    """What the clients of all providers take, see `LLM`."""

    model: str | None
    client: AsyncClient | None
    timeout: TimeoutTypes | Unset
    headers: Mapping[str, str] | None
    max_event_bytes: int
    retry: Retry | None
    limit: LimitTypes | None
    deadline: DeadlineTypes
    stream_timeout: StreamTimeout | None
    observers: Sequence[Observer]


class _Answer(msgspec.Struct):
    """The least that must be looked at: the rest is checked to be JSON, and not built."""

    error: msgspec.Raw = msgspec.Raw()


_look = msgspec.json.Decoder(_Answer).decode
#: What some servers put where there is no error.
NO_ERROR = frozenset({b"", b"null", b"{}", b'""', b"false", b"[]"})


def env(*names: str) -> str | None:
    """The first of these environment variables that is set and not empty."""
    for name in names:
        if value := os.environ.get(name):
            return value
    return None


class LLM:
    """Base of `OpenAI`, `Anthropic`, `Gemini` and `Ollama`.

    Args:
        api_key: default: the provider's usual environment variable.
        base_url: default: the provider's usual environment variable, or its public address.
        model: of calls that name none.
        client: an `AsyncClient` to send with, which stays open; default: one of its own.
        timeout: of calls that give none; default: the client's.
        headers: sent with each call, over those of the provider.
        max_event_bytes: ceiling of one event of a stream.
        retry, limit, deadline, stream_timeout: see `Retry`, `RateLimit`, `Deadline`,
            `StreamTimeout`; of each call. Where one is not given, that of `client` holds.
        observers: `Observer`s of each call, besides those of `client`.

    Raises:
        AuthenticationError: the provider needs a key and there is none.
        InvalidURL: `base_url` cannot be used. InvalidHeader: a key or header that cannot be sent.
        TypeError, ValueError: another argument that cannot be.
    """

    provider: ClassVar[str]
    reply_type: ClassVar[type[Reply]]

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str,
        model: str | None = None,
        client: AsyncClient | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
        headers: Mapping[str, str] | None = None,
        max_event_bytes: int = MAX_EVENT,
        retry: Retry | None = None,
        limit: LimitTypes | None = None,
        deadline: DeadlineTypes = None,
        stream_timeout: StreamTimeout | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._key = api_key
        self.model = model
        self._base = base_url.rstrip("/")
        self._owned = client is None
        told = with_call_log(observers)
        if client is not None and not isinstance(client, AsyncClient):
            raise TypeError(f"client must be an AsyncClient, not {type(client).__name__}")
        self._client = AsyncClient() if client is None else client
        if client is None:
            # it tells them of its loops and shows their numbers; of calls they are told here
            self._client._settings.observers = told
        url = self._client._merge_url(self._base)  # refuses at once what is no URL
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidURL(f"base_url must begin with http:// or https://: {url.masked!r}")
        self._timeout = timeout if isinstance(timeout, Unset) else build_timeout(timeout)
        self._headers: dict[str, str] = {"Content-Type": "application/json"}
        self._headers.update(self._auth_headers())
        self._headers.update(headers or {})
        header_list(Headers(self._headers))  # refuses at once what cannot be sent
        self._max_event = max_event_bytes
        self._parser()  # and a ceiling that is none
        self._control: Control | None = None
        if (retry, limit, deadline, stream_timeout) != (None, None, None, None) or told:
            from ..traffic._control import build_control

            self._control = build_control(retry, limit, deadline, stream_timeout, told)

    # What a provider defines ----------------------------------------------------------------

    def _auth_headers(self) -> dict[str, str]:
        raise NotImplementedError

    def _chat_body(self, messages: list[Params], params: Params, stream: bool) -> Params:
        """The request's body. `params` has "model" and all else that the caller gave."""
        raise NotImplementedError

    def _chat_path(self, body: Params, stream: bool) -> str:
        """Where to send it; what belongs into the path only is taken out of the body."""
        raise NotImplementedError

    def _assembler(self) -> Assembler:
        raise NotImplementedError

    def _tool_results(self, results: Sequence[tuple[ToolCall, str, bool]]) -> list[Params]:
        """The messages that tell the model (call, result, failed)."""
        raise NotImplementedError

    def _embed_request(self, texts: list[str], model: str, params: Params) -> tuple[str, Params]:
        raise NotImplementedError(f"{self.provider} has no embeddings")

    def _embeddings(self, response: Response, model: str) -> Embeddings:
        raise NotImplementedError

    async def models(self) -> list[ModelInfo]:
        """The models on offer. Raises: as `chat`."""
        raise NotImplementedError

    # Calls ------------------------------------------------------------------------------------

    async def chat(
        self,
        messages: Conversation,
        *,
        model: str | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
        headers: Mapping[str, str] | None = None,
        retry: Retry | Unset | None = UNSET,
        deadline: DeadlineTypes | Unset = UNSET,
        priority: int = 0,
        idempotency_key: str | bool | None = None,
        **params: Any,
    ) -> Reply:
        """The model's reply to a text or conversation.

        Args:
            messages: a text, or messages: see `docs/providers.md`.
            model: default: the client's.
            timeout: seconds or `Timeout`. headers: added to the client's.
            retry, deadline: instead of the client's.
            priority: in the queue of the limit, higher goes first.
            idempotency_key: sent with each attempt, which makes them safe, if the provider
                knows such keys; True mints one.
            params: `system`, `max_tokens`, `temperature`, `top_p`, `stop`, `seed`, `tools`,
                `tool_choice`, `schema` (a type or JSON schema that the reply is to follow) mean
                the same for all providers; everything else is put into the request as it is.

        Raises:
            LLMError: the provider refuses or fails; its class says which.
            TransportError: the request did not get through.
            TypeError, ValueError: arguments that cannot be.
        """
        path, body = self._request(messages, model, params, False)
        if self._uncontrolled(retry, deadline, priority, idempotency_key):
            response = await self._post(path, body, headers, timeout)
            return self._whole(response, response.content)
        from ..traffic._llm import Job, call_llm

        job = Job(self, "chat", path, body, headers, timeout, priority, idempotency_key)
        job.model = self._chosen(model)
        return await call_llm(job, retry, deadline, lambda r: self._whole(r, r.content))

    def stream(
        self,
        messages: Conversation,
        *,
        model: str | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
        headers: Mapping[str, str] | None = None,
        retry: Retry | Unset | None = UNSET,
        deadline: DeadlineTypes | Unset = UNSET,
        priority: int = 0,
        idempotency_key: str | bool | None = None,
        stream_timeout: StreamTimeout | Unset | None = UNSET,
        **params: Any,
    ) -> Stream:
        """``async with llm.stream(...) as s``: the reply while it is written, see `Stream`.

        With `retry`, `limit`, `deadline` or `stream_timeout`, the client's or the call's, the
        block is entered with the first token: until then another attempt may be made.

        Args: as `chat`; stream_timeout: instead of the client's.

        Raises:
            TypeError, ValueError: at once. The others when the block is entered.
        """
        path, body = self._request(messages, model, params, True)
        if stream_timeout is not UNSET or not self._uncontrolled(
            retry, deadline, priority, idempotency_key
        ):
            from ..traffic._llm import Job
            from ..traffic._stream import ControlledStream

            job = Job(self, "stream", path, body, headers, timeout, priority, idempotency_key)
            job.model = self._chosen(model)
            return ControlledStream(job, retry, deadline, stream_timeout)
        url = self._base + path
        content = encode_json(body)
        fields = self._fields(headers)
        limit = self._timeout if isinstance(timeout, Unset) else timeout

        def open() -> Awaitable[Response]:
            return open_stream(self._client, url, fields, content, limit)

        return Stream(self, open, self._parser(), self._assembler())

    def _parser(self) -> DeltaParser:
        return DeltaParser(self.provider, self._max_event)

    def _uncontrolled(
        self, retry: object, deadline: object, priority: object, key: str | bool | None
    ) -> bool:
        """Nothing stands between the call and its request."""
        return (
            self._control is None
            and retry is UNSET
            and deadline is UNSET
            and priority == 0
            and key is None
            and self._client._control is None
        )

    async def run(
        self,
        messages: Conversation,
        *,
        tools: Sequence[Any],
        max_rounds: int = 10,
        on_tool_error: str = "tell",
        deadline: DeadlineTypes | Unset = UNSET,
        **params: Any,
    ) -> Run:
        """Lets the model call tools, all that it asks for at once, until it has its answer.

        Args:
            messages: as in `chat`.
            tools: typed functions, async or sync (run in a thread), or `Tool`s.
            max_rounds: replies with tool calls, at most.
            on_tool_error: "tell" the model about it, or "raise" it.
            deadline: of all rounds together; the tools themselves are not interrupted.
            params: as in `chat`.

        Raises:
            ToolError: a tool failed, with "raise". TooManyRounds. Else as `chat`.
        """
        if not isinstance(deadline, Unset):
            from ..traffic import build_deadline

            params["deadline"] = build_deadline(deadline)
        return await run(self, messages, tools, max_rounds, on_tool_error, params)

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
        headers: Mapping[str, str] | None = None,
        retry: Retry | Unset | None = UNSET,
        deadline: DeadlineTypes | Unset = UNSET,
        priority: int = 0,
        idempotency_key: str | bool | None = None,
        **params: Any,
    ) -> Embeddings:
        """Vectors of texts.

        Args:
            texts: one or many.
            params: put into the request as they are. Others as in `chat`.

        Raises:
            NotImplementedError: the provider has no embeddings. Else as `chat`.
        """
        chosen = self._chosen(model)
        many = [texts] if isinstance(texts, str) else list(texts)
        expected = None if "input" in params else len(many)
        path, body = self._embed_request(many, chosen, params)
        if self._uncontrolled(retry, deadline, priority, idempotency_key):
            response = await self._post(path, body, headers, timeout)
            return self._vectors(response, chosen, expected)
        from ..traffic._llm import Job, call_llm

        job = Job(self, "embed", path, body, headers, timeout, priority, idempotency_key)
        job.model = chosen
        return await call_llm(job, retry, deadline, lambda r: self._vectors(r, chosen, expected))

    def _vectors(self, response: Response, chosen: str, expected: int | None) -> Embeddings:
        """The embeddings in an answer."""
        self._check(response, response.content)
        try:
            found = self._embeddings(response, chosen)
            if expected is not None and len(found) != expected:
                raise ValueError(f"{len(found)} vectors for {expected} texts")
            return found
        except (ValueError, msgspec.DecodeError) as error:
            raise InvalidReply(
                f"the embeddings have not the expected form: {error}",
                provider=self.provider,
                status=response.status_code,
                body=response.content,
            ) from error

    def _chosen(self, model: str | None) -> str:
        chosen = model or self.model
        if chosen is None:
            raise TypeError("which model? give model= here or to the client")
        return chosen

    def _request(
        self, messages: Conversation, model: str | None, params: Params, stream: bool
    ) -> tuple[str, Params]:
        params["model"] = self._chosen(model)
        if params.get("stream") and not stream:
            raise TypeError("chat() gives whole replies: use stream() without stream=True")
        if params.get("tools"):
            params["tools"] = [self._tool(tool) for tool in tools_of(params["tools"])]
        body = self._chat_body(messages_of(messages), params, stream)
        return self._chat_path(body, stream), body

    def _tool(self, tool: Tool | Params) -> Params:
        """A tool's description in the provider's form; here OpenAI's, which others took over."""
        if not isinstance(tool, Tool):
            return tool
        function = {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        }
        return {"type": "function", "function": function}

    def _fields(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        return {**self._headers, **headers} if headers else self._headers

    async def _post(
        self,
        path: str,
        body: Params,
        headers: Mapping[str, str] | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
    ) -> Response:
        response: Response = await self._client.request(
            "POST",
            self._base + path,
            content=encode_json(body),
            headers=self._fields(headers),
            timeout=self._timeout if isinstance(timeout, Unset) else timeout,
        )
        return response

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """A JSON answer, parsed."""
        response: Response = await self._client.request(
            "GET",
            self._base + path,
            params=dict(params) if params else None,
            headers=self._headers,
            timeout=self._timeout,
        )
        self._check(response, response.content)
        return msgspec.json.decode(response.content)

    # Answers ------------------------------------------------------------------------------------

    def _scrub(self, response: Response, text: str) -> str:
        """A text of the provider's without the key, which some repeat in their errors, and
        without other secrets of the request's headers."""
        secrets = [self._key] if self._key else []
        for secret in secrets + secrets_of(response.request.headers):
            text = text.replace(secret, "***")
        return text

    def _check(self, response: Response, body: bytes) -> bytes:
        """The body of an answer that is a reply. Raises the error that it means else."""
        status = response.status_code
        if status >= 300 and response.has_redirect_location:
            target = mask_url(response.headers["location"])
            raise InvalidReply(
                f"the server redirects to {target}: give that as base_url=, or "
                "client=AsyncClient(follow_redirects=True)",
                provider=self.provider,
                status=status,
            )
        if status < 400:
            try:
                error = bytes(_look(body).error)
            except (ValueError, RecursionError) as problem:
                fixed = None if isinstance(problem, msgspec.ValidationError) else repaired(body)
                if fixed is not None:
                    return self._check(response, fixed)
                raise InvalidReply(
                    f"the answer is not a JSON object: {problem}",
                    provider=self.provider,
                    status=status,
                    body=self._scrub(response, body.decode("utf-8", "replace")).encode(),
                ) from problem
            if error in NO_ERROR:
                if b'"error"' in body:
                    self._check_choices(response, body)
                return body
        raise self._refusal(response, body)

    def _check_choices(self, response: Response, body: bytes) -> None:
        """Raises the error of a reply that has one further inside."""

    def _refusal(self, response: Response, body: bytes) -> LLMError:
        """The error in an answer."""
        return error_of_answer(
            self.provider,
            response.status_code,
            response.headers,
            body,
            partial(self._scrub, response),
        )

    def _whole(self, response: Response, body: bytes) -> Reply:
        """The reply in a plain answer."""
        return self.reply_type(self._check(response, body), response)

    def _made(self, response: Response, full: Params) -> Reply:
        """The reply that a stream was put together to."""
        return self.reply_type(None, response, full)

    # Life -----------------------------------------------------------------------------------------

    @property
    def client(self) -> AsyncClient:
        """What it sends with."""
        return self._client

    @property
    def base_url(self) -> str:
        """Where it sends to."""
        return self._base

    def stats(self) -> dict[str, float]:
        """`AsyncClient.stats` of what it sends with, and the numbers of its own observers: with a
        `Totals` among them calls by outcome, retries and tokens."""
        total = self._client.stats()
        shown = self._client._settings.observers
        for observer in self._told:
            if observer not in shown:
                add_observed(total, observer)
        return total

    @property
    def _told(self) -> tuple[Observer, ...]:
        """All observers of its calls."""
        controls = (self._control, self._client._control)
        return tuple(dict.fromkeys(o for c in controls if c is not None for o in c.observers))

    async def aclose(self) -> None:
        """Closes the client, if it is its own."""
        if self._owned:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        url = self._client._merge_url(self._base).masked
        return f"<{type(self).__name__} {url} {self.model or ''}".rstrip() + ">"

    def _no_key(self, *names: str) -> AuthenticationError:
        return AuthenticationError(
            f"no API key: give api_key= or set {' or '.join(names)}", provider=self.provider
        )


def set_unless(body: Params, name: str, value: Any) -> None:
    """Puts a value in unless the caller gave the provider's own field."""
    if value is not None:
        body.setdefault(name, value)
