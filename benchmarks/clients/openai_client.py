"""The OpenAI SDK on its default client, on aiohttp and on llmcurl's transport. Answers are its own typed objects."""

from __future__ import annotations

import json
from typing import Any

import openai

from .base import Client


class OpenaiClient(Client):
    packages = ("openai", "httpx2", "pydantic")

    def set_expected(self, answer: bytes) -> None:
        super().set_expected(answer)
        if self.expected:
            self.expected = json.loads(answer)["choices"][0]["message"]["content"]

    def http_client(self) -> Any:
        import httpx2

        spec, n = self.spec, self.spec.connections
        return openai.DefaultAsyncHttpxClient(
            limits=httpx2.Limits(
                max_connections=n, max_keepalive_connections=n, keepalive_expiry=3600
            ),
            verify=spec.ssl_context() if spec.tls else False,
            trust_env=False,
            http2=spec.http2,
        )

    async def open(self) -> None:
        root, _, path = self.spec.url.rpartition("/")
        # the SDK adds /chat/completions
        base = f"{root}/sdk-{path}"
        self.client = openai.AsyncOpenAI(
            base_url=base,
            api_key="none",
            max_retries=0,
            timeout=None,
            http_client=self.http_client(),
        )
        text = json.loads(self.body)["messages"][0]["content"]
        self.messages: Any = [{"role": "user", "content": text}]

    async def close(self) -> None:
        await self.client.close()

    async def post(self) -> Any:
        answer = await self.client.chat.completions.create(model="m", messages=self.messages)
        return answer.choices[0].message.content

    async def stream(self) -> Any:
        texts = []
        stream = await self.client.chat.completions.create(
            model="m", messages=self.messages, stream=True
        )
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)
        return texts


class OpenaiAiohttp(OpenaiClient):
    packages = ("openai", "aiohttp", "pydantic")

    def http_client(self) -> Any:
        import httpx2

        spec, n = self.spec, self.spec.connections
        return openai.DefaultAioHttpClient(
            limits=httpx2.Limits(
                max_connections=n, max_keepalive_connections=n, keepalive_expiry=3600
            ),
            verify=spec.ssl_context() if spec.tls else False,
            trust_env=False,
        )


class OpenaiLlmcurl(OpenaiClient):
    packages = ("openai", "httpx2", "pydantic")

    def http_client(self) -> Any:
        from .llmcurl_client import transport_client

        return transport_client(self.spec)

    def extra(self) -> dict[str, Any]:
        from .llmcurl_client import reactor_counters

        return reactor_counters()
