"""llmcurl itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import llmcurl
from llmcurl import _native

try:
    from llmcurl._pools import reactor_for
except ImportError:  # a revision that keeps it elsewhere
    reactor_for = None

from .base import HEADERS, Client, Spec, delta


def reactor_counters() -> dict[str, Any]:
    """What the running loop's reactor counts; empty when it cannot be reached."""
    if reactor_for is None:
        return {}
    stats = reactor_for(asyncio.get_running_loop()).stats()
    return {k: stats[k] for k in ("rescues", "replays", "connections", "steps") if k in stats}


def transport_client(spec: Spec) -> Any:
    """An httpx2 client on llmcurl's transport."""
    import httpx2
    from llmcurl.transports.httpx2 import AsyncCurlTransport

    n = spec.connections
    transport = AsyncCurlTransport(
        limits=httpx2.Limits(max_connections=n, max_keepalive_connections=n, keepalive_expiry=3600),
        verify=spec.ca or True,
        http2=spec.http2,
        trust_env=False,
    )
    return httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False, headers=HEADERS)


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

    def start(self) -> Any:
        """Calls start at once and can be gathered as they are: no task for each."""
        return self.client.post(self.spec.url, content=self.body)

    def result(self, answer: Any) -> Any:
        return answer.status_code, answer.content

    async def stream(self) -> Any:
        texts = []
        async with self.client.stream("POST", self.spec.url, content=self.body) as r:
            async for line in r.aiter_lines():
                if line.startswith("data: {"):
                    texts.append(delta(line[6:]))
        return texts

    def versions(self) -> dict[str, str]:
        return {"llmcurl": llmcurl.__version__, "libcurl": _native.curl_info()["version"]}

    def extra(self) -> dict[str, Any]:
        return reactor_counters()


class LlmcurlChat(LlmcurlClient):
    """The native LLM client: a typed reply, the text of a stream."""

    def set_expected(self, answer: bytes) -> None:
        super().set_expected(answer)
        if self.expected:
            self.expected = json.loads(answer)["choices"][0]["message"]["content"]

    async def open(self) -> None:
        from llmcurl.llm import OpenAI

        await super().open()
        root, _, path = self.spec.url.rpartition("/")
        self.llm = OpenAI(
            model="m", api_key="none", base_url=f"{root}/sdk-{path}", client=self.client
        )
        self.text = json.loads(self.body)["messages"][0]["content"]

    async def post(self) -> Any:
        return (await self.llm.chat(self.text)).text

    def start(self) -> Any:
        return self.llm.chat(self.text)

    def result(self, answer: Any) -> Any:
        return answer.text

    async def stream(self) -> Any:
        async with self.llm.stream(self.text) as stream:
            return [text async for text in stream.text_stream]
