"""AsyncOpenAI on llmcurl's transport, on its default one, and on one that answers at once without a network.

Job: the CPU that a transport costs an SDK's call, and 10,000 calls gathered with 2,000 of them in flight. In one
run, the kinds in turns. Not its job: other clients (run.py, scenario sdk-64).

    python benchmarks/sdk.py [--calls 10000] [--in-flight 2000] [--rounds 60] [--gathers 1] [--without-default]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import time
from typing import Any

import httpx2
import openai
from llmcurl.testing import SpawnedMock
from llmcurl.transports.httpx2 import AsyncCurlTransport

MESSAGES: Any = [{"role": "user", "content": "Name a city."}]


class Memory(httpx2.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> Any:
        yield self._content


class Null(httpx2.AsyncBaseTransport):
    """What the SDK itself costs: the same answer, from memory, after `latency` seconds."""

    def __init__(self, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        self._headers, self._content = headers, content
        self.latency = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(self.latency)
        return httpx2.Response(200, headers=self._headers, stream=Memory(self._content))


def client(url: str, transport: Any) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(transport=transport) if transport else None
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http)


async def gathered(sdk: openai.AsyncOpenAI, calls: int, in_flight: int) -> tuple[float, float, Any]:
    """CPU seconds, seconds, errors by class."""
    room = asyncio.Semaphore(in_flight)
    errors: Any = collections.Counter()

    async def one() -> None:
        async with room:
            try:
                answer = await sdk.chat.completions.create(model="m", messages=MESSAGES)
                assert answer.choices[0].message.content
            except openai.APIError as error:
                errors[type(error).__name__] += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(calls)))
    return time.process_time() - cpu, time.perf_counter() - started, dict(errors)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--gathers", type=int, default=1, help="how often all calls are gathered")
    parser.add_argument("--without-default", action="store_true", help="only null and ours")
    given = parser.parse_args()

    with SpawnedMock(reply="Oslo.") as mock:
        async with httpx2.AsyncClient() as plain:
            sample = await plain.post(
                f"{mock.openai_url}/chat/completions", json={"model": "m", "messages": MESSAGES}
            )
        headers = [(k, v) for k, v in sample.headers.raw if k.lower() != b"content-encoding"]
        null = Null(headers, sample.content)
        transports = {
            "null": null,
            "llmcurl": AsyncCurlTransport(),
            "default": None,
        }
        if given.without_default:
            del transports["default"]
        sdks = {name: client(mock.openai_url, transport) for name, transport in transports.items()}
        costs: dict[str, list[float]] = {name: [] for name in sdks}
        for number in range(given.rounds + 1):
            for name, sdk in sdks.items():
                cpu, _, errors = await gathered(sdk, 100, 64)
                assert not errors, errors
                if number:  # the first opens connections
                    costs[name].append(cpu / 100 * 1e6)
        print(
            f"{given.rounds} rounds of 100 calls, 64 at a time; us of CPU of this process per call"
        )
        print(
            f"load {os.getloadavg()[0]:.0f}: other work only ever adds, the least is nearest to a quiet machine\n"
        )
        print("| transport | least | 1st decile | median | more than null |\n|---|---|---|---|---|")
        base = sorted(costs["null"])
        tenth = given.rounds // 10
        for name, found in costs.items():
            found = sorted(found)
            three = [(found[at], found[at] - base[at]) for at in (0, tenth, given.rounds // 2)]
            print(
                f"| {name} | {' | '.join(f'{us:.0f}' for us, _ in three)} | {' / '.join(f'{more:.0f}' for _, more in three)} |"
            )

        # Those of the null transport wait as well: as many calls of the SDK's are alive at a time.
        null.latency = 1.0
        mock.configure(latency=1.0)
        print(
            f"\n{given.calls:,} calls gathered, {given.in_flight:,} in flight, answers after 1 s\n"
        )
        print(
            "| transport | seconds | us per call | more than null | errors |\n|---|---|---|---|---|"
        )
        for _ in range(given.gathers):
            zero = 0.0
            for name, sdk in sdks.items():
                cpu, wall, errors = await gathered(sdk, given.calls, given.in_flight)
                each = cpu / given.calls * 1e6
                zero = zero or each
                print(
                    f"| {name} | {wall:.1f} | {each:.0f} | {each - zero:.0f} | {errors or 'none'} |",
                    flush=True,
                )
        for sdk in sdks.values():
            await sdk.close()


if __name__ == "__main__":
    asyncio.run(main())
