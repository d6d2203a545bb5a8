"""What `Fallback` and `Hedge` have in common: the models behind them, `run`, and the chosen stream."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, Union

from .._config import Unset
from ..llm._run import Run, run
from ._deadline import Deadline, build_deadline

if TYPE_CHECKING:
    from ..llm._embeddings import Embeddings
    from ..llm._messages import Conversation
    from ..llm._reply import Reply
    from ..llm._types import Delta, ToolCall, Usage
    from ._record import Observer

__all__ = ["ChosenStream", "Model", "Several", "Target", "TargetTypes", "one_deadline", "opened",
           "targets_of"]  # fmt: skip


class Model(Protocol):
    """What can stand behind a `Fallback` or `Hedge`: an `LLM`, or one of these two."""

    def chat(self, messages: Any, **params: Any) -> Awaitable[Reply]: ...
    def stream(self, messages: Any, **params: Any) -> Any: ...
    def embed(self, texts: Any, **params: Any) -> Awaitable[Embeddings]: ...
    async def aclose(self) -> None: ...


TargetTypes = Union["Model", tuple["Model", str]]


class Target:
    """A client, and the model to ask it for (None: the caller's or the client's own)."""

    __slots__ = ("llm", "model")

    def __init__(self, llm: Model, model: str | None = None) -> None:
        self.llm = llm
        self.model = model

    @property
    def name(self) -> str:
        """The model and where it is, for logs and statistics. Without secrets."""
        model = self.model or getattr(self.llm, "model", None) or ""
        base = getattr(self.llm, "_base", None)
        if base is None:
            return f"{type(self.llm).__name__} {model}".rstrip()
        place = self.llm._client._merge_url(base).masked  # type: ignore[attr-defined]
        return f"{model} at {place}" if model else str(place)

    def with_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a call, with this target's model."""
        return params if self.model is None else {**params, "model": self.model}

    def leaf(self, provider: str) -> Any:
        """A client of that provider here, None if there is none."""
        if isinstance(self.llm, Several):
            return self.llm._leaf(provider)
        return self.llm if getattr(self.llm, "provider", None) == provider else None


def targets_of(given: TargetTypes | Sequence[TargetTypes]) -> list[Target]:
    """The targets in what a user gives: a client, a (client, model) pair, or a list of these.

    Raises:
        TypeError: something is neither. ValueError: there is none.
    """
    several = isinstance(given, (list, tuple)) and not _is_pair(given)
    many: list[Any] = list(given) if several else [given]  # type: ignore[arg-type]
    if not many:
        raise ValueError("give at least one LLM client")
    made = []
    for one in many:
        llm, model = one if _is_pair(one) else (one, None)
        if isinstance(llm, type) or not all(
            callable(getattr(llm, name, None)) for name in ("chat", "stream", "aclose")
        ):
            raise TypeError(f"an LLM client, or a (client, model) pair, is needed, not {one!r}")
        made.append(Target(llm, model))
    return made


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str)


def one_deadline(params: dict[str, Any]) -> Deadline | None:
    """The deadline among a call's parameters, made one moment for all requests of the call.

    Raises:
        TypeError, ValueError: it cannot be one.
    """
    if params.get("deadline") is None or isinstance(params["deadline"], Unset):
        return None
    deadline = params["deadline"] = build_deadline(params["deadline"])
    return deadline


async def opened(
    target: Target,
    messages: Any,
    params: dict[str, Any],
    lost: Callable[[Any], None] | None = None,
) -> Any:
    """A stream of the target's that has its first content, or its end, ready to be read. One that
    is given up before is closed, and told to `lost`."""
    stream = target.llm.stream(messages, **target.with_model(params))
    entered = False
    try:
        await stream.__aenter__()
        entered = True
        await stream._first_content()
    except BaseException as error:
        if lost is not None:
            lost(stream)
        if entered:
            await stream.__aexit__(type(error), error, None)
        raise
    return stream


