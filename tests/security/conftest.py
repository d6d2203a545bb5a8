"""A server whose answers never end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from servers.thread import ThreadedServer

HEADS = {
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nTransfer-Encoding: chunked\r\n\r\n",
    "body": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "line": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
    "headers": b"HTTP/1.1 200 OK\r\n",
    "early": b"",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
}
PIECES = {
    "headers": b"X-More: " + b"h" * 1000 + b"\r\n",
    "early": b"HTTP/1.1 103 Early Hints\r\nX-More: " + b"h" * 1000 + b"\r\n\r\n",
    "trailers": b"X-More: " + b"t" * 1000 + b"\r\n",
}


class Endless(ThreadedServer):
    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        sort = head.split(b" ")[1].decode().strip("/")
        writer.write(HEADS[sort])
        piece = PIECES.get(sort, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        while True:
            writer.write(piece * (50 if sort in PIECES else 1))
            await writer.drain()


@pytest.fixture
def endless() -> Iterator[str]:
    with Endless() as server:
        yield server.origin
