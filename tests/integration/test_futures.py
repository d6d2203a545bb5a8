"""A Call is Future-like: everything asyncio does with futures works, and nothing makes a Task behind the program's back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import warnings

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.sockets import refused
from servers.thread import until

OK = {"ok": True}
TAG: contextvars.ContextVar[str] = contextvars.ContextVar("TAG", default="none")


@pytest.fixture
async def tasks_made():
    """Counts the tasks made while the test runs, without its own."""
    loop, made = asyncio.get_running_loop(), []

    def factory(loop, coroutine, **options):
        if asyncio.current_task(loop) is not None:
            made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    yield made
    loop.set_task_factory(None)


# -- waiting for it ----------------------------------------------------------------------------------------------------


async def test_a_call_starts_without_being_awaited(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok"))
    await chaos.wait_for_request("/ok")
    await until(call.done)
    assert call.result().json() == OK
    assert await call is call.result()


async def test_a_call_may_be_awaited_more_than_once_and_by_several(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok?ms=20"))

    async def waiter():
        return await call

    first, second = await asyncio.gather(waiter(), waiter())
    assert first is second is await call
    assert chaos.count() == 1


async def test_gather_makes_no_task(client, chaos: Chaos, tasks_made: list) -> None:
    responses = await asyncio.gather(*(client.get(chaos.url("/ok")) for _ in range(50)))
    assert [response.json() for response in responses] == [OK] * 50 and tasks_made == []


async def test_wait_as_completed_wait_for_and_shield_make_no_task(
    client, chaos: Chaos, tasks_made: list
) -> None:
    await asyncio.wait([client.get(chaos.url("/ok")) for _ in range(5)])
    await asyncio.shield(client.get(chaos.url("/ok")))
    assert tasks_made == []
    assert (await asyncio.wait_for(client.get(chaos.url("/ok")), 20)).json() == OK


async def test_it_is_a_future_to_asyncio(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok"))
    assert asyncio.isfuture(call)
    assert asyncio.ensure_future(call) is call
    assert call.get_loop() is asyncio.get_running_loop()
    assert not call.done() and not call.cancelled()
    with pytest.raises(asyncio.InvalidStateError):
        call.result()
    with pytest.raises(asyncio.InvalidStateError):
        call.exception()
    await call
    assert (
        call.done()
        and not call.cancelled()
        and call.exception() is None
        and call.result().json() == OK
    )


async def test_its_repr_tells_what_it_is_and_keeps_secrets(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok?api_key=hush").replace("://", "://user:hush@"))
    assert "GET" in repr(call) and "pending" in repr(call) and "hush" not in repr(call)
    await call
    assert "hush" not in repr(call) and "pending" not in repr(call)


async def test_gather_passes_errors_and_returns_them_on_demand(client, chaos: Chaos) -> None:
    urls = [chaos.url("/ok"), chaos.url("/cut?after=5"), chaos.url("/ok")]
    results = await asyncio.gather(*map(client.get, urls), return_exceptions=True)
    assert [type(result).__name__ for result in results] == [
        "Response",
        "RemoteProtocolError",
        "Response",
    ]
    with pytest.raises(llmcurl.RemoteProtocolError):
        await asyncio.gather(*map(client.get, urls))


async def test_wait_first_completed_leaves_the_rest_running(client, chaos: Chaos) -> None:
    fast, slow = client.get(chaos.url("/ok")), client.get(chaos.url("/ok?upto=3"))
    done, pending = await asyncio.wait([fast, slow], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({fast}, {slow})
    await client.get(chaos.url("/ok"))  # the slow one waits for this
    assert (await slow).json() == OK


async def test_wait_returns_at_its_timeout(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    assert await asyncio.wait([call], timeout=0.05) == (set(), {call})
    call.cancel()


async def test_as_completed_gives_them_as_they_come(client, chaos: Chaos) -> None:
    calls, order = [client.get(chaos.url(f"/ok?upto={n}")) for n in (5, 3, 4)], []
    for following in asyncio.as_completed(calls):
        order.append(str((await following).url).rpartition("=")[2])
        await client.get(chaos.url("/ok"))  # lets the next one go
    assert order == ["3", "4", "5"]


async def test_wait_for_cancels_at_its_timeout(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    await chaos.wait_for_request("/stall")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.1)
    assert call.cancelled()
    await chaos.wait_for_disconnect("/stall")


async def test_timeout_cancels_at_its_end(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"))
    await chaos.wait_for_request("/stall")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call
    await chaos.wait_for_disconnect("/stall")


async def test_shield_protects_the_call(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok?upto=2"))
    outer = asyncio.shield(call)
    await chaos.wait_for_request("/ok")
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert not call.done()
    await client.get(chaos.url("/ok"))  # it waits for this
    assert (await call).json() == OK


async def test_a_task_group_takes_wrappers_and_cancels_them(client, chaos: Chaos) -> None:
    async def fetch(path: str):
        return await client.get(chaos.url(path))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetch("/ok")) for _ in range(10)]
    assert all(task.result().json() == OK for task in tasks)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch("/stall"))
            await chaos.wait_for_request("/stall")
            group.create_task(fetch("/cut?after=5"))
    assert [type(error) for error in caught.value.exceptions] == [llmcurl.RemoteProtocolError]
    await chaos.wait_for_disconnect("/stall")


async def test_create_task_of_a_wrapper_works(client, chaos: Chaos) -> None:
    async def fetch():
        return await client.get(chaos.url("/ok"))

    assert (await asyncio.create_task(fetch())).json() == OK


async def test_gather_of_10_000_finished_and_pending_calls_mixed(client, chaos: Chaos) -> None:
    calls = [client.get(chaos.url("/ok")) for _ in range(200)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert all(response.json() == OK for response in await asyncio.gather(*calls * 50))


# -- callbacks ---------------------------------------------------------------------------------------------------------


async def test_callbacks_run_in_order_through_the_loop_with_the_call_as_argument(
    client, chaos: Chaos
) -> None:
    call, log = client.get(chaos.url("/ok")), []
    call.add_done_callback(lambda done: log.append((1, done is call)))
    call.add_done_callback(lambda done: log.append((2, done is call)))
    await call
    await asyncio.sleep(0)
    assert log == [(1, True), (2, True)]
    call.add_done_callback(lambda done: log.append(3))
    assert log == [(1, True), (2, True)], "never from inside add_done_callback"
    await asyncio.sleep(0)
    assert log[-1] == 3


async def test_callbacks_run_in_their_context(client, chaos: Chaos) -> None:
    call, seen = client.get(chaos.url("/ok?ms=20")), []
    TAG.set("at add")
    call.add_done_callback(lambda _: seen.append(TAG.get()))
    given = contextvars.copy_context()
    given.run(TAG.set, "given")
    call.add_done_callback(lambda _: seen.append(TAG.get()), context=given)
    TAG.set("later")
    await call
    await asyncio.sleep(0)
    assert seen == ["at add", "given"]


async def test_callbacks_can_be_removed(client, chaos: Chaos) -> None:
    call, log = client.get(chaos.url("/ok")), []

    def callback(_):
        log.append("called")

    for _ in range(3):
        call.add_done_callback(callback)
    assert call.remove_done_callback(callback) == 3 and call.remove_done_callback(callback) == 0
    await call
    await asyncio.sleep(0)
    assert log == []


async def test_an_exception_in_a_callback_goes_to_the_loops_handler(client, chaos: Chaos) -> None:
    reported, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))

    def callback(_):
        raise ZeroDivisionError

    call = client.get(chaos.url("/ok"))
    call.add_done_callback(callback)
    assert (await call).json() == OK
    await asyncio.sleep(0)
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]
    reported.clear()


async def test_a_callback_may_start_and_cancel_calls(client, chaos: Chaos) -> None:
    started, stalled = [], client.get(chaos.url("/stall"))
    first = client.get(chaos.url("/ok"))
    first.add_done_callback(
        lambda _: (started.append(client.get(chaos.url("/ok?n=2"))), stalled.cancel())
    )
    await first
    await asyncio.sleep(0)
    assert (await started[0]).json() == OK
    with pytest.raises(asyncio.CancelledError):
        await stalled


# -- nobody waits ------------------------------------------------------------------------------------------------------


async def test_a_call_that_nobody_awaits_warns_once(client, chaos: Chaos) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.get(chaos.url("/ok?key=hush"))
        for _ in range(3):
            await client.get(chaos.url("/ok"))
        gc.collect()
    messages = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert (
        len(messages) == 1
        and "never awaited" in messages[0]
        and "GET" in messages[0]
        and "hush" not in messages[0]
    )


async def test_a_call_given_to_gather_or_with_a_callback_or_cancelled_does_not_warn(
    client, chaos: Chaos
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waiting = asyncio.gather(client.get(chaos.url("/ok")), client.get(chaos.url("/ok")))
        client.get(chaos.url("/ok")).add_done_callback(lambda _: None)
        client.get(chaos.url("/stall")).cancel()
        call = client.get(chaos.url("/ok"))
        await until(call.done)
        call.result()
        await waiting
        await client.get(chaos.url("/ok"))
        del waiting, call
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_a_failure_that_nobody_retrieved_is_reported_like_a_futures(client) -> None:
    reported, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    with refused() as nobody:
        call = client.get(f"http://{nobody}/")
        call.add_done_callback(lambda _: None)
        await until(call.done)
        await asyncio.sleep(0)
        assert reported == []
        del call
        gc.collect()
        await until(lambda: reported, what="the report")
        assert len(reported) == 1 and isinstance(reported[0]["exception"], llmcurl.ConnectError)
        assert "never retrieved" in reported[0]["message"]
        reported.clear()
        await asyncio.gather(client.get(f"http://{nobody}/"), return_exceptions=True)
        gc.collect()
    assert reported == []


# -- not here ----------------------------------------------------------------------------------------------------------


async def test_a_call_of_another_loop_cannot_be_awaited(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/ok?upto=2"))

    async def foreign():
        await call

    failed = []

    def run() -> None:
        try:
            asyncio.run(foreign())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await until(lambda: not thread.is_alive())
    thread.join()
    assert isinstance(failed[0], (RuntimeError, ValueError)), failed
    await client.get(chaos.url("/ok"))  # it waits for this
    await asyncio.wait([call])
    assert call.result().json() == OK


async def test_cancelling_from_another_thread_is_a_clear_error(client, chaos: Chaos) -> None:
    call, failed = client.get(chaos.url("/ok?ms=100")), []

    def run() -> None:
        try:
            call.cancel()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert isinstance(failed[0], RuntimeError) and "thread" in str(failed[0])
    assert (await call).json() == OK


async def test_dropping_calls_and_responses_on_other_threads_is_safe(client, chaos: Chaos) -> None:
    for _ in range(20):
        calls = [client.get(chaos.url("/ok")) for _ in range(20)]
        await asyncio.gather(*calls)
        thread = threading.Thread(target=calls.clear)
        thread.start()
        await until(lambda thread=thread: not thread.is_alive())
        thread.join()
    assert (await client.get(chaos.url("/ok"))).json() == OK
