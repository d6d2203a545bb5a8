"""`Hedge`: a second copy of a call that takes longer than most."""

from __future__ import annotations

import asyncio
import re
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from .._arguments import number, whole
from ._quantile import LatencyWindow
from ._several import ChosenStream, Several, Target, TargetTypes, one_deadline, opened, targets_of

if TYPE_CHECKING:
    from ..llm._embeddings import Embeddings
    from ..llm._messages import Conversation
    from ..llm._reply import Reply

__all__ = ["Hedge", "HedgeStats"]

_COPIES = 100
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")


class HedgeStats(msgspec.Struct, frozen=True):
    """What a `Hedge` did.

    Attributes:
        calls: that were asked for. extra: further copies sent.
        refused: copies that `max_extra` did not allow.
        wins: calls answered by the first copy, the second...
        cancelled: copies given up while they ran. failed: copies that ended with an error.
        wasted_tokens: of losing copies, as far as their providers have said.
        wasted_unknown: losing copies of which nothing is known.
        after: kind of call -> seconds until the next copy goes out, None while it is not known.
    """

    calls: int
    extra: int
    refused: int
    wins: tuple[int, ...]
    cancelled: int
    failed: int
    wasted_tokens: int
    wasted_unknown: int
    after: dict[str, float | None]


class Hedge(Several):
    """Sends a further copy of a call that is late, takes the first answer and cancels the rest.

        llm = Hedge(OpenAI(model="gpt-5-mini"), after="p95")

    It cuts the long tail of a server's latencies, for a few per cent more calls. What is measured is
    the time to the answer, or to a stream's first content.

    Args:
        models: a client, a (client, model) pair, or a list of these: copies go to them in turn, the
            first one to the first.
        after: seconds until the next copy, or a quantile of the latencies, as "p95": then the first
            calls, until it is known, have no copies.
        copies: of a call, at most, the first included.
        max_extra: further copies, at most, as a part of the calls (0.08: 8 %).
        window: latencies that the quantile is taken from. minimum: latencies before it is known.

    A copy that fails is not sent again; its error is raised when no other copy is on its way.
    Loops in several threads may share one.

    Raises:
        TypeError, ValueError: what was given cannot be used.
    """

    def __init__(
        self,
        models: TargetTypes | Sequence[TargetTypes],
        *,
        after: str | float = "p95",
        copies: int = 2,
        max_extra: float = 0.08,
        window: int = 1000,
        minimum: int = 20,
    ) -> None:
        self._targets = targets_of(models)
        quantile = 0.0
        if isinstance(after, str):
            found = _QUANTILE.fullmatch(after)
            if found is None:
                raise ValueError(
                    f'Hedge.after must be seconds or a quantile as "p95", not {after!r}'
                )
            quantile = float(found[1]) / 100.0
        elif isinstance(after, bool) or not isinstance(after, (int, float)):
            raise TypeError(f'Hedge.after must be seconds or a quantile as "p95", not {after!r}')
        else:
            after = number("Hedge.after", after)
        self.after = after
        self.copies = whole("Hedge.copies", copies)
        if copies > _COPIES:
            raise ValueError(f"Hedge.copies must be at most {_COPIES}, got {copies!r}")
        self.max_extra = number("Hedge.max_extra", max_extra)
        if whole("Hedge.minimum", minimum) > whole("Hedge.window", window):
            raise ValueError(f"Hedge.minimum must be at most the window, {window}, got {minimum}")
        self._fixed = None if isinstance(after, str) else after
        self._windows = {
            kind: LatencyWindow(quantile, window, minimum) for kind in ("chat", "stream", "embed")
        }
        self._saved = window * max_extra
        self._allowance = 0.0
        self._waiting: set[_Race] = set()  # for the quantile to become known
        self._losers: set[asyncio.Task[Any]] = set()
        self._told: set[Any] = set()  # of these, those whose tokens are known
        self._calls = self._extra = self._refused = self._cancelled = self._failed = 0
        self._wasted = self._unknown = 0
        self._wins = [0] * copies

    async def chat(self, messages: Conversation, **params: Any) -> Reply:
        """As `LLM.chat`. Raises: as the first copy that failed, if all do."""
        return await self._chat_of(messages, params, None)

    async def _chat_of(
        self, messages: Conversation, params: dict[str, Any], provider: str | None
    ) -> Reply:
        one_deadline(params)
        targets = self._targets
        if provider is not None:
            targets = [target for target in targets if target.leaf(provider) is not None]

        async def ask(target: Target) -> Reply:
            llm = target.llm
            if provider is not None and isinstance(llm, Several):
                return await llm._chat_of(messages, target.with_model(params), provider)
            return await llm.chat(messages, **target.with_model(params))

        reply: Reply = await _Race(self, "chat", targets, ask).run()
        return reply

    def stream(self, messages: Conversation, **params: Any) -> ChosenStream:
        """As `LLM.stream`. The choice falls before the first content reaches the caller."""

        async def ask(target: Target) -> Any:
            return await opened(target, messages, params, self._tell)

        async def choose() -> Any:
            one_deadline(params)  # it counts from here
            return await _Race(self, "stream", self._targets, ask).run()

        return ChosenStream(choose, lambda error: None)

    async def embed(self, texts: str | Sequence[str], **params: Any) -> Embeddings:
        """As `LLM.embed`. Give one model, maybe at several places."""

        async def ask(target: Target) -> Embeddings:
            return await target.llm.embed(texts, **target.with_model(params))

        one_deadline(params)
        made: Embeddings = await _Race(self, "embed", self._targets, ask).run()
        return made

    # Called by races --------------------------------------------------------------------------

    def _delay(self, kind: str) -> float | None:
        return self._windows[kind].value() if self._fixed is None else self._fixed

    def _count_call(self, kind: str) -> None:
        self._calls += 1
        ceiling = max(self._saved, self._windows[kind].running * self.max_extra)
        self._allowance = min(self._allowance + self.max_extra, max(ceiling, 1.0))

    def _may_copy(self) -> bool:
        if self._allowance < 1.0 - 1e-9:
            self._refused += 1
            return False
        self._allowance -= 1.0
        self._extra += 1
        return True

    def _look_again(self, kind: str) -> None:
        """Wakes the calls that wait for the quantile, once it is known."""
        if self._waiting and self._delay(kind) is not None:
            for race in [race for race in list(self._waiting) if race.kind == kind]:
                self._waiting.discard(race)
                race.wake_from_anywhere()

    def _lose(self, task: asyncio.Task[Any]) -> None:
        """A copy is of no use any more."""
        if not task.done():
            self._cancelled += 1
            task.cancel()
        self._losers.add(task)
        task.add_done_callback(self._account)

    def _tell(self, stream: Any) -> None:
        """A stream is given up before its first content: some providers have told by then how
        many tokens the prompt has."""
        try:
            usage = stream.partial.usage
        except Exception:
            return  # not even its head has come
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        task = asyncio.current_task()
        if tokens and task is not None and task.cancelling():
            self._wasted += tokens
            self._told.add(task)

    def _account(self, task: asyncio.Task[Any]) -> None:
        self._losers.discard(task)
        if task in self._told:
            self._told.discard(task)
            return
        if task.cancelled():
            self._unknown += 1
            return
        if task.exception() is not None:
            self._failed += 1
            return
        result = task.result()  # it was answered in the same moment
        usage = getattr(getattr(result, "partial", result), "usage", None)
        tokens = getattr(usage, "total_tokens", None)
        if tokens is None:
            self._unknown += 1
        else:
            self._wasted += tokens
        if hasattr(result, "__aexit__"):
            closing = asyncio.ensure_future(result.__aexit__(None, None, None))
            self._losers.add(closing)
            closing.add_done_callback(self._losers.discard)

    # For the user -----------------------------------------------------------------------------

    def stats(self) -> HedgeStats:
        """Its numbers now."""
        return HedgeStats(
            self._calls,
            self._extra,
            self._refused,
            tuple(self._wins),
            self._cancelled,
            self._failed,
            self._wasted,
            self._unknown,
            {kind: self._delay(kind) for kind in self._windows},
        )

    async def aclose(self) -> None:
        """Waits for the cancelled copies of this loop, then closes the clients."""
        loop = asyncio.get_running_loop()
        if ending := [task for task in list(self._losers) if task.get_loop() is loop]:
            await asyncio.wait(ending)
        await super().aclose()

    def __repr__(self) -> str:
        names = ", ".join(target.name for target in self._targets)
        return f"<Hedge {names}, after {self.after}>"


