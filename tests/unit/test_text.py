"""Text and lines: characters and line ends may be split anywhere; U+2028 is no line end."""

from __future__ import annotations

import pytest
from llmcurl._text import LineDecoder, TextDecoder, charset_of, decode_text, known_encoding

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

ODD = "a\nb\r\nc\rd\n\ne\r\r\nf\u2028g\u2029h\x85i\x0bj\x0ck\x1cl\x1dm\x1en"
LINES = ["a", "b", "c", "d", "", "e", "", "f\u2028g\u2029h\x85i\x0bj\x0ck\x1cl\x1dm\x1en"]


def lines(text: str, size: int) -> list[str]:
    decoder = LineDecoder()
    out = [
        line
        for start in range(0, len(text), size)
        for line in decoder.feed(text[start : start + size])
    ]
    return out + decoder.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ODD, LINES),
        (ODD + "\n", LINES),
        ("", []),
        ("\n", [""]),
        ("\r\n", [""]),
        ("\r", [""]),
        ("\r\r", ["", ""]),
        ("\n\r", ["", ""]),
        ("a\r\n\r\nb", ["a", "", "b"]),
        ("no end", ["no end"]),
        ("a\n\n", ["a", ""]),
    ],
)
def test_lines_end_with_lf_crlf_or_cr_in_any_cut(text: str, expected: list[str], size: int) -> None:
    assert lines(text, size) == expected


def test_a_line_is_given_as_soon_as_its_cr_is_there() -> None:
    decoder = LineDecoder()
    assert decoder.feed("data\r") == ["data"]
    assert decoder.feed("\nnext") == [] and decoder.feed("\n") == ["next"]
    assert decoder.feed("") == [] and decoder.finish() == []


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    decoder = LineDecoder()
    for _ in range(200_000):
        assert decoder.feed("x") == []
    assert decoder.feed("\n") == ["x" * 200_000]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "shift_jis", "iso-8859-1", "utf-8-sig"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_text_is_decoded_in_any_cut(encoding: str, size: int) -> None:
    text = "caf\u00e9" if encoding == "iso-8859-1" else "日本 text"
    data, decoder = text.encode(encoding), TextDecoder(encoding)
    pieces = [decoder.feed(data[start : start + size]) for start in range(0, len(data), size)]
    assert "".join(pieces) + decoder.finish() == text


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8"])
def test_a_byte_order_mark_is_dropped_and_bad_bytes_are_replaced(encoding: str) -> None:
    data = b"\xef\xbb\xbfa\xffb\xe2\x82"
    assert decode_text(data, encoding) == "a\ufffdb\ufffd"
    decoder = TextDecoder(encoding)
    assert (
        "".join(decoder.feed(bytes([byte])) for byte in data) + decoder.finish() == "a\ufffdb\ufffd"
    )


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (None, None), ("text/html", None), ("text/html; charset=UTF-8", "utf-8"), ('text/html;charset="iso-8859-1"', "iso-8859-1"),
        ("text/html; a=b; Charset = 'x'", "x"), ("text/html; charset=", None), ("text/html; xcharset=a", None), ("text/html; charset=utf-8; q=1", "utf-8"),
    ],
)  # fmt: skip
def test_the_charset_of_a_content_type_is_found(
    content_type: str | None, charset: str | None
) -> None:
    assert charset_of(content_type) == charset


def test_only_text_codecs_are_known() -> None:
    assert known_encoding("utf-8") and known_encoding("latin-1")
    assert (
        not known_encoding("nonsense")
        and not known_encoding("hex")
        and not known_encoding("rot13")
        and not known_encoding("a\0b")
    )
