"""httpx, httpx2 and httpx-aiohttp: limits lifted, no timeouts, no environment."""

from __future__ import annotations

from typing import Any

from .base import HEADERS, Client, delta


class _HttpxLike(Client):
    module: Any = None

    def options(self) -> dict[str, Any]:
        spec, n = self.spec, self.spec.connections
        return {
            "headers": HEADERS,
            "limits": self.module.Limits(
                max_connections=n, max_keepalive_connections=n, keepalive_expiry=3600
            ),
            "timeout": None,
            "trust_env": False,
            "http2": spec.http2,
            "verify": spec.ssl_context() if spec.tls else False,
        }

    def build(self) -> Any:
        return self.module.AsyncClient(**self.options())

    async def open(self) -> None:
        self.client = self.build()

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


class HttpxClient(_HttpxLike):
    packages = ("httpx", "httpcore", "h2")

    async def open(self) -> None:
        import httpx

        self.module = httpx
        await super().open()


class Httpx2Client(_HttpxLike):
    packages = ("httpx2", "httpcore2", "h2")

    async def open(self) -> None:
        import httpx2

        self.module = httpx2
        await super().open()


class HttpxAiohttp(_HttpxLike):
    packages = ("httpx-aiohttp", "httpx", "aiohttp")

    async def open(self) -> None:
        import httpx
        from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

        self.module = httpx
        options = self.options()
        transport = AiohttpTransport(
            verify=options["verify"], limits=options["limits"], trust_env=False
        )
        self.client = HttpxAiohttpClient(transport=transport, **options)


class Httpx2Llmcurl(_HttpxLike):
    """httpx2's client on llmcurl's transport."""

    packages = ("httpx2",)

    async def open(self) -> None:
        from .llmcurl_client import transport_client

        self.client = transport_client(self.spec)

    def extra(self) -> dict[str, Any]:
        from .llmcurl_client import reactor_counters

        return reactor_counters()
