"""Each deadline has its class, its clock and its start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import llmcurl
import pytest
from llmcurl import Timeout
from servers.chaos import Chaos
from servers.nginx import Nginx
from servers.proxies import HttpProxy, SocksProxy
from servers.sockets import blackhole, mute

NONE = dict.fromkeys(("connect", "read", "write", "pool"))


SLACK = 15  # the machine may have other work; a time-out that is missed is missed by far more
EARLY = 0.01  # timers count whole milliseconds


@contextlib.contextmanager
def within(least: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert least - EARLY <= took < least + SLACK, f"took {took:.3f} s"


def only(**given) -> Timeout:
    """A Timeout with nothing set but what is given."""
    return Timeout(**{**NONE, **given})


# -- connect -----------------------------------------------------------------------------------------------------------


async def test_a_connect_that_hangs_is_a_connect_timeout(client) -> None:
    with blackhole() as nowhere, within(0.25), pytest.raises(llmcurl.ConnectTimeout):
        await client.get(f"http://{nowhere}/", timeout=only(connect=0.25))


async def test_a_tls_handshake_that_hangs_is_a_connect_timeout(client) -> None:
    with mute() as nowhere, within(0.25), pytest.raises(llmcurl.ConnectTimeout):
        await client.get(f"https://{nowhere}/", timeout=only(connect=0.25))


async def test_a_proxy_that_hangs_at_connect_is_a_connect_timeout(tls, authority) -> None:
    for proxy in (HttpProxy(fail="stall"), SocksProxy(fail="stall")):
        with proxy:
            async with llmcurl.AsyncClient(
                proxy=proxy.origin, verify=str(authority.ca_file)
            ) as client:
                with within(0.25), pytest.raises(llmcurl.ConnectTimeout):
                    await client.get(tls.good.url("/ok"), timeout=only(connect=0.25))


async def test_time_in_the_queue_does_not_eat_the_connect_timeout(chaos: Chaos) -> None:
    limits = llmcurl.Limits(
        max_connections=1, max_keepalive_connections=0
    )  # so every call connects
    async with llmcurl.AsyncClient(limits=limits, timeout=only(connect=1.0, read=30)) as client:
        with within(1.2):
            responses = await asyncio.gather(
                *(client.get(chaos.url("/ok?ms=150")) for _ in range(8))
            )
    assert all(response.status_code == 200 for response in responses)


async def test_a_slow_server_is_not_a_slow_connect(client, chaos: Chaos) -> None:
    response = await client.get(chaos.url("/ok?ms=1200"), timeout=only(connect=1))
    assert response.status_code == 200


# -- read --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["request", "line", "head", "headers", "body"])
async def test_silence_anywhere_in_the_answer_is_a_read_timeout(
    client, chaos: Chaos, at: str
) -> None:
    with within(0.2), pytest.raises(llmcurl.ReadTimeout):
        await client.get(chaos.url(f"/stall?at={at}"), timeout=only(read=0.2))
    await chaos.wait_for_disconnect("/stall")


async def test_the_read_timeout_is_the_longest_silence_not_the_whole_answer(
    client, chaos: Chaos
) -> None:
    with within(1.4):
        response = await client.get(chaos.url("/drip?n=14&ms=100"), timeout=only(read=1.2))
    assert len(response.content) == 140


async def test_bytes_of_the_head_reset_the_read_timeout_too(client, chaos: Chaos) -> None:
    """Also those of a line that takes longer than that to come."""
    with within(3):
        response = await client.get(chaos.url("/slow-head?ms=60"), timeout=only(read=1.2))
    assert response.status_code == 200


async def test_the_read_timeout_holds_in_a_stream(client, chaos: Chaos) -> None:
    async with client.stream(
        "GET", chaos.url("/stall?at=body"), timeout=only(read=0.2)
    ) as response:
        got = b""
        with within(0.1), pytest.raises(llmcurl.ReadTimeout):
            async for piece in response.aiter_bytes():
                got += piece
    assert got == b"x" * 500


async def test_the_read_timeout_does_not_run_while_the_request_is_sent(
    client, chaos: Chaos
) -> None:
    response = await client.post(
        chaos.url("/sink?rate=100000&slow=14000000"),
        content=b"x" * 40_000_000,
        timeout=only(read=1.2),
    )
    # 1.4 seconds; then the rest is taken at once, so that nothing waits in the kernel's buffers for long
    assert response.text == "40000000"


async def test_the_read_timeout_holds_on_http2(nginx: Nginx, authority) -> None:
    async with llmcurl.AsyncClient(http2=True, verify=str(authority.ca_file)) as client:
        slow = client.get(nginx.https2 + "/delay?ms=20000", timeout=only(read=0.2))
        good = client.get(nginx.https2 + "/delay?ms=500")
        with within(0.2), pytest.raises(llmcurl.ReadTimeout):
            await slow
        assert (await good).http_version == "HTTP/2"


# -- write -------------------------------------------------------------------------------------------------------------


async def test_a_server_that_takes_no_more_of_a_body_is_a_write_timeout(
    client, chaos: Chaos
) -> None:
    with within(0.2), pytest.raises(llmcurl.WriteTimeout):
        await client.post(
            chaos.url("/stall?at=upload"), content=b"x" * 50_000_000, timeout=only(write=0.2)
        )
    await chaos.wait_for_disconnect("/stall")


async def test_the_write_timeout_holds_for_generators(client, chaos: Chaos) -> None:
    async def parts():
        while True:
            yield b"x" * 65536

    with within(0.2), pytest.raises(llmcurl.WriteTimeout):
        await client.post(chaos.url("/stall?at=upload"), content=parts(), timeout=only(write=0.2))


async def test_a_generator_that_takes_its_time_is_no_timeout(client, chaos: Chaos) -> None:
    async def parts():
        for pause in (0.1, 1.3):
            await asyncio.sleep(pause)
            yield b"x" * 10

    response = await client.post(
        chaos.url("/sink"), content=parts(), timeout=only(write=1.1, read=1.1, connect=1.1)
    )
    assert response.text == "20"


async def test_a_slow_upload_that_moves_is_no_write_timeout(client, chaos: Chaos) -> None:
    response = await client.post(
        chaos.url("/sink?rate=100000&slow=14000000"),
        content=b"x" * 40_000_000,
        timeout=only(write=1.2),
    )
    assert response.text == "40000000"


# -- pool --------------------------------------------------------------------------------------------------------------


async def test_waiting_for_a_turn_longer_than_pool_is_a_pool_timeout(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(limits=llmcurl.Limits(max_connections=1)) as client:
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")):
            with within(0.2), pytest.raises(llmcurl.PoolTimeout):
                await client.get(chaos.url("/ok"), timeout=only(pool=0.2))
        assert (await client.get(chaos.url("/ok"), timeout=only(pool=30))).status_code == 200
    assert chaos.count("/ok") == 1


async def test_without_pool_a_call_waits_its_turn_for_as_long_as_it_takes(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(
        limits=llmcurl.Limits(max_connections=2), timeout=Timeout(read=1.2, connect=1.2)
    ) as client:
        with within(1.5):
            await asyncio.gather(*(client.get(chaos.url("/ok?ms=150")) for _ in range(20)))


# -- total -------------------------------------------------------------------------------------------------------------


async def test_total_ends_a_call_that_moves_all_the_time(client, chaos: Chaos) -> None:
    with within(0.3), pytest.raises(llmcurl.TotalTimeout):
        await client.get(chaos.url("/drip?n=1000&ms=10"), timeout=Timeout(total=0.3))
    await chaos.wait_all_gone("/drip")


async def test_total_counts_the_queue_and_the_redirects(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(
        limits=llmcurl.Limits(max_connections=1), follow_redirects=True, max_redirects=10**6
    ) as client:
        with within(0.3), pytest.raises(llmcurl.TotalTimeout):
            await client.get(chaos.url("/redirect"), timeout=Timeout(total=0.3))
        async with client.stream("GET", chaos.url("/drip?n=1000&ms=5")):
            with within(0.2), pytest.raises(llmcurl.TotalTimeout):
                await client.get(chaos.url("/ok"), timeout=Timeout(total=0.2))


async def test_total_ends_a_stream(client, chaos: Chaos) -> None:
    with within(0.3), pytest.raises(llmcurl.TotalTimeout):
        async with client.stream(
            "GET", chaos.url("/drip?n=1000&ms=10"), timeout=Timeout(total=0.3)
        ) as response:
            async for _ in response.aiter_bytes():
                pass


# -- none, defaults, precedence ----------------------------------------------------------------------------------------


async def test_none_means_none(client, chaos: Chaos) -> None:
    call = client.get(chaos.url("/stall"), timeout=None)
    await chaos.wait_for_request("/stall")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.5)
    await chaos.wait_for_disconnect("/stall")


async def test_the_timeout_of_the_call_wins_over_that_of_the_client(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(timeout=0.1) as client:
        assert (await client.get(chaos.url("/ok?ms=300"), timeout=30)).status_code == 200
        with within(0.1), pytest.raises(llmcurl.ReadTimeout):
            await client.get(chaos.url("/ok?ms=30000"))


async def test_a_timeout_of_zero_is_at_once_and_not_for_ever(client, chaos: Chaos) -> None:
    with within(0), pytest.raises(llmcurl.TimeoutException):
        await client.get(chaos.url("/ok?ms=30000"), timeout=0)


async def test_a_thousand_deadlines_pass_on_time(client, nginx: Nginx) -> None:
    with within(0.3):
        results = await asyncio.gather(
            *(
                client.get(nginx.http + "/delay?ms=20000", timeout=only(read=0.3 + i % 10 / 20))
                for i in range(1000)
            ),
            return_exceptions=True,
        )
    assert {type(result) for result in results} == {llmcurl.ReadTimeout}


async def test_a_timeout_is_never_raised_for_an_answer_that_is_there(client, chaos: Chaos) -> None:
    call = asyncio.ensure_future(client.get(chaos.url("/ok"), timeout=only(read=1)))
    await chaos.wait_for_request("/ok")
    time.sleep(1.2)  # the program blocks its own loop; the answer came meanwhile
    assert (await call).status_code == 200
