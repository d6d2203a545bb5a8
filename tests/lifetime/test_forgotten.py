"""Clients, calls and streams that nobody closes: the garbage collector does."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.thread import until

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


async def test_a_forgotten_client_closes_its_connections(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient()
    await client.get(chaos.url("/ok"))
    assert chaos.open > chaos._open_before
    del client
    gc.collect()
    await chaos.wait_closed()


async def test_a_forgotten_client_in_a_cycle_is_collected(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient(event_hooks={"response": []})

    async def hook(response, client=client) -> None:
        assert client is not None

    client.event_hooks = {"response": [hook]}
    await client.get(chaos.url("/ok"))
    gone = weakref.ref(client)
    del client, hook
    gc.collect()
    await chaos.wait_closed()
    assert gone() is None


async def test_a_call_in_flight_ends_well_although_its_client_is_forgotten(chaos: Chaos) -> None:
    call = llmcurl.AsyncClient().get(chaos.url("/ok?ms=150"))
    gc.collect()
    assert (await call).status_code == 200
    del call
    gc.collect()
    await chaos.wait_closed()


async def test_a_response_outlives_its_client(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient() as client:
        response = await client.get(chaos.url("/encoded?as=gzip"))
    del client
    gc.collect()
    assert (
        response.text.startswith("hello")
        and response.request.method == "GET"
        and response.headers["content-type"]
    )


async def test_a_forgotten_stream_closes_its_connection(client, chaos: Chaos) -> None:
    response = await client.send(
        client.build_request("GET", chaos.url("/stall?at=body")), stream=True
    )
    assert response.status_code == 200
    del response
    gc.collect()
    await chaos.wait_for_disconnect("/stall")


async def test_a_forgotten_iterator_closes_its_connection_when_the_stream_is_left(
    client, chaos: Chaos
) -> None:
    async with client.stream("GET", chaos.url("/drip?n=10000&ms=2")) as response:
        iterator = response.aiter_bytes()
        await anext(iterator)
        del iterator
    await chaos.wait_for_disconnect("/drip")


async def test_ten_thousand_dropped_calls_leave_nothing(client, chaos: Chaos) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(100):
            for _ in range(100):
                client.get(chaos.url("/ok")).cancel()
            await asyncio.sleep(0)
        for _ in range(200):
            client.get(chaos.url("/ok"))  # not even cancelled
        await asyncio.sleep(0.2)
        gc.collect()
    await until(lambda: chaos.count("/ok") >= 0)
    assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_a_client_may_be_closed_with_calls_in_flight_and_in_the_queue(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient(limits=llmcurl.Limits(max_connections=5))
    calls = [client.get(chaos.url("/stall")) for _ in range(20)]
    await chaos.wait_for_request("/stall", 5)
    await asyncio.wait_for(client.aclose(), 20)
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
    assert all(isinstance(result, (RuntimeError, llmcurl.TransportError)) for result in results), (
        results
    )
    await chaos.wait_for_disconnect("/stall", 5)


async def test_a_hundred_clients_at_once_share_one_reactor(chaos: Chaos) -> None:
    clients = [llmcurl.AsyncClient() for _ in range(100)]
    responses = await asyncio.gather(*(client.get(chaos.url("/ok")) for client in clients))
    assert all(response.status_code == 200 for response in responses)
    from llmcurl import _native

    assert _native._live()["reactor"] == 1
    await asyncio.gather(*(client.aclose() for client in clients))


@pytest.mark.no_asan  # the sanitizers keep freed memory for a while
async def test_memory_does_not_grow_over_20_000_calls(client, nginx) -> None:
    def rss() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    async def burst(n: int) -> None:
        for _ in range(n):
            await asyncio.gather(*(client.get(nginx.http + "/json") for _ in range(100)))

    await burst(50)
    gc.collect()
    before = rss()
    await burst(150)
    gc.collect()
    assert rss() - before < 3 * (1 << 20)
