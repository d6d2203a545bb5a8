"""`batch`: any number of inputs, so many calls at a time, in bounded memory."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sized,
)
from os import PathLike
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from .._arguments import flag, number, whole
from ._progress import ProgressTypes, build_progress
from ._records import Known, Recorder, ResultRecorder, check_retry_failed

__all__ = ["Batch", "BatchResult", "BatchStats", "batch"]

In = TypeVar("In")
Out = TypeVar("Out")

_SKIPS = 256
"""Inputs passed over before others get their turn on the loop."""


class BatchResult(Generic[In, Out]):
    """What came of one input.

    Attributes:
        index: of the input, from 0. input: itself.
        value: what the call returned; None if it failed.
        error: why it failed, None if it did not.
        key: its name in the checkpoint, "" without one.
        seconds: the call took. restored: it was not called now: the checkpoint had it.
    """

    __slots__ = ("error", "index", "input", "key", "restored", "seconds", "value")

    def __init__(
        self,
        index: int,
        input: In,
        value: Out | None = None,
        error: Exception | None = None,
        key: str = "",
        seconds: float = 0.0,
        restored: bool = False,
    ) -> None:
        self.index = index
        self.input = input
        self.value = value
        self.error = error
        self.key = key
        self.seconds = seconds
        self.restored = restored

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def unwrap(self) -> Out:
        """The value. Raises: the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def __repr__(self) -> str:
        what = f"failed: {self.error!r}" if self.error is not None else f"{self.value!r}"
        return f"<BatchResult {self.index} {what}>"


class BatchStats(msgspec.Struct):
    """A batch as it is now.

    Attributes:
        total: inputs, None while unknown. done: results, failed and restored ones included.
        failed: of these. restored: of these, from the checkpoint. running: calls in flight.
        seconds: since the start.
        input_tokens, output_tokens: as far as the replies tell. cost: by `price`, else 0.0.
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    restored: int = 0
    running: int = 0
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def rate(self) -> float:
        """Calls per second."""
        return (self.done - self.restored) / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at this rate; None if that is not known."""
        if self.total is None or not self.rate:
            return None
        return max(self.total - self.done, 0) / self.rate


