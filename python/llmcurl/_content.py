"""Request bodies: from content, data, files or json to bytes or a stream.

A stream is a `BodySource`: it knows its length if that can be known, hands out chunks as
they are asked for (nothing is read ahead), and says whether it can be sent a second time.
Framing (Content-Length or chunked) is `Request`'s business, multipart is `_multipart.py`'s.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import IO, Any
from urllib.parse import urlencode

import msgspec

from ._exceptions import StreamConsumed
from ._query import param_text

__all__ = [
    "AsyncIterSource",
    "BodySource",
    "FileSource",
    "IterSource",
    "RequestContent",
    "RequestData",
    "RequestFiles",
    "encode_json",
    "encode_request",
    "make_source",
]

RequestContent = (
    str | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes]
)
RequestData = Mapping[str, Any]
RequestFiles = Mapping[str, Any] | Iterable[tuple[str, Any]]

#: Files are read in blocks of this many bytes: large enough that the hop to a thread
#: (some 50 us) does not show, small enough that a thousand uploads stay in memory.
BLOCK = 256 * 1024


class BodySource:
    """A request body that is produced while it is sent.

    Attributes:
        length: bytes in all, None if unknown (it is sent chunked then).
        replayable: whether it can be sent again from its start after `rewind`.
    """

    __slots__ = ("_used", "length", "replayable")

    def __init__(self, length: int | None, replayable: bool) -> None:
        self.length = length
        self.replayable = replayable
        self._used = False

    def _begin(self) -> None:
        """Marks the start of a reading.

        Raises:
            StreamConsumed: it was read before and cannot be read again.
        """
        if self._used:
            self.rewind()
        self._used = True

    def chunks(self) -> AsyncIterator[bytes]:
        """The body from its start, chunk by chunk. Errors of the caller's own iterator or
        file pass unchanged.

        Raises:
            StreamConsumed: read before and not replayable.
            TypeError: the caller's iterator gave something else than bytes.
        """
        raise NotImplementedError

    def blocks(self) -> Iterator[bytes]:
        """As `chunks`, without asyncio.

        Raises:
            RuntimeError: the body can only be read by asyncio.
        """
        raise RuntimeError("this body is an async stream: use aread()")

    def rewind(self) -> None:
        """Makes the next `chunks` start from the beginning.

        Raises:
            StreamConsumed: not `replayable`.
        """
        if not self.replayable:
            raise StreamConsumed("the request body was an iterator: it cannot be sent twice")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks()


def _as_bytes(chunk: Any) -> bytes:
    """One chunk of a caller's stream."""
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, (bytearray, memoryview)):
        return bytes(chunk)
    raise TypeError(f"a body stream must give bytes, not {type(chunk).__name__}")


class FileSource(BodySource):
    """A file opened in binary mode, from where it stands to its end.

    Read in a thread, so that a slow disk does not stop the loop.

    Raises:
        TypeError: opened in text mode.
    """

    __slots__ = ("_file", "_start")

    def __init__(self, file: IO[bytes]) -> None:
        check_binary(file)
        self._file = file
        self._start, length = _file_span(file)
        super().__init__(length, self._start is not None)

    def _begin(self) -> None:
        if self._start is not None:
            # Always: the same file may stand in two parts, or was read since.
            self.rewind()
        else:
            super()._begin()

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `BodySource.chunks`."""
        self._begin()
        read = self._file.read
        in_memory = isinstance(self._file, io.BytesIO)
        while True:
            block = read(BLOCK) if in_memory else await asyncio.to_thread(read, BLOCK)
            if not block:
                return
            yield _as_bytes(block)

    def blocks(self) -> Iterator[bytes]:
        """See `BodySource.blocks`."""
        self._begin()
        while block := self._file.read(BLOCK):
            yield _as_bytes(block)

    def rewind(self) -> None:
        """Seeks back to where the file stood at first."""
        if self._start is None:
            raise StreamConsumed("the request body is a file that cannot seek")
        self._file.seek(self._start)


def check_binary(file: Any) -> None:
    """Refuses a file in text mode, whose bytes and length are not those on the disk.

    Raises:
        TypeError: text mode.
    """
    mode = getattr(file, "mode", "b")
    text = isinstance(file, io.TextIOBase)
    # tempfile's wrappers are no TextIOBase, but have the attributes of what they wrap.
    text = text or (isinstance(mode, str) and "b" not in mode and hasattr(file, "encoding"))
    if text:
        raise TypeError("file bodies must be opened in binary mode: open(path, 'rb')")


def _file_span(file: IO[bytes]) -> tuple[int | None, int | None]:
    """(position now, bytes from there to the end); None for what cannot be known."""
    try:
        start = file.tell()
        if not file.seekable():
            return None, None
    except (AttributeError, OSError, ValueError):
        return None, None
    try:
        # fstat, not seek: cheaper, and the file position stays untouched.
        end = os.fstat(file.fileno()).st_size
    except (AttributeError, OSError, ValueError):
        end = file.seek(0, io.SEEK_END)
        file.seek(start)
    return start, max(0, end - start)


class IterSource(BodySource):
    """A sync iterable of bytes, pulled on the loop; replayable if it is not its own iterator."""

    __slots__ = ("_iterable",)

    def __init__(self, iterable: Iterable[bytes]) -> None:
        super().__init__(None, not isinstance(iterable, Iterator))
        self._iterable = iterable

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `BodySource.chunks`."""
        self._begin()
        for chunk in self._iterable:
            if chunk:
                yield _as_bytes(chunk)

    def blocks(self) -> Iterator[bytes]:
        """See `BodySource.blocks`."""
        self._begin()
        for chunk in self._iterable:
            if chunk:
                yield _as_bytes(chunk)


