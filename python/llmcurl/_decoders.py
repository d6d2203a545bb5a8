"""Content-Encoding: gzip, deflate, br, zstd, and stacks of them (RFC 9110 8.4).

Decompression is bounded twice: one step gives at most `STEP` bytes, and `decode` refuses
an output beyond a ceiling, so that a small answer cannot fill the memory (a "bomb").
Text and lines are in `_text.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol

from ._exceptions import DecodingError, ResponseTooLarge

__all__ = [
    "ACCEPT_ENCODING",
    "Decoder",
    "MAX_BODY",
    "SUPPORTED",
    "ceiling_of",
    "decode",
    "decoded_limit",
    "make_decoder",
    "parse_encodings",
]

#: The default of `AsyncClient.max_response_bytes`.
MAX_BODY: Final = 2**31
#: Most bytes one step gives: bounds the memory of a streamed answer.
STEP: Final = 256 * 1024
#: `decoded_limit`: any answer may unpack to this many bytes...
_FLOOR: Final = 64 * 1024 * 1024
#: ...and a large one to this many times its size. JSON packs 5 to 30 times.
_RATIO: Final = 100


def decoded_limit(received: int) -> int:
    """The ceiling in bytes for what `received` bytes may unpack to if nobody set one."""
    return max(_FLOOR, _RATIO * received)


def ceiling_of(
    extra: dict[str, Any] | None, received: int, most: int | None = None, encoded: bool = True
) -> int:
    """How many bytes a body may have when it is held in memory.

    Args:
        extra: of the response: max_decoded, max_body (see `Response`).
        received: bytes as they came.
        most: the client's ceiling, if it is not in `extra`.
        encoded: it has a Content-Encoding.
    """
    extra = extra or {}
    fixed: int | None = extra.get("max_decoded")
    if fixed is not None:
        return fixed
    most = most or extra.get("max_body") or MAX_BODY
    return min(most, decoded_limit(received)) if encoded else most


class Decoder(Protocol):
    """Undoes one encoding, piece by piece."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces; to be exhausted before the next call.

        Raises:
            DecodingError: `data` is corrupt.
        """

    def finish(self) -> None:
        """To be called at the end of the body.

        Raises:
            DecodingError: the body is truncated.
        """


def _inflate(inflate: Any, data: bytes, name: str) -> Iterator[bytes]:
    """Feeds a zlib object until it is at its end or wants more input."""
    while True:
        try:
            piece = inflate.decompress(data, STEP)
        except zlib.error as error:
            raise DecodingError(f"corrupt {name} body: {error}") from error
        if piece:
            yield piece
        data = inflate.unconsumed_tail
        # A full step without input left: more output may wait inside.
        if inflate.eof or (not data and len(piece) < STEP):
            return


class _GzipDecoder:
    """gzip (RFC 1952), member after member; what follows the last and is none is ignored,
    as gzip(1) and browsers do."""

    __slots__ = ("_between", "_inflate", "_rest")

    def __init__(self) -> None:
        self._inflate: Any = None  # None: before, between or after members
        self._between = False  # at least one member is complete
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate is None:
                if self._between:
                    data = self._rest + data
                    self._rest = data[:2]
                    if not b"\x1f\x8b".startswith(data[:2]) or len(data) < 2:
                        return
                    self._rest = b""
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield from _inflate(self._inflate, data, "gzip")
            if not self._inflate.eof:
                return
            data = self._inflate.unused_data
            self._inflate = None
            self._between = True

    def finish(self) -> None:
        if self._inflate is not None:
            raise DecodingError("truncated gzip body")


class _DeflateDecoder:
    """deflate: zlib format as RFC 9110 8.4.1.2 says, or raw deflate as some servers send."""

    __slots__ = ("_head", "_inflate")

    def __init__(self) -> None:
        self._inflate: Any = None
        self._head = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            self._head = b""
            # RFC 1950 2.2: method 8, and the first two bytes are a multiple of 31.
            is_zlib = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        if not self._inflate.eof:
            yield from _inflate(self._inflate, data, "deflate")

    def finish(self) -> None:
        if self._head or (self._inflate is not None and not self._inflate.eof):
            raise DecodingError("truncated deflate body")


class _BrotliDecoder:
    """br (RFC 7932), through the package brotli or brotlicffi."""

    __slots__ = ("_bounded", "_error", "_inflate", "_started")

    def __init__(self) -> None:
        module = _brotli()
        self._inflate = module.Decompressor()
        self._error: type[Exception] = module.error
        # Since 1.2 the output of a step can be bounded.
        self._bounded = hasattr(self._inflate, "can_accept_more_data")
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data or self._inflate.is_finished():
            return
        self._started = True
        try:
            if not self._bounded:
                for start in range(0, len(data), 64):
                    yield from _sliced(self._inflate.process(data[start : start + 64]))
                return
            while True:
                piece = self._inflate.process(data, output_buffer_limit=STEP)
                data = b""
                if piece:
                    yield from _sliced(piece)
                # A full step: more output may wait inside, though all input is taken.
                if len(piece) < STEP and self._inflate.can_accept_more_data():
                    return
        except self._error as error:
            raise DecodingError(f"corrupt br body: {error}") from error

    def finish(self) -> None:
        if self._started and not self._inflate.is_finished():
            raise DecodingError("truncated br body")


class _ZstdDecoder:
    """zstd (RFC 8878), frame after frame, with the window of RFC 9659 (8 MiB) at most."""

    __slots__ = ("_done", "_error", "_inflate", "_make")

    def __init__(self) -> None:
        self._make, self._error = _zstd()
        self._inflate: Any = None
        self._done = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate is None:
                self._inflate = self._make()
                self._done = False
            try:
                yield from self._inflate.pieces(data)
            except self._error as error:
                raise DecodingError(f"corrupt zstd body: {error}") from error
            data = b""
            if self._inflate.eof:
                data = self._inflate.unused_data
                self._inflate = None
                self._done = True

    def finish(self) -> None:
        if not self._done:
            raise DecodingError("truncated zstd body")


class _StdZstd:
    """One frame with compression.zstd (Python 3.14) or backports.zstd."""

    __slots__ = ("_inflate",)

    def __init__(self, module: Any) -> None:
        window = {module.DecompressionParameter.window_log_max: 23}
        self._inflate = module.ZstdDecompressor(options=window)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._inflate.decompress(data, STEP)
            data = b""
            if piece:
                yield piece
            if self._inflate.eof or self._inflate.needs_input:
                return

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)


class _OtherZstd:
    """One frame with the package zstandard, which cannot bound a step: it gets little input
    at a time. 256 bytes hold at most 64 blocks of 128 KiB, so a step stays below 8 MiB."""

    __slots__ = ("_inflate", "_rest")

    def __init__(self, module: Any) -> None:
        self._inflate = module.ZstdDecompressor(max_window_size=1 << 23).decompressobj()
        self._rest = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), 256):
            yield from _sliced(self._inflate.decompress(data[start : start + 256]))
            if self._inflate.eof:
                self._rest = self._inflate.unused_data + data[start + 256 :]
                return

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def unused_data(self) -> bytes:
        return self._rest


def _sliced(data: bytes) -> Iterator[bytes]:
    """Cuts a large piece down to `STEP`."""
    if len(data) <= STEP:
        if data:
            yield data
        return
    for start in range(0, len(data), STEP):
        yield data[start : start + STEP]


def _first(*names: str) -> Any:
    """The first of these modules that is installed; raises ImportError if none is."""
    for name in names[:-1]:
        if _has(name):
            return import_module(name)
    return import_module(names[-1])


# Imported at their first use: half of all programs never see these encodings.
def _brotli() -> Any:
    return _first("brotli", "brotlicffi")


def _zstd() -> tuple[Callable[[], Any], type[Exception]]:
    """(makes a decompressor of one frame, its error class)."""
    module = _first("compression.zstd", "backports.zstd", "zstandard")
    frame = _OtherZstd if module.__name__ == "zstandard" else _StdZstd
    return (lambda: frame(module)), module.ZstdError


def _has(name: str) -> bool:
    """Whether a module could be imported, without importing it."""
    try:
        # a Python that was built without libzstd has the one module, not the other
        if name == "compression.zstd" and find_spec("_zstd") is None:
            return False
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


_MAKERS: dict[str, Any] = {
    "gzip": _GzipDecoder,
    "x-gzip": _GzipDecoder,  # RFC 9110 8.4.1.3
    "deflate": _DeflateDecoder,
}
if _has("brotli") or _has("brotlicffi"):
    _MAKERS["br"] = _BrotliDecoder
if _has("compression.zstd") or _has("backports.zstd") or _has("zstandard"):
    _MAKERS["zstd"] = _ZstdDecoder

#: The encodings this installation can undo.
SUPPORTED: Final = frozenset(_MAKERS) | {"identity"}

#: The Accept-Encoding header to send.
ACCEPT_ENCODING: Final = ", ".join(
    name for name in ("gzip", "deflate", "br", "zstd") if name in _MAKERS
)


def parse_encodings(value: str | None) -> tuple[str, ...]:
    """The encodings of a Content-Encoding header in the order they were applied.

    Without "identity". Empty, as if there were none, if one of them is unknown: the body is
    then given as it came, which is what a caller who asked for that encoding expects.
    """
    if not value:
        return ()
    names = [name.strip().lower() for name in value.split(",")]
    names = [name for name in names if name and name != "identity"]
    if any(name not in _MAKERS for name in names):
        return ()
    return tuple(names)


class _Chain:
    """Undoes several encodings, the last applied first."""

    __slots__ = ("_stages",)

    def __init__(self, stages: list[Decoder]) -> None:
        self._stages = stages

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._through(0, data)

    def _through(self, stage: int, data: bytes) -> Iterator[bytes]:
        if stage == len(self._stages):
            yield data
            return
        for piece in self._stages[stage].feed(data):
            yield from self._through(stage + 1, piece)

    def finish(self) -> None:
        for stage in self._stages:
            stage.finish()


#: More layers than this are an attack: each multiplies the size.
_MAX_LAYERS: Final = 5


def make_decoder(encodings: Iterable[str]) -> Decoder | None:
    """A decoder for these encodings (`parse_encodings`); None if there is nothing to do.

    Raises:
        DecodingError: more than 5 layers.
    """
    names = tuple(encodings)
    if not names:
        return None
    if len(names) > _MAX_LAYERS:
        raise DecodingError(f"{len(names)} layers of Content-Encoding, {_MAX_LAYERS} allowed")
    stages: list[Decoder] = [_MAKERS[name]() for name in reversed(names)]
    return stages[0] if len(stages) == 1 else _Chain(stages)


def decode(encodings: Iterable[str], data: bytes, limit: int | None = None) -> bytes:
    """A whole body with its encodings undone.

    Args:
        encodings: in the order they were applied, as in the header.
        data: the body as received; b"" stays b"" (an answer to HEAD has none).
        limit: most bytes of output, None for none.

    Raises:
        DecodingError: corrupt or truncated.
        ResponseTooLarge: more than `limit` bytes.
    """
    decoder = make_decoder(encodings) if data else None
    if decoder is None:
        return data
    pieces: list[bytes] = []
    total = 0
    for piece in decoder.feed(data):
        total += len(piece)
        if limit is not None and total > limit:
            raise too_large(limit, len(data))
        pieces.append(piece)
    decoder.finish()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_large(limit: int, received: int) -> ResponseTooLarge:
    """The error for a body of more than `limit` bytes, as they came or unpacked."""
    what = f"the body of {received} bytes unpacks to" if received <= limit else "the body has"
    return ResponseTooLarge(
        f"{what} more than {limit} bytes; stream it if that is meant to be",
        details={"limit": limit, "bytes_received": received},
    )
