"""pycurl's AsyncCurlMulti: recycled handles, a connection cache as large as the concurrency, bodies by callback."""

from __future__ import annotations

from typing import Any

import pycurl

from .base import HEADERS, Client, LineSplitter


class PycurlClient(Client):
    packages = ("pycurl",)

    async def open(self) -> None:
        spec = self.spec
        self.multi = pycurl.AsyncCurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, spec.connections)
        self.multi.setopt(
            pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX if spec.http2 else pycurl.PIPE_NOTHING
        )
        self.headers = [f"{k}: {v}" for k, v in HEADERS.items()] + ["Expect:"]
        self.free: list[Any] = []

    async def close(self) -> None:
        await self.multi.aclose()

    def _handle(self) -> Any:
        spec = self.spec
        c = pycurl.Curl()
        c.setopt(pycurl.URL, spec.url)
        c.setopt(pycurl.NOSIGNAL, 1)
        c.setopt(pycurl.TCP_NODELAY, 1)
        c.setopt(pycurl.NOPROXY, "*")
        c.setopt(pycurl.HTTPHEADER, self.headers)
        c.setopt(pycurl.POSTFIELDS, self.body)
        if spec.http2:
            c.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
            c.setopt(pycurl.PIPEWAIT, 1)
        else:
            c.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        if spec.ca:
            c.setopt(pycurl.CAINFO, spec.ca)
        return c

    async def post(self) -> Any:
        c = self.free.pop() if self.free else self._handle()
        chunks: list[bytes] = []
        # the body is set on each call, as a program with differing bodies must
        c.setopt(pycurl.POSTFIELDS, self.body)
        c.setopt(pycurl.WRITEFUNCTION, chunks.append)
        await self.multi.add_handle(c)
        status = c.getinfo(pycurl.RESPONSE_CODE)
        self.free.append(c)
        return status, chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def stream(self) -> Any:
        c = self.free.pop() if self.free else self._handle()
        splitter = LineSplitter()
        c.setopt(pycurl.WRITEFUNCTION, splitter.feed)
        await self.multi.add_handle(c)
        self.free.append(c)
        return splitter.texts

    def versions(self) -> dict[str, str]:
        return {**super().versions(), "libcurl": pycurl.version_info()[1]}