class AsyncIterSource(BodySource):
    """An async iterable of bytes; replayable if it is not its own iterator."""

    __slots__ = ("_iterable",)

    def __init__(self, iterable: AsyncIterable[bytes]) -> None:
        super().__init__(None, not isinstance(iterable, AsyncIterator))
        self._iterable = iterable

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `BodySource.chunks`."""
        self._begin()
        async for chunk in self._iterable:
            if chunk:
                yield _as_bytes(chunk)


class AsyncFileSource(BodySource):
    """A file whose read() is a coroutine (aiofiles, anyio): sent chunked, once."""

    __slots__ = ("_file",)

    def __init__(self, file: Any) -> None:
        check_binary(file)
        super().__init__(None, False)
        self._file = file

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `BodySource.chunks`."""
        self._begin()
        while block := await self._file.read(BLOCK):
            yield _as_bytes(block)


def _model_hook(value: Any) -> Any:
    """What msgspec does not know: pydantic models and other mappings.

    Raises:
        TypeError: anything else, named.
    """
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    kind = type(value)
    raise TypeError(f"json=: {kind.__module__}.{kind.__qualname__} has no JSON form: {value!r:.80}")


#: `encode_json` without a frame of its own, for the native side.
native_encode_json = msgspec.json.Encoder(enc_hook=_model_hook).encode


def encode_json(value: Any) -> bytes:
    """Compact UTF-8 JSON. Also takes dataclasses, msgspec structs, pydantic models,
    datetimes, UUIDs. NaN and infinities become null: JSON has no word for them.

    Raises:
        TypeError: an object without JSON form; the text names its type.
        ValueError: a string with a lone surrogate.
    """
    return native_encode_json(value)


def encode_form(data: Mapping[str, Any]) -> bytes:
    """application/x-www-form-urlencoded; a list gives its name several times.

    Raises:
        TypeError: a value that is no str, int, float, bool or None.
    """
    pairs: list[tuple[str, str]] = []
    for key, value in data.items():
        many = value if isinstance(value, (list, tuple)) else (value,)
        for one in many:
            text = one.decode() if isinstance(one, bytes) else param_text(one)
            pairs.append((key, text))
    return urlencode(pairs).encode("ascii")


def make_source(content: Any) -> bytes | BodySource:
    """`content=` as bytes or as a stream.

    Raises:
        TypeError: nothing that can be a body.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode("utf-8")
    if isinstance(content, (bytearray, memoryview)):
        # A copy: the caller may change it while it is being sent.
        return bytes(content)
    if isinstance(content, BodySource):
        return content
    read = getattr(content, "read", None)
    if callable(read):
        return (
            AsyncFileSource(content) if inspect.iscoroutinefunction(read) else FileSource(content)
        )
    if isinstance(content, AsyncIterable):
        return AsyncIterSource(content)
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return IterSource(content)
    raise TypeError(
        "content= must be bytes, str, a binary file, or an (async) iterable of bytes, "
        f"not {type(content).__name__}"
    )


def encode_request(
    content: Any = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    boundary: bytes | None = None,
) -> tuple[dict[str, str], bytes | BodySource]:
    """The body of a request and the headers it asks for if the caller gave none.

    Args:
        content: bytes, str, a binary file, or a sync or async iterable of bytes.
        data: form fields; with `files` they become parts of the multipart body.
        files: multipart files as httpx takes them.
        json: anything with a JSON form; None means not given.
        boundary: of the multipart body, if the caller's Content-Type names one.

    Returns:
        (headers, body); the headers are at most Content-Type. b"" is "no body".

    Raises:
        TypeError: several kinds of body, or one that cannot be sent.
    """
    if json is not None:
        if content is not None or data or files:
            raise TypeError(_given_twice(content, data, files, json))
        return {"Content-Type": "application/json"}, native_encode_json(json)
    if content is not None:
        if data or files:
            raise TypeError(_given_twice(content, data, files, json))
        return {}, make_source(content)
    if data and not isinstance(data, Mapping):
        raise TypeError(
            f"data= must be a mapping of form fields, not {type(data).__name__}; "
            "raw bodies go to content="
        )
    if files:
        from ._multipart import MultipartSource

        source = MultipartSource(data or {}, files, boundary)
        return {"Content-Type": source.content_type}, source
    if data:
        return {"Content-Type": "application/x-www-form-urlencoded"}, encode_form(data)
    return {}, b""


def _given_twice(content: Any, data: Any, files: Any, json: Any) -> str:
    """Names the arguments that exclude each other."""
    given = [
        name
        for name, there in (
            ("content", content is not None),
            ("data", bool(data)),
            ("files", bool(files)),
            ("json", json is not None),
        )
        if there
    ]
    return f"give one body only, not {' and '.join(given)} together"
