"""Vectors for the mock: made from a hash of the text, so equal texts give equal vectors of length 1."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import sys
from array import array

from ._dialect import BadAsk

MAX_SIZE = 65_536
"""Floats per vector at most."""


@functools.lru_cache(maxsize=4096)
def _floats(text: str, size: int) -> array[float]:
    if not 0 < size <= MAX_SIZE:
        raise BadAsk(f"dimensions must be between 1 and {MAX_SIZE}")
    raw = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(size)
    signed = [byte - 127.5 for byte in raw]
    norm = math.sqrt(sum(value * value for value in signed))
    return array("f", [value / norm for value in signed])


def vector(text: str, size: int) -> list[float]:
    """The vector of a text as floats. BadAsk for an impossible size."""
    return _floats(text, size).tolist()


def as_base64(text: str, size: int) -> str:
    """The same vector as base64 of little-endian float32."""
    floats = _floats(text, size)
    if sys.byteorder == "big":
        floats = array("f", floats)
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
