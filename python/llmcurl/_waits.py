"""How long a server asks to wait: Retry-After and its kin."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["retry_after_of", "wait_of"]

#: `float` would also take "nan", "inf", "1_0" and other alphabets' digits.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def wait_of(text: str) -> float | None:
    """Seconds: a number, 0.0 if it is negative. None for what is no finite number."""
    text = text.strip()
    wait = float(text) if _NUMBER.fullmatch(text) else math.nan
    return max(wait, 0.0) if math.isfinite(wait) else None


def retry_after_of(headers: Mapping[str, Any]) -> float | None:
    """Seconds that the server asks to wait: retry-after-ms, else Retry-After in seconds or as a
    date (RFC 9110 10.2.3, counted from the answer's own Date if it has one: the clocks may
    differ). None if it does not ask, or what it says cannot be read."""
    if (text := headers.get("retry-after-ms")) is not None and (ms := wait_of(text)) is not None:
        return ms / 1000.0
    if (text := headers.get("retry-after")) is None:
        return None
    if (wait := wait_of(text)) is not None:
        return wait
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(until - _now(headers.get("date")), 0.0)


def _now(said: str | None) -> float:
    """The server's time, else ours."""
    try:
        if said is not None:
            return email.utils.parsedate_to_datetime(said).timestamp()
    except (ValueError, TypeError, OverflowError):
        pass
    return time.time()
