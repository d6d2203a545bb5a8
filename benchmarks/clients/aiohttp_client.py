"""aiohttp: no connection limit, no cookies, no decompression, no timeouts."""

from __future__ import annotations

from typing import Any

import aiohttp

from .base import HEADERS, Client, delta


class AiohttpClient(Client):
    packages = ("aiohttp",)

    async def open(self) -> None:
        spec = self.spec
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=0,
            keepalive_timeout=3600,
            ssl=spec.ssl_context() if spec.tls else True,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**18,
        )

    async def close(self) -> None:
        await self.session.close()

    async def post(self) -> Any:
        async with self.session.post(self.spec.url, data=self.body) as r:
            return r.status, await r.read()

    async def stream(self) -> Any:
        texts = []
        async with self.session.post(self.spec.url, data=self.body) as r:
            async for line in r.content:
                if line.startswith(b"data: {"):
                    texts.append(delta(line[6:]))
        return texts
