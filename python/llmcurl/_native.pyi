"""The extension: a reactor on libcurl. Written by hand; `make types` holds it against the build.

None of it is public but what `llmcurl` hands out: a `Call`, and what `Response` inherits from
`RawResponse`. docs/architecture.md tells what is what.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from types import GenericAlias
from typing import Any, Literal, Unpack, final

from typing_extensions import Buffer, disjoint_base

from ._models import Response
from ._options import RequestOptions
from ._urls import URLTypes

def curl_info() -> dict[str, Any]:
    """version, version_num, ssl_version, features, built_with, ssl_store, cainfo, capath;
    ca_defaults: the (file, directory) compiled into OpenSSL."""

def _live() -> dict[str, int]:
    """How many native objects exist in this process, by kind."""

@final
class Reactor:
    """The native event set of one asyncio event loop."""

    def __new__(
        cls, loop: asyncio.AbstractEventLoop, response_type: type[RawResponse]
    ) -> Reactor: ...
    @property
    def closed(self) -> bool: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def lag(self) -> tuple[float, float, float, int, int] | None:
        """p50, p99, max of the seconds that ready events waited; samples; waits beyond the
        threshold. None before the first sample, and without a watcher."""

    def stats(self) -> dict[str, int]:
        """started, finished, cancelled, rescues, replays, connections, steps."""

    def detached_call(self) -> Call:
        """A Call without a transfer: `_set_result` or `_set_exception` ends it."""

    def _kick(self) -> None: ...

@final
class Pool:
    """The connections of one client in one event loop."""

    def __new__(
        cls,
        reactor: Reactor,
        config: dict[str, Any],
        timeouts: tuple[int, int, int, int, int],
    ) -> Pool:
        """timeouts: connect, read, write, pool, total in milliseconds, 0 = none."""

    @property
    def reactor(self) -> Reactor: ...
    def target(
        self,
        url: str,
        key: str,
        https: bool,
        named: bool,
        request_target: str | None = None,
        connect_to: str | None = None,
        /,
    ) -> Target:
        """key: scheme://host:port. named: the host needs a name server. request_target: what the
        request line says instead of the URL's path. connect_to: "host:port" to connect to
        instead of the URL's; `key` must differ then. Both or none of the two are given."""

    def call(
        self,
        method: str,
        target: Target,
        headers: HeaderList,
        body: bytes | int | None,
        timeouts: tuple[int, int, int, int, int] | None,
        flags: int,
        /,
    ) -> Call:
        """body: bytes, or the length of one that is fed (-1 = unknown), or None. timeouts:
        None = the pool's. flags: 1 stream, 2 HTTP/1.1, 4 send again only what was not sent,
        8 note the connection for `RawResponse._peer`, 16 `on_want` for each `_stage`, too,
        32 an answer that is over with its head has a `_body` and no `_stream`."""

    def close(self) -> None: ...
    def stats(self) -> dict[str, int]:
        """queued, active, connections, idle; since the start: started, connections_opened, ok,
        client_errors, server_errors, timeouts, cancelled, failed, reused, bytes_sent,
        bytes_received."""

@final
class Target:
    """A URL made ready for a pool; `Pool.target` makes it."""

@final
class HeaderList:
    """Request headers made ready. A list among the lines goes out in one piece: libcurl looks at
    its first line only."""

    def __new__(
        cls, lines: list[bytes] | list[bytes | list[bytes]], source: object = None, /
    ) -> HeaderList: ...
    @property
    def source(self) -> Any: ...

