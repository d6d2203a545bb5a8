"""`StreamTimeout`: the time-outs of a stream, as its reader means them."""

from __future__ import annotations

__all__ = ["StreamTimeout"]


class StreamTimeout:
    """Time-outs of a stream."""
