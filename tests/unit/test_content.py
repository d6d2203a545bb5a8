"""Request bodies: what may be one, what it becomes, and whether it can be sent again."""

from __future__ import annotations

import dataclasses
import datetime
import io
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from llmcurl._content import BLOCK, BodySource, encode_json, encode_request
from llmcurl._exceptions import StreamConsumed


async def read(body: bytes | BodySource) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"".join([chunk async for chunk in body.chunks()])


def source_of(content: Any) -> BodySource:
    headers, body = encode_request(content=content)
    assert headers == {} and isinstance(body, BodySource)
    return body


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (b"ab", b"ab"),
        ("aü", "aü".encode()),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (b"", b""),
        (None, b""),
    ],
)
def test_bytes_and_text_are_the_body_itself(content: Any, body: bytes) -> None:
    assert encode_request(content=content) == ({}, body)


def test_a_buffer_is_copied_since_it_may_change() -> None:
    buffer = bytearray(b"ab")
    _, body = encode_request(content=buffer)
    buffer[0] = 0
    assert body == b"ab"


@pytest.mark.parametrize(
    "value", [{"a": 1, "b": ["ü", None, True, 1.5]}, [], {}, 0, False, "", "text"]
)
def test_json_is_that_of_httpx(value: Any) -> None:
    headers, body = encode_request(json=value)
    theirs = httpx.Request("POST", "http://x/", json=value)
    assert headers == {"Content-Type": "application/json"} and body == theirs.content


def test_json_takes_what_msgspec_takes_and_pydantic_models() -> None:
    @dataclasses.dataclass
    class Data:
        a: int

    class Model:
        def model_dump(self, mode: str) -> Any:
            return {"mode": mode}

    class Struct(msgspec.Struct):
        b: int

    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    from types import MappingProxyType

    value = [Data(1), Struct(2), Model(), MappingProxyType({"c": 3}), when]
    assert encode_json(value) == b'[{"a":1},{"b":2},{"mode":"json"},{"c":3},"2026-01-02T00:00:00Z"]'


def test_what_has_no_json_form_is_named() -> None:
    with pytest.raises(TypeError, match="json=.*object has no JSON form"):
        encode_request(json={"a": object()})


@pytest.mark.parametrize(
    "data", [{"a": "1", "b": "x y&ü"}, {"a": ["1", "2"], "n": 5}, {"t": True, "none": None}]
)
def test_a_form_is_that_of_httpx(data: Any) -> None:
    headers, body = encode_request(data=data)
    theirs = httpx.Request("POST", "http://x/", data=data)
    assert body == theirs.content and headers == {"Content-Type": theirs.headers["content-type"]}


@pytest.mark.parametrize(
    "given",
    [
        {"content": b"x", "json": {}}, {"content": b"", "json": {}}, {"content": b"x", "data": {"a": "b"}}, {"json": {}, "data": {"a": "b"}},
        {"content": b"x", "files": {"a": b"b"}}, {"json": 1, "files": {"a": b"b"}},
    ],
)  # fmt: skip
def test_two_bodies_are_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError) as caught:
        encode_request(**given)
    assert all(name in str(caught.value) for name in given)


@pytest.mark.parametrize(
    "given",
    [
        {"content": 5},
        {"content": {"a": 1}},
        {"data": "a=1"},
        {"data": [("a", "b")]},
        {"data": {"a": {}}},
        {"content": object()},
    ],
)
def test_what_is_no_body_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        encode_request(**given)


async def test_a_file_is_sent_from_where_it_stands_with_its_length(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    with open(path, "rb") as file:  # noqa: ASYNC230
        file.seek(3)
        source = source_of(file)
        assert source.length == 7 and source.replayable
        assert await read(source) == b"3456789"
        assert await read(source) == b"3456789", "it is sent again from the same place"
        source.rewind()
        assert file.tell() == 3


async def test_a_large_file_is_read_in_blocks_and_not_in_the_loops_thread(tmp_path: Path) -> None:
    threads = set()

    class Spy(io.FileIO):
        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            threads.add(threading.get_ident())
            return super().read(size)

    path = tmp_path / "data"
    path.write_bytes(b"x" * (2 * BLOCK + 5))
    with Spy(path) as file:
        source = source_of(file)
        sizes = [len(chunk) async for chunk in source.chunks()]
    assert sizes == [BLOCK, BLOCK, 5] and source.length == sum(sizes)
    assert threading.get_ident() not in threads
    import asyncio

    await asyncio.get_running_loop().shutdown_default_executor()


@pytest.mark.parametrize(
    "make",
    [
        io.StringIO,
        lambda: io.TextIOWrapper(io.BytesIO()),
        lambda: tempfile.NamedTemporaryFile("w+"),
    ],
)
def test_a_text_file_is_refused_at_once(make: Any) -> None:
    with make() as file:
        with pytest.raises(TypeError, match="binary"):
            encode_request(content=file)
        with pytest.raises(TypeError, match="binary"):
            encode_request(files={"a": file})


async def test_a_file_that_cannot_seek_is_sent_chunked_and_once() -> None:
    class Pipe(io.RawIOBase):
        left = [b"ab", b"cd"]

        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            return self.left.pop(0) if self.left else b""

    source = source_of(Pipe())
    assert source.length is None and not source.replayable
    assert b"".join(source.blocks()) == b"abcd"
    with pytest.raises(StreamConsumed):
        await read(source)


async def test_an_iterator_is_sent_once_and_a_collection_again() -> None:
    def once() -> Iterator[bytes]:
        yield b"a"
        yield b""
        yield bytearray(b"b")  # type: ignore[misc]

    source = source_of(once())
    assert source.length is None and not source.replayable
    assert [chunk async for chunk in source] == [b"a", b"b"]
    with pytest.raises(StreamConsumed):
        await read(source)
    with pytest.raises(StreamConsumed):
        source.rewind()

    source = source_of([b"a", b"b"])
    assert source.replayable
    assert await read(source) == await read(source) == b"ab"


async def test_an_async_iterator_is_sent_once_and_an_async_iterable_again() -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    class Many:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return once()

    source = source_of(once())
    assert await read(source) == b"ab" and not source.replayable
    with pytest.raises(StreamConsumed):
        await read(source)
    with pytest.raises(RuntimeError, match="aread"):
        list(source_of(Many()).blocks())
    source = source_of(Many())
    assert await read(source) == await read(source) == b"ab" and source.replayable


async def test_a_file_with_async_read_is_sent() -> None:
    class File:
        left = [b"ab", b"c"]

        async def read(self, size: int) -> bytes:
            return self.left.pop(0) if self.left else b""

    assert await read(source_of(File())) == b"abc"


async def test_nothing_is_read_ahead() -> None:
    taken = []

    def numbers() -> Iterator[bytes]:
        for number in range(5):
            taken.append(number)
            yield b"%d" % number

    chunks = source_of(numbers()).chunks()
    assert await anext(chunks) == b"0" and taken == [0]
    assert await anext(chunks) == b"1" and taken == [0, 1]


@pytest.mark.parametrize("chunks", [["text"], [5], [None, object()]])
async def test_a_stream_that_gives_something_else_is_a_type_error(chunks: list[Any]) -> None:
    with pytest.raises(TypeError, match="bytes"):
        await read(source_of(iter(chunks)))


async def test_an_error_of_the_callers_iterator_passes_unchanged() -> None:
    class Own(Exception):
        pass

    async def fails() -> AsyncIterator[bytes]:
        yield b"a"
        raise Own

    with pytest.raises(Own):
        await read(source_of(fails()))
