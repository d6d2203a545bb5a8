"""llmcurl's native objects without its Python layer: what the layer above them costs is the difference."""

from __future__ import annotations

import asyncio
from typing import Any

from llmcurl import _native

from .base import HEADERS, Client


class NativeClient(Client):
    async def open(self) -> None:
        spec = self.spec
        self.reactor = _native.Reactor(asyncio.get_running_loop(), _native.RawResponse)
        config: dict[str, Any] = {"http2": spec.http2}
        if spec.ca:
            config.update(ca_files=[spec.ca], ca_system=False)
        self.pool = _native.Pool(self.reactor, config, (0, 0, 0, 0, 0))
        key = spec.url.rpartition("/")[0]
        self.target = self.pool.target(spec.url, key, spec.tls, False)
        self.headers = _native.HeaderList([f"{k}: {v}".encode() for k, v in HEADERS.items()])

    async def close(self) -> None:
        self.pool.close()
        self.reactor.close()

    async def post(self) -> Any:
        r = await self.pool.call("POST", self.target, self.headers, self.body, None, 0)
        return r.status_code, r._body

    def versions(self) -> dict[str, str]:
        return {"libcurl": _native.curl_info()["version"]}

    def extra(self) -> dict[str, Any]:
        stats = self.reactor.stats()
        return {name: stats[name] for name in ("rescues", "replays", "connections", "steps")}
