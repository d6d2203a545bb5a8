"""Content-Encoding is undone, in any cut; what is corrupt, truncated or a bomb is refused."""

from __future__ import annotations

import gzip
import importlib.util
import os
import random
import zlib
from typing import Any

import brotli
import pytest
import zstandard
from llmcurl import _decoders
from llmcurl._decoders import STEP, decode, decoded_limit, make_decoder, parse_encodings
from llmcurl._exceptions import DecodingError, ResponseTooLarge

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

TEXT = random.Random(5).randbytes(3000) + b'{"choices": [{"text": "hello"}]}' * 3000 + b"end"


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(data) + deflate.flush()


ENCODERS: dict[str, tuple[str, Any]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate as zlib": ("deflate", zlib.compress),
    "deflate as raw": ("deflate", raw_deflate),
    "br": ("br", lambda data: brotli.compress(data, quality=5)),
    "zstd": ("zstd", zstandard.compress),
    "zstd without size": (
        "zstd",
        lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    ),
}
every = pytest.mark.parametrize("kind", ENCODERS)


def feed(decoder: Any, data: bytes, size: int) -> bytes:
    out = [
        piece
        for start in range(0, len(data), size)
        for piece in decoder.feed(data[start : start + size])
    ]
    decoder.finish()
    assert all(0 < len(piece) <= STEP for piece in out)
    return b"".join(out)


@every
@pytest.mark.parametrize("data", [TEXT, b"a", b""], ids=["long", "short", "empty"])
def test_a_body_is_decoded_at_once(kind: str, data: bytes) -> None:
    name, encode = ENCODERS[kind]
    assert decode((name,), encode(data)) == data


@every
@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_a_body_is_decoded_in_any_cut(kind: str, size: int) -> None:
    name, encode = ENCODERS[kind]
    assert feed(make_decoder((name,)), encode(TEXT), size) == TEXT


@every
def test_no_body_is_no_error(kind: str) -> None:
    name, _ = ENCODERS[kind]
    assert decode((name,), b"") == b""
    decoder = make_decoder((name,))
    assert decoder is not None and list(decoder.feed(b"")) == []
    decoder.finish()


@every
@pytest.mark.parametrize("missing", [1, 4, 100, 1000])
def test_a_truncated_body_is_an_error(kind: str, missing: int) -> None:
    name, encode = ENCODERS[kind]
    data = encode(TEXT)[:-missing]
    with pytest.raises(DecodingError, match="truncated|corrupt"):
        decode((name,), data)
    with pytest.raises(DecodingError):
        feed(make_decoder((name,)), data, 100)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize(
    "data", [b"this is plain text, not compressed", b"\xff" * 50, b"\x1f\x8b\x08junkjunkjunkjunk"]
)
def test_a_corrupt_body_is_an_error(name: str, data: bytes) -> None:
    with pytest.raises(DecodingError):
        decode((name,), data)


@every
def test_a_flipped_bit_never_gives_anything_but_a_decoding_error(kind: str) -> None:
    name, encode = ENCODERS[kind]
    data = encode(TEXT[-2000:])
    chance = random.Random(7)
    for _ in range(200):
        position = chance.randrange(len(data))
        bad = (
            data[:position]
            + bytes([data[position] ^ 1 << chance.randrange(8)])
            + data[position + 1 :]
        )
        try:
            decode((name,), bad, 10_000_000)
        except (DecodingError, ResponseTooLarge):
            pass


def test_gzip_members_follow_each_other_and_padding_is_ignored() -> None:
    data = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")
    for tail in (b"", b"\0" * 10, b"garbage", b"\x1f"):
        assert decode(("gzip",), data + tail) == b"one two"
        for size in (1, 3):
            assert feed(make_decoder(("gzip",)), data + tail, size) == b"one two"
    with pytest.raises(DecodingError, match="truncated"):
        decode(("gzip",), data[:-1])


def test_zstd_frames_follow_each_other() -> None:
    data = zstandard.compress(b"one ") + zstandard.compress(b"two")
    assert decode(("zstd",), data) == b"one two"
    assert feed(make_decoder(("zstd",)), data, 3) == b"one two"


def test_encodings_are_undone_in_the_reverse_order() -> None:
    data = brotli.compress(zlib.compress(gzip.compress(TEXT)))
    assert decode(("gzip", "deflate", "br"), data) == TEXT
    for size in (1, 1000):
        assert feed(make_decoder(("gzip", "deflate", "br")), data, size) == TEXT
    with pytest.raises(DecodingError, match="truncated"):
        decode(("gzip", "br"), brotli.compress(gzip.compress(TEXT)[:-5]))


