"""`MockLLM`: the mock server on the running event loop. What it answers is decided here; how, in the other modules."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import random
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ._config import MockConfig
from ._control import control
from ._dialect import Ask, BadAsk, Dialect, dumps, loads
from ._http import Connection, HeadCache, RequestHead, parse_head
from ._plan import ID_TEXT, End, Plan
from ._replies import Failure, Outcome, Raw, Reply, as_outcome
from ._routes import Route, find_route, key_of
from ._stats import RecordedRequest, Recorder, Stats
from ._traffic import Budget, Traffic, rate_headers
from ._transport import HAVE_EPOLL, EpollListener, open_listener
from ._wheel import Wheel

if TYPE_CHECKING:
    from ._spawn import SpawnedMock

BACKLOG = 65_535
_PLAN_CACHE_SIZE = 256
_TEXT_SLOT = "textMOCKslot"

Responder = Callable[[RecordedRequest], Outcome | str | None | Awaitable[Outcome | str | None]]
"""Decides the answer to a request; None leaves it to the settings. May be a coroutine function."""


class MockLLM:
    """A mock LLM server in the running event loop: `async with MockLLM() as mock: ... mock.base_url`.

    Settings are those of `MockConfig`, by keyword. `reply` may also be a function of the recorded request. `port` 0
    takes a free one; `ssl` serves HTTPS. `listeners` > 1 spreads the backlog over several sockets of the same port.
    OSError if the address cannot be had. Not thread-safe: use it from its own loop, or `MockLLM.spawn` a process.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: ssl.SSLContext | None = None,
        listeners: int = 1,
        script: Iterable[Outcome | str] = (),
        reply: Reply | str | Responder | None = None,
        **settings: Any,
    ) -> None:
        self._host = host
        self._port = port
        self._ssl = ssl
        self._listeners = listeners
        self._responder: Responder | None = None
        if callable(reply):
            self._responder = reply
        elif reply is not None:
            settings["reply"] = reply
        self._config = MockConfig(**settings)
        self._script: deque[Outcome] = deque(as_outcome(item) for item in script)
        self._stats = Stats()
        self._recorder = Recorder(self._config.keep_requests, self._config.keep_body)
        self._random = random.Random(self._config.seed)
        self._traffic = Traffic(self._config)
        self._working = 0
        self._waiting: deque[tuple[Connection, int, Plan, RequestHead]] = deque()
        self._plans: dict[
            Any, Any
        ] = {}  # finished plans, and for echoes (plan, pieces around the text)
        self._heads = HeadCache()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._epoll: EpollListener | None = None
        self._servers: list[asyncio.Server] = []
        self._loop: asyncio.AbstractEventLoop
        self.wheel: Wheel

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. OSError if the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        self.wheel = Wheel(self._loop)
        sockets: list[socket.socket] = []
        try:
            for _ in range(self._listeners):
                sockets.append(
                    open_listener(self._host, self._port, BACKLOG, share=self._listeners > 1)
                )
                self._port = sockets[0].getsockname()[1]
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        if HAVE_EPOLL and self._ssl is None:
            self._epoll = EpollListener(self._loop, sockets, lambda: Connection(self))
            return
        for sock in sockets:
            server = await self._loop.create_server(
                lambda: Connection(self), sock=sock, ssl=self._ssl, backlog=BACKLOG
            )
            self._servers.append(server)

    async def aclose(self) -> None:
        """Stop listening and drop every connection. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.abort()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
        if hasattr(self, "wheel"):
            self.wheel.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> MockLLM:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    @staticmethod
    def spawn(**settings: Any) -> SpawnedMock:
        """A mock in a process of its own, for `with` or `async with`; takes what `MockLLM` takes but functions."""
        from ._spawn import SpawnedMock

        return SpawnedMock(**settings)

    # -- addresses -------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end: the base for Anthropic, Gemini and Ollama clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._ssl else 'http'}://{host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base for OpenAI clients, with /v1."""
        return self.base_url + "/v1"

    # -- control ---------------------------------------------------------------------------------------------

    @property
    def config(self) -> MockConfig:
        """The settings in force."""
        return self._config

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        waiting = sum(1 for entry in self._waiting if entry[0].token == entry[1])
        return dataclasses.replace(self._stats, waiting=waiting)

    @property
    def attempts(self) -> dict[str, int]:
        """How often each request came, by its `count_by` header (Idempotency-Key)."""
        return dict(self._traffic.attempts)

    @property
    def requests(self) -> list[RecordedRequest]:
        """The last requests, oldest first."""
        return list(self._recorder.kept)

    @property
    def scripted(self) -> int:
        """How many scripted replies are still to be given."""
        return len(self._script)

    def script(self, *replies: Outcome | str) -> None:
        """Queue answers for the next requests, in order of arrival. TypeError for what is no reply."""
        self._script.extend([as_outcome(reply) for reply in replies])

    def respond_with(self, responder: Responder | None) -> None:
        """Ask this function for each answer that is not scripted; None ends that."""
        self._responder = responder

    def configure(self, **settings: Any) -> None:
        """Change settings for the requests to come. TypeError for an unknown name."""
        reply = settings.get("reply")
        if callable(reply):
            self._responder = settings.pop("reply")
        elif reply is not None:
            self._responder = None
        self._config = self._config.changed(**settings)
        self._plans.clear()
        self._traffic.configure(self._config)
        if "seed" in settings:
            self._random.seed(settings["seed"])

    def reset(self) -> None:
        """Forget the script, the recorded requests, the counters and what is used up of `rpm` and `tpm`; open
        connections stay."""
        self._script.clear()
        self._traffic.reset()
        self._recorder = Recorder(self._config.keep_requests, self._config.keep_body)
        old = self._stats
        self._stats = Stats(
            in_flight=old.in_flight,
            max_in_flight=old.in_flight,
            connections=old.open_connections,
            open_connections=old.open_connections,
            max_open_connections=old.open_connections,
        )

    # -- called by connections -------------------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        """A client connected."""
        self._connections.add(connection)
        stats = self._stats
        stats.connections += 1
        stats.open_connections += 1

    def on_lost(self, connection: Connection) -> None:
        """A connection ended, from either side."""
        self._connections.discard(connection)
        if connection.working:
            self._work_is_done(connection)
        if connection.is_control:
            return
        self._stats.open_connections -= 1
        if connection.busy:
            self._stats.in_flight -= 1
            self._stats.disconnects += 1

    def on_answered(self, connection: Connection) -> None:
        """The last byte of an answer was handed to the transport."""
        if not connection.is_control:
            self._stats.in_flight -= 1
            self._stats.answered += 1
            if connection.working:
                self._work_is_done(connection)

    def must_close(self, connection: Connection) -> bool:
        """Whether this answer was the connection's last."""
        limit = self._config.max_requests_per_connection
        return limit is not None and connection.served >= limit

    def now(self) -> float:
        """The loop's clock, in seconds."""
        return self._loop.time()

    def head_of(self, raw: bytes) -> RequestHead:
        """The parsed head with its route. BadRequest if malformed."""
        head = self._heads.get(raw)
        if head is None:
            head = parse_head(raw)
            head = dataclasses.replace(head, route=find_route(head))
            self._heads.put(raw, head)
        return head

    def on_request(self, connection: Connection, head: RequestHead, body: bytes) -> None:
        """A request is complete: decide the answer and start it."""
        route: Route = head.route
        now = self._loop.time()
        if route.control is not None:
            self._enter_control(connection)
            connection.answer(control(self, route.control, head, body), b"0" * 12, now)
            return
        if connection.is_control:
            self._leave_control(connection)
        stats = self._stats
        if connection.served == 1 and stats.open_connections > stats.max_open_connections:
            stats.max_open_connections = stats.open_connections
        stats.requests += 1
        stats.in_flight += 1
        if stats.in_flight > stats.max_in_flight:
            stats.max_in_flight = stats.in_flight
        request = self._recorder.record(stats.requests, now, head, body)
        attempt = self._traffic.count(head)
        budget, refusal = self._admit(route, head, body, now)
        try:
            outcome = refusal or self._choose(route, request, attempt)
            if outcome is not None and not isinstance(outcome, (Reply, Failure, Raw)):
                self._answer_later(connection, outcome, route, head, body, now, budget)
                return
            plan = self._plan(route, head, body, outcome)
        except BadAsk as exc:
            plan = self._error_plan(route.dialect, 400, str(exc))
        self._play(connection, plan, head, now, budget, refused=refusal is not None)

    def _admit(
        self, route: Route, head: RequestHead, body: bytes, now: float
    ) -> tuple[Budget | None, Failure | None]:
        """The budget a request is charged to, and the refusal if there is no place for it."""
        config = self._config
        if not route.needs_body:
            return None, None
        budget = refusal = None
        if self._traffic.limited:
            budget = self._traffic.budget(head, now)
            refusal = self._traffic.admit(budget, len(body), now)
        if config.max_concurrent is not None and self._stats.in_flight > config.max_concurrent:
            refusal = refusal or Failure.rate_limit(None, latency=0.0)
        if refusal is not None:
            self._stats.rate_limited += 1
        return budget, refusal

    def _play(
        self,
        connection: Connection,
        plan: Plan,
        head: RequestHead,
        now: float,
        budget: Budget | None,
        *,
        refused: bool = False,
    ) -> None:
        self._stats.tokens += plan.tokens
        if budget is not None:
            self._traffic.charge(budget, plan.tokens, now)
            plan = plan.with_headers(rate_headers(head.route.dialect.name, budget, now))
        if self._config.workers is not None and not refused:
            if self._working >= self._config.workers:
                self._waiting.append((connection, connection.token, plan, head))
                return
            connection.working = True
            self._working += 1
        self._start(connection, plan, head, now)

    def _start(self, connection: Connection, plan: Plan, head: RequestHead, started: float) -> None:
        self._last_id += 1
        connection.answer(
            plan,
            b"%012x" % self._last_id,
            started,
            chunked=head.version == "HTTP/1.1",
            stretch=self._traffic.stretch() if self._traffic.uneven else 1.0,
        )

    def _work_is_done(self, connection: Connection) -> None:
        connection.working = False
        self._working -= 1
        if self._waiting:  # not from here: an instant answer would come back to this place
            self._loop.call_soon(self._next_work)

    def _next_work(self) -> None:
        workers = self._config.workers
        while self._waiting and (workers is None or self._working < workers):
            connection, token, plan, head = self._waiting.popleft()
            if connection.token == token:
                connection.working = True
                self._working += 1
                self._start(connection, plan, head, self._loop.time())

    def _enter_control(self, connection: Connection) -> None:
        """A connection that makes control calls is not one of the client's."""
        if not connection.is_control:
            connection.is_control = True
            self._stats.connections -= 1
            self._stats.open_connections -= 1

    def _leave_control(self, connection: Connection) -> None:
        connection.is_control = False
        self._stats.connections += 1
        self._stats.open_connections += 1

    # -- deciding --------------------------------------------------------------------------------------------

    def _choose(self, route: Route, request: RecordedRequest, attempt: int) -> Any:
        """The outcome for a request, an awaitable of it, or None for the standing answer."""
        config = self._config
        if config.api_key is not None and key_of(request._head) != config.api_key:
            return Failure(status=401, latency=0.0)
        if self._script and (route.lookup is None or not isinstance(self._script[0], Reply)):
            return self._script.popleft()
        if self._responder is not None:
            answer = self._responder(request)
            if inspect.isawaitable(answer):
                return answer
            if answer is not None:
                return as_outcome(answer)
        if config.failure is not None:
            if config.fail_first:
                return config.failure if 0 < attempt <= config.fail_first else None
            if self._random.random() < config.failure_rate:
                return config.failure
        return None

    def _answer_later(
        self,
        connection: Connection,
        answer: Any,
        route: Route,
        head: RequestHead,
        body: bytes,
        now: float,
        budget: Budget | None,
    ) -> None:
        token = connection.token

        async def wait() -> None:
            try:
                value = await answer
                plan = self._plan(route, head, body, None if value is None else as_outcome(value))
            except BadAsk as exc:
                plan = self._error_plan(route.dialect, 400, str(exc))
            except Exception as exc:
                plan = self._error_plan(route.dialect, 500, f"the mock's responder failed: {exc!r}")
            if connection.token == token:
                self._play(connection, plan, head, now, budget)

        task = self._loop.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _plan(self, route: Route, head: RequestHead, body: bytes, outcome: Outcome | None) -> Plan:
        config = self._config
        if isinstance(outcome, Raw):
            return self._raw_plan(outcome)
        value: Any = None
        if route.needs_body:
            try:
                value = loads(body)
            except ValueError:
                raise BadAsk("the request body is not valid JSON") from None
            if type(value) is not dict:
                raise BadAsk("the request body is not a JSON object")
        if route.lookup is not None:
            if isinstance(outcome, Failure):
                return self._failure_plan(route.dialect, Ask("", False, 0), outcome)
            kind = [
                ("content-type", "application/json"),
                (route.dialect.id_header, f"req_{ID_TEXT}"),
            ]
            return Plan(
                route.status,
                kind,
                [route.lookup(config, head, value)],
                delay=config.latency,
                tokens=len(body) // 4 if route.needs_body else 0,
            )
        dialect = route.dialect
        ask = dialect.ask(head, value)
        if outcome is None:
            if config.echo:
                return self._echo(dialect, ask, dialect.last_text(value))
            outcome = config.reply
        key = (dialect.name, ask, outcome)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._build(dialect, ask, outcome)
            self._keep_plan(key, plan)
        return plan

    def _keep_plan(self, key: Any, plan: Any) -> None:
        if len(self._plans) >= _PLAN_CACHE_SIZE:
            self._plans.clear()
        self._plans[key] = plan

    def _echo(self, dialect: Dialect, ask: Ask, text: str) -> Plan:
        """A plain answer is a kept one with the text put in; a stream is built anew."""
        if ask.stream:
            return self._build(
                dialect, ask, dataclasses.replace(self._config.reply, text=text, tokens=None)
            )
        made = len(text) // 4 + 1
        key = (dialect.name, ask, made)
        kept = self._plans.get(key)
        if kept is None:
            blank = dataclasses.replace(
                self._config.reply, text=_TEXT_SLOT, tokens=None, output_tokens=made
            )
            pieces = dialect.full(ask, blank).split(dumps(_TEXT_SLOT))
            kept = (self._build(dialect, ask, blank), pieces)
            self._keep_plan(key, kept)
        plan, pieces = kept
        return plan.with_body(dumps(text).join(pieces))

    def _build(self, dialect: Dialect, ask: Ask, outcome: Reply | Failure) -> Plan:
        if isinstance(outcome, Failure):
            return self._failure_plan(dialect, ask, outcome)
        if ask.stream:
            return self._stream_plan(dialect, ask, outcome, dialect.events(ask, outcome), End.DONE)
        headers = self._headers(dialect, "application/json", outcome.headers)
        return Plan(
            200,
            headers,
            [dialect.full(ask, outcome)],
            delay=self._latency(outcome),
            tokens=self._cost(ask, outcome),
        )

    @staticmethod
    def _cost(ask: Ask, reply: Reply) -> int:
        spent = ask.input_tokens if reply.input_tokens is None else reply.input_tokens
        return spent + reply.generated

    def _latency(self, outcome: Reply | Failure | Raw) -> float:
        return self._config.latency if outcome.latency is None else outcome.latency

    @staticmethod
    def _headers(
        dialect: Dialect, kind: str, more: Sequence[tuple[str, str]] = ()
    ) -> list[tuple[str, str]]:
        return [("content-type", kind), (dialect.id_header, f"req_{ID_TEXT}"), *more]

    def _stream_plan(
        self,
        dialect: Dialect,
        ask: Ask,
        reply: Reply,
        pieces: list[bytes],
        end: End,
        keepalive: float | None = None,
    ) -> Plan:
        config = self._config
        kind, beat = dialect.stream_type, dialect.heartbeat
        if dialect.name == "gemini" and not ask.form[0]:
            kind, beat = "application/json; charset=UTF-8", b"\n"
        headers = self._headers(dialect, kind, [("cache-control", "no-cache"), *reply.headers])
        return Plan(
            200,
            headers,
            pieces,
            streamed=True,
            delay=self._latency(reply),
            ttft=config.ttft if reply.ttft is None else reply.ttft,
            gap=config.token_interval if reply.token_interval is None else reply.token_interval,
            end=end,
            heartbeat=None if keepalive is None else (beat, keepalive),
            tokens=self._cost(ask, reply),
        )

    def _error_plan(self, dialect: Dialect, status: int, message: str) -> Plan:
        body = dialect.error(status, message, None, None)
        return Plan(status, self._headers(dialect, "application/json"), [body])

    def _failure_plan(self, dialect: Dialect, ask: Ask, failure: Failure) -> Plan:
        kind, reply, after = failure.kind, failure.reply, failure.after
        latency = self._latency(failure)
        if kind == "black_hole":
            return Plan.silent(End.STALL, 0.0)
        if kind == "close":
            return Plan.silent(End.CUT, latency)
        if kind in ("status", "json_error") or (kind == "error_event" and not ask.stream):
            more = list(failure.headers)
            if failure.retry_after is not None:
                more.append(("retry-after", f"{failure.retry_after:g}"))
            body = dialect.error(failure.status, failure.message, failure.code, failure.retry_after)
            return Plan(
                failure.status,
                self._headers(dialect, "application/json", more),
                [body],
                delay=latency,
            )
        if failure.latency is not None:
            reply = dataclasses.replace(reply, latency=failure.latency)
        end = {"cut": End.CUT, "reset": End.RESET, "stall": End.STALL}.get(kind, End.DONE)
        if ask.stream:
            pieces = dialect.events(ask, reply)
            if kind == "malformed_event":
                pieces = [*pieces[:after], dialect.broken_event(ask), *pieces[after:]]
            elif kind == "error_event":
                event = dialect.error_event(ask, failure.status, failure.message, failure.code)
                pieces = [*pieces[:after], event]
            else:
                pieces = pieces[:after]
            return self._stream_plan(dialect, ask, reply, pieces, end, failure.keepalive)
        if end is not End.DONE and after == 0:
            return Plan.silent(end, latency)
        whole = dialect.full(ask, reply) if ask.model else dialect.error(500, None, None, None)
        half = whole[: len(whole) // 2]
        headers = self._headers(dialect, "application/json", failure.headers)
        length = len(half) if kind == "malformed_event" else len(whole)
        return Plan(200, headers, [half], delay=latency, end=end, length=length)

    def _raw_plan(self, raw: Raw) -> Plan:
        headers = [("content-type", raw.content_type), *raw.headers]
        latency = self._latency(raw)
        if raw.chunks is None:
            return Plan(raw.status, headers, [raw.body], delay=latency)
        return Plan(raw.status, headers, raw.chunks, streamed=True, delay=latency, gap=raw.gap)
