"""`Timeout` and `Limits`: small immutable values, checked when they are made.

The words and meanings are httpx's. Ours: `Timeout.total`, `Limits.max_in_flight`, and
defaults made for LLM calls, where minutes of silence before the first byte are normal.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final, Union

from ._arguments import as_float

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_TIMEOUT",
    "UNSET",
    "Limits",
    "Timeout",
    "TimeoutTypes",
    "Unset",
    "build_timeout",
]


class Unset:
    """The type of `UNSET`: an argument that was not given, where None means something."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()

#: libcurl takes milliseconds as a C long, 32 bits wide on some platforms: 24.8 days.
_MAX_MS = 2**31 - 1

TimeoutTypes = Union[
    None, float, "tuple[float | None, float | None, float | None, float | None]", "Timeout"
]


def _seconds(where: str, value: object) -> float | None:
    """A time span in seconds, or None for none.

    Raises:
        TypeError: not a number (a bool is none).
        ValueError: negative or NaN.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where} must be seconds as int or float, or None, not {value!r}")
    value = as_float(value)
    if math.isnan(value):
        raise ValueError(f"{where} must not be NaN")
    if value < 0:
        raise ValueError(f"{where} must not be negative, got {value!r}")
    # An endless deadline is no deadline.
    return None if math.isinf(value) else value


def _milliseconds(seconds: float | None) -> int:
    """Milliseconds for the reactor: 0 means none, so 0 s ("at once") becomes 1."""
    if seconds is None:
        return 0
    return max(1, min(math.ceil(seconds * 1000.0), _MAX_MS))


class Timeout:
    """Deadlines of one call, in seconds; None means none.

    ``Timeout(5)`` sets connect, read, write and pool (not total). ``Timeout(5, read=60)``
    sets them all and then read. ``Timeout(total=30)`` leaves the rest at `DEFAULT_TIMEOUT`.
    A `Timeout` or a (connect, read, write, pool) tuple may be given instead of the number.

    Attributes:
        connect: from the start of the connect to its end, TLS and proxy included; never
            while queued.
        read: longest silence of the server.
        write: longest time the server takes none of the body.
        pool: longest wait for a turn.
        total: the whole call, everything included.

    Raises:
        TypeError, ValueError: a value that is no time span; the text names the field.
    """

    __slots__ = ("_ms", "connect", "pool", "read", "total", "write")

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    total: float | None
    _ms: tuple[int, int, int, int, int]

    def __init__(
        self,
        timeout: TimeoutTypes | Unset = UNSET,
        *,
        connect: float | None | Unset = UNSET,
        read: float | None | Unset = UNSET,
        write: float | None | Unset = UNSET,
        pool: float | None | Unset = UNSET,
        total: float | None | Unset = UNSET,
    ) -> None:
        base: tuple[Any, Any, Any, Any, Any]
        if isinstance(timeout, Unset):
            base = _DEFAULTS
        elif isinstance(timeout, Timeout):
            base = (timeout.connect, timeout.read, timeout.write, timeout.pool, timeout.total)
        elif isinstance(timeout, tuple):
            if len(timeout) != 4:
                raise ValueError("Timeout tuple must be (connect, read, write, pool)")
            base = (*timeout, None)
        else:
            one = _seconds("Timeout", timeout)
            base = (one, one, one, one, None)
        given = (connect, read, write, pool, total)
        values = []
        for name, value, default in zip(_FIELDS, given, base, strict=True):
            chosen = default if isinstance(value, Unset) else value
            seconds = _seconds(f"Timeout.{name}", chosen)
            object.__setattr__(self, name, seconds)
            values.append(_milliseconds(seconds))
        object.__setattr__(self, "_ms", tuple(values))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Timeout is immutable; make a new one to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Timeout is immutable; {name} cannot be deleted")

    def as_ms(self) -> tuple[int, int, int, int, int]:
        """(connect, read, write, pool, total) in milliseconds, rounded up; 0 means none."""
        return self._ms

    def as_dict(self) -> dict[str, float | None]:
        """httpx's ``extensions["timeout"]``, with "total" added."""
        return {name: getattr(self, name) for name in _FIELDS}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timeout):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[float | None, ...]:
        return (self.connect, self.read, self.write, self.pool, self.total)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_timeout, self._key()

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in _FIELDS)
        return f"Timeout({inner})"


