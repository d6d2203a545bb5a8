"""Plain HTTP calls under control: what `_drive.launch` runs instead of `drive`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .._content import BodySource
from .._drive import Plan, drive
from .._exceptions import TotalTimeout, TransportError
from ._control import Control, conduct, control_of, new_record
from ._errors import DeadlineExceeded
from ._record import Attempt, CallRecord

if TYPE_CHECKING:
    from .._config import Unset
    from .._models import Response
    from .._pools import Binding
    from .._request import Request
    from ._deadline import DeadlineTypes
    from ._retry import Retry

__all__ = ["KEY_HEADER", "Traffic", "controlled", "mint_key"]

KEY_HEADER = "Idempotency-Key"
#: Seconds: the reactor's own timer for a transfer comes first.
_LATER = 0.02


class Traffic:
    """What a `Plan` says about control."""

    __slots__ = ("control", "priority")

    def __init__(self, control: Control, priority: int) -> None:
        self.control = control
        self.priority = priority


def mint_key(key: str | bool | None) -> str:
    """The idempotency key that an argument means: a new one for True, "" for none.

    Raises:
        TypeError: neither str nor bool. ValueError: blank: a server would see none.
    """
    if key is True:
        return str(uuid.uuid4())
    if key is None or key is False:
        return ""
    if not isinstance(key, str):
        raise TypeError(f"idempotency_key must be a str, or True for a new one, not {key!r}")
    if key and not key.strip():
        raise ValueError(f"idempotency_key must not be blank, got {key!r}")
    return key


def traffic_of(
    request: Request,
    client: Control | None,
    retry: Retry | Unset | None,
    deadline: DeadlineTypes | Unset,
    priority: int,
    key: str | bool | None,
) -> Traffic:
    """What the arguments of a call mean; an idempotency key goes into its headers.

    Raises:
        TypeError, ValueError: one that cannot be.
    """
    minted = mint_key(key)
    if minted:
        request.headers[KEY_HEADER] = minted
    control = control_of(None, client, retry, deadline)
    return Traffic(control, check_priority(priority))


def check_priority(priority: int) -> int:
    """TypeError unless it is a number."""
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {priority!r}")
    return priority


def begin(request: Request, plan: Plan) -> CallRecord:
    """The record of an HTTP call that starts now."""
    traffic = plan.traffic
    assert traffic is not None
    body = request.body
    call = new_record(
        traffic.control,
        kind="http",
        method=request.method,
        url=request.url.masked,
        priority=traffic.priority,
        idempotency_key=request.headers.get(KEY_HEADER, ""),
        size=len(body) if isinstance(body, bytes) else body.length or 0,
        streamed=plan.stream,
    )
    plan.deadline = call.deadline
    return call


async def controlled(binding: Binding, request: Request, plan: Plan, call: CallRecord) -> Response:
    """`drive` as often as the call's control wants. An answer whose status is not tried again,
    or not any more, is handed out like any other."""
    body = request.body

    async def once(attempt: Attempt) -> Response:
        plan.started = time.monotonic()  # Timeout.total is that of an attempt
        plan.answered = 0
        try:
            response = await _driven(binding, request, plan, call)
            attempt.answer(response)
            return response
        finally:
            call.sent_before = plan.answered > 0
            if isinstance(body, BodySource) and body._used and not body.replayable:
                call.final = True

    response = await conduct(call, once)
    response._attach(attempts=tuple(call.attempts))
    if plan.stream:
        call.attempt.let_go()
        response._stream = _Held(response._stream, call)
    return response


async def _driven(binding: Binding, request: Request, plan: Plan, call: CallRecord) -> Response:
    """`drive`; Python code on the way (hooks, authentication) gets no more time than is left.
    The transfers themselves are ended by the reactor."""
    deadline = call.deadline
    foreign = any(plan.hooks.values()) or plan.auth is not None and plan.auth.header_value is None
    if deadline is None or not foreign:
        return await drive(binding, request, plan)
    try:
        async with asyncio.timeout(deadline.remaining() + _LATER) as timer:
            return await drive(binding, request, plan)
    except TimeoutError as error:
        if not timer.expired():
            raise  # the hook's own
        raise DeadlineExceeded(call, "", error) from error


class _Held:
    """A body stream that ends its call: the place in the limit is held until then."""

    __slots__ = ("_call", "_stream")

    def __init__(self, stream: Any, call: CallRecord) -> None:
        self._stream = stream
        self._call = call

    async def read(self) -> bytes:
        call = self._call
        try:
            data: bytes = await self._stream.read()
            return data
        except TransportError as error:
            found: TransportError = error
            if isinstance(error, TotalTimeout) and call.deadline is not None:
                if call.deadline.remaining() < 0.002:
                    found = DeadlineExceeded(call, error.phase, error)
            found.attempts = tuple(call.attempts)
            call.finish(found)
            if found is error:
                raise
            raise found from error

    def close(self) -> None:
        self._stream.close()
        self._call.finish()

    def _feed(self, chunk: bytes, eof: bool) -> Awaitable[bytes] | None:
        found: Any = self._stream._feed(chunk, eof)
        return found  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
