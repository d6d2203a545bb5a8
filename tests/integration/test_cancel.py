"""Cancel at every await point: the server sees the connection go, the place is free, the client works on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random

import llmcurl
import pytest
from llmcurl import Limits
from servers.chaos import Chaos
from servers.nginx import Nginx
from servers.sockets import blackhole, mute
from servers.thread import until


async def cancelled(call) -> None:
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.done() and call.cancelled()


@contextlib.asynccontextmanager
async def one_place(**options):
    """A client with a single place, which must be free again at the end."""
    async with llmcurl.AsyncClient(
        limits=Limits(max_connections=1, max_in_flight=1), **options
    ) as client:
        yield client


async def free(client, chaos: Chaos) -> None:
    assert (await asyncio.wait_for(client.get(chaos.url("/ok")), 20)).json() == {"ok": True}


# -- one call ----------------------------------------------------------------------------------------------------------


async def test_before_it_starts_nothing_is_sent(chaos: Chaos) -> None:
    async with one_place() as client:
        call = client.get(chaos.url("/never"))
        assert call.cancel()
        await cancelled(call)
        await free(client, chaos)
    assert chaos.count("/never") == 0


async def test_in_the_queue_nothing_is_sent(chaos: Chaos) -> None:
    async with one_place() as client:
        first, second, third = (
            client.get(chaos.url(path)) for path in ("/ok?upto=2", "/never", "/ok?n=3")
        )
        await chaos.wait_for_request("/ok")
        second.cancel()
        await cancelled(second)
        async with llmcurl.AsyncClient() as other:
            await other.get(chaos.url("/ok"))  # the first waits for this
        assert (await first).status_code == (await third).status_code == 200
    assert chaos.count("/never") == 0


@pytest.mark.parametrize("where", [blackhole, mute])
async def test_while_it_connects(chaos: Chaos, where) -> None:
    scheme = "https" if where is mute else "http"
    with where() as nowhere:
        async with one_place() as client:
            call = client.get(f"{scheme}://{nowhere}/")
            await asyncio.sleep(0.05)
            call.cancel()
            await cancelled(call)
            await free(client, chaos)


async def test_while_the_name_is_resolved(chaos: Chaos) -> None:
    before = len(os.listdir("/proc/self/task"))
    async with one_place() as client:
        for _ in range(20):
            call = client.get("http://no-such-host.invalid/")
            await asyncio.sleep(0)
            if call.cancel():
                await cancelled(call)
            else:  # without a name server the answer may be there already
                assert isinstance(call.exception(), llmcurl.ConnectError)
        await free(client, chaos)
    # the look-ups themselves cannot be stopped; they end with the name server's time-out
    await until(
        lambda: len(os.listdir("/proc/self/task")) <= before, 30, "the resolver's threads ended"
    )


@pytest.mark.parametrize("at", ["request", "line", "head", "headers", "body"])
async def test_while_the_answer_is_awaited_or_received(chaos: Chaos, at: str) -> None:
    async with one_place() as client:
        call = client.get(chaos.url(f"/stall?at={at}"))
        await chaos.wait_for_request("/stall")
        await until(lambda: at == "request" or chaos.requests("/stall")[0].sent)
        await asyncio.sleep(0.01)
        call.cancel()
        await cancelled(call)
        await chaos.wait_for_disconnect("/stall")
        await free(client, chaos)
    assert chaos.new_connections == 2


async def test_mid_upload_of_bytes(chaos: Chaos) -> None:
    async with one_place() as client:
        call = client.post(chaos.url("/stall?at=upload"), content=b"x" * 50_000_000)
        await chaos.wait_for_request("/stall")
        await asyncio.sleep(0.05)
        call.cancel()
        await cancelled(call)
        await chaos.wait_for_disconnect("/stall")
        await free(client, chaos)


async def test_mid_upload_closes_the_callers_generator(chaos: Chaos) -> None:
    closed = asyncio.Event()

    async def parts():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    async with one_place() as client:
        call = client.post(chaos.url("/stall?at=upload"), content=parts())
        await chaos.wait_for_request("/stall")
        await asyncio.sleep(0.05)
        call.cancel()
        await cancelled(call)
        await asyncio.wait_for(closed.wait(), 20)
        await chaos.wait_for_disconnect("/stall")
        await free(client, chaos)


async def test_while_the_callers_generator_waits(chaos: Chaos) -> None:
    inside = asyncio.Event()

    async def parts():
        yield b"first"
        inside.set()
        await asyncio.sleep(60)
        yield b"never"

    async with one_place() as client:
        call = client.post(chaos.url("/sink"), content=parts())
        await asyncio.wait_for(inside.wait(), 20)
        call.cancel()
        await cancelled(call)
        await free(client, chaos)


async def test_between_redirects(chaos: Chaos) -> None:
    async with one_place(follow_redirects=True, max_redirects=10**9) as client:
        call = client.get(chaos.url("/redirect"))
        await chaos.wait_for_request("/redirect", 5)
        call.cancel()
        await cancelled(call)
        await free(client, chaos)
        seen = chaos.count("/redirect")
        await asyncio.sleep(0.05)
        assert chaos.count("/redirect") == seen


async def test_twice_and_after_the_end_is_harmless(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    await chaos.wait_for_request("/stall")
    assert call.cancel() in (True, False)
    call.cancel()
    await cancelled(call)
    assert call.cancel() is False
    done = client.get(chaos.url("/ok"))
    await done
    assert done.cancel() is False and not done.cancelled() and done.result().status_code == 200


async def test_from_a_done_callback_of_itself_and_its_neighbour(client, chaos: Chaos) -> None:
    one, two = client.get(chaos.url("/ok")), client.get(chaos.url("/stall"))
    one.add_done_callback(lambda call: (call.cancel(), two.cancel()))
    assert (await one).status_code == 200
    await cancelled(two)


async def test_the_message_of_cancel_arrives(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    call.cancel(msg="because")
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    assert caught.value.args == ("because",)
    with pytest.raises(asyncio.CancelledError):
        call.result()
    with pytest.raises(asyncio.CancelledError):
        call.exception()


async def test_in_the_very_tick_of_the_answer_is_one_or_the_other(client, chaos: Chaos) -> None:
    """Whatever wins, the call ends once and the connection is in order."""
    outcomes = set()
    for i in range(300):
        call = client.get(chaos.url(f"/ok?n={i}"))
        task = asyncio.ensure_future(asyncio.wait([call]))
        while chaos.count("/ok") <= i:
            await asyncio.sleep(0)
        for _ in range(i % 5):
            await asyncio.sleep(0)
        call.cancel()
        await task
        outcomes.add(call.cancelled())
        assert call.cancelled() or call.result().json() == {"ok": True}
        if call.cancelled() and chaos.count("/ok") > i + 1:
            raise AssertionError("sent twice")
    assert (await client.get(chaos.url("/ok"))).json() == {"ok": True}


# -- the task that waits -----------------------------------------------------------------------------------------------


async def test_cancelling_the_awaiting_task_cancels_the_call(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))

    async def wait():
        await call

    task = asyncio.create_task(wait())
    await chaos.wait_for_request("/stall")
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.cancelled()
    await chaos.wait_for_disconnect("/stall")


async def test_cancelling_a_gather_cancels_all_of_it(client, chaos: Chaos) -> None:
    calls = [client.get(chaos.url("/stall")) for _ in range(30)]
    together = asyncio.gather(*calls)
    await chaos.wait_for_request("/stall", 30)
    together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    assert all(call.cancelled() for call in calls)
    await chaos.wait_for_disconnect("/stall", 30)


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["enter", "iterate", "read", "lines"])
async def test_a_stream_at_each_await_point(chaos: Chaos, point: str) -> None:
    reached = asyncio.Event()
    path = "/stall?at=request" if point == "enter" else "/stall?at=body"

    async def use(client) -> None:
        async with client.stream("GET", chaos.url(path)) as response:
            reached.set()
            if point == "iterate":
                async for _ in response.aiter_bytes():
                    pass
            elif point == "lines":
                async for _ in response.aiter_lines():
                    pass
            else:
                await response.aread()

    async with one_place() as client:
        task = asyncio.create_task(use(client))
        await chaos.wait_for_request("/stall")
        if point != "enter":
            await asyncio.wait_for(reached.wait(), 20)
        await asyncio.sleep(0.02)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reached.is_set() == (point != "enter")
        await chaos.wait_for_disconnect("/stall")
        await free(client, chaos)


async def test_a_streamed_upload_while_its_answer_is_awaited(chaos: Chaos) -> None:
    async def parts():
        while True:
            yield b"x" * 65536

    async def use(client) -> None:
        async with client.stream("POST", chaos.url("/stall?at=upload"), content=parts()):
            raise AssertionError("never entered")

    async with one_place() as client:
        task = asyncio.create_task(use(client))
        await chaos.wait_for_request("/stall")
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await chaos.wait_for_disconnect("/stall")
        await free(client, chaos)


async def test_a_timeout_around_an_iteration_leaves_the_stream_closed(client, chaos: Chaos) -> None:
    with pytest.raises(TimeoutError):
        async with client.stream("GET", chaos.url("/stall?at=body")) as response:
            async with asyncio.timeout(0.1):
                await response.aread()
    assert response.is_closed
    await chaos.wait_for_disconnect("/stall")


async def test_cleanup_that_is_cancelled_again_leaks_nothing(client, chaos: Chaos) -> None:
    """Level-triggered cancellation: every await in the cleanup is cancelled too."""

    async def use() -> None:
        response = await client.send(
            client.build_request("GET", chaos.url("/stall?at=body")), stream=True
        )
        try:
            await response.aread()
        finally:
            asyncio.current_task().cancel()
            await response.aclose()

    task = asyncio.create_task(use())
    await chaos.wait_for_request("/stall")
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await chaos.wait_for_disconnect("/stall")


# -- storms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [Limits(), Limits(max_connections=20), Limits(max_in_flight=50)],
    ids=["open", "connections", "in-flight"],
)
async def test_a_storm_of_2000_cancels_at_random_moments(
    nginx: Nginx, chaos: Chaos, limits: Limits
) -> None:
    dice = random.Random(1)
    async with llmcurl.AsyncClient(limits=limits) as client:
        calls = []
        for i in range(2000):
            calls.append(client.get(f"{nginx.http}/delay?ms={dice.randrange(60)}&n={i}"))
            if i % 50 == 49:
                await asyncio.sleep(dice.random() / 100)
                for call in dice.sample(calls, len(calls) // 3):
                    call.cancel()
        loop = asyncio.get_running_loop()
        for call in calls:
            loop.call_later(dice.random() / 10, call.cancel)
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        kinds = {type(result).__name__ for result in results}
        assert kinds <= {"Response", "CancelledError"} and len(kinds) == 2, kinds
        responses = await asyncio.gather(
            *(client.get(f"{nginx.http}/delay?ms=5&n={i}") for i in range(100))
        )
        assert all(response.status_code == 200 for response in responses)


async def test_a_storm_on_tls_and_http2(nginx: Nginx, authority) -> None:
    dice = random.Random(2)
    for base, options in ((nginx.https, {}), (nginx.https2, {"http2": True})):
        async with llmcurl.AsyncClient(verify=str(authority.ca_file), **options) as client:
            calls = [client.get(f"{base}/delay?ms={dice.randrange(100)}") for _ in range(300)]
            loop = asyncio.get_running_loop()
            for call in calls[::2]:
                loop.call_later(dice.random() / 5, call.cancel)
            results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
            assert all(result.status_code == 200 for result in results[1::2])
            assert (await asyncio.wait_for(client.get(base + "/json"), 20)).status_code == 200


async def test_a_storm_of_streams_dropped_half_way(nginx: Nginx) -> None:
    dice = random.Random(3)

    async def one(client) -> None:
        async with client.stream("GET", nginx.http + "/bytes?n=3000000") as response:
            async for _ in response.aiter_bytes():
                if dice.random() < 0.05:
                    return
                await asyncio.sleep(0)

    async with llmcurl.AsyncClient(limits=Limits(max_connections=30)) as client:
        tasks = [asyncio.create_task(one(client)) for _ in range(300)]
        await asyncio.sleep(0.1)
        for task in dice.sample(tasks, 100):
            task.cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert (await client.get(nginx.http + "/json")).status_code == 200
