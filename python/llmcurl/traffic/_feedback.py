"""What an answer's headers say about the limits: how long until the next request or token.

OpenAI (and most that are compatible) sends x-ratelimit-limit-requests, -remaining-requests and
-reset-requests ("6m0s", "20ms"), the same for tokens; Anthropic sends
anthropic-ratelimit-requests-limit, -remaining and -reset (RFC 3339), the same for tokens,
input-tokens and output-tokens. Both describe token buckets that fill at a constant rate and
"reset" when full, so that the next unit comes after reset / (limit - remaining).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

__all__ = ["Said", "said_by"]

_TOKENS: tuple[str, ...] = ("tokens", "input-tokens", "output-tokens")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_OPENAI = "x-ratelimit-{part}-{what}"
_ANTHROPIC = "anthropic-ratelimit-{what}-{part}"


class Said(NamedTuple):
    """What is left, and seconds until there is one more; None where nothing was said."""

    requests: float | None = None
    requests_in: float | None = None
    tokens: float | None = None
    tokens_in: float | None = None


_NOTHING = Said()


def said_by(headers: Mapping[str, Any]) -> Said:
    """The limits as the headers of an answer describe them. What cannot be read is left out."""
    if "x-ratelimit-remaining-requests" in headers or "x-ratelimit-remaining-tokens" in headers:
        names, kinds = _OPENAI, _TOKENS[:1]
    elif "anthropic-ratelimit-requests-remaining" in headers or any(
        f"anthropic-ratelimit-{kind}-remaining" in headers for kind in _TOKENS
    ):
        names, kinds = _ANTHROPIC, _TOKENS
    else:
        return _NOTHING
    requests = _one(headers, names, "requests")
    tokens: tuple[float | None, float | None] = (None, None)
    for kind in kinds:
        found = _one(headers, names, kind)
        if found[0] is not None and (tokens[0] is None or found[0] < tokens[0]):
            tokens = found
    return Said(*requests, *tokens)


def _one(headers: Mapping[str, Any], names: str, what: str) -> tuple[float | None, float | None]:
    remaining = _number(headers.get(names.format(part="remaining", what=what)))
    limit = _number(headers.get(names.format(part="limit", what=what)))
    reset = _seconds(headers.get(names.format(part="reset", what=what)))
    if remaining is None:
        return None, None
    remaining = max(remaining, 0.0)  # gateways count below it, or mean "not known" by -1
    if reset is None:
        return remaining, None
    used = 1.0 if limit is None else max(limit - remaining, 1.0)
    return remaining, reset / used


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is None or math.isfinite(value) else None


def _seconds(text: str | None) -> float | None:
    """ "1m30s", "20ms", "1.5", or a time (RFC 3339)."""
    if text is None:
        return None
    if (plain := _number(text)) is not None:
        return max(plain, 0.0)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        return total if math.isfinite(total) else None
    try:
        return max(datetime.fromisoformat(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
