"""The `trace` extension: events named as the reference's, when they happen as far as libcurl tells.

libcurl tells when it opens a socket, when the connection stands (TCP and TLS in one) and when
the head is there. So `connect_tcp.complete` comes together with the events of TLS, and those of
sending the request at once; those of a body made while it is sent, and those of HTTP/2, come
with the head.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

__all__ = ["Tracer"]


class _Bell:
    """Rung by the native side; knows nothing of the call, which holds it."""

    __slots__ = ("waiter",)

    def __init__(self) -> None:
        self.waiter: asyncio.Future[None] | None = None

    def ring(self, *_: object) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Tracer:
    """The events of one request.

    Args:
        trace: the extension, an async function of (name, info).
        request: the package's.
        connecting: what the events of the connection tell (the transport's arguments).
        http2: HTTP/2 may be spoken.
        network_stream: stands for the reference's.
    """

    def __init__(
        self, trace: Any, request: Any, connecting: dict[str, Any], http2: bool, network_stream: Any
    ) -> None:
        self._trace = trace
        self._request = request
        self._info = {"request": request}
        url = request.url
        self._https = url.scheme == "https"
        self._http2 = http2 and self._https
        timeout = (request.extensions.get("timeout") or {}).get("connect")
        self._tls = {
            "ssl_context": connecting["ssl_context"],
            "server_hostname": request.extensions.get("sni_hostname") or url.host,
            "timeout": timeout,
        }
        path = connecting["uds"]
        self._connect = "connect_tcp" if path is None else "connect_unix_socket"
        self._connecting = {
            "host": url.host,
            "port": url.port or (443 if self._https else 80),
            "local_address": connecting["local_address"],
            "timeout": timeout,
            "socket_options": connecting["socket_options"],
        }
        if path is not None:
            self._connecting = {key: self._connecting[key] for key in ("timeout", "socket_options")}
            self._connecting["path"] = path
        self._network_stream = network_stream
        self._stage = 0
        self._sent = False
        self._prefix = "http11"
        self._open: list[str] = []  # started, not complete

    async def _event(self, name: str, info: dict[str, Any]) -> None:
        made = self._trace(name, info)
        if not inspect.isawaitable(made):
            raise TypeError("the `trace` extension must be an async function")
        await made

    async def _started(self, name: str, info: dict[str, Any]) -> None:
        self._open.append(name)
        await self._event(f"{name}.started", info)

    async def _complete(self, value: Any = None) -> None:
        await self._event(f"{self._open.pop()}.complete", {"return_value": value})

    async def follow(self, call: Any) -> Any:
        """Waits for the call's head; returns the native answer."""
        bell = _Bell()
        call._set_on_want(bell.ring)
        call.add_done_callback(bell.ring)
        try:
            while not call.done():
                bell.waiter = call.get_loop().create_future()
                await bell.waiter
                if not call.done():
                    await self._reach(call._stage())
            return await call
        except BaseException:
            if not call.done():
                call.cancel()
            elif not call.cancelled() and call.exception() is None:
                call.result()._stream.close()
            raise

    async def _reach(self, stage: int) -> None:
        """Events up to a stage of the call (`Call._stage`)."""
        if stage in (1, 2) and self._stage < 1:
            self._stage = 1
            await self._started(f"connection.{self._connect}", self._connecting)
        if stage >= 2 and self._stage < 2:
            self._stage = 2
            if stage == 2:
                await self._complete(self._network_stream)
                if self._https:
                    await self._started("connection.start_tls", self._tls)
                    await self._complete(self._network_stream)
            if not self._http2:
                await self._request_sent()

    async def _request_sent(self) -> None:
        if self._sent:
            return
        self._sent = True
        for name in ("send_request_headers", "send_request_body"):
            await self._started(f"{self._prefix}.{name}", self._info)
            await self._complete()
        await self._started(f"{self._prefix}.receive_response_headers", self._info)

    async def head(self, answer: Any, value: tuple[Any, ...]) -> None:
        """The head is there; `value` is what the reference's event returns."""
        if answer.http_version == "HTTP/2":
            self._prefix = "http2"
            value = value[1:2] + value[3:]
        await self._reach(3 if answer.reused else 2)
        await self._request_sent()
        await self._complete(value)

    async def failed(self, error: BaseException, phase: str) -> None:
        """The call ended without a head. `phase` as of RequestError."""
        if phase in ("resolve", "connect", "tls") and self._stage < 2:
            if self._stage < 1:
                await self._started(f"connection.{self._connect}", self._connecting)
            if phase == "tls":
                await self._complete(self._network_stream)
                await self._started("connection.start_tls", self._tls)
        elif phase in ("send", "wait", "receive"):
            if self._stage < 2:
                await self._reach(2 if self._stage else 3)
            await self._request_sent()
        await self._fail(error)
        if self._sent:
            await self._closed()
        self._stage, self._sent = 0, False  # it may be tried again

    async def _fail(self, error: BaseException) -> None:
        while self._open:
            await self._event(f"{self._open.pop()}.failed", {"exception": error})

    async def _closed(self) -> None:
        await self._started(f"{self._prefix}.response_closed", {})
        await self._complete()

    async def body_started(self) -> None:
        await self._started(f"{self._prefix}.receive_response_body", self._info)

    async def body_ended(self, error: BaseException | None) -> None:
        """It is whole, or failed."""
        if error is None:
            await self._complete()
        else:
            await self._fail(error)
        await self._closed()

    async def given_up(self) -> None:
        """The response was closed before its body's end."""
        self._open.clear()
        await self._closed()
