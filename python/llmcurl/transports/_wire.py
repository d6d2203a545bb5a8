"""From the package's request to libcurl's header lines.

The server shall receive what the reference transport sends: names in their case, duplicates
apart, in order, nothing added. What libcurl adds by itself is switched off line by line
(CURLOPT_HTTPHEADER(3): ``Name:`` keeps a header away, ``Name;`` sends an empty one).

The headers themselves go to libcurl in one piece, line ends included: it sends a line of its list
as it is, and judges by the name and value it begins with. So nothing of them is left out, moved,
or waited for (Connection, Host, Expect, empty values), and a call is cheaper: libcurl goes through
its list a dozen times in each. Transfer-Encoding alone stands by itself: libcurl makes the chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .._native import HeaderList

__all__ = ["TOO_LITTLE", "TOO_MUCH", "InvalidRequest", "header_list", "is_method"]

# The reference's words (h11's).
TOO_MUCH: Final = "Too much data for declared Content-Length"
TOO_LITTLE: Final = "Too little data for declared Content-Length"

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# What a header of the request means here, or to libcurl if a piece begins with it.
_HOST, _LENGTH, _CODING, _CONNECTION = 1, 2, 4, 8
_BITS: Final = {
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
}
#: What libcurl would add. "expect:" comes first: the native side leaves it out where libcurl would
#: not ask for it. The others come before the headers, so that libcurl finds them first.
_KEPT_AWAY: Final = (b"expect:", b"Host:", b"Content-Length:", b"Accept:", b"Content-Type:")

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


def header_list(raw: Iterable[tuple[bytes, bytes]], proxied: bool) -> tuple[HeaderList, int | None]:
    """Headers as libcurl takes them, and the length they declare for the body.

    Args:
        raw: names and values.
        proxied: they may go to a proxy.

    Returns:
        The list, and Content-Length; -1 = the body is chunked, None = neither is there.

    Raises:
        InvalidRequest: with h11's words, but never with a header's value.
    """
    head: list[bytes] = []
    piece: list[bytes] | None = head
    lines: list[bytes | list[bytes]] = [*_KEPT_AWAY, head]
    seen = 0
    length: int | None = None
    names = _names
    if proxied:
        lines.insert(1, b"Proxy-Connection:")
    for name, value in raw:
        known = names.get(name)
        if known is None:
            known = _learn(name)
        start, bit = known
        if value and value.strip(b" \t") is not value:
            raise InvalidRequest(f"Illegal header value for {name!r}")
        if bit == _HOST:
            if seen & _HOST:
                raise InvalidRequest("Found multiple Host: headers")
            head.insert(0, start + value)  # first, as h11 has it
        elif bit == _CODING:
            lines.append(start + value if value else name + b";")
            piece = None
        elif piece is not None:
            piece.append(start + value)
        elif value and bit != _CONNECTION:
            piece = [start + value]
            lines.append(piece)
        else:
            lines.append(start + value if value else name + b";")
        if bit:
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
    try:
        return HeaderList(lines), length
    except ValueError:
        raise InvalidRequest("Illegal header value") from None
