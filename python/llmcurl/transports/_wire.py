"""From the package's request to libcurl's header lines, and from a head to header pairs.

The server shall receive what the reference transport sends: names in their case, duplicates
apart, in order, nothing added. What libcurl adds by itself is switched off line by line
(CURLOPT_HTTPHEADER(3): ``Name:`` keeps a header away, ``Name;`` sends an empty one).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .._native import HeaderList

__all__ = ["TOO_LITTLE", "TOO_MUCH", "InvalidRequest", "header_list", "is_method", "parse_head"]

# The reference's words (h11's).
TOO_MUCH: Final = "Too much data for declared Content-Length"
TOO_LITTLE: Final = "Too little data for declared Content-Length"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# What a header of the request means for what libcurl would add.
_HOST, _LENGTH, _CODING, _ACCEPT, _TYPE, _EXPECT = 1, 2, 4, 8, 16, 32
_BITS: Final = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"accept": _ACCEPT,
    b"content-type": _TYPE,
    b"expect": _EXPECT,
}
_ADDED: Final = (
    (_LENGTH, b"Content-Length:"),
    (_CODING, b"Transfer-Encoding:"),
    (_ACCEPT, b"Accept:"),
    (_TYPE, b"Content-Type:"),
    (_EXPECT, b"Expect:"),
)
#: For each set of headers that are there: the lines that keep the others away.
_KEPT_AWAY: Final = tuple(
    [b"Proxy-Connection:", *(line for bit, line in _ADDED if not seen & bit)] for seen in range(64)
)

#: Header names seen: their line's start, and their bit.
_names: dict[bytes, tuple[bytes, int]] = {}


class InvalidRequest(Exception):
    """The request must not be sent; becomes the package's LocalProtocolError."""


def is_method(method: str) -> bool:
    """Whether it can be a request's method (RFC 9110 9.1: a token)."""
    return method.isascii() and _TOKEN.fullmatch(method.encode()) is not None


def _learn(name: bytes) -> tuple[bytes, int]:
    if _TOKEN.fullmatch(name) is None:
        raise InvalidRequest(f"Illegal header name {name!r}")
    known = (name + b": ", _BITS.get(name.lower(), 0))
    if len(_names) < 4096:
        _names[name] = known
    return known


def header_list(raw: Iterable[tuple[bytes, bytes]]) -> tuple[HeaderList, int | None]:
    """Headers as libcurl takes them, and the length they declare for the body.

    Returns:
        The list, and Content-Length; -1 = the body is chunked, None = neither is there.

    Raises:
        InvalidRequest: with h11's words, but never with a header's value.
    """
    lines = []
    seen = 0
    length: int | None = None
    names = _names
    for name, value in raw:
        known = names.get(name)
        if known is None:
            known = _learn(name)
        start, bit = known
        if not value:
            lines.append(name + b";")
        elif value.strip(b" \t") is not value:
            raise InvalidRequest(f"Illegal header value for {name!r}")
        else:
            lines.append(start + value)
        if bit:
            if bit == _HOST and seen & _HOST:
                raise InvalidRequest("Found multiple Host: headers")
            if bit == _LENGTH:
                if not value.isdigit():
                    raise InvalidRequest("bad Content-Length")
                if seen & _LENGTH and int(value) != length:
                    raise InvalidRequest("conflicting Content-Length headers")
                length = int(value)
            seen |= bit
    if not seen & _HOST:
        raise InvalidRequest("Missing mandatory Host: header")
    if seen & _CODING:
        length = -1  # RFC 9112 6.3: it overrides Content-Length
    lines += _KEPT_AWAY[seen]
    try:
        return HeaderList(lines), length
    except ValueError:
        raise InvalidRequest("Illegal header value") from None


def parse_head(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Reason phrase and header pairs of a native head; names in the case in which they came."""
    lines = head.split(b"\r\n")
    pairs = []
    for line in lines[1:-1]:
        name, _, value = line.partition(b":")
        pairs.append((name, value.strip(b" \t")))
    status = lines[0].split(b" ", 2)
    return (status[2] if len(status) == 3 else b""), pairs
