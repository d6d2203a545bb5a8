"""`Stream`: a reply while it is written."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, NoReturn, Protocol

import msgspec

from .._exceptions import RequestError
from .._models import Response, Timings
from .._native import DeltaParser
from ._errors import InvalidReply, LLMError, StreamInterrupted, error_of_event
from ._events import MAX_EVENT, too_large
from ._http import is_framed, is_unclear, reader_of, rest_of, start_of
from ._reply import Reply
from ._types import Delta, ToolCall, ToolCallDelta, Usage

__all__ = ["Assembler", "ErrorEvent", "Stream"]


class ErrorEvent(Exception):
    """An assembler met an error of the provider's."""


class Assembler(Protocol):
    """Puts the events of one provider's stream together.

    Attributes:
        append: takes the next text delta; may be another function after each `event`.
        done: the provider has said that the reply is complete.
        over: it has said that nothing follows at all; what follows all the same does not matter.
    """

    append: Callable[[str], Any]
    done: bool
    over: bool

    @abstractmethod
    def event(self, data: bytes) -> list[Delta]:
        """An event that is not just a text delta.

        Raises:
            ErrorEvent: it is an error.
            ValueError, TypeError, LookupError, AttributeError: it is not what it should be.
        """

    @abstractmethod
    def full(self, usage: bytes | None) -> dict[str, Any]:
        """All so far, in the form of a plain reply. `usage`: the last event that the parser
        kept for its usage."""


class Source(Protocol):
    """What a stream needs of its LLM client."""

    @property
    def provider(self) -> str: ...
    def _scrub(self, response: Response, text: str) -> str: ...
    def _whole(self, response: Response, body: bytes) -> Reply: ...
    def _made(self, response: Response, full: dict[str, Any]) -> Reply: ...


