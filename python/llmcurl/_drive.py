"""Calls that need more than one transfer, or Python code on the way.

Redirects, authentication flows, cookies, event hooks and bodies that are made while they
are sent run in a task; the caller's Call is done when the task is. Everything else goes
straight to the native pool (`_client.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ._auth import Auth
from ._config import Timeout
from ._content import BodySource
from ._cookies import Cookies
from ._exceptions import HTTPError, TooManyRedirects, TotalTimeout
from ._models import Response
from ._native import Call
from ._pools import Binding, header_list
from ._redirects import redirect_request
from ._request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ._client import AsyncClient
    from .traffic._deadline import Deadline
    from .traffic._http import Traffic

__all__ = ["Plan", "StreamContext", "drive", "launch"]

#: Flags of the native Pool.call.
STREAM = 1

Hooks = Mapping[str, "Sequence[Callable[[Any], Awaitable[None]]]"]


#: Most bytes of a streamed call's redirect or 401: nobody but us reads them.
_BETWEEN: Final = 1024 * 1024


class Plan:
    """How one call is to be carried out."""

    __slots__ = (
        "answered", "auth", "deadline", "follow", "hooks", "jar", "max_redirects", "started",
        "stream", "timeout", "traffic",
    )  # fmt: skip

    def __init__(
        self,
        *,
        auth: Auth | None,
        follow: bool,
        hooks: Hooks,
        jar: Cookies | None,
        max_redirects: int,
        stream: bool,
        timeout: Timeout,
        traffic: Traffic | None = None,
    ) -> None:
        self.auth = auth
        self.follow = follow
        self.hooks = hooks
        self.jar = jar
        self.max_redirects = max_redirects
        self.stream = stream
        self.timeout = timeout
        self.started = time.monotonic()
        self.traffic = traffic  # retries, limit...: None for most
        self.deadline: Deadline | None = None
        self.answered = 0  # transfers of this attempt that were

    def timeout_now(self, request: Request) -> tuple[int, int, int, int, int]:
        """The time-outs of the next transfer: what is left of the total one.

        Raises:
            TotalTimeout: nothing is left.
        """
        timeout = self.timeout
        connect, read, write, pool, total = timeout.as_ms()
        if total:
            elapsed = time.monotonic() - self.started
            total -= int(elapsed * 1000)
            if total <= 0:
                error = TotalTimeout(
                    f"the time-out of {timeout.total} s for the whole call is over",
                    phase="queue",
                    elapsed=elapsed,
                    url=request.url.masked,
                    method=request.method,
                )
                error.request = request
                raise error
        times = connect, read, write, pool, total
        return times if self.deadline is None else self.deadline.limit(times)


def launch(binding: Binding, request: Request, plan: Plan) -> Call:
    """Starts the driver; returns the Call that ends with it."""
    call = binding.reactor.detached_call()
    if plan.traffic is None:
        work = drive(binding, request, plan)
    else:
        from .traffic._http import begin, controlled

        work = controlled(binding, request, plan, begin(request, plan))
    task = binding.loop.create_task(work)
    binding.tasks.add(task)
    call._attach(task.cancel, f"{request.method} {request.url.masked}")

    def over(done: asyncio.Task[Response]) -> None:
        binding.tasks.discard(done)
        if done.cancelled():
            call.cancel()
            return
        error = done.exception()
        if call.done():
            return
        if error is None:
            call._set_result(done.result())
        else:
            call._set_exception(error)

    task.add_done_callback(over)
    return call


async def drive(binding: Binding, request: Request, plan: Plan) -> Response:
    """Authentication around redirects around transfers, as in httpx."""
    if plan.auth is None:
        return await _follow(binding, request, plan)
    flow = plan.auth.async_auth_flow(request)
    history: list[Response] = []
    try:
        request = await anext(flow)
        while True:
            response = await _follow(binding, request, plan)
            try:
                following = await flow.asend(response)
            except StopAsyncIteration:
                if history:
                    response.history = history + response.history
                return response
            except BaseException:
                await response.aclose()
                raise
            history.append(response)
            await _read_between(response)
            request = following
    finally:
        await flow.aclose()


async def _follow(binding: Binding, request: Request, plan: Plan) -> Response:
    history: list[Response] = []
    # Without a jar of the client's, cookies live as long as the chain of redirects.
    jar = plan.jar if plan.jar is not None else Cookies() if plan.follow else None
    while True:
        if len(history) > plan.max_redirects:
            error = TooManyRedirects(
                f"more than {plan.max_redirects} redirects from {history[0].request.url.masked}",
                url=request.url.masked,
                method=request.method,
            )
            error.request = request
            raise error
        for hook in plan.hooks.get("request", ()):
            await hook(request)
        response = await _send(binding, request, plan)
        try:
            if jar is not None:
                jar.extract_cookies(response)
            if history:
                response.history = list(history)
            for hook in plan.hooks.get("response", ()):
                await hook(response)
            if not response.has_redirect_location:
                return response
            following = redirect_request(request, response)
            if jar is not None:
                jar.set_cookie_header(following)
            if not plan.follow:
                response.next_request = following
                return response
            await _read_between(response)
        except BaseException:
            await response.aclose()
            raise
        history.append(response)
        request = following


async def _read_between(response: Response) -> None:
    """The body of an answer that is not the last one, into `history`; it should be small."""
    response._attach(max_body=_BETWEEN)
    await response.aread()


async def _send(binding: Binding, request: Request, plan: Plan) -> Response:
    """One transfer."""
    start, target = binding.prepare(request.url)
    body = request.body
    native_body: bytes | int | None
    if isinstance(body, BodySource):
        native_body = -1 if body.length is None else body.length
    else:
        native_body = body or None
    flags = STREAM if plan.stream else 0
    headers = header_list(request.headers)
    call = start(request.method, target, headers, native_body, plan.timeout_now(request), flags)
    try:
        if isinstance(body, BodySource):
            response = await _feed_while(binding, call, body)
        else:
            response = await call
    except HTTPError as error:
        error.request = request
        raise
    plan.answered += 1
    if plan.stream:
        response._attach(request=request, delivered=time.monotonic(), max_body=binding.max_body)
    else:
        response._attach(request=request)
    return response


async def _feed_while(binding: Binding, call: Call, body: BodySource) -> Response:
    """Awaits the call while a second task feeds its body. An exception of the caller's own
    iterator ends the call and passes unchanged."""
    feeder = binding.loop.create_task(_feed(binding.loop, call, body))
    failure: BaseException | None = None

    def failed(task: asyncio.Task[None]) -> None:
        nonlocal failure
        if not task.cancelled() and task.exception() is not None:
            failure = task.exception()
            call.cancel()

    feeder.add_done_callback(failed)
    try:
        response: Response = await call
    except asyncio.CancelledError:
        if failure is not None:
            raise failure from None
        feeder.cancel()
        raise
    except BaseException:
        feeder.cancel()
        raise
    if response._stream is None:
        feeder.cancel()
    else:
        binding.tasks.add(feeder)
        feeder.add_done_callback(binding.tasks.discard)
    return response


async def _feed(loop: asyncio.AbstractEventLoop, call: Call, body: BodySource) -> None:
    """Hands over a chunk each time libcurl has room: the iterator is never read ahead."""
    room = asyncio.Event()
    call._set_on_want(room.set)
    chunks = body.chunks()
    try:
        async for chunk in chunks:
            if not chunk:
                continue
            await room.wait()
            room.clear()
            if not _give(call, chunk, False):
                return
        _give(call, b"", True)
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]


def _give(call: Call, chunk: bytes, eof: bool) -> bool:
    """False when nobody takes it any more."""
    if call._feed(chunk, eof):
        return True
    # The answer's head came before the body was out: its stream took the transfer over.
    if call.done() and not call.cancelled() and call.exception() is None:
        stream = call.result()._stream
        return stream is not None and bool(stream._feed(chunk, eof))
    return False


class StreamContext:
    """What `AsyncClient.stream` returns: an async context manager of a `Response`."""

    __slots__ = ("_client", "_plan", "_request", "_response")

    def __init__(self, client: AsyncClient, request: Request, plan: Plan) -> None:
        self._client = client
        self._request = request
        self._plan = plan
        self._response: Response | None = None

    async def __aenter__(self) -> Response:
        self._response = await self._client._launch(self._request, self._plan)
        return self._response

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._response is not None:
            await self._response.aclose()
