"""What a busy provider does to traffic: budgets of requests and tokens with their headers, a limited number of
workers, latencies with a long tail, and the count of attempts per request.

Budgets are token buckets, as the providers describe theirs: full at first, filled at a constant rate, one for each API
key. All times are seconds on the clock of the mock's loop.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ._config import MockConfig
from ._http import RequestHead
from ._replies import Failure
from ._routes import key_of

MAX_ATTEMPTS = 1_000_000
"""Requests whose attempts are counted; those that come later are not."""


class Bucket:
    """An amount that is used up and fills again at `rate` per second, up to `size`. May be below zero."""

    __slots__ = ("size", "rate", "_level", "_at")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self.size = size
        self.rate = rate
        self._level = size
        self._at = now

    def level(self, now: float) -> float:
        """What is there now."""
        self._level = min(self.size, self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` (or the whole bucket, if that is less) is there; 0 if it is."""
        missing = min(amount, self.size) - self.level(now)
        # A billionth is what rounding leaves after the very wait that was asked for.
        return missing / self.rate if missing > 1e-9 * self.size else 0.0

    def take(self, now: float, amount: float) -> None:
        """Use up `amount`, whether it is there or not."""
        self._level = self.level(now) - amount

    def reset_in(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return (self.size - self.level(now)) / self.rate


class Budget:
    """The buckets of one API key; None where there is no limit."""

    __slots__ = ("requests", "tokens")

    def __init__(self, config: MockConfig, now: float) -> None:
        def bucket(limit: int | None) -> Bucket | None:
            if limit is None:
                return None
            return Bucket(limit * config.rate_burst, limit / config.rate_window, now)

        self.requests = bucket(config.rpm)
        self.tokens = bucket(config.tpm)


class Traffic:
    """Decides over requests before they are looked at. `admit` for each, then `rate_headers` for its answer."""

    def __init__(self, config: MockConfig) -> None:
        self.attempts: dict[str, int] = {}
        self._random = random.Random(config.seed)
        self._budgets: dict[str | None, Budget] = {}
        self.configure(config)

    def configure(self, config: MockConfig) -> None:
        """Take new settings; budgets begin anew, attempts stay."""
        self._config = config
        self._budgets.clear()
        self.limited = config.rpm is not None or config.tpm is not None
        self.uneven = config.jitter > 0.0 or config.slow_rate > 0.0

    def reset(self) -> None:
        """Forget attempts and budgets; the draws begin anew."""
        self.attempts.clear()
        self._budgets.clear()
        self._random.seed(self._config.seed)

    def count(self, head: RequestHead) -> int:
        """Count an attempt at the request that `count_by` names; its number, 0 for one without that header."""
        ident = head.header(self._config.count_by)
        if ident is None:
            return 0
        number = self.attempts.get(ident, 0) + 1
        if number > 1 or len(self.attempts) < MAX_ATTEMPTS:
            self.attempts[ident] = number
        return number

    def budget(self, head: RequestHead, now: float) -> Budget:
        """The budget of the key that a request carries."""
        key = key_of(head)
        found = self._budgets.get(key)
        if found is None:
            found = self._budgets[key] = Budget(self._config, now)
        return found

    @staticmethod
    def admit(budget: Budget, size: int, now: float) -> Failure | None:
        """Charge a request with a body of `size` bytes, or the 429 it gets.

        Refused requests are not charged. The tokens of the answer are charged later, by `charge`.
        """
        requests, tokens = budget.requests, budget.tokens
        about = size // 4  # what the prompt may come to; the real number is known too late
        wait_requests = requests.wait(now, 1.0) if requests else 0.0
        wait_tokens = tokens.wait(now, max(about, 1.0)) if tokens else 0.0
        wait = max(wait_requests, wait_tokens)
        if wait <= 0.0:
            if requests:
                requests.take(now, 1.0)
            return None
        what = "requests" if wait_requests >= wait_tokens else "tokens"
        # In whole milliseconds, rounded up: who waits as long as told must get through.
        wait = math.ceil(wait * 1000.0) / 1000.0
        message = f"Rate limit reached for {what} per min. Please try again in {wait:g}s."
        return Failure(status=429, message=message, retry_after=wait, latency=0.0)

    @staticmethod
    def charge(budget: Budget, tokens: int, now: float) -> None:
        """Charge the tokens of a request and its answer."""
        if budget.tokens:
            budget.tokens.take(now, tokens)

    def stretch(self) -> float:
        """The factor for the latency of the next answer."""
        config = self._config
        factor = 1.0
        if config.jitter > 0.0:
            factor = math.exp(self._random.gauss(0.0, config.jitter))
        if config.slow_rate > 0.0 and self._random.random() < config.slow_rate:
            factor *= config.slow_factor
        return factor


def _openai(budget: Budget, now: float) -> list[tuple[str, str]]:
    lines = []
    for name, bucket in (("requests", budget.requests), ("tokens", budget.tokens)):
        if bucket is not None:
            lines.append((f"x-ratelimit-limit-{name}", f"{bucket.size:.0f}"))
            lines.append((f"x-ratelimit-remaining-{name}", str(max(int(bucket.level(now)), 0))))
            lines.append((f"x-ratelimit-reset-{name}", duration(bucket.reset_in(now))))
    return lines


def _anthropic(budget: Budget, now: float) -> list[tuple[str, str]]:
    lines = []
    for name, bucket in (("requests", budget.requests), ("tokens", budget.tokens)):
        if bucket is not None:
            # To the second above, as RFC 3339 times usually come.
            full = datetime.fromtimestamp(math.ceil(time.time() + bucket.reset_in(now)), UTC)
            lines.append((f"anthropic-ratelimit-{name}-limit", f"{bucket.size:.0f}"))
            lines.append(
                (f"anthropic-ratelimit-{name}-remaining", str(max(int(bucket.level(now)), 0)))
            )
            lines.append((f"anthropic-ratelimit-{name}-reset", full.strftime("%Y-%m-%dT%H:%M:%SZ")))
    return lines


_HEADERS: dict[str, Callable[[Budget, float], list[tuple[str, str]]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
}


def rate_headers(dialect: str, budget: Budget, now: float) -> list[tuple[str, str]]:
    """The rate-limit headers of an answer. Gemini and Ollama send none."""
    write: Any = _HEADERS.get(dialect)
    return write(budget, now) if write is not None else []


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: "120ms", "1.5s", "6m0s"."""
    if seconds < 1.0:
        return f"{math.ceil(seconds * 1000.0)}ms"
    minutes, rest = divmod(seconds, 60.0)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes < 1.0:
        return text
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
