"""Cancellation passes unchanged, closes the socket at once and frees the place."""

from __future__ import annotations

import asyncio
import gc

import pytest
from llmcurl import _native
from servers.thread import until

anyio = pytest.importorskip("anyio")


async def cancelled_after(seconds: float, coroutine, what=lambda: True) -> None:
    """So long after `what` has come true."""
    task = asyncio.create_task(coroutine)
    await until(what)
    await asyncio.sleep(seconds)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("at", ["request", "headers", "body"])
async def test_while_waiting(package, chaos, at):
    async with package.client(package.ours()) as client:
        await cancelled_after(
            0.1, client.get(chaos.url(f"/stall?at={at}")), lambda: chaos.count("/stall")
        )
        await chaos.wait_for_disconnect("/stall", timeout=20)
        assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_while_uploading(package, chaos):
    closed = asyncio.Event()

    async def body():
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    async with package.client(package.ours()) as client:
        await cancelled_after(
            0.2,
            client.post(chaos.url("/stall?at=upload"), content=body()),
            lambda: chaos.count("/stall"),
        )
        await chaos.wait_for_disconnect("/stall", timeout=20)
        assert (await client.get(chaos.url("/ok"))).status_code == 200
        gc.collect()
        await asyncio.wait_for(closed.wait(), 20)


async def test_in_the_iterator(package, chaos):
    async def body():
        yield b"x"
        await asyncio.sleep(60)

    async with package.client(package.ours()) as client:
        await cancelled_after(0.1, client.post(chaos.url("/sink"), content=body()))
        await chaos.wait_closed()


async def test_in_the_queue(package, chaos):
    limits = package.module.Limits(max_connections=1)
    async with (
        package.client(package.ours(limits=limits)) as client,
        client.stream("GET", chaos.url("/stall?at=headers")),
    ):
        await cancelled_after(0.05, client.get(chaos.url("/ok")))
    async with package.client(package.ours(limits=limits)) as client:
        assert (await client.get(chaos.url("/ok"))).status_code == 200
    assert chaos.count("/ok") == 1


async def test_a_storm(package, chaos):
    limits = package.module.Limits(max_connections=5)
    async with package.client(package.ours(limits=limits)) as client:
        tasks = [asyncio.create_task(client.get(chaos.url("/ok?ms=20000"))) for _ in range(300)]
        await asyncio.sleep(0.03)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError)
            for e in await asyncio.gather(*tasks, return_exceptions=True)
        )
        answers = await asyncio.gather(*(client.get(chaos.url("/ok")) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}


async def test_anyio_scopes(package, chaos):
    async def soon(scope, n: int) -> None:
        """The scope's time is up once its request is there."""
        await chaos.wait_for_request("/stall", n)
        scope.deadline = anyio.current_time() + 0.05

    async with package.client(package.ours()) as client:
        with anyio.move_on_after(30) as scope:
            first = asyncio.create_task(soon(scope, 1))
            await client.get(chaos.url("/stall?at=request"))
        assert scope.cancelled_caught
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")) as response:
            with anyio.move_on_after(0.1) as scope:
                async for _ in response.aiter_raw():
                    pass
            assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            with anyio.fail_after(30) as scope:
                second = asyncio.create_task(soon(scope, 2))
                await client.get(chaos.url("/stall?at=body"))
        await asyncio.gather(first, second)
        await chaos.wait_for_disconnect("/stall", 2, timeout=20)
        assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_wait_for(package, chaos):
    async with package.client(package.ours()) as client:
        call = asyncio.ensure_future(client.get(chaos.url("/stall?at=request")))
        await chaos.wait_for_request("/stall")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.1)
        await chaos.wait_for_disconnect("/stall", timeout=20)


async def test_the_counters_return(package, chaos):
    async with package.client(package.ours()) as client:
        await client.get(chaos.url("/ok"))
        before = _native._live()
        for at in ("request", "headers", "body"):
            await cancelled_after(0.03, client.get(chaos.url(f"/stall?at={at}")))
        await client.get(chaos.url("/ok"))
        gc.collect()
        now = _native._live()
        assert (now["xfer"], now["slot"]) == (before["xfer"], before["slot"])


async def test_early_answers_to_uploads(package, chaos):
    """The answer comes while the body is still being made: it is given, the rest is dropped or goes on."""

    async def body(n):
        for _ in range(n):
            yield b"x" * 50_000
            await asyncio.sleep(0)

    async with package.client(package.ours()) as client:
        for then in ("close", "stall"):
            response = await client.post(
                chaos.url(f"/early?after=1000&then={then}"), content=body(200)
            )
            assert (response.status_code, response.content) == (413, b'{"early":true}')
        response = await client.post(
            chaos.url("/early?after=1000&then=drain&status=200"), content=body(40)
        )
        assert (response.status_code, response.content) == (200, b'{"early":true}')
        assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_an_iterator_that_fails_after_the_head(package, chaos):
    class Mine(Exception):
        pass

    async def body():
        yield b"x" * 5000
        await asyncio.sleep(0.2)
        raise Mine

    async with package.client(package.ours()) as client:
        # the answer is whole at once, or the iterator's exception ends it
        try:
            response = await client.post(
                chaos.url("/early?after=1000&then=drain&status=200"), content=body()
            )
            assert response.content == b'{"early":true}'
        except Mine:
            pass
        assert (await client.get(chaos.url("/ok"))).status_code == 200
