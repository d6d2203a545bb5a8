"""What a transport has in one event loop: pools and the URLs made ready for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from .._native import Call, HeaderList, Pool, Target
from .._pools import reactor_for
from .._watch import attach, threshold_of
from ._package import Package
from ._wire import InvalidRequest, header_list

__all__ = ["Binding"]

#: URLs, and header sets, remembered; more are forgotten all at once.
_REMEMBERED = 512

#: RFC 9112 3.2 leaves the forms to the user; h11 lets these characters pass.
_REQUEST_TARGET = re.compile(rb"[!-~]+")

#: Of calls that bring no time-outs: none, as in the reference.
_NO_TIMEOUTS = (0, 0, 0, 0, 0)

Raw = list[tuple[bytes, bytes]]
Entry = tuple[Callable[..., Call], Target]
Made = tuple[HeaderList, int | None]


class Binding:
    """A transport's connections in one loop.

    Attributes:
        loop, reactor: whose they are.
        ready: `url_key` of a URL -> (call function of the pool, Target).
    """

    __slots__ = (
        "_lists", "_options", "_package", "_pool", "_proxied", "_recent", "loop", "reactor", "ready",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, package: Package, options: dict[str, Any]
    ) -> None:
        self.loop = loop
        self.reactor = reactor_for(loop)
        self.ready: dict[Any, Entry] = {}
        # Calls of one SDK differ in little more than Content-Length, and comparing two lists of
        # headers costs a third of hashing one: by the body's length, then by all.
        self._recent: dict[int, tuple[Raw, Made]] = {}
        self._lists: dict[Any, Made] = {}
        self._package = package
        self._options = options
        self._proxied = "proxy" in options
        self._pool = Pool(self.reactor, options, _NO_TIMEOUTS)
        attach(self.reactor, loop, threshold_of(None))

    def prepare(self, url: Any, extensions: Any) -> Entry:
        """The call function and Target for the package's URL.

        Raises:
            UnsupportedProtocol (the package's), InvalidRequest: it cannot be sent.
        """
        scheme: str = url.scheme
        if scheme not in ("http", "https"):
            raise self._package.UnsupportedProtocol(
                f"Request URL has an unsupported protocol '{scheme}://'."
                if scheme
                else "Request URL is missing an 'http://' or 'https://' protocol."
            )
        host = url.raw_host.decode("ascii")
        if not host:
            raise self._package.UnsupportedProtocol("Request URL is missing a host.")
        origin = f"{scheme}://{url.netloc.decode('ascii')}"
        named = not (host == "localhost" or ":" in host or host.replace(".", "").isdigit())
        path: bytes = extensions.get("target") or url.raw_path
        if _REQUEST_TARGET.fullmatch(path) is None:
            raise InvalidRequest("Illegal request target")
        target = path.decode("ascii")
        verbatim = connect_to = None
        if not target.startswith("/") or "#" in target:
            verbatim, target = target, "/"
        key = prefix = origin
        sni = extensions.get("sni_hostname")
        if sni and scheme == "https":
            name = sni.decode("ascii") if isinstance(sni, bytes) else sni
            if name.lower() != host:
                # libcurl takes the name to ask for from the URL: the host goes elsewhere
                port = 443 if url.port is None else url.port
                connect_to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                prefix = f"https://[{name}]:{port}" if ":" in name else f"https://{name}:{port}"
                key = f"{origin} as {name}"
        try:
            if verbatim is None and connect_to is None:
                made = self._pool.target(prefix + target, key, scheme == "https", named)
            else:
                made = self._pool.target(
                    prefix + target, key, scheme == "https", named, verbatim, connect_to
                )
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        return self._pool.call, made

    def entry(self, url: Any, extensions: Any) -> Entry:
        """`prepare`, remembered if it depends on the URL alone."""
        if "sni_hostname" in extensions or "target" in extensions:
            return self.prepare(url, extensions)
        key = self._package.url_key(url)
        found = self.ready.get(key)
        if found is None:
            found = self.prepare(url, extensions)
            if len(self.ready) >= _REMEMBERED:
                self.ready.clear()
            self.ready[key] = found
        return found

    def headers(self, raw: Raw, size: int) -> Made:
        """`header_list`, remembered. size: of the body, -1 if it is not known."""
        recent = self._recent.get(size)
        if recent is not None and recent[0] == raw:
            return recent[1]
        key = tuple(raw)
        made = self._lists.get(key)
        if made is None:
            made = header_list(raw, self._proxied)
            if len(self._lists) >= _REMEMBERED:
                self._lists.clear()
            self._lists[key] = made
        if len(self._recent) >= _REMEMBERED:
            self._recent.clear()
        self._recent[size] = (raw, made)
        return made

    def close(self) -> None:
        """Ends what runs and closes every connection. Needs no live loop."""
        self.ready.clear()
        self._recent.clear()
        self._lists.clear()
        self._pool.close()
