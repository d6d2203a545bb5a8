"""Calls that go straight to the pool: the same as those that do not, and seen by whoever asked to see them."""

from __future__ import annotations

import asyncio
import copy
import pickle

import llmcurl
import pytest
from servers.chaos import Chaos


async def head_of(
    client, chaos: Chaos, method: str = "post", **options
) -> tuple[list[bytes], bytes]:
    """Header lines and body that arrived, of the second of two equal calls: the first makes ready what the second uses."""
    await getattr(client, method)(chaos.url("/echo"), **options)
    response = await getattr(client, method)(chaos.url("/echo"), **options)
    head, _, body = response.content.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


async def test_the_second_call_sends_what_the_first_sent(client, chaos: Chaos) -> None:
    for options in (
        {"json": {"a": [1, "é"]}},
        {"content": b"x"},
        {"content": "é"},
        {"content": b""},
        {},
    ):
        answers = [await client.post(chaos.url("/echo"), **options) for _ in range(3)]
        assert answers[0].content == answers[1].content == answers[2].content


async def test_a_request_method_of_a_subclass_sees_every_call(chaos: Chaos) -> None:
    seen = []

    class Client(llmcurl.AsyncClient):
        def request(self, method, url, **options):
            seen.append((method, options))
            return super().request(method, url, **options)

    async with Client() as client:
        for _ in range(2):
            await client.post(chaos.url("/ok"), content=b"x")
    assert seen == [("POST", {"content": b"x"})] * 2


async def test_wrong_arguments_are_named_on_the_second_call_too(client, chaos: Chaos) -> None:
    await client.post(chaos.url("/ok"), json=1)
    with pytest.raises(TypeError, match="nonsense"):
        client.post(chaos.url("/ok"), nonsense=1)
    with pytest.raises(TypeError, match="one body"):
        client.post(chaos.url("/ok"), json=1, content=b"x")
    with pytest.raises(TypeError, match="no JSON form"):
        client.post(chaos.url("/ok"), json=object())
    with pytest.raises(TypeError, match="url"):
        client.post()
    many = {f"option{n}": n for n in range(30)}
    with pytest.raises(TypeError, match="option"):
        client.post(chaos.url("/ok"), **many)


async def test_a_url_may_be_given_by_name_and_a_name_need_not_be_interned(
    client, chaos: Chaos
) -> None:
    name = "".join(["con", "tent"])  # made at run time
    for _ in range(2):
        assert (await client.post(url=chaos.url("/echo"), **{name: b"abc"})).content.endswith(
            b"abc"
        )


async def test_expect_is_not_sent_whatever_the_size(client, chaos: Chaos) -> None:
    for size in (10, 100_000, 2_000_000):
        lines, body = await head_of(client, chaos, content=b"x" * size)
        assert len(body) == size
        assert not [line for line in lines if line.lower().startswith(b"expect")]


async def test_accept_is_sent_once_and_as_it_was_asked_for(chaos: Chaos) -> None:
    for headers, wanted in (
        ({}, [b"accept: */*"]),
        ({"Accept": "a/b"}, [b"accept: a/b"]),
        ({"Accept": "*/*"}, [b"accept: */*"]),
    ):
        async with llmcurl.AsyncClient(headers=headers) as client:
            lines, _ = await head_of(client, chaos)
        assert [line.lower() for line in lines if line.lower().startswith(b"accept:")] == wanted


CHANGES = {
    "set": lambda h: h.__setitem__("X-New", "1"),
    "update": lambda h: h.update({"X-New": "1"}),
    "add": lambda h: h.add("X-New", "1"),
    "setdefault": lambda h: h.setdefault("X-New", "1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
async def test_headers_changed_after_a_call_are_sent(client, chaos: Chaos, change) -> None:
    headers = client.headers
    for options in ({"content": b"x"}, {"json": 1}, {"headers": {"X-Call": "2"}}):
        await head_of(client, chaos, **options)
        change(headers)
        lines, _ = await head_of(client, chaos, **options)
        assert [line.lower() for line in lines].count(b"x-new: 1") == 1
        del headers["X-New"]
        lines, _ = await head_of(client, chaos, **options)
        assert not [line for line in lines if line.lower().startswith(b"x-new")]
    assert client.headers is headers
    client.headers = {"X-Other": "3"}
    lines, _ = await head_of(client, chaos)
    assert b"x-other: 3" in [line.lower() for line in lines]


async def test_asking_for_the_headers_leaves_calls_plain(chaos: Chaos, monkeypatch) -> None:
    long_way = []
    started = llmcurl.AsyncClient._start
    monkeypatch.setattr(
        llmcurl.AsyncClient, "_start", lambda *a: long_way.append(a[2]) or started(*a)
    )
    async with llmcurl.AsyncClient() as client:
        await client.post(chaos.url("/ok"), content=b"x")
        assert client.headers["Accept"] == "*/*" and dict(client.headers)
        for _ in range(3):
            await client.post(chaos.url("/ok"), content=b"x")
        assert long_way == ["POST"]
        client.headers["X-New"] = "1"
        for _ in range(3):
            await client.post(chaos.url("/ok"), content=b"x")
        assert long_way == ["POST"] * 2


async def test_copies_of_the_clients_headers_are_their_own(client, chaos: Chaos) -> None:
    lines, _ = await head_of(client, chaos)
    for copied in (
        client.headers.copy(),
        copy.copy(client.headers),
        copy.deepcopy(client.headers),
        pickle.loads(pickle.dumps(client.headers)),
    ):
        assert type(copied) is llmcurl.Headers and copied == client.headers
        copied["X-New"] = "1"
    again, _ = await head_of(client, chaos)
    assert again == lines


def test_one_client_in_two_loops_stays_in_the_running_one(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient()

    async def twice() -> list[int]:
        return [(await client.post(chaos.url("/ok"))).status_code for _ in range(2)]

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        for loop in (first, second, first):
            assert loop.run_until_complete(twice()) == [200, 200]
        with pytest.raises(RuntimeError):
            client.post(chaos.url("/ok"))  # no loop runs
        first.run_until_complete(client.aclose())
    finally:
        first.close()
        second.close()
