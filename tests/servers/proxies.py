"""Proxies: HTTP (absolute-form requests and CONNECT, optionally with basic auth) and SOCKS5, with the ways they fail.

Job: relay bytes, remember what was asked for. Not its job: caching, HTTP beyond the head of a request.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import struct
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from servers.thread import ThreadedServer


@dataclass
class Asked:
    """One request to the proxy."""

    kind: str  # "CONNECT", "GET", ... or for SOCKS "ipv4", "domain", "ipv6"
    target: str  # "host:port" or the absolute URL
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case
    connection: int = 0


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


async def _both_ways(a: tuple, b: tuple) -> None:
    tasks = [asyncio.ensure_future(_relay(a[0], b[1])), asyncio.ensure_future(_relay(b[0], a[1]))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.ALL_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        b[1].close()


class HttpProxy(ThreadedServer):
    """`fail`: None, "502" (CONNECT and forward), "drop" (close without an answer), "stall" (never answers), "garbage"."""

    def __init__(
        self, *, auth: tuple[str, str] | None = None, fail: str | None = None, **options
    ) -> None:
        super().__init__(**options)
        self.auth = (
            None if auth is None else "Basic " + base64.b64encode(":".join(auth).encode()).decode()
        )
        self.fail = fail
        self.asked: list[Asked] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        while True:
            try:
                raw = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            lines = raw[:-4].decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ", 2)
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:])
            }
            self.asked.append(Asked(method, target, headers, number))
            if self.fail == "drop":
                return
            if self.fail == "stall":
                await reader.read()
                return
            if self.fail == "garbage":
                writer.write(b"\x16\x03\x01 what?\r\n\r\n")
                return
            if self.fail == "502":
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad")
                continue
            if self.auth is not None and headers.get("proxy-authorization") != self.auth:
                writer.write(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="p"\r\nContent-Length: 0\r\n\r\n'
                )
                continue
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                try:
                    upstream = await asyncio.open_connection(host.strip("[]"), int(port))
                except OSError:
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                    continue
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _both_ways((reader, writer), upstream)
                return
            if not await self._forward(reader, writer, lines, method, target, headers):
                return

    async def _forward(
        self, reader, writer, lines: list[str], method: str, target: str, headers: dict[str, str]
    ) -> bool:
        parts = urlsplit(target)
        try:
            up_reader, up_writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return True
        try:
            path = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
            kept = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
            up_writer.write(
                "\r\n".join(
                    [f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]
                ).encode("latin-1")
            )
            left = int(headers.get("content-length", 0))
            while left:
                data = await reader.read(min(left, 1 << 16))
                if not data:
                    return False
                up_writer.write(data)
                left -= len(data)
            head = (await up_reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            length = next(
                (int(line[15:]) for line in head if line.lower().startswith("content-length:")),
                None,
            )
            body = (
                await up_reader.read()
                if length is None
                else await up_reader.readexactly(length if method != "HEAD" else 0)
            )
            head = [line for line in head if line and not line.lower().startswith("connection:")]
            if length is None:
                head.append("Connection: close")
            writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            await writer.drain()
            return length is not None
        finally:
            up_writer.close()

    def targets(self, kind: str | None = None) -> list[str]:
        return [asked.target for asked in list(self.asked) if kind is None or asked.kind == kind]


class SocksProxy(ThreadedServer):
    """SOCKS5; `names` maps host names it resolves itself. `fail`: None, "refused" (reply 5), "drop", "stall"."""

    scheme = "socks5h"

    def __init__(
        self,
        *,
        auth: tuple[str, str] | None = None,
        fail: str | None = None,
        names: dict[str, str] | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        self.auth = auth
        self.fail = fail
        self.names = names or {}
        self.asked: list[Asked] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = 2 if self.auth else 0
        if version != 5 or wanted not in methods:
            writer.write(b"\x05\xff")
            return
        writer.write(bytes([5, wanted]))
        if self.auth:
            _, size = await reader.readexactly(2)
            user = await reader.readexactly(size)
            secret = await reader.readexactly((await reader.readexactly(1))[0])
            good = (user.decode(), secret.decode()) == self.auth
            writer.write(bytes([1, 0 if good else 1]))
            if not good:
                return
        _, command, _, kind = await reader.readexactly(4)
        if kind == 3:
            host, sort = (
                (await reader.readexactly((await reader.readexactly(1))[0])).decode(),
                "domain",
            )
        else:
            host, sort = (
                str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16))),
                "ipv4" if kind == 1 else "ipv6",
            )
        (port,) = struct.unpack(">H", await reader.readexactly(2))
        self.asked.append(Asked(sort, f"{host}:{port}", connection=self.connections))
        if self.fail == "drop":
            return
        if self.fail == "stall":
            await reader.read()
            return
        try:
            if self.fail == "refused" or command != 1:
                raise ConnectionRefusedError
            upstream = await asyncio.open_connection(self.names.get(host, host), port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01\0\0\0\0\0\0")
            return
        writer.write(b"\x05\x00\x00\x01\x7f\0\0\x01\0\0")
        await _both_ways((reader, writer), upstream)