class Several:
    """Base of `Fallback` and `Hedge`: several models with the surface of one."""

    _targets: list[Target]

    async def chat(self, messages: Conversation, **params: Any) -> Reply:
        """As `LLM.chat`."""
        raise NotImplementedError

    def stream(self, messages: Conversation, **params: Any) -> ChosenStream:
        """As `LLM.stream`. The choice falls before the first content reaches the caller."""
        raise NotImplementedError

    async def embed(self, texts: str | Sequence[str], **params: Any) -> Embeddings:
        """As `LLM.embed`. The vectors of different models cannot be compared: take one model."""
        raise NotImplementedError

    async def _chat_of(
        self, messages: Conversation, params: dict[str, Any], provider: str | None
    ) -> Reply:
        """`chat`, by the clients of one provider only if one is given."""
        raise NotImplementedError

    async def run(
        self,
        messages: Conversation,
        *,
        tools: Sequence[Any],
        max_rounds: int = 10,
        on_tool_error: str = "tell",
        **params: Any,
    ) -> Run:
        """As `LLM.run`. Each round is chosen anew; after the first reply, whose messages have its
        provider's form, among the clients of that provider."""
        one_deadline(params)
        return await run(_Rounds(self), messages, tools, max_rounds, on_tool_error, params)  # type: ignore[arg-type]

    def _leaf(self, provider: str) -> Any:
        for target in self._targets:
            if (found := target.leaf(provider)) is not None:
                return found
        return None

    async def aclose(self) -> None:
        """Closes the clients, as far as each owns what it sends with."""
        for target in self._targets:
            await target.llm.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Rounds:
    """One `run`, as `llm._run.run` wants to see it."""

    def __init__(self, several: Several) -> None:
        self._several = several
        self.provider = ""

    async def chat(self, messages: Any, **params: Any) -> Reply:
        reply = await self._several._chat_of(messages, params, self.provider or None)
        self.provider = reply.provider
        return reply

    @property
    def _told(self) -> tuple[Observer, ...]:
        found: tuple[Observer, ...] = self._several._leaf(self.provider)._told
        return found

    def _tool_results(self, results: Any) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = self._several._leaf(self.provider)._tool_results(results)
        return made


class ChosenStream:
    """A `Stream` of the one model that was chosen: same methods, see there.

    Entering the block chooses: it returns when one model has sent its first content (text,
    reasoning or a piece of a tool call), or has ended without any.
    """

    def __init__(
        self, choose: Callable[[], Awaitable[Any]], left: Callable[[Exception], None]
    ) -> None:
        self._choose: Callable[[], Awaitable[Any]] | None = choose
        self._left = left
        self._stream: Any = None
        self._first: float | None = None

    @property
    def _error(self) -> Exception | None:
        """How the chosen stream broke off."""
        found: Exception | None = getattr(self._stream, "_error", None)
        return found

    async def __aenter__(self) -> Self:
        if self._choose is None:
            raise RuntimeError("a stream can be entered once only")
        choose, self._choose = self._choose, None
        started = time.monotonic()
        self._stream = await choose()
        self._first = time.monotonic() - started
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        error = self._error
        if error is not None:  # the stream's own, also if the caller has caught it
            self._left(error)
        await self._stream.__aexit__(exc_type, exc, traceback)

    async def _first_content(self) -> None:
        """It is there: entering has waited for it."""

    def __getattr__(self, name: str) -> Any:
        # Only what is not defined here: `response`, and what streams learn to tell in future.
        if name.startswith("_") or self._stream is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r} yet")
        return getattr(self._stream, name)

    def __aiter__(self) -> AsyncIterator[Delta]:
        if self._stream is None:
            raise RuntimeError("use `async with llm.stream(...) as stream`")
        iterator: AsyncIterator[Delta] = self._stream.__aiter__()
        return iterator

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """The text only, as strings."""
        if self._stream is None:
            raise RuntimeError("use `async with llm.stream(...) as stream`")
        texts: AsyncIterator[str] = self._stream.text_stream
        return texts

    async def reply(self) -> Reply:
        """The whole reply; what was not read yet is read."""
        reply: Reply = await self._stream.reply()
        return reply

    @property
    def partial(self) -> Reply:
        """The reply as far as it was read."""
        reply: Reply = self._stream.partial
        return reply

    @property
    def text(self) -> str:
        """The text so far."""
        return self.partial.text

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls so far."""
        return self.partial.tool_calls

    @property
    def usage(self) -> Usage:
        """The tokens used, as far as the chosen provider has said."""
        return self.partial.usage

    @property
    def first_token_after(self) -> float | None:
        """Seconds from entering the block to the first content, the time of the models that
        were given up included. None before it."""
        return self._first

    def __repr__(self) -> str:
        return f"<ChosenStream {self._stream!r}>"