def test_layer_upon_layer_is_refused() -> None:
    with pytest.raises(DecodingError, match="layers"):
        decode(("gzip",) * 6, b"x")


@every
def test_a_bomb_is_refused_early_and_in_bounded_steps(kind: str) -> None:
    name, encode = ENCODERS[kind]
    bomb = encode(b"\0" * 50_000_000)
    with pytest.raises(ResponseTooLarge) as caught:
        decode((name,), bomb, 1_000_000)
    assert caught.value.details == {"limit": 1_000_000, "bytes_received": len(bomb)}
    decoder = make_decoder((name,))
    assert decoder is not None
    assert all(len(piece) <= STEP for _, piece in zip(range(10), decoder.feed(bomb), strict=False))
    assert len(decode((name,), bomb, 50_000_000)) == 50_000_000


def test_the_ceiling_grows_with_what_was_received() -> None:
    assert decoded_limit(0) == decoded_limit(1000) == 64 * 1024 * 1024
    assert decoded_limit(10_000_000) == 1_000_000_000


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (None, ()), ("", ()), ("identity", ()), ("gzip", ("gzip",)), (" GZip , br ", ("gzip", "br")), ("gzip, identity", ("gzip",)),
        ("aws-chunked", ()), ("gzip, unknown", ()), (",", ()),
    ],
)  # fmt: skip
def test_a_content_encoding_header_is_read_and_an_unknown_one_passes_through(
    header: str | None, names: tuple[str, ...]
) -> None:
    assert parse_encodings(header) == names
    assert (make_decoder(names) is None) == (not names)


def test_what_can_be_decoded_is_what_is_asked_for() -> None:
    assert _decoders.ACCEPT_ENCODING == "gzip, deflate, br, zstd"
    assert set(_decoders.ACCEPT_ENCODING.split(", ")) <= _decoders.SUPPORTED


class OldBrotli:
    """brotli 1.1 and brotlicffi: a step cannot be bounded."""

    error = brotli.error

    class Decompressor:
        def __init__(self) -> None:
            self._inner = brotli.Decompressor()

        def process(self, data: bytes) -> bytes:
            return self._inner.process(data)

        def is_finished(self) -> bool:
            return self._inner.is_finished()


def test_an_old_brotli_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decoders, "_brotli", lambda: OldBrotli)
    data = brotli.compress(TEXT)
    assert decode(("br",), data) == TEXT and feed(make_decoder(("br",)), data, 5) == TEXT
    with pytest.raises(DecodingError):
        decode(("br",), data[:-3])


ZSTD_MODULES = [
    name for name in ("compression.zstd", "backports.zstd", "zstandard") if _decoders._has(name)
]


@pytest.mark.parametrize("module", ZSTD_MODULES)
def test_every_zstd_module_gives_the_same(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(_decoders, "_has", lambda name: name == module)
    make, _ = _decoders._zstd()
    assert type(make()).__name__ == ("_OtherZstd" if module == "zstandard" else "_StdZstd")
    data = zstandard.compress(TEXT) + zstandard.compress(b"more")
    for size in (1, 100, 10**6):
        assert feed(make_decoder(("zstd",)), data, size) == TEXT + b"more"
    with pytest.raises(DecodingError):
        decode(("zstd",), data[:-2])
    with pytest.raises(DecodingError):
        decode(("zstd",), b"\xff" * 50)
    huge_window = zstandard.ZstdCompressionParameters(window_log=27)
    data = zstandard.ZstdCompressor(compression_params=huge_window).compress(os.urandom(1 << 25))
    with pytest.raises(DecodingError):
        decode(("zstd",), data)


def test_a_python_that_was_built_without_libzstd_takes_the_package(monkeypatch) -> None:
    specs = {"compression.zstd": object(), "zstandard": object()}
    monkeypatch.setattr(_decoders, "find_spec", specs.get)
    assert not _decoders._has("compression.zstd") and _decoders._has("zstandard")
    assert _decoders._zstd()[1] is zstandard.ZstdError
    specs["_zstd"] = object()
    assert _decoders._has("compression.zstd")


def test_missing_modules_are_not_offered() -> None:
    assert not _decoders._has("no_such_module_at_all") and not _decoders._has(
        "no_such_package.zstd"
    )
    assert importlib.util.find_spec("zlib") is not None
    with pytest.raises(ImportError):
        _decoders._first("no_such_module_at_all")
