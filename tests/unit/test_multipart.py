"""multipart/form-data: httpx's arguments, its bytes, from disk, with a length."""

from __future__ import annotations

import email.parser
import email.policy
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from llmcurl._content import BodySource, encode_request
from llmcurl._exceptions import InvalidHeader, StreamConsumed
from llmcurl._multipart import boundary_of

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

BOUNDARY = b"abc123"


def named(data: bytes, name: str) -> io.BytesIO:
    file = io.BytesIO(data)
    file.name = name
    return file


CASES: list[tuple[Any, Any]] = [
    ({}, {"f": b"data"}),
    ({}, {"f": "täxt"}),
    ({}, {"f": lambda: io.BytesIO(b"data")}),
    ({}, {"f": lambda: named(b"data", "/tmp/some.json")}),
    ({}, {"f": ("x.txt", b"data")}),
    ({}, {"f": ("x.txt", lambda: io.BytesIO(b"data"))}),
    ({}, {"f": ("x", b"data", "audio/wav")}),
    ({}, {"f": ("x", b"data", None)}),
    ({}, {"f": (None, b"data")}),
    ({}, {"f": (None, b'{"a":1}', "application/json")}),
    ({}, {"f": ("x", b"data", "text/plain", {"X-Extra": "1"})}),
    ({}, {"f": ("x", b"data", None, {"Content-Type": "a/b"})}),
    ({}, [("f", b"one"), ("f", b"two")]),
    ({"a": "1", "b": ["2", "3"], "n": 5, "z": None, "t": True, "raw": b"\xff"}, {"f": b"data"}),
    ({}, {'quo"te': ('na"me.txt', b"")}),
    ({}, {"f": ("müller.png", b"x")}),
]


def fresh(value: Any) -> Any:
    """The case with its files made anew: each reader needs its own."""
    if callable(value):
        return value()
    if isinstance(value, dict):
        return {key: fresh(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(fresh(item) for item in value)
    return value


def ours(data: Any, files: Any) -> BodySource:
    headers, body = encode_request(data=data, files=files, boundary=BOUNDARY)
    assert headers == {"Content-Type": "multipart/form-data; boundary=abc123"}
    assert isinstance(body, BodySource)
    return body


@pytest.mark.parametrize(("data", "files"), CASES)
async def test_the_bytes_are_those_of_httpx(data: Any, files: Any) -> None:
    source = ours(data, fresh(files))
    theirs = httpx.Request(
        "POST",
        "http://x/",
        data=data,
        files=fresh(files),
        headers={"Content-Type": "multipart/form-data; boundary=abc123"},
    )
    body = b"".join([chunk async for chunk in source.chunks()])
    assert body == theirs.read()
    assert source.length == len(body) and b"".join(source.blocks()) == body, "known, and replayable"


@pytest.mark.parametrize("name", ['a"b', "a\r\nb", "a\nContent-Type: evil"])
async def test_a_name_cannot_break_out_of_its_quotes(name: str) -> None:
    source = ours({}, {name: (name, b"x", "text/plain")})
    body = b"".join(source.blocks())
    text = b"Content-Type: multipart/form-data; boundary=abc123\r\n\r\n" + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    (part,) = message.iter_parts()
    assert sorted(part.keys()) == ["Content-Disposition", "Content-Type"]


async def test_files_are_streamed_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 1_000_000)
    with open(path, "rb") as file:  # noqa: ASYNC230
        source = ours({"purpose": "test"}, {"file": file})
        sizes = [len(block) for block in source.blocks()]
        assert source.length == sum(sizes) and max(sizes) <= 256 * 1024 and len(sizes) > 4
        assert b'filename="big.bin"' in next(iter(source.blocks()))


async def test_the_same_file_may_be_sent_in_two_parts() -> None:
    file = io.BytesIO(b"data")
    source = ours({}, [("a", file), ("b", file)])
    body = b"".join(source.blocks())
    assert body.count(b"data\r\n") == 2 and source.length == len(body)


async def test_a_file_of_unknown_size_makes_the_body_chunked_and_once() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = [b"ab", b"cd"]

        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            return self.left.pop(0) if self.left else b""

    source = ours({}, {"f": Pipe()})
    assert source.length is None and not source.replayable
    assert b"\r\n\r\nabcd\r\n" in b"".join(source.blocks())
    with pytest.raises(StreamConsumed):
        b"".join(source.blocks())


@pytest.mark.parametrize(
    "files",
    [{"f": 5}, {"f": ("x",)}, {"f": (1, 2, 3, 4, 5)}, {5: b"x"}, {"f": ("x", 5)}, {"f": {}}],
)
def test_what_is_no_file_is_refused(files: Any) -> None:
    with pytest.raises(TypeError):
        encode_request(files=files)


def test_a_part_header_cannot_forge_others() -> None:
    with pytest.raises(InvalidHeader):
        encode_request(files={"f": ("x", b"", "text/plain\r\nX: 1")})
    with pytest.raises(InvalidHeader):
        encode_request(files={"f": ("x", b"", None, {"X": "a\nb"})})
    for boundary in (b"a\r\nb", b"", b"x" * 71, "ü".encode()):
        with pytest.raises(InvalidHeader):
            encode_request(files={"f": b""}, boundary=boundary)


def test_boundaries_are_random_and_can_be_given() -> None:
    first, second = (encode_request(files={"f": b""})[0]["Content-Type"] for _ in range(2))
    assert first != second and boundary_of(first) is not None
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
    assert (
        boundary_of("multipart/form-data") is None
        and boundary_of("text/plain; boundary=x") is None
        and boundary_of(None) is None
    )
