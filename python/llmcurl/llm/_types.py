"""The small values of LLM calls: Usage, ToolCall, TokenLogprob, Choice, Delta, ModelInfo."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Choice", "Delta", "ModelInfo", "TokenLogprob", "ToolCall", "ToolCallDelta", "Usage"]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens, as the provider counted them; None where it did not say.

    Attributes:
        input_tokens: of the prompt, those read from a cache included.
        output_tokens: of the answer, reasoning included.
        cached_tokens: of the prompt, read from a cache.
        reasoning_tokens: of the answer, not shown.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Both together, if both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call that the model asks for.

    Attributes:
        name: of the tool.
        arguments: JSON text, as the model wrote it; `json()` parses it.
        id: what the result has to name; "" where the provider has none.
    """

    name: str
    arguments: str = "{}"
    id: str = ""

    def json(self) -> Any:
        """The arguments, parsed. ValueError if the model wrote no JSON."""
        return msgspec.json.decode(self.arguments or "{}")


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """How likely the model found a token.

    Attributes:
        token: its text.
        logprob: natural logarithm of the probability.
        bytes: of the token, in UTF-8, where the provider tells them: a token may be a part of
            a character.
        top_logprobs: the likeliest tokens at this place, as many as were asked for.
    """

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TokenLogprob] = []


class Choice(msgspec.Struct, frozen=True):
    """One of several answers to one call.

    Attributes: as those of `Reply`.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = []
    finish_reason: str | None = None
    logprobs: list[TokenLogprob] | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call.

    Attributes:
        index: which of the reply's calls.
        name, id: given once, with the first piece; "" afterwards.
        arguments: the next piece of the JSON text.
    """

    index: int
    name: str = ""
    id: str = ""
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a streamed reply: one of text, reasoning and tool_call is set.

    Attributes:
        choice: which of several answers (OpenAI's n); 0 if there is one.
    """

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None
    choice: int = 0


class ModelInfo(msgspec.Struct, frozen=True):
    """A model on offer.

    Attributes:
        id: the name to ask for it.
        details: all that the provider says about it.
    """

    id: str
    details: dict[str, Any]
