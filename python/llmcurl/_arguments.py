"""What constructors are given: what cannot be is refused at once, by its name."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any

__all__ = ["as_float", "flag", "function", "number", "text", "whole"]


def as_float(value: float) -> float:
    """float(value), endless for an int of hundreds of digits, where float() raises OverflowError."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def number(name: str, value: object, *, zero: bool = True, most: float = math.inf) -> float:
    """A finite number, not negative, and above 0 unless `zero` may be; at most `most`.

    Raises:
        TypeError, ValueError: it is something else; the text begins with `name`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    found = as_float(value)
    if not math.isfinite(found) or found < 0.0 or found > most or found == 0.0 and not zero:
        if most < math.inf:
            words = f"between 0 and {most:g}"
        else:
            words = "finite and not negative" if zero else "finite and above 0"
        raise ValueError(f"{name} must be {words}, got {value!r}")
    return found


def whole(name: str, value: object, least: int = 1) -> int:
    """An int, at least `least`, and one that a machine can count to.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    if value > sys.maxsize:
        raise ValueError(f"{name} must be at most {sys.maxsize}, got {value!r}")
    return value


def flag(name: str, value: object) -> bool:
    """A bool. TypeError: it is none; "no", say, would count as yes."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")
    return value


def text(name: str, value: object) -> str:
    """A str that is not empty. TypeError: it is none."""
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name} must be a str that is not empty, not {value!r}")
    return value


def function(name: str, value: Any) -> Any:
    """A plain function. TypeError: it cannot be called, or is a coroutine function: what that
    returns says nothing before it is awaited."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, not {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} must be a plain function: it is not awaited")
    return value
