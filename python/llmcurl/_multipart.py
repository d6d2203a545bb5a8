"""multipart/form-data (RFC 7578), streamed: files are read from disk as they are sent."""

from __future__ import annotations

import io
import mimetypes
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ._content import BodySource, FileSource
from ._exceptions import InvalidHeader
from ._headers import Headers
from ._query import param_text

__all__ = ["MultipartSource", "boundary_of"]

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


def boundary_of(content_type: str | None) -> bytes | None:
    """The boundary that a Content-Type of the caller's names, if any (RFC 2046 5.1.1)."""
    if not content_type or not content_type.lower().startswith("multipart/form-data"):
        return None
    match = re.search(r'boundary=(?:"([^"]+)"|([^;\s]+))', content_type, re.IGNORECASE)
    if match is None:
        return None
    return (match.group(1) or match.group(2)).encode("ascii", "replace")


def _quoted(text: str) -> str:
    """A name inside quotes: WHATWG HTML, "multipart/form-data encoding algorithm"."""
    return f'"{text.translate(_ESCAPES)}"'


class _Part:
    """One part: its head, and its content as bytes or as a file."""

    __slots__ = ("content", "head")

    def __init__(self, head: bytes, content: bytes | FileSource) -> None:
        self.head = head
        self.content = content

    def length(self) -> int | None:
        """Bytes of head and content, None if the file's size is unknown."""
        inner = len(self.content) if isinstance(self.content, bytes) else self.content.length
        return None if inner is None else len(self.head) + inner


def _field(name: str, value: Any) -> _Part:
    """A form field that is no file."""
    if isinstance(value, bytes):
        content = value
    else:
        content = param_text(value).encode("utf-8")
    head = f"Content-Disposition: form-data; name={_quoted(name)}\r\n\r\n"
    return _Part(head.encode("utf-8"), content)


def _file(name: str, value: Any) -> _Part:
    """A file part from what httpx takes: a file, bytes or str, or a tuple
    (filename, file[, content_type[, headers]]).

    Raises:
        TypeError: something else, or a file in text mode.
        InvalidHeader: a part header that must not be sent.
    """
    content_type: str | None = None
    extra: Mapping[str, str] = {}
    if isinstance(value, tuple):
        if not 2 <= len(value) <= 4:
            raise TypeError(
                f"files[{name!r}]: a tuple is (filename, file[, content_type[, headers]])"
            )
        filename, file = value[0], value[1]
        content_type = value[2] if len(value) > 2 else None
        extra = value[3] if len(value) > 3 else {}
    else:
        file = value
        path = getattr(value, "name", None)
        filename = PurePath(path).name if isinstance(path, str) and path else "upload"
    headers = Headers(extra)
    if content_type is None and filename and "content-type" not in headers:
        content_type = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    if content_type is not None:
        headers["Content-Type"] = content_type

    content: bytes | FileSource
    if isinstance(file, str):
        content = file.encode("utf-8")
    elif isinstance(file, (bytes, bytearray, memoryview)):
        content = bytes(file)
    elif isinstance(file, io.TextIOBase):
        raise TypeError(f"files[{name!r}]: open the file in binary mode: open(path, 'rb')")
    elif callable(getattr(file, "read", None)):
        content = FileSource(file)
    else:
        raise TypeError(
            f"files[{name!r}] must be bytes, str or a binary file, not {type(file).__name__}"
        )
    disposition = f"form-data; name={_quoted(name)}"
    if filename:
        disposition += f"; filename={_quoted(filename)}"
    lines = [f"Content-Disposition: {disposition}".encode()]
    lines += [key + b": " + text for key, text in headers.raw]
    return _Part(b"\r\n".join(lines) + b"\r\n\r\n", content)


def _named(items: Any, what: str) -> Iterable[tuple[str, Any]]:
    """(name, value) of a mapping or of pairs, names checked."""
    for name, value in items.items() if isinstance(items, Mapping) else items:
        if isinstance(name, bytes):
            name = name.decode("utf-8")
        if not isinstance(name, str):
            raise TypeError(f"{what}: names must be str, not {type(name).__name__}")
        yield name, value


class MultipartSource(BodySource):
    """A multipart/form-data body.

    Args:
        data: form fields; a list gives its name several times.
        files: a mapping or pairs (name, file).
        boundary: 1 to 70 characters of RFC 2046; random by default.

    Raises:
        TypeError, InvalidHeader: a field or file that cannot be sent.
    """

    __slots__ = ("_boundary", "_parts")

    def __init__(self, data: Mapping[str, Any], files: Any, boundary: bytes | None = None) -> None:
        if boundary is None:
            boundary = os.urandom(16).hex().encode("ascii")
        elif _BOUNDARY.fullmatch(boundary) is None:
            raise InvalidHeader("the multipart boundary has characters RFC 2046 does not allow")
        self._boundary = boundary
        self._parts = list(self._collect(data, files))
        # "--" boundary CRLF part CRLF, for each; "--" boundary "--" CRLF.
        frame = len(boundary) + 6
        total: int | None = frame
        replayable = True
        for part in self._parts:
            size = part.length()
            total = None if size is None or total is None else total + frame + size
            if isinstance(part.content, FileSource) and not part.content.replayable:
                replayable = False
        super().__init__(total, replayable)

    @staticmethod
    def _collect(data: Mapping[str, Any], files: Any) -> Iterator[_Part]:
        for name, value in _named(data, "data"):
            many = value if isinstance(value, (list, tuple)) else (value,)
            for one in many:
                yield _field(name, one)
        for name, value in _named(files, "files"):
            yield _file(name, value)

    @property
    def content_type(self) -> str:
        """The Content-Type header, boundary included."""
        return f"multipart/form-data; boundary={self._boundary.decode('ascii')}"

    def _pieces(self) -> Iterator[bytes | FileSource]:
        """The body in order: what lies between files as one piece, files as themselves."""
        opening = b"--" + self._boundary + b"\r\n"
        between: list[bytes] = []
        for part in self._parts:
            between += (opening, part.head)
            if isinstance(part.content, bytes):
                between.append(part.content)
            else:
                yield b"".join(between)
                between.clear()
                yield part.content
            between.append(b"\r\n")
        between += (b"--", self._boundary, b"--\r\n")
        yield b"".join(between)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `BodySource.chunks`."""
        self._begin()
        for piece in self._pieces():
            if isinstance(piece, bytes):
                yield piece
            else:
                async for block in piece.chunks():
                    yield block

    def blocks(self) -> Iterator[bytes]:
        """See `BodySource.blocks`."""
        self._begin()
        for piece in self._pieces():
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from piece.blocks()

    def rewind(self) -> None:
        """Makes every file start again; raises StreamConsumed if one cannot."""
        for part in self._parts:
            if isinstance(part.content, FileSource):
                part.content.rewind()
