"""Peers that misbehave in ways that have hurt users of other clients, as far as no other file has them (see tests/test_known_bugs.py)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.http2 import TELLS_GOAWAY
from servers.nginx import Nginx
from servers.thread import ThreadedServer


@pytest.mark.parametrize("method", ["GET", "POST"] if TELLS_GOAWAY else ["GET"])
async def test_goaway_in_the_middle_of_a_burst_loses_no_call(tmp_path, authority, method) -> None:
    """nginx says GOAWAY on each connection when it is told to reload."""
    with Nginx(tmp_path / "nginx", *authority.good) as own:
        async with llmcurl.AsyncClient(http2=True, verify=str(authority.ca_file)) as client:
            assert (await client.get(own.https2 + "/json")).http_version == "HTTP/2"
            calls = []
            for n in range(300):
                calls.append(client.request(method, f"{own.https2}/query?n={n}"))
                if n % 60 == 50:
                    own.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.002)
            answers = await asyncio.wait_for(asyncio.gather(*calls), 30)
        assert [answer.text for answer in answers] == [f"/query?n={n}" for n in range(300)]
        own.stop()


async def test_after_a_spike_of_timeouts_the_client_is_as_good_as_new(client, chaos: Chaos) -> None:
    calls = [
        client.get(chaos.url("/stall"), timeout=llmcurl.Timeout(30, read=0.2)) for _ in range(400)
    ]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 40)
    assert {type(result) for result in results} == {llmcurl.ReadTimeout}
    answers = await asyncio.wait_for(
        asyncio.gather(*(client.get(chaos.url("/ok")) for _ in range(100))), 20
    )
    assert {answer.status_code for answer in answers} == {200}
    assert client.stats()["active"] == client.stats()["queued"] == 0


class BigEvents(ThreadedServer):
    """Server-sent events of `size` bytes each, in writes that cut them anywhere."""

    size = 700_000

    async def handle(self, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        text = "x\u2028y\u00e9" * (self.size // 7)
        events = b"".join(
            b"data: " + json.dumps({"n": n, "text": text}, ensure_ascii=False).encode() + b"\n\n"
            for n in range(3)
        )
        for start in range(0, len(events), 65_521):
            writer.write(events[start : start + 65_521])
            await writer.drain()


async def test_events_of_many_kilobytes_arrive_whole(client) -> None:
    with BigEvents() as server:
        async with client.stream("GET", server.url("/")) as response:
            events = [json.loads(event.data) async for event in response.aiter_events()]
    assert [event["n"] for event in events] == [0, 1, 2]
    assert all(len(event["text"]) == 4 * (BigEvents.size // 7) for event in events)


def _a_name() -> tuple[str, str] | None:
    """A host name that needs a look-up and means this machine, and the address."""
    for name in ("ip6-localhost", "localhost.localdomain", socket.gethostname()):
        try:
            address = socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM)[0][4][0]
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
                sock.bind((address, 0))
            return name, address
        except OSError:
            continue
    return None


async def test_a_burst_to_one_name_looks_it_up_once() -> None:
    """libcurl has a thread for each look-up."""
    found = _a_name()
    if found is None:
        pytest.skip("no name of this machine but localhost")
    name, address = found
    with Chaos(host=address) as server:
        async with llmcurl.AsyncClient() as client:
            before = peak = len(os.listdir("/proc/self/task"))
            calls = [client.get(f"http://{name}:{server.port}/ok") for _ in range(300)]
            pending: set = set(calls)
            while pending:
                peak = max(peak, len(os.listdir("/proc/self/task")))
                _, pending = await asyncio.wait(pending, timeout=0.001)
            assert {call.result().status_code for call in calls} == {200}
    assert peak - before <= 3


@pytest.mark.no_asan
async def test_a_client_for_each_call_does_not_load_the_certificates_each_time(tls) -> None:
    """The commonest mistake of programs that call LLMs; a store is about a megabyte."""

    def rss() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    async def once() -> llmcurl.AsyncClient:
        client = llmcurl.AsyncClient()
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.good.url("/ok"))  # the store is loaded, and does not know this CA
        return client

    clients = [await once() for _ in range(20)]
    before = rss()
    clients += [await once() for _ in range(100)]
    assert rss() - before < 60 * 300_000, "each of the hundred holds less than 180 KB"
    for client in clients:
        await client.aclose()
