"""`first_of` and `best_of`: several calls, one result."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from .._arguments import whole

__all__ = ["best_of", "first_of"]

T = TypeVar("T")


async def first_of(*calls: Awaitable[T]) -> T:
    """The result of the first call that succeeds; the others are cancelled, at the server too.

        reply = await first_of(a.chat(question), b.chat(question))

    Args:
        calls: awaitables: `Call`s, coroutines, tasks.

    Raises:
        ExceptionGroup: all have failed; it has their errors, in the order of the calls.
        TypeError, ValueError: something is no awaitable; there is no call.
    """
    if not calls:
        raise ValueError("first_of needs at least one call")
    futures: list[asyncio.Future[T]] = []
    pending: set[asyncio.Future[T]] = set()
    try:
        wrong = [call for call in calls if not inspect.isawaitable(call)]
        futures += [asyncio.ensure_future(call) for call in calls if inspect.isawaitable(call)]
        if wrong:  # the others are cancelled
            raise TypeError(f"first_of takes awaitables, not {wrong[0]!r}")
        pending.update(futures)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for future in futures:
                if future in done and not future.cancelled() and future.exception() is None:
                    return future.result()
        raise ExceptionGroup("all calls have failed", [_error_of(future) for future in futures])
    finally:
        _cancel(futures)
        del futures, pending


async def best_of(
    n: int,
    call: Callable[[], Awaitable[T]],
    *,
    key: Callable[[T], Any],
) -> T:
    """Calls n times at once and returns the result for which `key` is largest.

        reply = await best_of(5, lambda: llm.chat(question, temperature=1), key=judge)

    Calls that fail are left out, unless all do.

    Args:
        n: calls, at least 1.
        call: makes one.
        key: of a result; may be a coroutine function, then all are asked at once.

    Raises:
        ExceptionGroup: all calls have failed. What `key` raises.
        TypeError, ValueError: at once: n is less than 1, or an argument is none of these.
    """
    whole("n", n)
    for name, value in (("call", call), ("key", key)):
        if not callable(value):
            raise TypeError(f"{name} must be a function, not {value!r}")
    futures: list[asyncio.Future[Any]] = []
    try:
        for _ in range(n):
            made = call()
            if not inspect.isawaitable(made):
                raise TypeError(f"call must return an awaitable, not {made!r}")
            futures.append(asyncio.ensure_future(made))
        await asyncio.wait(futures)
        good = [f for f in futures if not f.cancelled() and f.exception() is None]
        if not good:
            raise ExceptionGroup("all calls have failed", [_error_of(f) for f in futures])
        results: list[T] = [future.result() for future in good]
        keys = [key(result) for result in results]
        if any(inspect.isawaitable(value) for value in keys):
            judging = [asyncio.ensure_future(value) for value in keys]
            futures += judging
            keys = await asyncio.gather(*judging)
        return results[max(range(len(keys)), key=keys.__getitem__)]
    finally:
        _cancel(futures)
        del futures


def _error_of(future: asyncio.Future[Any]) -> Exception:
    if future.cancelled():
        return RuntimeError("the call was cancelled")
    error = future.exception()
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _cancel(futures: Sequence[asyncio.Future[Any]]) -> None:
    for future in futures:
        if not future.done():
            future.cancel()
        elif not future.cancelled():
            future.exception()  # it was looked at: no complaint about it
