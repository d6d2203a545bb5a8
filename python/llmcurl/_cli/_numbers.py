"""Numbers on the command line: argparse's `type=` functions, with words for what cannot be."""

from __future__ import annotations

import argparse
import math

__all__ = ["above", "not_below", "number", "whole"]


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return value


def above(text: str) -> float:
    """A number above 0."""
    value = number(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def not_below(text: str) -> float:
    """A number that is not negative."""
    value = number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def whole(text: str) -> int:
    """A whole number, at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