class _Race:
    """One call and its copies."""

    def __init__(
        self,
        hedge: Hedge,
        kind: str,
        targets: list[Target],
        ask: Callable[[Target], Coroutine[Any, Any, Any]],
    ) -> None:
        self.kind = kind
        self._hedge = hedge
        self._targets = targets
        self._ask = ask
        self._woken: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._sent = 0
        self._last = 0.0

    def wake(self, _: object = None) -> None:
        """Something happened: a copy ended, or it is time for one more."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def wake_from_anywhere(self) -> None:
        """As `wake`, from a loop that may be another one in another thread."""
        woken = self._woken
        if woken is None:
            return
        loop = woken.get_loop()
        if loop is _get_running_loop():
            self.wake()
            return
        try:
            loop.call_soon_threadsafe(self.wake)
        except RuntimeError:
            pass  # it is closed

    def _send(self) -> None:
        target = self._targets[self._sent % len(self._targets)]
        task = asyncio.create_task(self._ask(target))
        task.add_done_callback(self.wake)
        self._tasks[task] = self._sent
        self._sent += 1
        self._last = time.monotonic()

    async def run(self) -> Any:
        """The first answer. Raises: the first error, when no copy is on its way."""
        hedge, tasks = self._hedge, self._tasks
        window = hedge._windows[self.kind]
        loop = asyncio.get_running_loop()
        window.begin(self)
        hedge._count_call(self.kind)
        errors: list[BaseException] = []
        # one latency a call: that of its first copy, or how long that was waited for
        measured = False
        try:
            self._woken = loop.create_future()
            self._send()
            more = hedge.copies > 1
            while True:
                if more:
                    more = self._arm(loop)
                    if self._sent == hedge.copies:
                        more = False
                await self._woken
                self._woken = loop.create_future()
                self._disarm()
                for task in [task for task in tasks if task.done()]:
                    copy = tasks.pop(task)
                    if task.cancelled():
                        errors.append(RuntimeError("the call was cancelled from inside"))
                    elif (error := task.exception()) is not None:
                        errors.append(error)
                        hedge._failed += 1
                    else:
                        measured = True
                        hedge._wins[copy] += 1
                        return task.result()
                if not tasks:
                    raise errors[0]
        finally:
            if measured:
                window.end(self)
            else:
                window.forget(self)
            self._disarm()
            for task in tasks:
                task.remove_done_callback(self.wake)
                hedge._lose(task)
            tasks.clear()
            self._woken = None
            hedge._look_again(self.kind)
            del errors

    def _arm(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Sends the next copy if it is time, else sets the timer. False: there will be none."""
        hedge = self._hedge
        while self._sent < hedge.copies:
            delay = hedge._delay(self.kind)
            if delay is None:
                hedge._waiting.add(self)
                return True
            left = self._last + delay - time.monotonic()
            if left > 0.0:
                self._timer = loop.call_later(left, self.wake)
                return True
            if not hedge._may_copy():
                return False
            self._send()
        return False

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hedge._waiting.discard(self)
