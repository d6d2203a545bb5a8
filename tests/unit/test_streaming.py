"""Streamed responses: chunks as they come, once, and the stream is closed however reading ends."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import pytest
from llmcurl._decoders import STEP
from llmcurl._exceptions import (
    DecodingError,
    ReadError,
    ResponseNotRead,
    ResponseTooLarge,
    StreamClosed,
    StreamConsumed,
)
from llmcurl._models import Request, Response


class Stream:
    """The interface of the native body stream."""

    def __init__(self, chunks: Iterable[bytes | BaseException]) -> None:
        self.chunks = list(chunks)
        self.closed = 0

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if not self.chunks:
            return b""
        chunk = self.chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed += 1


def streamed(
    *chunks: bytes | BaseException, headers: dict[str, str] | None = None
) -> tuple[Response, Stream]:
    response, stream = (
        Response(200, headers=headers, request=Request("GET", "https://h.example/")),
        Stream(chunks),
    )
    response._attach(stream=stream)
    return response, stream


async def all_of(iterator: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in iterator]


async def test_chunks_come_as_they_are_and_the_stream_is_closed_at_the_end() -> None:
    response, stream = streamed(b"ab", b"c")
    assert not response.is_closed and not response.is_stream_consumed
    assert await all_of(response.aiter_raw()) == [b"ab", b"c"]
    assert (
        response.is_closed
        and response.is_stream_consumed
        and stream.closed == 1
        and response.num_bytes_downloaded == 3
    )


async def test_a_stream_is_read_once() -> None:
    response, _ = streamed(b"ab")
    await all_of(response.aiter_bytes())
    for again in (
        response.aiter_bytes(),
        response.aiter_raw(),
        response.aiter_text(),
        response.aiter_lines(),
    ):
        with pytest.raises(StreamConsumed):
            await all_of(again)
    with pytest.raises(StreamConsumed):
        await response.aread()


async def test_content_needs_aread_and_then_stays() -> None:
    response, stream = streamed(b'{"a":', b"1}")
    for use in (lambda: response.content, lambda: response.text, response.json):
        with pytest.raises(ResponseNotRead):
            use()
    with pytest.raises(RuntimeError):
        response.read()
    assert (
        await response.aread()
        == await response.aread()
        == response.content
        == response.read()
        == b'{"a":1}'
    )
    assert response.json() == {"a": 1} and response.is_closed and stream.closed == 1
    assert await all_of(response.aiter_bytes()) == [b'{"a":1}'] and await all_of(
        response.aiter_lines()
    ) == ['{"a":1}']
    assert pickle.loads(pickle.dumps(response)).json() == {"a": 1}


async def test_a_closed_stream_cannot_be_read() -> None:
    response, stream = streamed(b"ab")
    await response.aclose()
    await response.aclose()
    assert response.is_closed and stream.closed == 1
    with pytest.raises(StreamClosed):
        await response.aread()


@pytest.mark.parametrize("how", ["aiter_raw", "aiter_bytes", "aiter_text", "aiter_lines"])
async def test_leaving_early_closes_the_stream(how: str) -> None:
    response, stream = streamed(b"a\n", b"b\n", b"c\n")
    async with aclosing(getattr(response, how)()) as items:
        async for _ in items:
            break
    assert stream.closed == 1 and response.is_closed and len(stream.chunks) == 2


@pytest.mark.parametrize("how", ["aiter_bytes", "aiter_text", "aiter_lines", "aread"])
async def test_an_error_of_the_stream_passes_with_its_request_and_closes_it(how: str) -> None:
    error = ReadError("broken")
    response, stream = streamed(b"a", error)
    with pytest.raises(ReadError) as caught:
        result = getattr(response, how)()
        await (result if how == "aread" else all_of(result))
    assert caught.value is error and error.request is response.request and stream.closed == 1


async def test_a_cancelled_reader_closes_the_stream() -> None:
    class Stuck(Stream):
        async def read(self) -> bytes:
            await asyncio.sleep(60)
            return b""

    for how in ("aread", "aiter_lines", "aiter_text"):
        response, stream = Response(200), Stuck(())
        response._attach(stream=stream)
        result = getattr(response, how)()
        task = asyncio.ensure_future(result if how == "aread" else all_of(result))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.closed == 1


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_chunks_of_a_given_size(size: int) -> None:
    text = "aüb日c" * 5
    data = text.encode()
    pieces = [data[:4], data[4:5], data[5:]]
    for how, whole in (("aiter_bytes", data), ("aiter_raw", data), ("aiter_text", text)):
        response, _ = streamed(*pieces)
        got = await all_of(getattr(response, how)(chunk_size=size))
        assert got == [whole[start : start + size] for start in range(0, len(whole), size)], how
    with pytest.raises(ValueError, match="chunk_size"):
        await all_of(streamed(b"a")[0].aiter_bytes(chunk_size=0))


async def test_lines_split_only_at_line_ends_and_characters_may_be_cut() -> None:
    data = 'data: {"a": "x\u2028y\x85z"}\r\n\r\ndata: ü\rlast'.encode()
    for size in (1, 2, 5, 100):
        response, _ = streamed(*(data[start : start + size] for start in range(0, len(data), size)))
        assert await all_of(response.aiter_lines()) == [
            'data: {"a": "x\u2028y\x85z"}',
            "",
            "data: ü",
            "last",
        ]


async def test_a_line_is_given_before_the_next_chunk_is_asked_for() -> None:
    response, stream = streamed(b"one\ntwo\nthr", b"ee\n")
    lines = response.aiter_lines()
    assert await anext(lines) == "one" and await anext(lines) == "two" and len(stream.chunks) == 1
    assert await anext(lines) == "three"
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    with pytest.raises(StopAsyncIteration):
        await anext(lines)


async def test_an_encoded_stream_is_decoded_in_bounded_steps() -> None:
    data = b"\0" * 5_000_000
    body = gzip.compress(data)
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    response, _ = streamed(*pieces, headers={"Content-Encoding": "gzip"})
    got = await all_of(response.aiter_bytes())
    assert (
        b"".join(got) == data
        and max(map(len, got)) <= STEP
        and response.num_bytes_downloaded == len(body)
    )
    response, _ = streamed(*pieces, headers={"Content-Encoding": "gzip"})
    assert b"".join(await all_of(response.aiter_raw())) == body
    response, _ = streamed(*pieces, headers={"Content-Encoding": "gzip"})
    assert await response.aread() == data


async def test_a_truncated_or_corrupt_stream_is_a_decoding_error() -> None:
    body = gzip.compress(b"hello" * 1000)
    for bad in (body[:-5], body[:20] + b"\xff" * 20):
        response, stream = streamed(bad, headers={"Content-Encoding": "gzip"})
        with pytest.raises(DecodingError) as caught:
            await response.aread()
        assert (
            caught.value.request is response.request
            and caught.value.url == "https://h.example/"
            and stream.closed == 1
        )


async def test_reading_a_bomb_at_once_is_refused_but_streaming_it_is_not() -> None:
    bomb = gzip.compress(b"\0" * 3_000_000)
    response, stream = streamed(bomb, headers={"Content-Encoding": "gzip"})
    response._attach(max_decoded=1_000_000)
    with pytest.raises(ResponseTooLarge):
        await response.aread()
    assert stream.closed == 1
    response, _ = streamed(bomb, headers={"Content-Encoding": "gzip"})
    response._attach(max_decoded=1_000_000)
    assert sum(map(len, await all_of(response.aiter_bytes()))) == 3_000_000


async def test_a_buffered_response_can_be_iterated_as_often_as_wanted() -> None:
    body = gzip.compress(b"one\ntwo")
    response = Response(200, headers={"Content-Encoding": "gzip"}, content=body)
    for _ in range(2):
        assert await all_of(response.aiter_raw()) == [body]
        assert await all_of(response.aiter_bytes(3)) == [b"one", b"\ntw", b"o"]
        assert await all_of(response.aiter_text()) == ["one\ntwo"]
        assert await all_of(response.aiter_lines()) == ["one", "two"]
        assert await response.aread() == b"one\ntwo"
        await response.aclose()
    assert await all_of(Response(204).aiter_bytes()) == []


async def test_a_streamed_response_can_be_made_by_hand() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"a\n"
        yield b"b"

    assert await all_of(Response(200, content=chunks()).aiter_lines()) == ["a", "b"]
    response = Response(200, content=[b"a", b"b"])
    assert not response.is_closed and await response.aread() == b"ab"
    response = Response(200, content=iter([b"a"]))
    await response.aclose()
    assert response.is_closed


async def test_an_unread_stream_is_pickled_without_its_body() -> None:
    response, _ = streamed(b"ab")
    again = pickle.loads(pickle.dumps(response))
    assert again.is_closed and again.status_code == 200
    with pytest.raises(ResponseNotRead):
        again.content  # noqa: B018
    with pytest.raises(StreamClosed):
        await again.aread()
    assert await response.aread() == b"ab"


async def test_the_time_of_a_streamed_answer_ends_with_its_stream() -> None:
    response, _ = streamed(b"ab")
    response._extra.pop("timings")  # type: ignore[union-attr]
    response._attach(delivered=time.monotonic() - 5)
    assert response.timings.done is None
    await response.aread()
    assert response.timings.done is not None and 4 <= response.timings.done <= 30
    assert response.elapsed.total_seconds() == pytest.approx(response.timings.done, abs=1e-5)
