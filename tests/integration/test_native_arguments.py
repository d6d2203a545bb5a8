"""The extension's own checks: whatever Python code hands it, it answers with an exception and leaks nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import llmcurl
import pytest
from llmcurl import _native
from llmcurl._models import Response
from llmcurl._pools import header_list, reactor_for
from servers.chaos import Chaos

NO_TIMEOUTS = (0, 0, 0, 0, 0)


# Not fixtures: pytest holds their values until after the check for live objects.
@contextlib.contextmanager
def reactor_here():
    """The running loop's reactor; with its last pool it goes."""
    pool = _native.Pool(reactor_for(asyncio.get_running_loop()), {}, NO_TIMEOUTS)
    yield pool.reactor
    pool.close()


def target_of(pool: _native.Pool, url: str) -> _native.Target:
    return pool.target(url, url.rpartition("/")[0], False, False)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"proxi": "x"}, ValueError),
        ({3: 4}, ValueError),
        ({"proxy": 3}, TypeError),
        ({"proxy": "a\0b"}, ValueError),
        ({"proxy": "\ud800"}, UnicodeEncodeError),
        ({"proxy_headers": "X: y"}, TypeError),
        ({"proxy_headers": [b"X: y"]}, TypeError),
        ({"verify": 2}, ValueError),
        ({"verify": "yes"}, TypeError),
        ({"max_body": 0}, ValueError),
        ({"max_connections": -1}, ValueError),
        ({"max_connections": 1 << 80}, OverflowError),
        ({"keepalive_expiry_ms": 1 << 62}, ValueError),
        ({"http1": 0, "http2": 0}, ValueError),
        ({"socket_options": [(1, 2)]}, TypeError),
        ({"socket_options": [(1, 2, "x")]}, ValueError),
        ({"socket_options": [(1, 2, -1)]}, ValueError),
        ({"socket_options": [(1, 2, b"x" * 5000)]}, ValueError),
        ({"socket_options": [(1, 2, b"x")] * 65}, ValueError),
        ({"proxy": "https://h", "ca_system": False, "ca_files": ["/nowhere/ca.pem"]}, OSError),
        ({"proxy": "https://h", "ca_system": False, "ca_pem": b"none"}, OSError),
        ({"proxy": "https://h", "ca_files": [b"bytes"]}, TypeError),
    ],
)
async def test_a_pool_with_a_wrong_option(config: dict, error: type[Exception]) -> None:
    with reactor_here() as reactor, pytest.raises(error):
        _native.Pool(reactor, config, NO_TIMEOUTS)


@pytest.mark.parametrize(
    "timeouts",
    [
        None,
        (1, 2),
        (1, 2, 3, 4, "5"),
        (-1, 0, 0, 0, 0),
        (1 << 62, 0, 0, 0, 0),
        (1 << 70, 0, 0, 0, 0),
    ],
)
async def test_a_pool_with_wrong_timeouts(timeouts: object) -> None:
    with reactor_here() as reactor, pytest.raises((TypeError, ValueError, OverflowError)):
        _native.Pool(reactor, {}, timeouts)


async def test_a_pool_and_a_reactor_of_something_else() -> None:
    with reactor_here() as reactor:
        for arguments in ((), (None, {}, NO_TIMEOUTS), (reactor, None, NO_TIMEOUTS)):
            with pytest.raises(TypeError):
                _native.Pool(*arguments)
        loop = asyncio.get_running_loop()
        for arguments in ((), (loop,), (loop, 3), (loop, int)):
            with pytest.raises(TypeError):
                _native.Reactor(*arguments)
        with pytest.raises(AttributeError):
            _native.Reactor(object(), Response)
        assert reactor.loop is loop and not reactor.closed and reactor.stats()["started"] >= 0


async def test_wrong_targets_and_calls(chaos: Chaos) -> None:
    headers = header_list(llmcurl.Headers())
    with reactor_here() as reactor:
        pool = _native.Pool(reactor, {}, NO_TIMEOUTS)
        for arguments in ((), ("u",), (b"u", "k", True, True), ("u", 3, True, True)):
            with pytest.raises(TypeError):
                pool.target(*arguments)
        with pytest.raises(ValueError, match="NUL"):
            pool.target("http://h/\0", "http://h", False, False)
        good = target_of(pool, chaos.url("/ok"))
        for arguments in (
            (),
            ("GET", None, headers, None, None, 0),
            ("GET", good, None, None, None, 0),
            ("GET", good, headers, "text", None, 0),
            ("GET", good, headers, None, (1, 2), 0),
            ("GET", good, headers, None, None, "0"),
            (3, good, headers, None, None, 0),
            ("G\0T", good, headers, None, None, 0),
            ("", good, headers, None, None, 0),
            ("A" * 30, good, headers, None, None, 0),
            ("GE T", good, headers, None, None, 0),
        ):
            with pytest.raises((TypeError, ValueError)):
                pool.call(*arguments)
        other = _native.Pool(pool.reactor, {}, NO_TIMEOUTS)
        with pytest.raises((TypeError, ValueError)):
            other.call("GET", good, headers, None, None, 0)
        other.close()
        assert (await pool.call("GET", good, headers, None, None, 0)).status_code == 200
        pool.close()
        with pytest.raises(RuntimeError, match="closed"):
            pool.call("GET", good, headers, None, None, 0)


