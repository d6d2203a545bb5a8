"""`Reply`: the answer of a model. The bytes stay as they came; each part is made when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec

from .._models import Response, Timings
from ._errors import InvalidReply
from ._schema import decoded
from ._types import Choice, TokenLogprob, ToolCall, Usage

if TYPE_CHECKING:
    from ..traffic import Attempt

__all__ = ["Reply"]

T = TypeVar("T")


class Reply:
    """An answer, in one form for all providers. A stream's reply has the same.

    Attributes:
        provider: "openai", "anthropic", "gemini" or "ollama".
        response: the HTTP response: status, headers...
    """

    __slots__ = ("_full", "_raw", "_wire", "response")

    provider: ClassVar[str]
    #: Decodes the provider's answer to what the properties need of it.
    decode: ClassVar[Any]

    def __init__(
        self, raw: bytes | None, response: Response, full: dict[str, Any] | None = None
    ) -> None:
        self._raw = raw
        self._full = full
        self._wire: Any = None
        self.response = response

    def _read(self) -> Any:
        """What the properties need of the provider's answer."""
        found = self._wire
        if found is None:
            try:
                found = self.decode(self.raw)
            except (msgspec.DecodeError, ValueError) as error:
                raise InvalidReply(
                    f"the reply has not the expected form: {error}",
                    provider=self.provider,
                    status=self.response.status_code,
                    body=self.raw,
                ) from error
            self._wire = found
        return found

    @property
    def text(self) -> str:
        """What the model says; "" if it only calls tools."""
        raise NotImplementedError

    @property
    def reasoning(self) -> str:
        """What the model thought, if it tells."""
        raise NotImplementedError

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls that the model asks for."""
        raise NotImplementedError

    @property
    def finish_reason(self) -> str | None:
        """ "stop", "length", "tool_calls", "content_filter", or the provider's own word."""
        raise NotImplementedError

    @property
    def usage(self) -> Usage:
        """The tokens used."""
        raise NotImplementedError

    @property
    def model(self) -> str:
        """The model that answered."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """The provider's id of the reply; "" if it gives none."""
        raise NotImplementedError

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message of the conversation, in the provider's form with all that
        it wants back: to be appended to the messages of the next call."""
        raise NotImplementedError

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """The tokens of the text with their probabilities; None if the provider sent none."""
        return None

    @property
    def choices(self) -> list[Choice]:
        """All answers, where several were asked for (`n`); the properties tell of the first."""
        return [
            Choice(self.text, self.reasoning, self.tool_calls, self.finish_reason, self.logprobs)
        ]

    @property
    def texts(self) -> list[str]:
        """The texts of all answers."""
        return [choice.text for choice in self.choices]

    @property
    def timings(self) -> Timings:
        """When each phase of the HTTP call was done."""
        return self.response.timings

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried, the last attempt last, if the call was under control; else ()."""
        return self.response.attempts

    @property
    def request_id(self) -> str:
        """The provider's id of the request, from its headers."""
        headers = self.response.headers
        for name in ("x-request-id", "request-id", "x-gemini-request-id"):
            if (found := headers.get(name)) is not None:
                return str(found)
        return ""

    @property
    def raw(self) -> bytes:
        """The provider's answer: the bytes as received; those of a stream, put together."""
        if self._raw is None:
            self._raw = msgspec.json.encode(self._full)
        return self._raw

    def json(self) -> Any:
        """The provider's whole answer."""
        if self._full is None:
            self._full = msgspec.json.decode(self.raw)
        return self._full

    def parse(self, type: type[T]) -> T:
        """The text, which is JSON, as that type (any that msgspec knows, pydantic's models).

        Raises:
            msgspec.ValidationError: a ValueError; the text is not of the type.
        """
        return msgspec.json.decode(self.text, type=type, dec_hook=decoded)

    def __repr__(self) -> str:
        try:
            text = self.text
        except InvalidReply:
            return f"<{type(self).__name__} that is invalid>"
        return f"<{type(self).__name__} {text if len(text) <= 60 else text[:57] + '...'!r}>"
