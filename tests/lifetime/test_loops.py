"""Clients and loops live and die independently: two runs, closed loops with calls in flight, loops in threads."""

from __future__ import annotations

import asyncio
import gc
import threading

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.nginx import Nginx
from servers.thread import until_sync

try:
    import uvloop
except ImportError:
    uvloop = None

FACTORIES = [pytest.param(asyncio.new_event_loop, id="asyncio")]
if uvloop is not None:
    FACTORIES.append(pytest.param(uvloop.new_event_loop, id="uvloop"))
each_loop = pytest.mark.parametrize("factory", FACTORIES)


def run(coroutine, factory):
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


@each_loop
def test_one_client_serves_two_runs_and_the_first_leaves_no_connection_behind(
    chaos: Chaos, factory
) -> None:
    client = llmcurl.AsyncClient()

    async def main():
        return [(await client.get(chaos.url("/ok"))).status_code for _ in range(3)]

    for _ in range(3):
        assert run(main(), factory) == [200] * 3
        gc.collect()
        until_sync(
            lambda: chaos.open <= chaos._open_before,
            what="the connection of the closed loop closed",
        )
    assert chaos.new_connections == 3
    run(client.aclose(), factory)


@each_loop
def test_a_client_made_before_any_loop_works_and_async_with_closes_it(
    chaos: Chaos, factory
) -> None:
    client = llmcurl.AsyncClient()

    async def main():
        async with client:
            return (await client.get(chaos.url("/ok"))).status_code

    assert run(main(), factory) == 200 and client.is_closed


@each_loop
def test_a_loop_that_closes_with_calls_in_flight_drops_them(chaos: Chaos, factory) -> None:
    client, calls = llmcurl.AsyncClient(), []

    async def main() -> None:
        calls.extend(client.get(chaos.url("/stall")) for _ in range(20))
        calls.append(client.post(chaos.url("/stall?at=upload"), content=b"x" * 30_000_000))
        await chaos.wait_for_request("/stall", 21)
        await asyncio.wait(calls, timeout=0.2)

    run(main(), factory)
    chaos.wait_for_disconnect_sync("/stall", 21)
    assert not any(
        call.done() and not call.cancelled() and call.exception() is None for call in calls
    )
    del calls[:]

    async def again() -> int:
        async with client:
            return (await client.get(chaos.url("/ok"))).status_code

    assert run(again(), factory) == 200


@each_loop
def test_a_loop_that_closes_with_tasks_inside_streams_closes_them(chaos: Chaos, factory) -> None:
    client = llmcurl.AsyncClient()

    async def reader() -> None:
        async with client.stream("GET", chaos.url("/stall?at=body")) as response:
            await response.aread()

    async def main() -> None:
        tasks = [asyncio.ensure_future(reader()) for _ in range(10)]
        await chaos.wait_for_request("/stall", 10)
        await asyncio.wait(tasks, timeout=0.2)

    run(main(), factory)
    chaos.wait_for_disconnect_sync("/stall", 10)
    run(client.aclose(), factory)


@each_loop
def test_a_loop_that_stops_and_runs_again_goes_on_where_it_was(chaos: Chaos, factory) -> None:
    loop = factory()
    client = llmcurl.AsyncClient()

    async def start():
        return client.get(chaos.url("/ok?ms=150"))

    call = loop.run_until_complete(start())
    response = loop.run_until_complete(call)
    assert response.status_code == 200
    loop.run_until_complete(client.aclose())
    loop.close()


@each_loop
def test_one_client_serves_eight_loops_in_eight_threads_at_once(nginx: Nginx, factory) -> None:
    client, failures = llmcurl.AsyncClient(), []

    async def main(n: int) -> None:
        for _ in range(3):
            urls = [f"{nginx.http}/delay?ms={i % 20}&thread={n}" for i in range(60)]
            responses = await asyncio.gather(*map(client.get, urls))
            assert [str(response.url) for response in responses] == urls
            assert all(response.json()["ok"] for response in responses)

    def thread(n: int) -> None:
        try:
            run(main(n), factory)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert failures == [] and not any(one.is_alive() for one in threads)
    run(client.aclose(), factory)


@each_loop
def test_a_client_closed_in_one_thread_while_another_uses_it_ends_cleanly(
    nginx: Nginx, factory
) -> None:
    client, outcome = llmcurl.AsyncClient(), []
    started = threading.Event()

    async def use() -> None:
        calls = [client.get(f"{nginx.http}/delay?ms=300") for _ in range(20)]
        started.set()
        outcome.extend(await asyncio.gather(*calls, return_exceptions=True))

    thread = threading.Thread(target=lambda: run(use(), factory))
    thread.start()
    started.wait(30)
    run(client.aclose(), factory)
    thread.join(30)
    assert not thread.is_alive() and len(outcome) == 20
    assert all(
        isinstance(
            result, (llmcurl.Response, RuntimeError, llmcurl.TransportError, asyncio.CancelledError)
        )
        for result in outcome
    )


def test_a_hundred_short_loops_leave_nothing(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient()

    async def main() -> int:
        return (await client.get(chaos.url("/ok"))).status_code

    for _ in range(100):
        assert asyncio.run(main()) == 200
    asyncio.run(client.aclose())


def test_freeing_everything_needs_no_loop(chaos: Chaos) -> None:
    """The loop is gone; calls, responses, streams and the client are dropped afterwards, in any order."""

    async def main():
        client = llmcurl.AsyncClient()
        response = await client.send(
            client.build_request("GET", chaos.url("/stall?at=body")), stream=True
        )
        call = client.get(chaos.url("/stall"))
        call.add_done_callback(lambda _: None)
        done = await client.get(chaos.url("/ok"))
        return [client, response, call, done]

    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        things = asyncio.run(main())
        for index in order:
            things[index] = None
            gc.collect()
    until_sync(lambda: chaos.open <= chaos._open_before, what="all connections closed")
