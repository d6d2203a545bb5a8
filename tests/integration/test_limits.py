"""Limits are strict, waiting is a queue, and a held stream holds its place."""

from __future__ import annotations

import asyncio

import llmcurl
import pytest
from llmcurl import Limits
from servers.chaos import Chaos
from servers.nginx import Nginx
from servers.thread import until


@pytest.mark.parametrize("width", [1, 2, 7])
async def test_max_connections_is_strict_and_the_rest_wait(chaos: Chaos, width: int) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_connections=width)) as client:
        responses = await asyncio.gather(*(client.get(chaos.url("/ok?ms=10")) for _ in range(60)))
    assert all(response.status_code == 200 for response in responses)
    assert chaos.new_peak <= width and chaos.new_connections == width


async def test_max_connections_counts_idle_ones_of_other_origins(
    chaos: Chaos, tls, nginx: Nginx
) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_connections=1)) as client:
        for _ in range(3):
            for url in (chaos.url("/ok"), tls.plain.url("/ok"), nginx.http + "/json"):
                assert (await asyncio.wait_for(client.get(url), 20)).status_code == 200
        await until(
            lambda: chaos.open - chaos._open_before + tls.plain.open - tls.plain._open_before == 0,
            20,
            "only one connection stays",
        )


async def test_max_connections_holds_when_every_connection_is_used_once(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_connections=3)) as client:
        await asyncio.gather(*(client.get(chaos.url("/close")) for _ in range(30)))
    assert (
        chaos.new_connections == 30 and chaos.new_peak <= 10
    )  # the server sees the FIN a moment late


async def test_max_in_flight_bounds_the_calls_under_way(nginx: Nginx, chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_in_flight=5)) as client:
        await asyncio.gather(*(client.get(chaos.url("/ok?ms=20")) for _ in range(40)))
    assert chaos.new_peak <= 5


async def test_max_in_flight_bounds_http2_streams_too(nginx: Nginx, authority) -> None:
    loop = asyncio.get_running_loop()
    async with llmcurl.AsyncClient(
        http2=True, verify=str(authority.ca_file), limits=Limits(max_in_flight=10)
    ) as client:
        started = loop.time()
        await asyncio.gather(*(client.get(nginx.https2 + "/delay?ms=100") for _ in range(40)))
        assert loop.time() - started >= 0.35


async def test_the_queue_is_first_in_first_out(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_in_flight=1)) as client:
        await asyncio.gather(*(client.get(chaos.url(f"/ok?n={i}")) for i in range(50)))
    assert [seen.query["n"] for seen in chaos.requests()] == [str(i) for i in range(50)]


async def test_a_held_stream_occupies_its_place(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(
        limits=Limits(max_connections=2), timeout=llmcurl.Timeout(pool=20)
    ) as client:
        async with (
            client.stream("GET", chaos.url("/drip?n=10000&ms=5")),
            client.stream("GET", chaos.url("/drip?n=10000&ms=5")),
        ):
            with pytest.raises(llmcurl.PoolTimeout):
                await client.get(chaos.url("/ok"), timeout=llmcurl.Timeout(pool=0.2))
        assert (await client.get(chaos.url("/ok"))).status_code == 200


async def test_streams_read_to_their_end_pass_their_places_on(chaos: Chaos) -> None:
    async def one(client) -> int:
        async with client.stream("GET", chaos.url("/bytes?n=3000000")) as response:
            got = 0
            async for piece in response.aiter_bytes():
                got += len(piece)
                await asyncio.sleep(
                    0
                )  # slower than the server: the transfer is paused now and then
            return got

    async with llmcurl.AsyncClient(limits=Limits(max_connections=5)) as client:
        sizes = await asyncio.wait_for(asyncio.gather(*(one(client) for _ in range(20))), 20)
    assert sizes == [3_000_000] * 20 and chaos.new_connections == 5


async def test_a_call_that_gave_up_waiting_leaves_the_queue_in_order(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_connections=1)) as client:
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")):
            impatient = [
                client.get(chaos.url("/ok?who=impatient"), timeout=llmcurl.Timeout(pool=0.1))
                for _ in range(20)
            ]
            patient = [client.get(chaos.url(f"/ok?who={i}")) for i in range(20)]
            results = await asyncio.gather(*impatient, return_exceptions=True)
        assert {type(result) for result in results} == {llmcurl.PoolTimeout}
        await asyncio.gather(*patient)
    assert [seen.query["who"] for seen in chaos.requests("/ok")] == [str(i) for i in range(20)]


async def test_an_idle_connection_is_not_used_after_keepalive_expiry(chaos: Chaos) -> None:
    for expiry, reused in ((30, True), (0.2, False)):
        async with llmcurl.AsyncClient(limits=Limits(keepalive_expiry=expiry)) as client:
            await client.get(chaos.url("/ok"))
            await asyncio.sleep(0.4)
            assert (await client.get(chaos.url("/ok"))).reused is reused
    assert chaos.new_connections == 3


async def test_an_expired_idle_connection_is_closed_without_another_call(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(keepalive_expiry=0.2)) as client:
        await asyncio.gather(*(client.get(chaos.url("/ok?ms=20")) for _ in range(10)))
        await chaos.wait_closed(timeout=20)


async def test_no_keepalive_connections_means_a_new_one_each_time_and_none_left_open(
    chaos: Chaos,
) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_keepalive_connections=0)) as client:
        for _ in range(3):
            await client.get(chaos.url("/ok"))
        await chaos.wait_closed()
    assert chaos.new_connections == 3


async def test_max_keepalive_connections_closes_what_is_too_many(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_keepalive_connections=5)) as client:
        await asyncio.gather(*(client.get(chaos.url("/ok?upto=40")) for _ in range(40)))
        await until(lambda: chaos.open - chaos._open_before <= 5, 20, "five idle connections")
        await asyncio.gather(*(client.get(chaos.url("/ok?ms=30")) for _ in range(5)))
    assert chaos.new_connections == 40


async def test_failed_and_cancelled_calls_give_their_place_back(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=Limits(max_connections=2, max_in_flight=2)) as client:
        for path in ("/cut?after=5", "/rst", "/garbage?sort=ssh", "/chunks?bad=size"):
            await asyncio.gather(
                *(client.get(chaos.url(path)) for _ in range(6)), return_exceptions=True
            )
        for _ in range(6):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(chaos.url("/stall")), 0.05)
        assert (await asyncio.wait_for(client.get(chaos.url("/ok")), 20)).status_code == 200


async def test_defaults_queue_instead_of_failing(client, nginx: Nginx) -> None:
    responses = await asyncio.gather(
        *(client.get(nginx.http + "/delay?ms=50") for _ in range(2000))
    )
    assert all(response.status_code == 200 for response in responses)
