"""A batch whose calls are made by the workers of a Dask cluster (extra `llmcurl[dask]`).

This process reads the input, keeps the checkpoint and shows the progress, as without a cluster. What
it would call, it puts together to chunks, one Dask task each; a worker makes the calls of a chunk at once
on its own event loop and sends back what came of each.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..llm import LLM
from ._batchfile import Answer, Form, Item
from ._batchrun import Spec, client_of, sender_of

__all__ = ["cluster_sender"]

_WAIT = 0.02
"""Seconds that a chunk waits to become full."""
_KEEP = 30.0
"""Seconds that a worker keeps an idle client, with its connections."""


# In this process ------------------------------------------------------------------------------------


@asynccontextmanager
async def cluster_sender(address: str, spec: Spec, form: Form, chunk: int) -> AsyncIterator[Any]:
    """A function that has an item carried out by the cluster, while the block lasts.

    Raises:
        ImportError: `distributed` is not installed. OSError: nobody answers at that address.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise ImportError(
            "--dask needs the package distributed: pip install 'llmcurl[dask]'"
        ) from None
    client = distributed.Client(address, asynchronous=True, set_as_default=False)
    try:
        await client
        chunks = _Chunks(client, spec, form, chunk)
        try:
            yield chunks
        finally:
            await chunks.aclose()
    finally:
        await client.close()


class _Chunks:
    """Called with an item, it gives a future of its answer."""

    def __init__(self, client: Any, spec: Spec, form: Form, size: int) -> None:
        self._client = client
        self._spec = spec
        self._form = form
        self._size = size
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, item: Item) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._size:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(_WAIT, self._flush)
        return future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        chunk, self._waiting = self._waiting, []
        chunk = [one for one in chunk if not one[1].done()]
        if chunk:
            task = asyncio.ensure_future(self._send(chunk))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, chunk: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        items = [item for item, _ in chunk]
        task = self._client.submit(carry_out, self._spec, self._form, items, pure=False)
        try:
            results = await task
        except asyncio.CancelledError:
            await task.cancel()
            raise
        except Exception as error:  # the worker died several times, or cannot import us
            results = [error] * len(chunk)
        finally:
            task.release()
        for (_, future), result in zip(chunk, results, strict=True):
            if future.done():
                continue  # the batch was stopped
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def aclose(self) -> None:
        """Gives up what is in flight."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# In a worker ----------------------------------------------------------------------------------------


class _Kept:
    """The client of a worker, used by all its chunks."""

    def __init__(self, spec: Spec) -> None:
        self.opening = client_of(spec)
        self.llm: LLM | None = None
        self.users = 0
        self.closing: asyncio.TimerHandle | None = None


_kept: dict[tuple[int, bytes], _Kept] = {}


async def carry_out(spec: Spec, form: Form, items: list[Item]) -> list[Answer | Exception]:
    """A Dask task: the calls of a chunk, all at once. It runs on the worker's event loop."""
    loop = asyncio.get_running_loop()
    key = (id(loop), pickle.dumps((spec, form)))
    kept = _kept.get(key)
    if kept is None:
        kept = _kept[key] = _Kept(spec)
    kept.users += 1
    if kept.closing is not None:
        kept.closing.cancel()
        kept.closing = None
    try:
        if kept.llm is None:  # entering it awaits nothing
            kept.llm = await kept.opening.__aenter__()
        call = sender_of(kept.llm, spec, form)
        results = await asyncio.gather(*map(call, items), return_exceptions=True)
    finally:
        kept.users -= 1
        if not kept.users:
            kept.closing = loop.call_later(_KEEP, _let_go, key)
    return [_portable(result) for result in results]


def _let_go(key: tuple[int, bytes]) -> None:
    kept = _kept.get(key)
    if kept is not None and not kept.users:
        del _kept[key]
        closing = asyncio.ensure_future(kept.opening.__aexit__(None, None, None))
        _ending.add(closing)
        closing.add_done_callback(_ending.discard)


_ending: set[asyncio.Future[Any]] = set()


def _portable(result: Any) -> Any:
    """A result that survives the way."""
    if not isinstance(result, BaseException):
        return result
    try:
        copy = pickle.loads(pickle.dumps(result))
        if type(copy) is type(result):
            return result
    except Exception:
        pass  # then its text has to do
    return RuntimeError(f"{type(result).__name__}: {result}")
