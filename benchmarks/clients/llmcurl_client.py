"""llmcurl itself."""

from __future__ import annotations

from typing import Any

import llmcurl

from .base import HEADERS, Client, delta


class LlmcurlClient(Client):
    async def open(self) -> None:
        spec, n = self.spec, self.spec.connections
        options: dict[str, Any] = {"verify": spec.ca} if spec.ca else {}
        self.client = llmcurl.AsyncClient(
            limits=llmcurl.Limits(max_connections=n, max_keepalive_connections=n),
            http2=spec.http2,
            timeout=None,
            trust_env=False,
            headers=HEADERS,
            **options,
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def post(self) -> Any:
        r = await self.client.post(self.spec.url, content=self.body)
        return r.status_code, r.content

    async def stream(self) -> Any:
        texts = []
        async with self.client.stream("POST", self.spec.url, content=self.body) as r:
            async for line in r.aiter_lines():
                if line.startswith("data: {"):
                    texts.append(delta(line[6:]))
        return texts

    def versions(self) -> dict[str, str]:
        return {"llmcurl": getattr(llmcurl, "__version__", "?")}
