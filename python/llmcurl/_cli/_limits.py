"""The limit of open files: what it allows, and raising it."""

from __future__ import annotations

from .._preflight import ENDLESS, RESERVE, raise_fd_limit

__all__ = ["RESERVE", "calls_allowed", "fd_limits", "make_room"]


def fd_limits() -> tuple[int, int] | None:
    """(soft, hard) limit of open files; None where there is no such limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (ENDLESS if soft < 0 else soft, ENDLESS if hard < 0 else hard)


def calls_allowed(limit: int) -> int:
    """How many connections, one per call on HTTP/1.1, fit under a limit."""
    return max(0, limit - RESERVE)


def make_room(connections: int) -> str | None:
    """Raise the soft limit if `connections` need it; a sentence about it, or None if nothing had to change.

    OSError, with the way out in its text, if the hard limit is too low.
    """
    limits = fd_limits()
    if limits is None or connections <= calls_allowed(limits[0]):
        return None
    soft, hard = limits
    if connections > calls_allowed(hard):
        raise OSError(
            f"{connections:,} connections need about {connections + RESERVE:,} open files, the hard limit is {hard:,}. "
            f"Raise it (root: `prlimit --pid $$ --nofile={connections + RESERVE}:{connections + RESERVE}`, or "
            f"`docker run --ulimit nofile={connections + RESERVE}`, or LimitNOFILE= in a systemd unit), "
            f"or use at most {calls_allowed(hard):,} calls."
        )
    now = raise_fd_limit(None if hard < ENDLESS else connections + RESERVE)
    return f"open files: limit raised from {soft:,} to {now:,} for this run (hard limit {hard:,})"
