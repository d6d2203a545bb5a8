"""The transport itself, the same for httpx and httpx2; `httpx.py` and `httpx2.py` add the
base class of their package.

A call goes straight to the native pool, always streamed: it returns when the head is there,
and what came along with it is read without waiting. Semantics are those of the package's own
AsyncHTTPTransport; where it leaves something open, the safer way is taken.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from asyncio import _get_running_loop
from collections.abc import Iterable
from typing import Any, ClassVar

from .. import _native
from .._exceptions import ClientClosed, HTTPError
from ._binding import Binding
from ._network import NetworkStream
from ._options import (
    connection_options,
    limit_options,
    proxy_options,
    socket_options,
    trust,
)
from ._package import Package
from ._trace import Tracer
from ._upload import Upload
from ._wire import TOO_LITTLE, TOO_MUCH, InvalidRequest, is_method

__all__ = ["CurlTransport", "ResponseStream", "WholeStream"]

_CURL = _native.curl_info()

#: Flags of the native Pool.call: streamed, never sent again once it may have arrived, the
#: connection's addresses noted; for traced calls its stages, too; for usual ones, without a stream
#: if the body comes along with the head.
_FLAGS = 1 | 4 | 8
_TRACED = _FLAGS | 16
_USUAL = _FLAGS | 32

#: The reference waits 0, 0.5, 1, 2... seconds between attempts to connect.
_BACKOFF = 0.5

_VERSIONS = {10: b"HTTP/1.0", 11: b"HTTP/1.1", 20: b"HTTP/2", 30: b"HTTP/3"}

_NO_TIMEOUT: dict[str, Any] = {}
_times: dict[tuple[Any, Any, Any, Any], tuple[int, int, int, int, int]] = {}


def _milliseconds(seconds: float | None) -> int:
    """0 = none for the native side, so that a time-out of 0 becomes the shortest there is."""
    return 0 if seconds is None else max(1, math.ceil(min(seconds, 1e9) * 1000))


def _timeouts(given: Any) -> tuple[int, int, int, int, int]:
    get = (given or _NO_TIMEOUT).get
    key = (get("connect"), get("read"), get("write"), get("pool"))
    found = _times.get(key)
    if found is None:
        connect, read, write, pool = map(_milliseconds, key)
        found = (connect, read, write, pool, 0)
        if len(_times) < 256:
            _times[key] = found
    return found


def _check_length(declared: int | None, size: int) -> None:
    """declared: as of `header_list`."""
    if (declared or 0) > size:
        raise InvalidRequest(TOO_LITTLE)
    if declared != -1 and (declared or 0) < size:
        raise InvalidRequest(TOO_MUCH)


class ResponseStream:
    """The body of an answer, raw, as it comes. Subclassed with the package's AsyncByteStream."""

    _package: ClassVar[Package]

    def __init__(self, body: Any, request: Any, upload: Upload | None) -> None:
        self._body = body
        self._request = request
        self._upload = upload

    def __aiter__(self) -> ResponseStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            data: bytes = await self._body
        except (HTTPError, ClientClosed) as error:
            self._close()
            raise self._package.error(error, self._request) from error
        except BaseException:
            # Cancelled: as in the reference, the connection goes at once.
            self._close()
            raise
        if data:
            return data
        upload = self._upload
        self._close()
        if upload is not None and upload.failure is not None:
            raise upload.failure
        raise StopAsyncIteration

    def _close(self) -> None:
        self._body.close()
        if self._upload is not None:
            self._upload.stop()
            self._upload = None

    async def aclose(self) -> None:
        """Drops the connection unless the body is whole; never waits."""
        self._close()


