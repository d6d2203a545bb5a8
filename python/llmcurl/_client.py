"""`AsyncClient`: httpx's client on the native reactor.

A call without redirects to follow, cookies, hooks or a streamed body goes straight to the
native pool (`_start`); the rest is driven by a task (`_drive.py`). Defaults are made for
LLM calls: see `Timeout` and `Limits`.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import _get_running_loop
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import _errormap as _errormap  # now: when descriptors run out it could not be read
from . import _native
from ._arguments import flag
from ._auth import Auth, AuthTypes, auth_from_url, build_auth
from ._config import DEFAULT_TIMEOUT, UNSET, Limits, Timeout, TimeoutTypes, Unset, build_timeout
from ._content import RequestData, RequestFiles, encode_json
from ._cookies import Cookies, CookieTypes
from ._decoders import ACCEPT_ENCODING, MAX_BODY
from ._drive import Hooks, Plan, StreamContext, launch
from ._exceptions import ClientClosed
from ._headers import Headers, HeaderTypes, WatchedHeaders
from ._logging import with_call_log
from ._native import Call, ClientCalls, HeaderList
from ._pools import Binding, PoolSettings, add_observed, add_stats, header_list
from ._proxies import ProxyTypes, build_proxy
from ._query import QueryParams
from ._request import Request, check_method
from ._trust import CertTypes, VerifyTypes, http2_available, trust_options
from ._urls import URL, QueryParamTypes, URLTypes, parse_url
from ._version import __version__
from ._watch import threshold_of

if TYPE_CHECKING:
    from ._options import RequestOptions
    from .traffic import DeadlineTypes, LimitTypes, Observer, Retry
    from .traffic._control import Control
    from .traffic._http import Traffic

__all__ = ["AsyncClient"]

_CURL = _native.curl_info()

_JSON = ("Content-Type", "application/json")
#: Arguments of a call that control it, and what stands for "not given".
_TRAFFIC = (("retry", UNSET), ("deadline", UNSET), ("priority", 0), ("idempotency_key", None))


def _default_headers() -> Headers:
    return Headers(
        {
            "Accept": "*/*",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": f"llmcurl/{__version__}",
        }
    )


def _forget_lists(client: AsyncClient | None) -> None:
    """Header sets made ready are out of date."""
    if client is not None:
        client._changes += 1
        for binding in list(client._bindings.values()):
            binding.lists.clear()


class AsyncClient(ClientCalls):
    """An HTTP client for asyncio (or uvloop): connections are kept and shared by its calls.

    One client may be used from several event loops, one after the other or at once in
    several threads; it has connections of its own in each.

    Args:
        base_url: put before relative URLs.
        headers, params, cookies: sent with each request; those of a call are added to them
            and win. Cookies that servers set are kept only if `cookies` is given (``{}`` will
            do).
        auth: (user, password), an `Auth`, or a function (sync or async) that gets the
            request and returns it.
        timeout: seconds, or a `Timeout`. Default: connect 10 s, read and write 600 s.
        limits: a `Limits`. Default: no limit but the descriptors; idle connections are kept 60 s.
        http1, http2: the protocols offered. HTTP/2 is on by default with libcurl >= 8.4.
        verify: True, False, the path of a CA file or directory to trust instead, or a list:
            ``[True, path]`` adds a CA to the system's.
        cert: client certificate: path, or (certificate, key[, password]).
        proxy: URL (http, https, socks5, socks5h) or `Proxy`.
        trust_env: use HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR.
        follow_redirects: default for calls. max_redirects: how many, at most.
        event_hooks: {"request": [...], "response": [...]}, async functions.
        default_encoding: of text without a charset.
        max_response_bytes: ceiling of a buffered answer's body.
        retry, limit, deadline: see `Retry`, `RateLimit`, `Deadline`; of each call.
        observers: `Observer`s of each call.
        watch: seconds after which a loop that does not serve what is ready is reported, with the
            code that holds it up (log `llmcurl.loop`; docs/observing.md). True: 0.1. False: off.
            Default: the environment's LLMCURL_WATCH, else True.

    Raises:
        TypeError, ValueError, InvalidURL, InvalidHeader, FileNotFoundError: an argument that
            cannot be, at once.
    """

    def __init__(
        self,
        *,
        base_url: URLTypes = "",
        headers: HeaderTypes | None = None,
        params: QueryParamTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | None = None,
        timeout: TimeoutTypes | Unset = UNSET,
        limits: Limits | None = None,
        http1: bool = True,
        http2: bool | None = None,
        verify: VerifyTypes = True,
        cert: CertTypes | None = None,
        proxy: ProxyTypes | None = None,
        trust_env: bool = True,
        follow_redirects: bool = False,
        max_redirects: int = 20,
        event_hooks: Hooks | None = None,
        default_encoding: str = "utf-8",
        max_response_bytes: int = MAX_BODY,
        retry: Retry | None = None,
        limit: LimitTypes | None = None,
        deadline: DeadlineTypes = None,
        observers: Sequence[Observer] = (),
        watch: bool | float | None = None,
    ) -> None:
        base = parse_url(base_url)
        if base.path and not base.path.endswith("/"):
            base = base.copy_with(path=base.path + "/")
        self._base_url = base
        self._headers = _default_headers()
        self._headers.update(headers)
        self._changes = 0
        self._params = QueryParams(params)
        self._jar = None if cookies is None else Cookies(cookies)
        self._auth = build_auth(auth)
        self._timeout = build_timeout(timeout, DEFAULT_TIMEOUT)
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
        self._follow = flag("follow_redirects", follow_redirects)
        if isinstance(max_redirects, bool) or not isinstance(max_redirects, int):
            raise TypeError(f"max_redirects must be an int, not {max_redirects!r}")
        if max_redirects < 0:
            raise ValueError(f"max_redirects must not be negative: {max_redirects}")
        self._max_redirects = max_redirects
        self._hooks: dict[str, list[Any]] = {"request": [], "response": []}
        self._set_hooks(event_hooks)
        self._default_encoding = default_encoding
        self._settings = PoolSettings(
            trust=trust_options(verify, cert, trust_env),
            http1=http1,
            http2=http2_available(_CURL, http2),
            limits=limits or Limits(),
            timeout=self._timeout,
            proxy=build_proxy(proxy),
            trust_env=trust_env,
            watch=threshold_of(watch),
            observers=with_call_log(observers),
            more={"max_body": max_response_bytes},
        )
        if not http1 and not self._settings.http2:
            raise ValueError("http1 and http2 are both off")
        self._binding: Binding | None = None
        self._bindings: dict[int, Binding] = {}
        self._past: dict[str, float] = {}
        self._closed = False
        self._control: Control | None = None
        told = self._settings.observers
        if retry is not None or limit is not None or deadline is not None or told:
            from .traffic._control import build_control

            self._control = build_control(retry, limit, deadline, None, told)
        self._refresh()

    def _set_hooks(self, hooks: Hooks | None) -> None:
        for name, functions in (hooks or {}).items():
            if name not in self._hooks:
                raise ValueError(f"event_hooks: no event is called {name!r}: request or response")
            self._hooks[name] = list(functions)

    def _refresh(self) -> None:
        """Works out, once, whether plain calls can go straight to the pool."""
        self._simple = (
            not self._follow
            and self._jar is None
            and not self._hooks["request"]
            and not self._hooks["response"]
            and (self._auth is None or self._auth.header_value is not None)
            and not self._params
            and self._default_encoding == "utf-8"
        )
        self._direct = self._simple and self._control is None
        self._route()

    def _route(self) -> None:
        """Tells `ClientCalls` where plain calls go, if there are such: to the pools of the
        loop that was used last. A subclass with a `request` of its own sees every call."""
        binding = self._binding
        own = type(self).request is AsyncClient.request
        self._plain = binding.plain if self._direct and own and binding is not None else None

    # Configuration ------------------------------------------------------------------------

    @property
    def headers(self) -> Headers:
        """Sent with each request. Changes count from the next call on."""
        if not isinstance(self._headers, WatchedHeaders):
            seen = weakref.ref(self)  # no cycle
            self._headers = WatchedHeaders(self._headers, lambda: _forget_lists(seen()))
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes) -> None:
        self._headers = _default_headers()
        self._headers.update(headers)
        _forget_lists(self)

    @property
    def base_url(self) -> URL:
        """Put before relative URLs."""
        return self._base_url

    @property
    def params(self) -> QueryParams:
        """Put into the query of each request."""
        return self._params

    @property
    def cookies(self) -> Cookies:
        """The jar. Asking for it turns the keeping of cookies on."""
        if self._jar is None:
            self._jar = Cookies()
            self._refresh()
        return self._jar

    @property
    def timeout(self) -> Timeout:
        """Of calls that give none."""
        return self._timeout

    @property
    def auth(self) -> Auth | None:
        """Of calls that give none."""
        return self._auth

    @property
    def event_hooks(self) -> dict[str, list[Any]]:
        """The hooks; set anew to change them."""
        return {name: list(functions) for name, functions in self._hooks.items()}

    @event_hooks.setter
    def event_hooks(self, hooks: Hooks) -> None:
        self._hooks = {"request": [], "response": []}
        self._set_hooks(hooks)
        self._refresh()

    @property
    def is_closed(self) -> bool:
        """`aclose` was called."""
        return self._closed

    @property
    def trust_env(self) -> bool:
        """Whether proxy variables of the environment count."""
        return self._settings.trust_env

    def stats(self) -> dict[str, float]:
        """Numbers of what is queued, active and connected now, and of what has been, in all
        loops: outcomes, bytes, reuse, the loops' lag. docs/observing.md lists them."""
        total = dict(self._past)
        for binding in list(self._bindings.values()):
            add_stats(total, binding.stats())
        for observer in self._settings.observers:
            add_observed(total, observer)
        return total

    # Calls --------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: URLTypes,
        *,
        content: Any = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | Unset | None = UNSET,
        follow_redirects: bool | Unset = UNSET,
        timeout: TimeoutTypes | Unset = UNSET,
        extensions: dict[str, Any] | None = None,
        retry: Retry | Unset | None = UNSET,
        deadline: DeadlineTypes | Unset = UNSET,
        priority: int = 0,
        idempotency_key: str | bool | None = None,
    ) -> Call:
        """Starts a request and returns its `Call`, to be awaited for the `Response`.

        Args:
            method: e.g. "POST".
            url: absolute, or relative to base_url.
            content, data, files, json: the body, see `encode_request`.
            params: put into the query.
            headers, cookies: added to the client's.
            auth: None = none, although the client has one.
            follow_redirects, timeout, retry, deadline: instead of the client's.
            extensions: kept with the request.
            priority: in the queue of the client's limit, higher goes first.
            idempotency_key: sent with each attempt, which makes them safe; True mints one.

        Raises:
            InvalidURL, UnsupportedProtocol, InvalidHeader, LocalProtocolError, TypeError,
                ValueError: at once, before anything is queued.
            RuntimeError: no event loop runs in this thread. ClientClosed: `aclose` was called.
            The await raises a `TransportError`, `DecodingError` or `TooManyRedirects`.
        """
        binding = self._binding
        if binding is None or binding.loop is not _get_running_loop():
            binding = self._bind()
        if (
            self._direct
            and data is None
            and files is None
            and params is None
            and cookies is None
            and auth is UNSET
            and extensions is None
            and (follow_redirects is UNSET or follow_redirects is False)
            and retry is UNSET
            and deadline is UNSET
            and priority == 0
            and idempotency_key is None
        ):
            call = self._start(binding, method, url, content, json, headers, timeout)
            if call is not None:
                return call
        request = self.build_request(
            method, url, content=content, data=data, files=files, json=json, params=params,
            headers=headers, cookies=cookies, extensions=extensions,
        )  # fmt: skip
        traffic = self._traffic(request, retry, deadline, priority, idempotency_key)
        plan = self._plan(request, auth, follow_redirects, timeout, False, traffic)
        return self._launch(request, plan)

    def stream(
        self, method: str, url: URLTypes, **options: Unpack[RequestOptions]
    ) -> StreamContext:
        """``async with client.stream("POST", url) as response``: the response is there when
        its head is; its body is read piece by piece. Leaving the block drops the rest.

        Args and Raises: as `request`.
        """
        given: dict[str, Any] = {**options}
        auth = given.pop("auth", UNSET)
        follow = given.pop("follow_redirects", UNSET)
        timeout = given.pop("timeout", UNSET)
        wanted = [given.pop(name, default) for name, default in _TRAFFIC]
        request = self.build_request(method, url, **given)
        traffic = self._traffic(request, *wanted)
        plan = self._plan(request, auth, follow, timeout, True, traffic)
        return StreamContext(self, request, plan)

    def build_request(
        self,
        method: str,
        url: URLTypes,
        *,
        content: Any = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> Request:
        """A `Request` with the client's headers, params and cookies; for `send`."""
        merged = Headers(self._headers)
        merged.update(headers)
        jar = cookies if self._jar is None else self._merge_cookies(self._jar, cookies)
        query = QueryParams(self._params).merge(params) if self._params else params
        return Request(
            method, self._merge_url(url), content=content, data=data, files=files, json=json,
            params=query, headers=merged, cookies=jar, extensions=extensions,
        )  # fmt: skip

    def send(
        self,
        request: Request,
        *,
        stream: bool = False,
        auth: AuthTypes | Unset | None = UNSET,
        follow_redirects: bool | Unset = UNSET,
        timeout: TimeoutTypes | Unset = UNSET,
        retry: Retry | Unset | None = UNSET,
        deadline: DeadlineTypes | Unset = UNSET,
        priority: int = 0,
        idempotency_key: str | bool | None = None,
    ) -> Call:
        """Sends a `Request`; with stream=True the response's body is left to be read."""
        if not isinstance(request, Request):
            raise TypeError(f"send() takes a Request, not {type(request).__name__}")
        traffic = self._traffic(request, retry, deadline, priority, idempotency_key)
        plan = self._plan(request, auth, follow_redirects, timeout, stream, traffic)
        return self._launch(request, plan)

    # Inside -------------------------------------------------------------------------------

    def _bind(self) -> Binding:
        """The binding of the running loop."""
        if self._closed:
            raise ClientClosed("Cannot send a request, as the client has been closed.")
        loop = asyncio.get_running_loop()
        found = self._bindings.get(id(loop))
        if found is None or found.loop is not loop or found.reactor.closed:
            for key, binding in list(self._bindings.items()):
                if binding.loop.is_closed():
                    del self._bindings[key]
                    add_stats(self._past, binding.close())
            found = self._bindings[id(loop)] = Binding(loop, self._settings)
        self._binding = found
        self._route()
        return found

    def _ready_headers(
        self, binding: Binding, headers: HeaderTypes | None, is_json: bool
    ) -> HeaderList:
        """The header list of a call, from memory when the same one was sent before."""
        key: Any = is_json
        if headers:
            if type(headers) is dict:
                try:
                    key = (is_json, *headers.items())
                    found = binding.lists.get(key)
                except TypeError:
                    key = found = None
                if found is not None:
                    return found
            else:
                key = None
        changes = self._changes
        merged = Headers(self._headers)
        if self._auth is not None:
            merged["Authorization"] = self._auth.header_value or ""
        merged.update(headers)
        if is_json:
            merged.setdefault(*_JSON)
        if key is None:
            return header_list(merged)
        made = binding.keep_list(key, merged)
        if changes != self._changes:  # by another thread: this call may be the one before
            binding.lists.clear()
        return made

    def _merge_url(self, url: URLTypes) -> URL:
        given = parse_url(url)
        if not given.is_relative_url or not str(self._base_url):
            return given
        base = self._base_url
        path = base.raw_path.split(b"?", 1)[0] + given.raw_path.lstrip(b"/")
        return base.copy_with(raw_path=path, fragment=given.fragment)

    @staticmethod
    def _merge_cookies(jar: Cookies, cookies: CookieTypes | None) -> Cookies:
        merged = Cookies(jar)
        merged.update(cookies)
        return merged

    def _plan(
        self,
        request: Request,
        auth: AuthTypes | Unset | None,
        follow: bool | Unset,
        timeout: TimeoutTypes | Unset,
        stream: bool,
        traffic: Traffic | None = None,
    ) -> Plan:
        scheme = self._auth if isinstance(auth, Unset) else build_auth(auth)
        if isinstance(auth, Unset) and scheme is None:
            scheme = auth_from_url(request.url)
        return Plan(
            auth=scheme,
            follow=self._follow if isinstance(follow, Unset) else flag("follow_redirects", follow),
            hooks=self._hooks,
            jar=self._jar,
            max_redirects=self._max_redirects,
            stream=stream,
            timeout=build_timeout(timeout, self._timeout),
            traffic=traffic,
        )

    def _traffic(
        self,
        request: Request,
        retry: Retry | Unset | None,
        deadline: DeadlineTypes | Unset,
        priority: int,
        key: str | bool | None,
    ) -> Traffic | None:
        """How the call is to be controlled; None if it is not."""
        wanted = (retry, deadline, priority, key) != (UNSET, UNSET, 0, None)
        if self._control is None and not wanted:
            return None
        from .traffic._http import traffic_of

        return traffic_of(request, self._control, retry, deadline, priority, key)

    def _launch(self, request: Request, plan: Plan) -> Call:
        binding = self._bind()
        binding.prepare(request.url)  # refuses at once what cannot be sent
        return launch(binding, request, plan)

    def _start(
        self,
        binding: Binding,
        method: str,
        url: URLTypes,
        content: Any,
        json: Any,
        headers: HeaderTypes | None,
        timeout: TimeoutTypes | Unset,
    ) -> Call | None:
        """A plain call, straight to the pool; None if it is none after all: a body that is made
        while it is sent, or credentials in the URL."""
        body: bytes | None
        if json is not None:
            if content is not None:
                raise TypeError("give one body only, not content and json together")
            body = encode_json(json)
        elif content is None or type(content) is bytes:
            body = content or None
        elif isinstance(content, str):
            body = content.encode("utf-8") or None
        elif isinstance(content, (bytes, bytearray, memoryview)):
            body = bytes(content) or None
        else:
            return None
        entry = binding.ready.get(url) if type(url) is str else None
        if entry is None:
            full = self._merge_url(url)
            if full.userinfo:
                return None
            entry = binding.remember(url if type(url) is str else str(full), full)
        start, target = entry
        is_json = json is not None
        ready = binding.lists.get(is_json) if headers is None else None
        if ready is None:
            ready = self._ready_headers(binding, headers, is_json)
        times = None if timeout is UNSET else build_timeout(timeout, self._timeout).as_ms()
        return start(check_method(method), target, ready, body, times, 0)

    # Life ---------------------------------------------------------------------------------

    def _close(self) -> None:
        self._closed = True
        self._binding = self._plain = None
        bindings, self._bindings = self._bindings, {}
        for binding in bindings.values():
            add_stats(self._past, binding.close())

    async def aclose(self) -> None:
        """Ends the calls that still run (`ClientClosed`) and closes every connection."""
        self._close()

    async def __aenter__(self) -> Self:
        if self._closed:
            raise ClientClosed("Cannot reopen a client that has been closed.")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __repr__(self) -> str:
        base = self._base_url.masked
        return f"<AsyncClient{f' {base!r}' if base else ''}{' closed' if self._closed else ''}>"
