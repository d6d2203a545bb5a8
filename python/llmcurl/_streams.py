"""Small async iterators that `Response` gives out, and the stream of a hand-made one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from ._content import BodySource
from ._decoders import too_large
from ._text import LineDecoder, TextDecoder

if TYPE_CHECKING:
    from ._models import Response
    from .llm import ServerSentEvent

__all__ = ["EventReaders", "IterStream", "LineIterator", "collect", "rechunk_bytes", "rechunk_text"]

_MAX_EVENT = 16 * 2**20


async def collect(
    chunks: AsyncIterator[bytes], received: Callable[[], int], ceiling: Callable[[int], int]
) -> bytes:
    """All chunks together.

    Args:
        received: how many bytes have come so far, before decoding.
        ceiling: how many decoded bytes are allowed for so many.

    Raises:
        ResponseTooLarge: there are more.
    """
    pieces: list[bytes] = []
    total = 0
    async for piece in chunks:
        pieces.append(piece)
        total += len(piece)
        if total > (limit := ceiling(raw := received())):
            raise too_large(limit, raw)
    return b"".join(pieces)


class EventReaders:
    """Bodies made of events; mixed into `Response`."""

    __slots__ = ()

    def aiter_events(self, *, max_event: int = _MAX_EVENT) -> AsyncIterator[ServerSentEvent]:
        """The body as server-sent events, by WHATWG's rules.

        Args:
            max_event: ceiling of one event, bytes.

        Raises:
            ResponseTooLarge: an event beyond it; also what `Response.aiter_bytes` raises.
        """
        from .llm import aiter_events  # whoever reads no events need not load it

        return aiter_events(cast("Response", self), max_event=max_event)

    def aiter_ndjson(self, *, type: Any = Any, max_line: int = _MAX_EVENT) -> AsyncIterator[Any]:
        """The body as lines of JSON, each parsed.

        Args:
            type: what msgspec makes of a line, any JSON value by default.
            max_line: ceiling of one line, bytes.

        Raises:
            ResponseTooLarge: a line beyond it. msgspec.DecodeError: a ValueError; a line is no
                such JSON.
        """
        from .llm import aiter_ndjson

        return aiter_ndjson(cast("Response", self), type=type, max_line=max_line)


class IterStream:
    """A `BodySource` behind the interface of the native body stream."""

    __slots__ = ("_chunks", "_closed")

    def __init__(self, source: BodySource) -> None:
        self._chunks = source.chunks()
        self._closed = False

    async def read(self) -> bytes:
        """The next chunk, b"" at the end."""
        if self._closed:
            return b""
        async for chunk in self._chunks:
            return chunk
        return b""

    def close(self) -> None:
        """Nothing more will be read."""
        self._closed = True


def _positive(chunk_size: int) -> int:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return chunk_size


async def rechunk_bytes(chunks: AsyncIterator[bytes], chunk_size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of `chunk_size`, the last one may be shorter."""
    size = _positive(chunk_size)
    pending = bytearray()
    try:
        async for chunk in chunks:
            if not pending and len(chunk) == size:
                yield chunk
                continue
            pending += chunk
            if len(pending) >= size:
                full = len(pending) - len(pending) % size
                view = bytes(pending[:full])
                del pending[:full]
                for start in range(0, full, size):
                    yield view[start : start + size]
        if pending:
            yield bytes(pending)
    finally:
        # A generator inside a generator is closed late otherwise, and its stream with it.
        await chunks.aclose()  # type: ignore[attr-defined]


async def rechunk_text(texts: AsyncIterator[str], chunk_size: int) -> AsyncIterator[str]:
    """The same text in pieces of `chunk_size` characters, the last one may be shorter."""
    size = _positive(chunk_size)
    pending: list[str] = []
    length = 0
    try:
        async for text in texts:
            pending.append(text)
            length += len(text)
            if length >= size:
                whole = "".join(pending)
                full = length - length % size
                for start in range(0, full, size):
                    yield whole[start : start + size]
                pending = [whole[full:]]
                length -= full
        if length:
            yield "".join(pending)
    finally:
        await texts.aclose()  # type: ignore[attr-defined]


class LineIterator:
    """Chunks of bytes to lines; an object and not a generator because it is the hot loop of
    a token stream: most lines are handed out without a generator being resumed."""

    __slots__ = ("_bytes", "_chunks", "_lines", "_ready")

    def __init__(self, chunks: AsyncIterator[bytes], encoding: str) -> None:
        self._chunks: Any = chunks
        self._bytes: TextDecoder | None = TextDecoder(encoding)
        self._lines = LineDecoder()
        self._ready: deque[str] = deque()

    def __aiter__(self) -> LineIterator:
        return self

    async def __anext__(self) -> str:
        while not self._ready:
            decoder = self._bytes
            if decoder is None:
                raise StopAsyncIteration
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                self._bytes = None
                self._ready.extend(self._lines.feed(decoder.finish()))
                self._ready.extend(self._lines.finish())
            else:
                self._ready.extend(self._lines.feed(decoder.feed(chunk)))
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Ends the reading; the stream behind is closed."""
        self._bytes = None
        self._ready.clear()
        await self._chunks.aclose()