_FIELDS = ("connect", "read", "write", "pool", "total")
#: A model may think for minutes; a server that does not accept within 10 s will not.
_DEFAULTS = (10.0, 600.0, 600.0, None, None)


def _restore_timeout(
    connect: float | None,
    read: float | None,
    write: float | None,
    pool: float | None,
    total: float | None,
) -> Timeout:
    """Unpickles a Timeout."""
    return Timeout(connect=connect, read=read, write=write, pool=pool, total=total)


DEFAULT_TIMEOUT: Final = Timeout()


@lru_cache(maxsize=256, typed=True)
def _timeout_of(value: float | None) -> Timeout:
    """The Timeout of one number: calls tend to use the same few."""
    return Timeout(value)


def build_timeout(value: TimeoutTypes | Unset, default: Timeout = DEFAULT_TIMEOUT) -> Timeout:
    """The Timeout an argument means; `default` if it was not given (UNSET).

    Raises:
        TypeError, ValueError: as `Timeout`.
    """
    if isinstance(value, Timeout):
        return value
    if isinstance(value, Unset):
        return default
    if value is None or type(value) is float or type(value) is int:
        return _timeout_of(value)
    return Timeout(value)


def _count(where: str, value: object, least: int) -> int | None:
    """A whole number of at least `least`, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} must be an int or None, not {value!r}")
    if value < least:
        raise ValueError(f"{where} must be at least {least}, got {value}")
    return value


class Limits:
    """How wide a client may go; None means no limit.

    Attributes:
        max_connections: open connections, at least 1.
        max_keepalive_connections: idle connections kept; 0 keeps none; None keeps as many
            as were in use.
        keepalive_expiry: seconds an idle connection is kept.
        max_in_flight: calls under way at the same time (HTTP/2 puts many on a connection),
            at least 1. More calls wait in a queue.

    Raises:
        TypeError, ValueError: the text names the field.
    """

    __slots__ = (
        "keepalive_expiry",
        "max_connections",
        "max_in_flight",
        "max_keepalive_connections",
    )

    max_connections: int | None
    max_keepalive_connections: int | None
    keepalive_expiry: float | None
    max_in_flight: int | None

    def __init__(
        self,
        max_connections: int | None = None,
        max_keepalive_connections: int | None = None,
        keepalive_expiry: float | None = 60.0,
        max_in_flight: int | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "max_connections", _count("Limits.max_connections", max_connections, 1))
        put(
            self,
            "max_keepalive_connections",
            _count("Limits.max_keepalive_connections", max_keepalive_connections, 0),
        )
        put(self, "keepalive_expiry", _seconds("Limits.keepalive_expiry", keepalive_expiry))
        put(self, "max_in_flight", _count("Limits.max_in_flight", max_in_flight, 1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Limits is immutable; make a new one to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Limits is immutable; {name} cannot be deleted")

    def _key(self) -> tuple[Any, ...]:
        return (
            self.max_connections,
            self.max_keepalive_connections,
            self.keepalive_expiry,
            self.max_in_flight,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limits):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Limits, self._key()

    def __repr__(self) -> str:
        return (
            f"Limits(max_connections={self.max_connections!r}, "
            f"max_keepalive_connections={self.max_keepalive_connections!r}, "
            f"keepalive_expiry={self.keepalive_expiry!r}, max_in_flight={self.max_in_flight!r})"
        )


DEFAULT_LIMITS: Final = Limits()