@disjoint_base
class ClientCalls:
    """get, post and the like of an `AsyncClient`: plain calls go straight to a pool, the rest
    to `request`, which the subclass has. Bodies: content, data, files or json; see there."""

    _plain: (
        tuple[
            dict[str, tuple[Callable[..., Call], Target]],
            dict[Any, HeaderList],
            Callable[[Any], bytes],
        ]
        | None
    )
    def get(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def head(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def post(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def put(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def patch(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def delete(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...
    def options(self, url: URLTypes, **options: Unpack[RequestOptions]) -> Call: ...

@final
class Call(Awaitable[Response]):
    """A request that has been started. Awaitable; a Future in all but the class."""

    _asyncio_future_blocking: bool
    @property
    def _cancel_message(self) -> Any: ...
    @property
    def _loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def _log_traceback(self) -> bool: ...
    @_log_traceback.setter
    def _log_traceback(self, value: Literal[False]) -> None: ...
    def __await__(self) -> Generator[Any, None, Response]: ...
    def __iter__(self) -> Generator[Any, None, Response]: ...
    def __next__(self) -> Call: ...
    @classmethod
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def result(self) -> Response: ...
    def exception(self) -> BaseException | None: ...
    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def cancel(self, msg: Any | None = None) -> bool: ...
    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def add_done_callback(
        self, fn: Callable[[Call], object], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, fn: Callable[[Call], object], /) -> int: ...
    def _make_cancelled_error(self) -> asyncio.CancelledError: ...
    def _set_result(self, value: Response, /) -> None: ...
    def _set_exception(self, value: BaseException, /) -> None: ...
    def _attach(self, on_cancel: Callable[[], object], label: str, /) -> None:
        """Of a detached Call: what stops its driver, and what to show in its repr."""

    def _feed(self, chunk: bytes, eof: bool, /) -> Literal[True] | None:
        """More bytes of the body. None: nobody takes them any more."""

    def _set_on_want(self, fn: Callable[[], object], /) -> None:
        """Called when there is room for more bytes of the body."""

    def _stage(self) -> int:
        """0 waits, 1 a socket was opened, 2 a new connection stands, 3 a kept one is used."""

@final
class BodyStream(Awaitable[bytes]):
    """The body of a streamed answer. It is what `read` returns, too."""

    _asyncio_future_blocking: bool
    @property
    def arrived(self) -> float:
        """When the piece read last came in, by time.monotonic()."""

    @property
    def received(self) -> int: ...
    def __await__(self) -> Generator[Any, None, bytes]: ...
    def __iter__(self) -> Generator[Any, None, bytes]: ...
    def __next__(self) -> BodyStream: ...
    def read(self) -> Awaitable[bytes]:
        """The bytes that have arrived; b"" at the end."""

    def close(self) -> None: ...
    def unread(self) -> bytes:
        """Takes what has arrived and was not read, without waiting."""

    def _expect(self, wait: int, read: int, /) -> None:
        """Fails with "idle_timeout" unless bytes come within `wait` ms (0 = no such limit);
        `read` is the read time-out from now on, ms, -1 = as it was."""

    def result(self) -> None: ...
    def cancel(self, msg: Any | None = None) -> bool:
        """Ends the wait, not the transfer."""

    def get_loop(self) -> asyncio.AbstractEventLoop: ...
    def add_done_callback(
        self, fn: Callable[[BodyStream], object], /, *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, fn: Callable[[BodyStream], object], /) -> int: ...
    def _feed(self, chunk: bytes, eof: bool, /) -> Literal[True] | None: ...
    def _set_on_want(self, fn: Callable[[], object], /) -> None: ...

@disjoint_base
class RawResponse:
    """An answer as it came: the base of `llmcurl.Response`."""

    status_code: int  # read-only; a plain attribute here for the mixins that declare it so
    _head: bytes
    _body: bytes
    _url: str
    _method: str
    _extra: Any
    _stream: Any
    @property
    def content(self) -> bytes:
        """The body, decoded.

        Raises:
            ResponseNotRead: streamed, and `aread` was not called.
            DecodingError, ResponseTooLarge: it cannot be decoded; the await normally raised it.
        """

    def __init__(
        self,
        status_code: int,
        *,
        head: bytes = ...,
        body: bytes = ...,
        url: str = ...,
        method: str = ...,
        http_version: str = ...,
    ) -> None: ...
    @property
    def reused(self) -> bool:
        """The connection had been used before."""

    @property
    def http_version(self) -> str: ...
    @property
    def _timings(self) -> tuple[float, float, float, float, float, float, float, float, float]:
        """queued, dns, connect, tls, sent, first_byte, done, delivered: seconds since the call was
        made, -1.0 = did not happen; and how long before `delivered` the last bytes were there."""

    def _split(self) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        """HTTP version as 10, 11, 20 or 30, reason phrase, header pairs as they came."""

    @property
    def _peer(self) -> tuple[str, int, str, int, str, str] | None:
        """ip, port, local ip, local port, TLS version, cipher; "" = none, or not known."""

    @property
    def _sent(self) -> HeaderList | None: ...
    @property
    def _sent_body(self) -> bytes | None: ...

@final
class Watch:
    """The native half of `llmcurl._watch`."""

    def __new__(cls) -> Watch: ...
    def add(self, reactor: Reactor, seconds: float, /) -> int:
        """Watches a reactor. Its number, 0 if it cannot be watched."""

    def wait(self) -> tuple[int, bool, float, int] | None:
        """(number, over, seconds late, thread). None: no reactor is left, or `stop`."""

    def late(self, number: int, /) -> bool:
        """Whether that reactor is still late."""

    def count(self) -> int: ...
    def stop(self, stop: bool, /) -> None:
        """Ends `wait`, until it is called with False."""

@final
class EventParser:
    """A push parser of text/event-stream."""

    def __new__(cls, max_event: int = 16777216, *, flush: bool = True) -> EventParser: ...
    @property
    def retry(self) -> int | None: ...
    def feed(self, data: Buffer, /) -> list[tuple[str, bytes, str, int | None]]:
        """The events complete with these bytes: (type, data, id, retry)."""

    def finish(self) -> list[tuple[str, bytes, str, int | None]]: ...

@final
class LineParser:
    """A push parser of NDJSON lines."""

    def __new__(cls, max_line: int = 16777216) -> LineParser: ...
    def feed(self, data: Buffer, /) -> list[bytes]: ...
    def finish(self) -> list[bytes]: ...

@final
class DeltaParser:
    """A push parser of a chat stream: text deltas as str, the other events as bytes, an event
    of the type "error" as ("error", bytes)."""

    def __new__(
        cls,
        kind: str,
        max_event: int = 16777216,
    ) -> DeltaParser:
        """kind: openai, anthropic, gemini or ollama."""

    @property
    def usage(self) -> bytes | None: ...
    def feed(self, data: Buffer, /) -> list[str | bytes | tuple[str, bytes]]: ...
    def finish(self) -> list[str | bytes | tuple[str, bytes]]: ...