def batch(
    inputs: Iterable[In] | AsyncIterable[In],
    call: Callable[[In], Awaitable[Out]],
    *,
    concurrency: int = 100,
    ordered: bool = False,
    checkpoint: str | PathLike[str] | None = None,
    progress: ProgressTypes = False,
    total: int | None = None,
    price: tuple[float, float] | None = None,
    key: Callable[[In], str] | None = None,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    retry_failed: str = "transient",
) -> Batch[In, Out]:
    """Calls `call` for each input and gives the results as they come.

        async for result in llmcurl.batch(prompts, llm.chat, concurrency=200):
            print(result.input, result.value.text if result.ok else result.error)

    An error of a call is the `error` of its result and ends nothing. Inputs are read as they are
    needed: at most 2 x `concurrency` are held at a time, whatever their number, also when the results
    are taken slowly. Leaving the loop cancels what is in flight; with `async with batch(...) as run`
    around it that is over when the block is left.

    Args:
        inputs: sync or async iterable. It is read on the event loop: it must not block for long.
        call: of one input; returns an awaitable.
        concurrency: calls in flight, at most.
        ordered: results in the order of the inputs; else as they come.
        checkpoint: a JSONL file that each result is written to before it is given. If it exists, what it
            has is not called again, but given as `restored`. One process at a time may use it.
        progress: True: a bar on stderr (tqdm's if that is installed); or a function of `BatchStats`,
            called twice a second and at the end; what it raises is logged, and it is not called again.
        total: number of inputs, for the progress; default: len(inputs), if it has one.
        price: per million tokens (input, output), for the cost.
        key: name of an input in the checkpoint, another one for each; default: its index and a
            hash of it as JSON.
        dump: a value as JSON data for the checkpoint; default: `json()` of replies and responses.
        load: the inverse, for restored ones; default: they are given as JSON data.
        retry_failed: which failures in the checkpoint are called again: "transient" (time-outs,
            connection errors, 408, 409, 425, 429, 5xx), "all" or "none".

    Raises:
        TypeError, ValueError: at once: arguments that cannot be.
        OSError, RuntimeError, ValueError: on iterating: the checkpoint cannot be used. What iterating
            `inputs` raises.
    """
    recorder = None
    for name, function in (("key", key), ("dump", dump), ("load", load)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, not {function!r}")
    check_retry_failed(retry_failed)
    if checkpoint is not None:
        if not isinstance(checkpoint, (str, PathLike)) or not checkpoint:
            raise TypeError(f"checkpoint must be the path of a file, not {checkpoint!r}")
        recorder = ResultRecorder(checkpoint, key, dump, load, retry_failed)
    elif key is not None or dump is not None or load is not None:
        raise TypeError("key, dump and load belong to a checkpoint, and there is none")
    if total is None and isinstance(inputs, Sized):
        total = len(inputs)
    return Batch(inputs, call, concurrency, ordered, recorder, progress, total, price)


_END: Final = object()
_log = logging.getLogger("llmcurl.traffic")


class Batch(Generic[In, Out]):
    """A batch: iterate over it, once. See `batch`."""

    def __init__(
        self,
        inputs: Iterable[In] | AsyncIterable[In],
        call: Callable[[In], Awaitable[Out]],
        concurrency: int,
        ordered: bool,
        recorder: Recorder | None,
        progress: ProgressTypes,
        total: int | None,
        price: tuple[float, float] | None,
    ) -> None:
        whole("concurrency", concurrency)
        flag("ordered", ordered)
        if total is not None:
            whole("total", total, 0)
        if price is not None:
            if not isinstance(price, (tuple, list)) or len(price) != 2:
                raise TypeError(f"price must be two numbers, (input, output), not {price!r}")
            price = number("price", price[0]), number("price", price[1])
        if not isinstance(inputs, (Iterable, AsyncIterable)):
            raise TypeError(f"inputs must be iterable, and {type(inputs).__name__} is not")
        if not callable(call):
            raise TypeError(f"call must be a function of an input, not {call!r}")
        self._inputs = inputs
        self._call = call
        self._concurrency = concurrency
        self._ordered = ordered
        self._recorder = recorder
        self._progress = build_progress(progress)
        self._price = (0.0, 0.0) if price is None else price
        self._stats = BatchStats(total)
        self._began = 0.0
        self._running: dict[Any, tuple[int, In, str, float]] = {}
        self._ready: deque[BatchResult[In, Out]] = deque()
        # ordered: those whose turn has not come; None: to be passed over
        self._held: dict[int, BatchResult[In, Out] | None] = {}
        self._read = 0  # inputs taken
        self._given = 0  # results taken by the caller, or passed over
        self._next = 0  # ordered: the index whose turn it is
        self._failure: BaseException | None = None  # ends the batch at once
        self._broken: BaseException | None = None  # of the inputs: what is in flight is finished
        self._finished = False  # the inputs are at their end
        self._taker: asyncio.Future[None] | None = None  # the caller waits for a result
        self._feeder: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # the feeder waits for room
        self._begun = self._entered = False
        # Inside of `async with` only: a generator that nobody but the loop over it knows is
        # closed as soon as the loop is left.
        self._generator: AsyncIterator[BatchResult[In, Out]] | None = None

    # Iterating ----------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[BatchResult[In, Out]]:
        if self._begun:
            raise RuntimeError("a batch can be iterated over once only")
        self._begun = True
        made = self._results()
        if self._entered:
            self._generator = made
        return made

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._generator is not None:
            await self._generator.aclose()  # type: ignore[attr-defined]

    async def _results(self) -> AsyncIterator[BatchResult[In, Out]]:
        loop = asyncio.get_running_loop()
        if self._recorder is not None:
            self._recorder.open()
        self._began = time.monotonic()
        try:
            self._show("start", self.stats())
            self._feeder = loop.create_task(self._feed())
            self._feeder.add_done_callback(self._fed)
            while True:
                if self._failure is not None:
                    raise self._failure
                elif self._ready:
                    result = self._ready.popleft()
                    self._pass_on()
                    yield result
                elif self._finished and not self._running:
                    if self._broken is not None:
                        raise self._broken
                    return
                else:
                    self._taker = loop.create_future()
                    await self._taker
        finally:
            await self._stop()

    async def _stop(self) -> None:
        ending = [self._feeder] if self._feeder is not None else []
        ending += self._running
        self._running.clear()  # what ends now is not a result
        for one in ending:
            one.cancel()
        try:
            if ending:
                await asyncio.wait(ending)
        finally:
            self._stats.seconds = time.monotonic() - self._began
            self._failure = self._broken = None
            try:
                if self._recorder is not None:
                    self._recorder.close()
            finally:
                self._show("close", self.stats())

    # The inputs ---------------------------------------------------------------------------------

    def _fed(self, task: asyncio.Task[None]) -> None:
        self._finished = True
        if not task.cancelled():
            self._broken = task.exception()
        self._wake()

    async def _feed(self) -> None:
        """Reads inputs while there is room, and starts their calls."""
        inputs = self._inputs
        following = aiter(inputs) if isinstance(inputs, AsyncIterable) else None
        iterator = iter(inputs) if isinstance(inputs, Iterable) and following is None else None
        try:
            await self._feed_from(following, iterator)
        finally:
            if isinstance(following, AsyncGenerator):
                await following.aclose()

    async def _feed_from(
        self, following: AsyncIterator[In] | None, iterator: Iterator[In] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        while True:
            while (
                len(self._running) >= self._concurrency
                or self._read - self._given >= 2 * self._concurrency
            ):
                self._room = loop.create_future()
                await self._room
            if following is not None:
                one: Any = await anext(following, _END)
            else:
                one = next(iterator, _END)  # type: ignore[arg-type]
            if one is _END:
                return
            index = self._read
            self._read += 1
            key = ""
            if self._recorder is not None:
                key, known = self._recorder.known(index, one)
                if known is not None:
                    self._restore(index, one, key, known)
                    passed += 1
                    if passed % _SKIPS == 0:
                        await asyncio.sleep(0)
                    continue
            self._start(index, one, key)

    def _restore(self, index: int, one: In, key: str, known: Known) -> None:
        stats = self._stats
        stats.restored += 1
        if not known.hidden:
            self._deliver(BatchResult(index, one, known.value, known.error, key, 0.0, True))
            return
        stats.done += 1
        stats.failed += known.error is not None
        if self._ordered:
            self._held[index] = None
            self._put_in_order()
        else:
            self._given += 1

    def _start(self, index: int, one: In, key: str) -> None:
        started = time.monotonic()
        try:
            made = self._call(one)
        except Exception as error:
            self._record(BatchResult(index, one, None, error, key))
            return
        if not inspect.isawaitable(made):
            raise TypeError(f"call must return an awaitable, not {made!r}")
        future = asyncio.ensure_future(made)
        self._running[future] = (index, one, key, started)
        future.add_done_callback(self._ended)

    # The results ----------------------------------------------------------------------------------

    def _ended(self, future: Any) -> None:
        found = self._running.pop(future, None)
        if found is None:
            if not future.cancelled():
                future.exception()  # the batch was left
            return
        index, one, key, started = found
        result: BatchResult[In, Out] = BatchResult(index, one, None, None, key)
        result.seconds = time.monotonic() - started
        if future.cancelled():
            result.error = RuntimeError("the call was cancelled from inside")
        else:
            error = future.exception()
            if error is None:
                result.value = future.result()
            elif isinstance(error, Exception):
                result.error = error
            else:
                self._failure = error
        self._record(result)

    def _record(self, result: BatchResult[In, Out]) -> None:
        if self._recorder is not None and self._failure is None:
            try:
                self._recorder.add(result)
            except Exception as error:  # the disk is full, or the value is not JSON
                self._failure = error
        self._count_tokens(result.value)
        self._deliver(result)

    def _count_tokens(self, value: Any) -> None:
        usage = getattr(value, "usage", None)
        if usage is None:
            return
        stats, price = self._stats, self._price
        taken = getattr(usage, "input_tokens", None)
        made = getattr(usage, "output_tokens", None)
        # what `call` returns may be anything
        taken = taken if isinstance(taken, int) else 0
        made = made if isinstance(made, int) else 0
        stats.input_tokens += taken
        stats.output_tokens += made
        stats.cost += (taken * price[0] + made * price[1]) / 1e6

    def _deliver(self, result: BatchResult[In, Out]) -> None:
        self._stats.done += 1
        self._stats.failed += result.error is not None
        if not self._ordered:
            self._ready.append(result)
        else:
            self._held[result.index] = result
            self._put_in_order()
        self._show("update", self._stats, self._now)
        self._wake()

    def _show(self, what: str, *numbers: Any) -> None:
        """Tells the progress. Calls that cost money do not end with it: the user's function may
        fail, or nobody read the pipe."""
        try:
            getattr(self._progress, what)(*numbers)
        except Exception:
            _log.exception("the progress of a batch cannot be shown any more")
            self._progress = build_progress(False)

    def _put_in_order(self) -> None:
        held = self._held
        while self._next in held:
            result = held.pop(self._next)
            self._next += 1
            if result is None:
                self._given += 1
            else:
                self._ready.append(result)

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
        self._make_room()

    def _pass_on(self) -> None:
        self._given += 1
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _now(self) -> BatchStats:
        return self.stats()

    def stats(self) -> BatchStats:
        """Its numbers now."""
        stats = self._stats
        stats.running = len(self._running)
        if self._began and not (self._finished and not stats.running):
            stats.seconds = time.monotonic() - self._began
        return msgspec.structs.replace(stats)
