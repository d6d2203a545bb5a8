"""pyreqwest: its default single-threaded runtime, an idle pool as large as the concurrency."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pyreqwest.client import ClientBuilder

from .base import HEADERS, Client, LineSplitter


class PyreqwestClient(Client):
    packages = ("pyreqwest",)

    async def open(self) -> None:
        spec = self.spec
        hours = timedelta(hours=1)
        builder = (
            ClientBuilder()
            .no_proxy()
            .max_connections(None)
            .pool_max_idle_per_host(spec.connections)
            .pool_idle_timeout(hours)
            .timeout(hours)
            .pool_timeout(hours)
            .default_headers(HEADERS)
        )
        builder = builder.http2(True) if spec.http2 else builder.http1_only()
        if spec.ca:
            builder = builder.add_root_certificate_pem(spec.read_ca())
        self.client = await builder.build().__aenter__()

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)

    async def post(self) -> Any:
        r = await self.client.post(self.spec.url).body_bytes(self.body).build().send()
        return r.status, await r.bytes()

    async def stream(self) -> Any:
        splitter = LineSplitter()
        async with self.client.post(self.spec.url).body_bytes(self.body).build_streamed() as r:
            while (chunk := await r.body_reader.read_chunk()) is not None:
                splitter.feed(chunk.to_bytes())
        return splitter.texts
