"""Connections are used again; one that the server closed meanwhile costs nothing - unless a request might be done twice."""

from __future__ import annotations

import asyncio

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.chaos_scripts import answer
from servers.nginx import Nginx
from servers.thread import until


async def test_calls_in_a_row_share_one_connection(client, chaos: Chaos) -> None:
    for method in ("GET", "POST", "PUT", "HEAD", "DELETE") * 4:
        await client.request(method, chaos.url("/ok"))
    assert chaos.new_connections == 1


async def test_keepalive_is_as_wide_as_the_concurrency_was(client, chaos: Chaos) -> None:
    for n in (150, 300, 450):
        await asyncio.gather(*(client.get(chaos.url(f"/ok?upto={n}")) for _ in range(150)))
    assert chaos.new_connections == 150


async def test_connections_are_not_shared_between_origins(
    client, chaos: Chaos, nginx: Nginx
) -> None:
    for _ in range(2):
        assert (await client.get(chaos.url("/ok"))).json() == {"ok": True}
        assert (await client.get(nginx.http + "/json")).headers["server"] == "nginx"
    assert chaos.new_connections == 1


@pytest.mark.parametrize("path", ["/close", "/http10", "/half-close"])
async def test_a_connection_that_the_answer_ends_is_not_used_again(
    client, chaos: Chaos, path: str
) -> None:
    await client.get(chaos.url(path))
    await client.get(chaos.url("/ok"))
    assert chaos.new_connections == 2


@pytest.mark.parametrize("do", ["idle-fin", "idle-rst", "idle-408", "idle-408-open"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_died_while_idle_is_replaced_without_an_error(
    client, chaos: Chaos, do: str, method: str
) -> None:
    await client.get(chaos.url(f"/then?do={do}"))
    if do == "idle-408-open":
        await until(lambda: chaos.seen[0].sent > len(answer()), what="the 408")
    else:
        await chaos.wait_closed()  # the server's FIN, RST or 408 is there
    response = await client.request(
        method, chaos.url("/json"), content=b"payload" if method == "POST" else None
    )
    assert response.status_code == 200 and not response.reused
    assert chaos.count("/json") == 1


@pytest.mark.parametrize("do", ["idle-fin", "idle-rst", "idle-408"])
async def test_a_burst_onto_connections_that_die_loses_nothing_and_sends_nothing_twice(
    client, chaos: Chaos, do: str
) -> None:
    for _ in range(5):
        await asyncio.gather(*(client.get(chaos.url(f"/then?do={do}")) for _ in range(50)))
        await chaos.wait_closed()
        responses = await asyncio.gather(
            *(client.post(chaos.url("/json"), json={"a": 1}) for _ in range(50))
        )
        assert {response.status_code for response in responses} == {200}
    assert chaos.count("/json") == 250


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("do", ["next-fin", "next-rst"])
async def test_an_idempotent_request_on_a_dying_connection_is_replayed_once_on_a_fresh_one(
    client, chaos: Chaos, method: str, do: str
) -> None:
    await client.get(chaos.url(f"/then?do={do}"))
    response = await client.request(
        method, chaos.url("/ok"), content=b"again" if method == "PUT" else None
    )
    assert response.status_code == 200 and not response.reused
    assert [seen.connection for seen in chaos.requests("/ok")] == [
        seen.connection + i for i, seen in enumerate([chaos.seen[0]] * 2)
    ]
    assert {seen.body for seen in chaos.requests("/ok")} == {b"again" if method == "PUT" else b""}


async def test_a_post_that_the_server_received_before_it_closed_is_not_sent_twice(
    client, chaos: Chaos
) -> None:
    await client.get(chaos.url("/then?do=next-fin"))
    with pytest.raises(llmcurl.RemoteProtocolError) as caught:
        await client.post(chaos.url("/ok"), json={"bill": "me"})
    assert type(caught.value) is llmcurl.RemoteProtocolError
    assert chaos.count("/ok") == 1
    assert "not" in str(caught.value) and (
        "again" in str(caught.value) or "repl" in str(caught.value) or "retr" in str(caught.value)
    )
    assert (await client.post(chaos.url("/ok"), json={})).status_code == 200


async def test_a_post_on_a_connection_that_is_reset_is_not_sent_twice(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/then?do=next-rst"))
    with pytest.raises((llmcurl.ReadError, llmcurl.RemoteProtocolError)):
        await client.post(chaos.url("/ok"), json={"bill": "me"})
    assert chaos.count("/ok") == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nothing_is_replayed_once_a_byte_of_the_answer_came(
    client, chaos: Chaos, method: str
) -> None:
    await client.get(chaos.url("/then?do=next-half"))
    with pytest.raises(llmcurl.RemoteProtocolError):
        await client.request(method, chaos.url("/ok"))
    assert chaos.count("/ok") == 1


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_read_timeout_is_not_replayed(client, chaos: Chaos, method: str) -> None:
    await client.get(chaos.url("/then?do=next-stall"))
    with pytest.raises(llmcurl.ReadTimeout):
        await client.request(method, chaos.url("/ok"), timeout=llmcurl.Timeout(read=0.2))
    assert chaos.count("/ok") == 1


async def test_a_body_that_cannot_be_read_again_is_not_replayed(client, chaos: Chaos) -> None:
    made = 0

    async def parts():
        nonlocal made
        made += 1
        yield b"once"

    await client.get(chaos.url("/then?do=next-fin"))
    with pytest.raises(llmcurl.RemoteProtocolError):
        await client.put(chaos.url("/ok"), content=parts())
    assert chaos.count("/ok") == 1 and made == 1


async def test_a_stream_on_a_dying_connection_follows_the_same_rules(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/then?do=next-fin"))
    async with client.stream("GET", chaos.url("/ok")) as response:
        assert await response.aread() == b'{"ok":true}'
    await client.aclose()


async def test_a_server_that_always_closes_after_a_request_ends_the_replays(
    client, chaos: Chaos
) -> None:
    await client.get(chaos.url("/then?do=next-fin"))
    with pytest.raises(llmcurl.RemoteProtocolError):
        await client.get(chaos.url("/cut?after=0"))
    assert chaos.count("/cut") <= 2


@pytest.mark.parametrize(("after", "times"), [(0, 2), (5, 1)])
async def test_a_replay_goes_to_a_fresh_connection_although_others_are_idle(
    client, chaos: Chaos, after: int, times: int
) -> None:
    await asyncio.gather(*(client.get(chaos.url("/ok?upto=10")) for _ in range(10)))
    assert chaos.new_connections == 10
    with pytest.raises(llmcurl.RemoteProtocolError):
        await client.get(chaos.url(f"/cut?after={after}"))
    assert chaos.count("/cut") == times


async def test_uvicorn_closing_idle_connections_never_shows(client, asgi) -> None:
    """uvicorn drops connections after its idle second; the calls hit all moments around it."""
    for pause in (0.9, 0.97, 1.0, 1.02, 1.1):
        responses = await asyncio.gather(*(client.get(asgi.url("/x")) for _ in range(20)))
        assert all(response.status_code == 200 for response in responses)
        await asyncio.sleep(pause)
    assert (await client.get(asgi.url("/x"))).status_code == 200