class WholeStream:
    """The body of an answer that came at once. Subclassed with the package's AsyncByteStream."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> WholeStream:
        return self

    async def __anext__(self) -> bytes:
        content = self._content
        if not content:
            raise StopAsyncIteration
        self._content = b""
        return content

    async def aclose(self) -> None:
        """Forgets what was not read."""
        self._content = b""


class TracedStream:
    """A ResponseStream that tells a Tracer what becomes of it."""

    def __init__(self, inner: ResponseStream, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer
        self._begun = False
        self._over = False

    def __aiter__(self) -> TracedStream:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            if not self._begun:
                self._begun = True
                await self._tracer.body_started()
            return await self._inner.__anext__()
        except StopAsyncIteration:
            self._over = True
            await self._tracer.body_ended(None)
            raise
        except BaseException as error:
            self._over = True
            self._inner._close()
            if isinstance(error, Exception):
                await self._tracer.body_ended(error)
            raise

    async def aclose(self) -> None:
        self._inner._close()
        if not self._over:
            self._over = True
            await self._tracer.given_up()


_traced_classes: dict[Any, Any] = {}


def traced_class(stream_class: type[ResponseStream]) -> Any:
    """TracedStream with the base class of the package."""
    made = _traced_classes.get(stream_class)
    if made is None:
        base = next(each for each in stream_class.__bases__ if each is not ResponseStream)
        made = _traced_classes[stream_class] = type("TracedStream", (TracedStream, base), {})
    return made


class CurlTransport:
    """An async transport on llmcurl's reactor; arguments as the package's AsyncHTTPTransport.

    One transport may be used from several event loops, one after the other or at once in
    several threads; it has connections of its own in each. Closing it needs no loop.

    Args:
        verify: True, False, the path of a CA file or directory, or an ssl.SSLContext, whose
            demands (verify mode, host name check, versions, ciphers) and trusted certificates
            are taken over. A client certificate inside it cannot be seen: pass `cert`.
        cert: client certificate: path, or (certificate, key[, password]).
        trust_env: use SSL_CERT_FILE and SSL_CERT_DIR. As in the reference, proxy variables
            are the client's affair: pass `proxy`.
        http1, http2: the protocols offered.
        limits: the package's Limits. None: as many connections as needed, idle ones kept for
            a minute.
        proxy: URL (http, https, socks5, socks5h) or the package's Proxy.
        uds: path of a Unix socket to connect to instead.
        local_address: address to connect from.
        retries: how often a failed connect is tried again.
        socket_options: as for socket.setsockopt(), set on each socket before it connects.

    Raises:
        TypeError, ValueError, FileNotFoundError: an argument that cannot be honoured; the
            text says what to pass instead.
    """

    _package: ClassVar[Package]
    _stream_class: ClassVar[type[ResponseStream]]
    _whole_class: ClassVar[type[WholeStream]]

    def __init__(
        self,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: Any = None,
        proxy: Any = None,
        uds: str | None = None,
        local_address: str | None = None,
        retries: int = 0,
        socket_options: Iterable[Any] | None = None,
    ) -> None:
        self._options = {
            **trust(self._package, verify, cert, trust_env),
            **connection_options(http1, http2, uds, local_address, _CURL),
            **limit_options(limits),
            **proxy_options(self._package, proxy),
            **_socket_options(socket_options),
        }
        self._retries = retries
        self._connecting = {
            "ssl_context": verify if isinstance(verify, ssl.SSLContext) else None,
            "uds": uds,
            "local_address": local_address,
            "socket_options": socket_options,
        }
        self._bindings: dict[int, Binding] = {}
        self._binding: Binding | None = None

    async def handle_async_request(self, request: Any) -> Any:
        """Sends a request; returns when the head of its answer is there.

        Raises:
            The package's exceptions, as its own transport does; CancelledError and what the
            request's body iterator raises go through.
        """
        binding = self._binding
        if binding is None or binding.loop is not _get_running_loop() or binding.reactor.closed:
            binding = self._bind()
        package = self._package
        extensions = request.extensions
        stream = request.stream
        upload = tracer = None
        try:
            start, target = binding.entry(request.url, extensions)
            usual = type(stream) is package.ByteStream
            body = (
                b"".join(stream) if usual else b""
            )  # no copy: join of one bytes object returns it
            headers, length = binding.headers(request.headers.raw, len(body) if usual else -1)
            times = _timeouts(extensions.get("timeout"))
            trace = extensions.get("trace")
            if usual and not self._retries and trace is None:
                if length != len(body):
                    _check_length(length, len(body))
                answer = await start(request.method, target, headers, body or None, times, _USUAL)
            else:
                if trace is not None:
                    tracer = self._tracer(trace, request)
                answer, upload = await self._send(
                    binding, start, request, target, headers, length, times, tracer
                )
        except (HTTPError, ClientClosed) as error:
            made = package.error(error, request)
            if tracer is not None:
                await tracer.failed(made, getattr(error, "phase", ""))
            raise made from error
        except InvalidRequest as error:
            raise package.LocalProtocolError(str(error), request=request) from None
        except BaseException as error:
            if tracer is not None:
                await tracer.failed(error, "")
            if isinstance(error, ValueError) and not is_method(request.method):
                text = "Illegal method characters"
                raise package.LocalProtocolError(text, request=request) from None
            raise
        version, reason, pairs = answer._split()
        details: dict[str, Any] = {
            "http_version": _VERSIONS[version],
            "network_stream": NetworkStream(answer),
        }
        if version < 20:
            details["reason_phrase"] = reason
        if tracer is not None:
            return await self._traced(tracer, answer, reason, pairs, details, request, upload)
        if answer._stream is None:
            body = answer._body
            answer._body = b""  # NetworkStream keeps the answer
            stream = self._whole_class(body)
        else:
            stream = self._stream_class(answer._stream, request, upload)
        return package.Response(
            answer.status_code, headers=pairs, stream=stream, extensions=details
        )

    async def _send(
        self,
        binding: Binding,
        start: Any,
        request: Any,
        target: Any,
        headers: Any,
        length: int | None,
        times: tuple[int, int, int, int, int],
        tracer: Tracer | None,
    ) -> tuple[Any, Upload | None]:
        """A call whose body is fed, or whose connect may be tried again."""
        stream = request.stream
        body: Any = None
        fed = type(stream) is not self._package.ByteStream
        if fed:
            if not hasattr(stream, "__aiter__"):
                raise RuntimeError(
                    "Attempted to send an sync request with an AsyncClient instance."
                )
            body = 0 if length is None else length
        else:
            body = b"".join(stream) or None
        attempt = 0
        while True:
            try:
                traced = tracer is not None and not fed
                call = start(
                    request.method, target, headers, body, times, _TRACED if traced else _FLAGS
                )
                if fed:
                    upload = Upload(binding.loop, call, stream, body)
                    return await upload.head(), upload
                if tracer is not None:
                    return await tracer.follow(call), None
                return await call, None
            except HTTPError as error:
                kind = type(self._package.error(error, request))
                package = self._package
                if attempt >= self._retries or kind not in (
                    package.ConnectError,
                    package.ConnectTimeout,
                ):
                    raise
                if tracer is not None:
                    phase = getattr(error, "phase", "")
                    await tracer.failed(self._package.error(error, request), phase)
            await asyncio.sleep(0 if attempt == 0 else _BACKOFF * 2 ** (attempt - 1))
            attempt += 1

    def _tracer(self, trace: Any, request: Any) -> Tracer:
        http2 = bool(self._options.get("http2"))
        return Tracer(trace, request, self._connecting, http2, NetworkStream(None))

    async def _traced(
        self,
        tracer: Tracer,
        answer: Any,
        reason: bytes,
        pairs: list[tuple[bytes, bytes]],
        details: dict[str, Any],
        request: Any,
        upload: Upload | None,
    ) -> Any:
        """The response of a traced call."""
        stream = self._stream_class(answer._stream, request, upload)
        value = (details["http_version"], answer.status_code, reason, pairs)
        try:
            await tracer.head(answer, value)
        except BaseException:
            stream._close()
            raise
        return self._package.Response(
            status_code=answer.status_code,
            headers=pairs,
            stream=traced_class(self._stream_class)(stream, tracer),
            extensions=details,
        )

    def _bind(self) -> Binding:
        """The binding of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._bindings.get(id(loop))
        if found is None or found.loop is not loop or found.reactor.closed:
            for key, binding in list(self._bindings.items()):
                if binding.loop.is_closed():
                    del self._bindings[key]
                    binding.close()
            found = self._bindings[id(loop)] = Binding(loop, self._package, self._options)
        self._binding = found
        return found

    async def aclose(self) -> None:
        """Ends what runs and closes every connection, in all loops. As with the reference, a
        later request opens new ones."""
        self._binding = None
        bindings, self._bindings = self._bindings, {}
        for binding in bindings.values():
            binding.close()


_socket_options = socket_options  # the argument of that name hides it
