"""`run`: the rounds of a model that calls tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import TooManyRounds
from ._messages import Conversation, messages_of
from ._reply import Reply
from ._tools import Tool, call_tools, tools_of
from ._types import ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._base import LLM

__all__ = ["Run", "run"]


class Run:
    """What came of it.

    Attributes:
        reply: the last reply, without tool calls.
        messages: the whole conversation, the last reply included.
        calls: the tool calls made: (call, result or error as text, whether it failed).
        rounds: how many replies it took.
        usage: the tokens of all of them.
    """

    __slots__ = ("calls", "messages", "reply", "rounds", "usage")

    def __init__(
        self,
        reply: Reply,
        messages: list[dict[str, Any]],
        calls: list[tuple[ToolCall, str, bool]],
        replies: list[Reply],
    ) -> None:
        self.reply = reply
        self.messages = messages
        self.calls = calls
        self.rounds = len(replies)
        self.usage = _total([one.usage for one in replies])

    @property
    def text(self) -> str:
        """The text of the last reply."""
        return self.reply.text

    def __repr__(self) -> str:
        return f"<Run of {self.rounds} rounds, {len(self.calls)} tool calls: {self.reply!r}>"


def _total(usages: list[Usage]) -> Usage:
    def add(name: str) -> int | None:
        known = [value for usage in usages if (value := getattr(usage, name)) is not None]
        return sum(known) if known else None

    return Usage(*(add(name) for name in Usage.__struct_fields__))


async def run(
    llm: LLM,
    conversation: Conversation,
    given: Sequence[Any],
    max_rounds: int,
    on_tool_error: str,
    params: dict[str, Any],
) -> Run:
    """See `LLM.run`."""
    if on_tool_error not in ("tell", "raise"):
        raise ValueError(f'on_tool_error must be "tell" or "raise", not {on_tool_error!r}')
    if max_rounds < 1:
        raise ValueError(f"max_rounds must be at least 1, got {max_rounds}")
    tools = tools_of(given)
    by_name = {tool.name: tool for tool in tools if isinstance(tool, Tool)}
    messages = messages_of(conversation)
    calls: list[tuple[ToolCall, str, bool]] = []
    replies: list[Reply] = []
    while True:
        reply = await llm.chat(messages, tools=tools, **params)
        replies.append(reply)
        messages.append(reply.message)
        wanted = reply.tool_calls
        if not wanted:
            return Run(reply, messages, calls, replies)
        if len(replies) >= max_rounds:
            raise TooManyRounds(
                f"the model still calls tools after {max_rounds} rounds",
                provider=llm.provider,
                partial=reply,
            )
        tell = on_tool_error == "tell"
        results = await call_tools(wanted, by_name, tell, llm.provider, llm._told)
        calls.extend(results)
        messages.extend(llm._tool_results(results))
