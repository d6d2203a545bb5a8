"""Bytes to text and text to lines, incrementally, for streamed answers."""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

from ._exceptions import ResponseTooLarge

__all__ = ["LineDecoder", "TextDecoder", "charset_of", "decode_text", "known_encoding"]

_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^;\s]+))", re.IGNORECASE)
#: Most characters of a line: a server that never ends one cannot fill the memory.
MAX_LINE: Final = 64 * 1024 * 1024
# Not str.splitlines(): U+2028, U+0085 and others are text, also inside of JSON strings.
_LINE_END = re.compile(r"\r\n|\n|\r")


def charset_of(content_type: str | None) -> str | None:
    """The charset parameter of a Content-Type in lower case (RFC 9110 8.3.2), or None."""
    if not content_type or ";" not in content_type:
        return None
    match = _CHARSET.search(content_type)
    if match is None:
        return None
    return (match.group(1) or match.group(2) or match.group(3) or "").strip().lower() or None


def known_encoding(name: str) -> bool:
    """Whether Python has a text codec of this name."""
    try:
        # rot13, hex and the like are codecs too, but not between bytes and text.
        return bool(getattr(codecs.lookup(name), "_is_text_encoding", True))
    except (LookupError, ValueError):
        return False


def _without_bom(encoding: str) -> str:
    """The codec that drops a byte order mark at the start, if it has such a sibling."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8", "utf_8") else encoding


def decode_text(data: bytes, encoding: str) -> str:
    """Text of a whole body; what is no text becomes U+FFFD, a BOM is dropped."""
    if data.startswith(b"\xef\xbb\xbf"):
        encoding = _without_bom(encoding)
    return str(data, encoding, "replace")


class TextDecoder:
    """Bytes to text; characters may be split over chunks.

    Args:
        encoding: a Python codec; what does not fit becomes U+FFFD, a BOM is dropped.
    """

    __slots__ = ("_decode",)

    def __init__(self, encoding: str = "utf-8") -> None:
        decoder: Any = codecs.getincrementaldecoder(_without_bom(encoding))("replace")
        self._decode = decoder.decode

    def feed(self, data: bytes) -> str:
        """The text that is complete now."""
        text: str = self._decode(data, False)
        return text

    def finish(self) -> str:
        """What is left at the end of the body."""
        text: str = self._decode(b"", True)
        return text


class LineDecoder:
    r"""Text to lines without their ends. A line ends with \n, \r\n or \r and nothing else.

    A line is given as soon as its end is there: after a \r it is not waited for the \n.

    Raises (when fed):
        ResponseTooLarge: a line of more than `MAX_LINE` characters without an end in sight.
    """

    __slots__ = ("_after_cr", "_parts", "_size")

    def __init__(self) -> None:
        self._size = 0  # characters of the unfinished line
        self._parts: list[str] = []  # the unfinished line, joined once it ends
        self._after_cr = False

    def feed(self, text: str) -> list[str]:
        """The lines that are complete now."""
        if self._after_cr and text:
            self._after_cr = False
            if text[0] == "\n":
                text = text[1:]
        if not text:
            return []
        if "\r" in text:
            self._after_cr = text[-1] == "\r"
            lines = _LINE_END.split(text)
        else:
            lines = text.split("\n")
        rest = lines.pop()
        if lines and self._parts:
            self._parts.append(lines[0])
            lines[0] = "".join(self._parts)
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > MAX_LINE:
                raise ResponseTooLarge(f"a line has more than {MAX_LINE} characters")
        return lines

    def finish(self) -> list[str]:
        """The last line if it has no end."""
        if not self._parts:
            return []
        line = "".join(self._parts)
        self._parts.clear()
        return [line]
