"""What a client has in one event loop: its reactor, its pools, the URLs made ready.

One reactor serves all clients of a loop. A pool holds the connections of one identity (TLS
settings, certificates, proxy), so a client has one per proxy it uses. Everything here is
freed without awaiting and without a live loop.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._config import Limits, Timeout
from ._content import native_encode_json
from ._headers import Headers
from ._logging import traffic as _log
from ._models import Response
from ._native import Call, HeaderList, Pool, Reactor, Target
from ._proxies import Proxy, proxy_for
from ._urls import URL, check_url
from ._watch import LoopBlock, attach

if TYPE_CHECKING:
    from .traffic import Observer

__all__ = [
    "Binding", "PoolSettings", "add_observed", "add_stats", "header_list", "reactor_for",
]  # fmt: skip

#: URLs and header sets remembered per binding; more are forgotten all at once.
_REMEMBERED = 1024

_reactors: weakref.WeakKeyDictionary[Any, weakref.ref[Reactor]] = weakref.WeakKeyDictionary()

#: Counters of the reactor that a client's statistics show.
_SHARED = frozenset({"replays", "rescues"})

#: Names of what `Reactor.lag` returns.
_LAG = ("loop_lag_p50", "loop_lag_p99", "loop_lag_max", "loop_lag_samples", "loop_blocks")
_WORST = frozenset(_LAG[:3])

#: Counters that tell of the past: they stay when a client is closed.
_PAST = frozenset(
    {
        "started", "connections_opened", "ok", "client_errors", "server_errors", "timeouts",
        "cancelled", "failed", "reused", "bytes_sent", "bytes_received", *_SHARED, *_LAG,
    }
)  # fmt: skip

_U32 = 2**32 - 1


def reactor_for(loop: asyncio.AbstractEventLoop) -> Reactor:
    """The reactor of the running loop; made when there is none.

    Raises:
        RuntimeError: the loop has no add_reader (Windows' Proactor loop).
        OSError: no descriptors are left.
    """
    found = _reactors.get(loop)
    reactor = None if found is None else found()
    if reactor is None or reactor.closed:
        try:
            reactor = Reactor(loop, Response)
        except NotImplementedError:
            raise RuntimeError(
                f"{type(loop).__name__} cannot watch file descriptors; use asyncio's selector loop"
            ) from None
        _reactors[loop] = weakref.ref(reactor)
    return reactor


#: As many lines in one piece cost libcurl less than by themselves, with what the piece then needs.
_WORTH_IT = 4
#: Headers that libcurl has to see one by one: it acts on them, or has its own place for them.
_SEEN = frozenset({b"host", b"transfer-encoding", b"expect", b"connection", b"te", b"upgrade"})


def header_list(headers: Headers) -> HeaderList:
    """Headers as libcurl takes them. "Name;" sends an empty value, "Name:" keeps libcurl from
    adding a header of its own (CURLOPT_HTTPHEADER(3)). Each line costs libcurl time in every
    call, so what it sends by itself is left to it, and most others are one piece."""
    lines: list[bytes | list[bytes]] = []
    piece: list[bytes] = []
    present = set()
    for name, value in headers.raw:
        lower = name.lower()
        if lower == b"content-length":
            continue  # libcurl's: it knows the body
        present.add(lower)
        if lower == b"accept" and value == b"*/*" and len(headers.get_list("accept")) == 1:
            continue  # libcurl's, too
        blank = not value.strip()
        if lower in _SEEN or (blank and not piece):
            lines.append(name + b";" if blank else name + b": " + value)
        else:
            piece.append(name + b": " + (b"" if blank else value))
    if len(piece) < _WORTH_IT:
        lines += (line[:-2] + b";" if line.endswith(b": ") else line for line in piece)
    else:
        lines.append(piece)
        present -= {line.partition(b":")[0].lower() for line in piece}
    for name in (b"accept", b"content-type"):
        if name not in present:
            lines.insert(0, name + b":")
    if b"expect" not in present:
        lines.insert(0, b"expect:")  # first: only large bodies need it
    return HeaderList(lines, headers)


@dataclass(slots=True)
class PoolSettings:
    """The parts of a client's configuration that its connections depend on."""

    trust: dict[str, Any] = field(repr=False)  # may hold a password
    http1: bool
    http2: bool
    limits: Limits
    timeout: Timeout
    proxy: Proxy | None
    trust_env: bool
    watch: float | None = None
    observers: tuple[Observer, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def proxy_of(self, url: URL) -> Proxy | None:
        """The proxy for a URL: the client's, else the environment's."""
        if self.proxy is not None:
            return self.proxy
        found = proxy_for(url) if self.trust_env else None
        return None if found is None else Proxy(found)

    def native(self, proxy: Proxy | None) -> dict[str, Any]:
        """The options of a native Pool."""
        limits = self.limits
        config: dict[str, Any] = {
            **self.trust,
            "http1": int(self.http1),
            "http2": int(self.http2),
            "max_connections": limits.max_connections or 0,
            "max_in_flight": limits.max_in_flight or 0,
            **self.more,
        }
        if limits.max_keepalive_connections is not None:
            config["max_keepalive"] = min(limits.max_keepalive_connections, _U32)
        if limits.keepalive_expiry is not None:
            expiry = int(limits.keepalive_expiry * 1000)
            if expiry:
                config["keepalive_expiry_ms"] = expiry
            else:
                config["max_keepalive"] = 0
        if proxy is not None:
            config["proxy"] = proxy.curl_url
            if proxy.headers:
                config["proxy_headers"] = [f"{k}: {v}" for k, v in proxy.headers.multi_items()]
        return config


def add_stats(total: dict[str, float], more: Mapping[str, float]) -> None:
    """Counters are added up; of the lags of several loops the worst counts."""
    for name, value in more.items():
        known = total.get(name, 0)
        total[name] = max(known, value) if name in _WORST else known + value


def add_observed(total: dict[str, float], observer: Observer) -> None:
    """The numbers of an observer; what it raises is logged, as for its other methods."""
    try:
        add_stats(total, observer.stats())
    except Exception:
        _log.exception("the observer %r failed in stats", observer)


class Binding:
    """A client's pools in one loop.

    Attributes:
        loop: the loop.
        ready: URL text -> (call function of the pool, Target).
        lists: header sets made ready.
        plain: what `ClientCalls` needs to start a plain call here.
        tasks: the drivers of calls that need more than one transfer.
    """

    __slots__ = (
        "__weakref__", "_pools", "_settings", "lists", "loop", "plain", "reactor", "ready", "tasks",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: PoolSettings) -> None:
        self.loop = loop
        self.reactor = reactor_for(loop)
        attach(self.reactor, loop, settings.watch, self)
        self._settings = settings
        self._pools: dict[Proxy | None, Pool] = {}
        self.ready: dict[str, tuple[Callable[..., Call], Target]] = {}
        self.lists: dict[Any, HeaderList] = {}
        self.plain = (self.ready, self.lists, native_encode_json)
        self.tasks: set[asyncio.Task[Any]] = set()

    def prepare(self, url: URL) -> tuple[Callable[..., Call], Target]:
        """The call function and Target for an absolute URL.

        Raises:
            UnsupportedProtocol, InvalidURL: a request cannot go there.
        """
        check_url(url)
        settings = self._settings
        proxy = settings.proxy_of(url)
        pool = self._pools.get(proxy)
        if pool is None:
            if self.reactor.closed:  # with its last pool, or one that could not be made
                self.reactor = reactor_for(self.loop)
            pool = Pool(self.reactor, settings.native(proxy), settings.timeout.as_ms())
            self._pools[proxy] = pool
        parts = url.copy_with(fragment="", userinfo="")
        host = parts.raw_host.decode("ascii")
        key = f"{parts.scheme}://{parts.netloc.decode('ascii')}"
        named = not (host == "localhost" or ":" in host or host.replace(".", "").isdigit())
        target = pool.target(str(parts), key, parts.scheme == "https", named)
        return pool.call, target

    def remember(self, text: str, url: URL) -> tuple[Callable[..., Call], Target]:
        """`prepare`, kept under the text the caller gave."""
        entry = self.prepare(url)
        if len(self.ready) >= _REMEMBERED:
            self.ready.clear()
        self.ready[text] = entry
        return entry

    def keep_list(self, key: Any, headers: Headers) -> HeaderList:
        """`header_list`, kept under `key`."""
        made = header_list(headers)
        if len(self.lists) >= _REMEMBERED:
            self.lists.clear()
        self.lists[key] = made
        return made

    @property
    def max_body(self) -> int | None:
        """Most bytes of a body that is read as a whole, None = the default."""
        return self._settings.more.get("max_body")

    def stats(self) -> dict[str, float]:
        """The counters of all pools, added up, and of the loop's reactor."""
        total: dict[str, float] = {
            name: count for name, count in self.reactor.stats().items() if name in _SHARED
        }
        for pool in self._pools.values():
            add_stats(total, pool.stats())
        if (lag := self.reactor.lag()) is not None:
            total.update(zip(_LAG, lag, strict=True))
        return total

    def loop_blocked(self, block: LoopBlock) -> None:
        """Called in the watcher's thread."""
        for observer in self._settings.observers:
            observer.loop_blocked(block)

    def close(self) -> dict[str, float]:
        """Ends what runs and closes every connection. Needs no live loop. Returns the counters of
        what has been."""
        for pool in self._pools.values():
            pool.close()
        try:
            past = {name: count for name, count in self.stats().items() if name in _PAST}
        except MemoryError:
            past = {}  # closing goes on
        self._pools.clear()
        self.ready.clear()
        self.lists.clear()
        return past
