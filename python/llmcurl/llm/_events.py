"""Server-sent events and NDJSON of any URL: `aiter_events`, `aiter_ndjson`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from .._exceptions import ResponseTooLarge
from .._models import Response
from .._native import EventParser, LineParser

__all__ = ["MAX_EVENT", "ServerSentEvent", "aiter_events", "aiter_ndjson"]

MAX_EVENT = 16 * 2**20
"""Bytes of one event, at most, unless told otherwise."""


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a text/event-stream.

    Attributes:
        event: its type, "message" if it names none.
        data: its data lines, joined by a line feed.
        id: the last event id in force.
        retry: milliseconds to wait before a reconnect, if this event said so.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self, type: Any = Any) -> Any:
        """The data, parsed as JSON, into `type` if given. ValueError if it is none."""
        return msgspec.json.decode(self.data, type=type)


def too_large(error: ValueError, response: Response) -> ResponseTooLarge:
    """The error for an event beyond the ceiling."""
    url = response.url.masked if response._url else ""
    text = f"{error} (from {url})" if url else str(error)
    return ResponseTooLarge(text, phase="receive", url=url, method=response._method)


async def _parsed(
    response: Response, feed: Callable[[bytes], list[Any]], finish: Callable[[], list[Any]]
) -> AsyncIterator[list[Any]]:
    """What each chunk of the body completes."""
    chunks = response.aiter_bytes()
    try:
        async for chunk in chunks:
            try:
                items = feed(chunk)
            except ValueError as error:
                raise too_large(error, response) from None
            if items:
                yield items
        try:
            items = finish()
        except ValueError as error:
            raise too_large(error, response) from None
        if items:
            yield items
    finally:
        # A generator inside a generator is closed late otherwise, and its stream with it.
        await chunks.aclose()  # type: ignore[attr-defined]


async def aiter_events(
    response: Response, *, max_event: int = MAX_EVENT
) -> AsyncIterator[ServerSentEvent]:
    """The events of a streamed (or read) response, by the WHATWG rules; an event at the end
    whose blank line is missing is given, too.

    Raises:
        ResponseTooLarge: an event of more than `max_event` bytes.
        TransportError: as `Response.aiter_bytes`.
    """
    parser = EventParser(max_event)
    batches = _parsed(response, parser.feed, parser.finish)
    try:
        async for batch in batches:
            for event, data, ident, retry in batch:
                yield ServerSentEvent(event, data.decode("utf-8", "replace"), ident, retry)
    finally:
        await batches.aclose()  # type: ignore[attr-defined]


async def aiter_ndjson(
    response: Response, *, type: Any = Any, max_line: int = MAX_EVENT
) -> AsyncIterator[Any]:
    """The lines of a streamed (or read) response, each parsed as JSON (into `type`).

    Raises:
        ResponseTooLarge: a line of more than `max_line` bytes.
        msgspec.DecodeError: a ValueError; a line is no JSON, or not of the type.
        TransportError: as `Response.aiter_bytes`.
    """
    decode = msgspec.json.Decoder(type).decode
    parser = LineParser(max_line)
    batches = _parsed(response, parser.feed, parser.finish)
    try:
        async for batch in batches:
            for line in batch:
                yield decode(line)
    finally:
        await batches.aclose()  # type: ignore[attr-defined]
