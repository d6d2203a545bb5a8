"""niquests: a pool as large as the concurrency, HTTP/3 off, no retries."""

from __future__ import annotations

from typing import Any

import niquests

from .base import HEADERS, Client, delta


class NiquestsClient(Client):
    packages = ("niquests", "urllib3-future")

    async def open(self) -> None:
        spec = self.spec
        self.session = niquests.AsyncSession(
            retries=0,
            pool_connections=10,
            pool_maxsize=spec.connections,
            disable_http2=not spec.http2,
            disable_http3=True,
            headers=HEADERS,
            verify=spec.ca or True,
            timeout=3600,
        )
        self.session.trust_env = False

    async def close(self) -> None:
        await self.session.close()

    async def post(self) -> Any:
        r = await self.session.post(self.spec.url, data=self.body)
        return r.status_code, r.content

    async def stream(self) -> Any:
        texts = []
        r = await self.session.post(self.spec.url, data=self.body, stream=True)
        async for line in r.iter_lines():
            if line.startswith(b"data: {"):
                texts.append(delta(line[6:]))
        return texts
