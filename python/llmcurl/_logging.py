"""Where calls are logged: `llmcurl.calls`; and observers that fail: `llmcurl.traffic`. The third
logger is `llmcurl.loop` (`_watch.py`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .traffic import Observer

__all__ = ["calls", "traffic", "with_call_log"]

calls = logging.getLogger("llmcurl.calls")
traffic = logging.getLogger("llmcurl.traffic")


def with_call_log(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    """A client's observers, and the one that logs if DEBUG is on as the client is made. Looking at
    each call instead would cost those that nobody wants logged.

    Raises:
        TypeError: they are no list.
    """
    if not isinstance(observers, Iterable):
        raise TypeError(f"observers must be a list of Observers, not {observers!r}")
    if calls.isEnabledFor(logging.DEBUG):
        from ._observe import CALL_LOG

        return (*observers, CALL_LOG)
    return tuple(observers)
