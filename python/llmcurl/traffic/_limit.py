"""`RateLimit`: how much may be under way, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..llm._types import Usage
    from ._record import CallRecord

__all__ = ["RateLimit", "Ticket"]


class Ticket(Protocol):
    """A place in a limit."""

    def settle(
        self,
        *,
        status: int | None,
        headers: Mapping[str, Any] | None,
        usage: Usage | None,
        retry_after: float | None,
        sent: bool,
    ) -> None:
        """The attempt is over."""


class RateLimit:
    """A limit."""

    async def acquire(self, call: CallRecord) -> Ticket:
        """A place for the next attempt."""
        raise NotImplementedError
