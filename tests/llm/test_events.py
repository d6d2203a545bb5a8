"""aiter_events and aiter_ndjson for any response."""

from __future__ import annotations

import pytest
from llmcurl import AsyncClient, ReadError, RemoteProtocolError, Response, ResponseTooLarge
from llmcurl.llm import ServerSentEvent, aiter_events, aiter_ndjson
from llmcurl.testing import Failure, Raw

EVENTS = (
    b': hi\n\nevent: a\nid: 1\ndata: {"x":\ndata: 1}\n\nretry: 9\ndata: \xe2\x80\xa8\r\r\ndata: l'
)
EXPECTED = [
    ServerSentEvent("a", '{"x":\n1}', "1"),
    ServerSentEvent("message", "\u2028", "1", 9),
    ServerSentEvent("message", "l", "1"),
]


@pytest.fixture
async def client():
    async with AsyncClient() as client:
        yield client


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events(client, mock_llm, size):
    chunks = tuple(EVENTS[i : i + size] for i in range(0, len(EVENTS), size))
    mock_llm.script(Raw(chunks=chunks, content_type="text/event-stream"))
    async with client.stream("POST", mock_llm.openai_url + "/chat/completions") as response:
        found = [event async for event in aiter_events(response)]
    assert found == EXPECTED and found[0].json() == {"x": 1}
    assert found[0].json(type=dict[str, float]) == {"x": 1.0}
    with pytest.raises(ValueError):
        found[1].json()


async def test_events_of_a_response_that_was_read():
    assert [e async for e in aiter_events(Response(200, content=EVENTS))] == EXPECTED


async def test_lines():
    response = Response(200, content=b'{"a": "\xe2\x80\xa8"}\r\n\n[1]\n2')
    assert [value async for value in aiter_ndjson(response)] == [{"a": "\u2028"}, [1], 2]
    values = aiter_ndjson(Response(200, content=b'{"a": "1"}\n'), type=dict[str, int])
    with pytest.raises(ValueError):
        await anext(values)


async def test_ceilings(client, mock_llm):
    response = Response(200, content=b"data: 1\n\ndata: " + b"x" * 200)
    events = aiter_events(response, max_event=100)
    assert (await anext(events)).data == "1"
    with pytest.raises(ResponseTooLarge):
        await anext(events)
    lines = aiter_ndjson(Response(200, content=b"1\n" + b"2" * 200), max_line=100)
    assert await anext(lines) == 1
    with pytest.raises(ResponseTooLarge):
        await anext(lines)


async def test_the_connection_breaks(client, mock_llm):
    mock_llm.script(Failure.cut(after=2))
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    seen = []
    url = mock_llm.openai_url + "/chat/completions"
    async with client.stream("POST", url, json=body) as response:
        with pytest.raises((ReadError, RemoteProtocolError)):
            async for event in aiter_events(response):
                seen.append(event.json())
    assert len(seen) >= 2 and response.is_closed


async def test_leaving_closes_the_response(client, mock_llm):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
    url = mock_llm.openai_url + "/chat/completions"
    async with client.stream("POST", url, json=body) as response:
        events = aiter_events(response)
        assert (await anext(events)).event == "message"
        await events.aclose()
        assert response.is_closed