async def test_wrong_header_lists() -> None:
    for arguments in ((), ("X: y",), ([b"X: y"], None, 3)):
        with pytest.raises(TypeError):
            _native.HeaderList(*arguments)
    with pytest.raises(TypeError):
        _native.HeaderList(lines=[])
    for lines in (
        [b"X: a\r\nY: b"],
        ["X: y"],
        [b"X: \x7f"],
        [b"X: \0"],
        [[b"X: a\r\nY: b"]],
        [["X"]],
    ):
        with pytest.raises(ValueError):
            _native.HeaderList(lines)
    assert _native.HeaderList([b"X: a\tb\xff"], "kept").source == "kept"


async def test_a_call_used_wrongly(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok?ms=20"))
    for wrong in (
        lambda: call.cancel(1, 2),
        lambda: call.add_done_callback(),
        lambda: call.add_done_callback(print, contekst=None),
        lambda: call._feed(b"x"),
        lambda: call._feed("x", False),
        lambda: call._attach(1, 2),
        lambda: call.add_done_callback(print, context=3) and None,
    ):
        try:
            wrong()
        except TypeError:
            continue
        call.remove_done_callback(print)
    for wrong in (call.result, call.exception):
        with pytest.raises(asyncio.InvalidStateError):
            wrong()
    with pytest.raises(asyncio.InvalidStateError):
        call._set_result(3)
    with pytest.raises(asyncio.InvalidStateError):
        call._set_exception(ValueError())
    with pytest.raises(ValueError):
        call._log_traceback = True
    call._log_traceback = False
    assert call._log_traceback is False and call._cancel_message is None and not call.cancelled()
    assert call.remove_done_callback(len) == 0 and call._asyncio_future_blocking is False
    assert (await call).status_code == 200
    assert call._feed(b"x", True) is None, "nobody takes it any more"
    assert call.cancel() is False and call.done() and call.exception() is None


async def test_callbacks_whose_comparison_fails(client, chaos: Chaos) -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise KeyError("odd")

        def __call__(self, call: object) -> None: ...

    call = client.get(chaos.url("/ok?ms=20"))
    odd, called = Odd(), []
    call.add_done_callback(called.append)
    call.add_done_callback(odd)
    call.add_done_callback(called.append)
    with pytest.raises(KeyError):
        call.remove_done_callback(Odd())
    assert (await call).status_code == 200
    await asyncio.sleep(0)
    assert called == [call, call], "they are as they were"


async def test_a_detached_call_is_set_once() -> None:
    with reactor_here() as reactor:
        call = reactor.detached_call()
        call._attach(lambda: None, "GET http://h/")
        assert "GET http://h/" in repr(call) and "pending" in repr(call)
        with pytest.raises(TypeError):
            call._set_exception("no exception")
        call._set_result(7)
        with pytest.raises(asyncio.InvalidStateError):
            call._set_result(8)
        assert await call == 7
        failed = reactor.detached_call()
        failed._set_exception(KeyError("k"))
        with pytest.raises(KeyError):
            await failed
        stopped: list[int] = []
        cancelled = reactor.detached_call()
        cancelled._attach(lambda: stopped.append(1), "x")
        assert cancelled.cancel("why") and stopped == [1]
        with pytest.raises(asyncio.CancelledError, match="why"):
            await cancelled
        assert isinstance(cancelled._make_cancelled_error(), asyncio.CancelledError)
        broken = reactor.detached_call()
        broken._attach(lambda: 1 / 0, "x")
        with pytest.raises(ZeroDivisionError):
            broken.cancel()
        del broken


async def test_from_another_thread(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    raised: list[BaseException] = []

    def use() -> None:
        for wrong in (
            call.cancel,
            lambda: call.add_done_callback(print),
            lambda: call._feed(b"", True),
        ):
            try:
                wrong()
            except RuntimeError as error:
                raised.append(error)

    await asyncio.to_thread(use)
    assert len(raised) == 3
    call.cancel()
    async with client.stream("GET", chaos.url("/stall?at=body")) as response:
        thread_errors: list[BaseException] = []

        def read() -> None:
            try:
                next(response._stream.read())
            except RuntimeError as error:
                thread_errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        assert len(thread_errors) == 1


async def test_a_body_stream_used_wrongly(client, chaos: Chaos) -> None:
    async with client.stream("GET", chaos.url("/stall?at=body")) as response:
        stream = response._stream
        await response.aiter_raw().__anext__()
        waiting = asyncio.ensure_future(_read(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await _read(stream)
        for wrong in (
            lambda: stream.add_done_callback(),
            lambda: stream._expect(1),
            lambda: stream._expect("1", 2),
        ):
            with pytest.raises(TypeError):
                wrong()
        for wrong in ((-1, 0), (0, -2), (1 << 40, 0)):
            with pytest.raises(ValueError):
                stream._expect(*wrong)
        assert (
            stream.remove_done_callback(print) == 0
            and stream.get_loop() is asyncio.get_running_loop()
        )
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert stream.cancel() is False, "nobody waits"
        stream.close()
        stream.close()
        assert await _read(stream) == b""
        assert stream._feed(b"", True) is None


async def _read(stream) -> bytes:
    return await stream.read()


def test_raw_responses_made_by_hand() -> None:
    made = _native.RawResponse(
        200, head=b"h", body=b"b", url="u", method="M", http_version="HTTP/2"
    )
    assert (made.http_version, made._head, made._body, made._url, made._method) == (
        "HTTP/2",
        b"h",
        b"b",
        "u",
        "M",
    )
    assert (
        _native.RawResponse(200, http_version="HTTP/1.0").http_version == "HTTP/1.0"
        and len(made._timings) >= 7
    )
    for wrong in (
        lambda: _native.RawResponse(),
        lambda: _native.RawResponse("x"),
        lambda: _native.RawResponse(200, head="text"),
    ):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.parametrize("name", ["Call", "BodyStream", "Target"])
def test_what_only_the_extension_makes(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(_native, name)()