class Stream:
    """A reply while it is written: ``async with llm.stream(...) as s: async for delta in s``.

    Iterating gives `Delta`s: pieces of text, of reasoning and of tool calls. `text_stream` gives
    the text as plain strings. Leaving the block before the end ends the request at the server,
    and `partial` has what had arrived.

    Raises (on entering): as `chat`. When iterated, and by `reply`:
        StreamInterrupted: the answer broke off.
        LLMError: the provider reports an error; its class says which.
        InvalidReply: an event is not what it should be.
        ResponseTooLarge: an event beyond the ceiling.
        All but the last have `partial`.
    """

    __slots__ = (
        "_asm", "_delay", "_ended", "_error", "_finished", "_first", "_generators", "_items", "_latest",
        "_open", "_parser", "_read", "_source", "_started", "_whole", "response",
    )  # fmt: skip

    response: Response
    """The HTTP response, once the block is entered."""

    def __init__(
        self,
        source: Source,
        open: Callable[[], Awaitable[Response]],
        parser: DeltaParser,
        assembler: Assembler,
    ) -> None:
        self._source = source
        self._open: Callable[[], Awaitable[Response]] | None = open
        self._parser: Any = parser
        self._asm = assembler
        self._items: Iterator[Any] = iter(())
        self._read: Callable[[], Awaitable[bytes]] | None = None
        self._generators: list[AsyncGenerator[Any, None]] = []
        self._finished = False  # the body was read to its end
        self._ended = False
        self._error: Exception | None = None
        self._whole: Reply | None = None
        self._started = 0.0
        self._first: float | None = None  # when the first token was read
        self._latest = 0.0  # when the latest events were
        self._delay: float | None = None  # how long the first token had been there by then

    # The block ----------------------------------------------------------------------------

    async def __aenter__(self) -> Stream:
        if self._open is None:
            raise RuntimeError("a stream can be entered once only")
        opening, self._open = self._open, None
        self._started = time.monotonic()
        await self._take(await opening())
        return self

    async def _take(self, response: Response) -> None:
        """The head is there: a stream, or a whole answer?"""
        self.response = response
        try:
            if response.status_code >= 300:  # redirects are told as what they are
                self._is_whole(await response.aread())
                return
            read = reader_of(response)
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind.endswith(("event-stream", "ndjson")) or kind in ("", "text/plain"):
                self._read = self._from_start(read)
                return
            # An error, a server that gives the whole reply although asked for a stream, or
            # events under another name: the first bytes tell.
            provider, first = self._source.provider, b""
            while is_unclear(provider, first) and (chunk := await read()):
                first = start_of(first + chunk)
            if is_framed(provider, first):
                self._read = self._from_start(_again(first, read))
            else:
                self._is_whole(await rest_of(response, first, read))
        except BaseException:
            response._close_stream()
            raise

    def _is_whole(self, body: bytes) -> None:
        """The body is no stream but the reply. Raises: the error that it is instead."""
        self._whole = self._source._whole(self.response, body)
        self._items = iter(_deltas_of(self._whole))
        self._ended = True
        self._close()

    def _from_start(self, read: Callable[[], Awaitable[bytes]]) -> Callable[[], Awaitable[bytes]]:
        """`read`, but what is JSON under the name of events is recognized: some servers send an
        error like that, others a list of what would be the events."""

        body = bytearray()  # what looks like JSON so far

        async def next_piece() -> bytes:
            chunk = await read()
            start = chunk if body else start_of(chunk)
            if chunk and not start:
                return chunk
            if not body and (self._source.provider == "ollama" or start[:1] not in (b"{", b"[")):
                self._read = read
                return chunk
            if not chunk:
                self._read = read
                return self._not_framed(bytes(body))
            body.extend(start)
            if b"\ndata:" in body[-len(start) - 5 :] or len(body) > MAX_EVENT:
                self._read = read
                return bytes(body)
            return b"\n"  # to the parser nothing; each wait for bytes is one of `_more`'s

        return next_piece

    def _not_framed(self, body: bytes) -> bytes:
        """Takes a body without events for what it is; gives what remains for the parser."""
        try:
            items = _decode_list(body) if body[:1] == b"[" else []
            if items:
                self._items = iter([bytes(item) for item in items])
            elif msgspec.json.decode(body, type=dict[str, msgspec.Raw]):
                self._is_whole(body)
        except LLMError as error:
            self._fail(error)
        except msgspec.DecodeError:
            return body
        return b""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._take_unread()
        self._close()
        for generator in self._generators:
            try:
                await generator.aclose()
            except RuntimeError:
                pass  # another task is in it; the closed stream ends it
        self._generators.clear()
        self._keep_rest()

    def _take_unread(self) -> None:
        """Parses what the client has received and nobody has read yet."""
        if self._read is None or self._finished or self._error is not None:
            return
        take = getattr(self.response._stream, "unread", None)
        if take is None or self.response._encodings():
            return  # encoded bytes are not worth a decoder's state at this point
        try:
            self._items = chain(self._items, self._parser.feed(take()))
        except ValueError:
            pass  # an event beyond the ceiling: it would not have been given either

    def _keep_rest(self) -> None:
        """What has arrived and was not asked for belongs to the partial reply."""
        if self._error is None and self._whole is None:
            try:
                for item in self._items:
                    if type(item) is str:
                        self._asm.append(item)
                    elif type(item) is bytes:
                        self._asm.event(item)
            except (ErrorEvent, *_WRONG):
                pass  # nobody reads on: what came before it is what is known

    # Reading --------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Delta]:
        generator = self._deltas()
        self._generators.append(generator)
        return generator

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """The text only (of the first answer), as strings."""
        generator = self._texts()
        self._generators.append(generator)
        return generator

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        append = self._asm.append
        while True:
            for item in self._items:
                if type(item) is str:
                    append(item)
                    yield Delta(item)
                elif type(item) is Delta:
                    yield item
                else:
                    self._expand(item)
                    append = self._asm.append
                    break
            else:
                if not await self._more():
                    return

    async def _texts(self) -> AsyncGenerator[str, None]:
        append = self._asm.append
        while True:
            for item in self._items:
                if type(item) is str:
                    append(item)
                    yield item
                elif type(item) is Delta:
                    if item.text and not item.choice:
                        yield item.text
                else:
                    self._expand(item)
                    append = self._asm.append
                    break
            else:
                if not await self._more():
                    return

    async def _first_content(self) -> None:
        """Waits for the first delta with text, reasoning or a tool call, which stays to be read;
        or for the end, if there is none. Raises: as iterating."""
        while True:
            for item in self._items:
                if type(item) is str:
                    found = bool(item)
                elif type(item) is Delta:
                    found = bool(item.text or item.reasoning or item.tool_call)
                else:
                    self._expand(item)
                    break
                if found:
                    self._items = chain((item,), self._items)
                    return
            else:
                if not await self._more():
                    return

    def _expand(self, item: bytes | tuple[str, bytes]) -> None:
        """Decodes an event; its deltas come next."""
        if self._asm.over:
            return
        data = item if isinstance(item, bytes) else item[1]
        if item is data and not data.strip():
            return  # keeps a connection alive
        try:
            if not isinstance(item, bytes):
                raise ErrorEvent
            deltas = self._asm.event(data)
        except ErrorEvent:
            source = self._source
            clean = partial(source._scrub, self.response)
            self._fail(
                error_of_event(source.provider, self.response.headers, data, clean, self.partial)
            )
        except _WRONG as error:
            cls: type[LLMError] = InvalidReply
            words = str(error) if isinstance(error, ValueError) else repr(error)
            text = f"an event of the stream is not what it should be: {words}"
            if self._finished and isinstance(error, ValueError):  # what no line end came after
                cls, text = StreamInterrupted, "the stream ended within an event"
            self._fail(self._make(cls, text, data), error)
        if deltas:
            if self._first is None and any(d.text or d.reasoning or d.tool_call for d in deltas):
                self._first = self._latest
            self._items = chain(deltas, self._items)

    async def _more(self) -> bool:
        """Gets the next items. False at the end."""
        if self._error is not None:
            raise self._error
        if self._ended:
            return False
        if self._finished:
            self._end()
            return False
        if self._read is None:
            raise RuntimeError("use `async with llm.stream(...) as stream`")
        if self.response._get("closed"):
            # The block was left.
            self._fail(self._make(StreamInterrupted, "the stream was left before its end"))
        try:
            chunk = await self._read()
        except RequestError as error:
            if self._asm.over:  # only the connection's end is untidy
                self._end()
                return False
            text = f"the stream broke off: {self._source._scrub(self.response, str(error))}"
            self._fail(self._make(StreamInterrupted, text), error)
        try:
            items = self._parser.feed(chunk) if chunk else self._parser.finish()
        except ValueError as error:
            self._fail(too_large(error, self.response))
        if items:
            now = self._latest = time.monotonic()
            if self._first is None:
                self._delay = now - getattr(self.response._stream, "arrived", now)
                if any(type(item) is str and item for item in items):
                    self._first = now
            self._items = iter(items)
        self._finished = not chunk
        return True

    def _close(self) -> None:
        """Nothing more is read; the response keeps the times of the tokens."""
        response = self.response
        if self._first is not None and not response._get("closed"):
            response._attach(timings=self.timings)
        response._close_stream()

    def _end(self) -> None:
        self._ended = True
        self._close()
        if not self._asm.done:
            text = "the stream ended before the reply was complete"
            self._fail(self._make(StreamInterrupted, text))

    def _make(self, cls: type[LLMError], text: str, body: bytes = b"") -> LLMError:
        source = self._source
        return cls(
            text,
            provider=source.provider,
            status=self.response.status_code,
            body=source._scrub(self.response, body.decode("utf-8", "replace")).encode(),
            partial=self.partial,
        )

    def _fail(self, error: Exception, cause: BaseException | None = None) -> NoReturn:
        self._error = error
        self._items = iter(())
        self._close()
        raise error from cause

    # What is known so far -------------------------------------------------------------------

    async def reply(self) -> Reply:
        """The whole reply; what was not read yet is read."""
        async for _ in self._deltas():
            pass
        return self.partial

    @property
    def partial(self) -> Reply:
        """The reply as far as it was read."""
        if self._whole is not None:
            return self._whole
        return self._source._made(self.response, self._asm.full(self._parser.usage))

    @property
    def text(self) -> str:
        """The text so far."""
        return self.partial.text

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls so far; the last one may not be whole before the end."""
        return self.partial.tool_calls

    @property
    def usage(self) -> Usage:
        """The tokens used, as far as the provider has said; most do so at the end."""
        return self.partial.usage

    @property
    def first_token_after(self) -> float | None:
        """Seconds from the request to the first token (of text, reasoning or a tool call), None
        before it. `timings.loop_delay` says how much of it was this process's own delay."""
        return None if self._first is None else self._first - self._started

    @property
    def timings(self) -> Timings:
        """When each phase was done, the first and the latest token included."""
        found = self.response.timings
        if self._first is None or found.first_token is not None:
            return found
        response = self.response
        delivered = response._get("delivered")
        # seconds since the call was made, as all of them
        begun = self._started if delivered is None else delivered - response._timings[7]
        return replace(
            found,
            first_token=self._first - begun,
            last_token=self._latest - begun,
            loop_delay=self._delay,
        )

    def __repr__(self) -> str:
        state = "ended" if self._ended else "failed" if self._error else "open"
        return f"<Stream of {self._source.provider}, {state}>"


def _again(chunk: bytes, read: Callable[[], Awaitable[bytes]]) -> Callable[[], Awaitable[bytes]]:
    """`read`, with a chunk that was read before coming first."""
    pending = [chunk]

    async def either() -> bytes:
        return pending.pop() if pending else await read()

    return either


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_WRONG = (ValueError, TypeError, LookupError, AttributeError, msgspec.DecodeError)


def _deltas_of(reply: Reply) -> list[Delta]:
    """A whole reply as the deltas of a stream."""
    made = [Delta(reasoning=reply.reasoning)] if reply.reasoning else []
    if reply.text:
        made.append(Delta(reply.text))
    for index, call in enumerate(reply.tool_calls):
        made.append(Delta(tool_call=ToolCallDelta(index, call.name, call.id, call.arguments)))
    return made
