"""Tools: a typed Python function, described for the model and called with what it gives."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from .._content import encode_json
from ._errors import ToolError
from ._schema import decoded, schema_of
from ._types import ToolCall

if TYPE_CHECKING:
    from ..traffic import Observer

__all__ = ["Tool", "ToolLike", "call_tools", "tools_of"]

ToolLike = Callable[..., Any]

_log = logging.getLogger("llmcurl.traffic")


class Tool:
    """A function that a model may call.

    Args:
        function: async, or sync, which then runs in a thread. Its parameters are typed with
            anything msgspec knows; those without a default are required.
        name, description: instead of the function's name and docstring.

    Attributes:
        name, description, parameters: what the model is told; the last is a JSON schema.

    Raises:
        TypeError: the parameters cannot be described (`*args`, positional only, a type that
            has no JSON schema).
    """

    __slots__ = ("_async", "_struct", "description", "function", "name", "parameters")

    def __init__(
        self, function: ToolLike, *, name: str | None = None, description: str | None = None
    ) -> None:
        self.function = function
        inner = function
        while isinstance(inner, functools.partial):  # it has the name and text of a class
            inner = inner.func
        self.name = name or str(getattr(inner, "__name__", type(inner).__name__))
        self.description = description if description is not None else inspect.getdoc(inner) or ""
        self._async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            type(function).__call__
        )
        self._struct = _arguments_type(function, inner, self.name)
        try:
            schema = schema_of(self._struct)
        except TypeError as error:
            raise TypeError(f"tool {self.name}: {error}") from None
        schema.pop("title", None)
        self.parameters: dict[str, Any] = schema

    async def __call__(self, arguments: Any) -> Any:
        """Calls the function with a dict of arguments.

        Raises:
            msgspec.ValidationError: they do not fit. And whatever the function raises.
        """
        # A model writes "3" for 3 now and then.
        checked = msgspec.convert(arguments, self._struct, strict=False, dec_hook=decoded)
        given = {name: getattr(checked, name) for name in self._struct.__struct_fields__}
        if self._async:
            return await self.function(**given)
        result = await asyncio.to_thread(self.function, **given)
        return await result if inspect.isawaitable(result) else result

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"


def _arguments_type(function: ToolLike, inner: ToolLike, name: str) -> Any:
    """A Struct with the function's parameters; `inner` is what stands in a `partial`."""
    fields: list[Any] = []
    target = inner if inspect.isroutine(inner) else type(inner).__call__
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        raise TypeError(f"tool {name}: a parameter's type is not known: {error}") from None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"tool {name}: a model cannot give {parameter}")
        kind = hints.get(parameter.name, Any)
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            default = parameter.default
            if isinstance(default, (list, dict, set)):
                default = msgspec.field(default_factory=default.copy)
            fields.append((parameter.name, kind, default))
    return msgspec.defstruct(name, fields, kw_only=True)


def tools_of(tools: Iterable[Any]) -> list[Tool | dict[str, Any]]:
    """Functions become `Tool`s; dicts are descriptions of tools and stay."""
    made: list[Tool | dict[str, Any]] = []
    for tool in tools:
        if isinstance(tool, Tool):
            made.append(tool)
        elif isinstance(tool, Mapping):
            made.append(dict(tool))
        elif callable(tool):
            made.append(Tool(tool))
        else:
            raise TypeError(f"a tool must be a function, Tool or dict, not {type(tool).__name__}")
    return made


def _as_text(result: Any) -> str:
    if isinstance(result, str):
        return result
    try:
        return encode_json(result).decode()
    except (TypeError, ValueError):
        return str(result)


async def call_tools(
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool],
    tell: bool,
    provider: str,
    observers: Sequence[Observer] = (),
) -> list[tuple[ToolCall, str, bool]]:
    """Calls all of them at once: (call, result or error as text, whether it failed), in order.

    Args:
        tell: a failure becomes the result; otherwise the first one stops the others.
        observers: are told of each.

    Raises:
        ToolError: a tool failed (if not `tell`).
    """

    async def carry_out(call: ToolCall) -> str:
        tool = tools.get(call.name)
        if tool is None:
            raise LookupError(f"there is no tool called {call.name!r}")
        return _as_text(await tool(call.json()))

    async def one(call: ToolCall) -> tuple[ToolCall, str, bool]:
        try:
            if not observers:
                return call, await carry_out(call), False
            with _Watched(observers, provider, call) as watched:
                watched.text = await carry_out(call)
            return call, watched.text, False
        except Exception as error:
            if tell:
                return call, f"{type(error).__name__}: {error}", True
            failure = ToolError(f"the tool {call.name!r} failed: {error}", provider=provider)
            failure.tool = call.name
            raise failure from error

    return await _all([one(call) for call in calls])


class _Watched:
    """Tells observers how a tool begins and ends; what they raise is logged."""

    def __init__(self, observers: Sequence[Observer], provider: str, call: ToolCall) -> None:
        self.text = ""
        self._ends: list[Callable[[str, BaseException | None], object]] = []
        for observer in observers:
            try:
                end = observer.tool_started(provider, call)
            except Exception:
                _log.exception("the observer %r failed in tool_started", observer)
            else:
                if end is not None:
                    self._ends.append(end)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for end in reversed(self._ends):
            try:
                end(self.text, error)
            except Exception:
                _log.exception("an observer failed at the end of a tool")


async def _all(jobs: Sequence[Awaitable[Any]]) -> list[Any]:
    """As gather, but nothing goes on running when one has failed or the caller is cancelled."""
    if len(jobs) == 1:
        return [await jobs[0]]
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        if left := [task for task in tasks if task.cancel()]:
            await asyncio.wait(left)
