"""curl_cffi: one handle per call in flight, no impersonation."""

from __future__ import annotations

from typing import Any

from curl_cffi import CurlHttpVersion
from curl_cffi.requests import AsyncSession

from .base import HEADERS, Client, delta


class CurlCffiClient(Client):
    packages = ("curl_cffi",)

    async def open(self) -> None:
        spec = self.spec
        self.session: Any = AsyncSession(
            max_clients=spec.connections,
            headers=HEADERS,
            timeout=0,
            trust_env=False,
            verify=spec.ca or True,
            http_version=CurlHttpVersion.V2TLS if spec.http2 else CurlHttpVersion.V1_1,
        )

    async def close(self) -> None:
        await self.session.close()

    async def post(self) -> Any:
        r = await self.session.post(self.spec.url, data=self.body)
        return r.status_code, r.content

    async def stream(self) -> Any:
        texts = []
        async with self.session.stream("POST", self.spec.url, data=self.body) as r:
            async for line in r.aiter_lines():
                if line.startswith(b"data: {"):
                    texts.append(delta(line[6:]))
        return texts

    def versions(self) -> dict[str, str]:
        from curl_cffi import Curl

        return {
            **super().versions(),
            "libcurl": Curl().version().decode().split()[0].partition("/")[2],
        }
