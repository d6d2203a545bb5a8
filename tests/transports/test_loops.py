"""Several loops and threads on one transport; closing needs no loop; nothing is said at exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

try:
    import uvloop
except ImportError:
    uvloop = None


@pytest.fixture(scope="module", autouse=True)
def warm_uvloop() -> None:
    """It keeps a pipe for signals from its first run on."""
    if uvloop is not None:
        uvloop.run(asyncio.sleep(0))


async def get(package, transport, url: str) -> int:
    request = package.module.Request("GET", url)
    response = await transport.handle_async_request(request)
    await response.aread()
    return response.status_code


@pytest.fixture
def transport(package):
    made = package.ours()
    yield made
    asyncio.run(made.aclose())


def test_one_after_the_other(package, transport, chaos):
    for _ in range(3):
        assert asyncio.run(get(package, transport, chaos.url("/ok"))) == 200


def test_at_once_in_threads(package, transport, chaos):
    got = []

    async def many() -> None:
        got.extend(
            await asyncio.gather(
                *(get(package, transport, chaos.url("/ok?ms=5")) for _ in range(20))
            )
        )

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [200] * 80


@pytest.mark.skipif(uvloop is None, reason="no uvloop")
def test_uvloop(package, transport, chaos):
    assert uvloop.run(get(package, transport, chaos.url("/ok"))) == 200


def test_closing_without_a_loop(package, chaos):
    transport = package.ours()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(get(package, transport, chaos.url("/ok")))
    with pytest.raises(StopIteration):
        transport.aclose().send(None)  # waits for nothing
    loop.close()


async def test_use_after_closing(package, chaos):
    """As with the reference: an SDK's client may close a transport that another still uses."""
    transport = package.ours()
    for _ in range(2):
        assert await get(package, transport, chaos.url("/ok")) == 200
        await transport.aclose()


SCRIPTS = {
    "never closed": "asyncio.run(main(client, url))",
    "two loops": "asyncio.run(main(client, url)); asyncio.run(main(client, url))",
    "closed in another loop": "asyncio.run(main(client, url)); asyncio.run(client.aclose())",
    "an open stream": "asyncio.run(stream(client, url))",
    "debug": "asyncio.run(main(client, url), debug=True)",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_exit_is_silent(package, chaos, name):
    code = f"""
        import asyncio, sys
        import {package.name} as http
        from llmcurl.transports.{package.name} import AsyncCurlTransport
        async def main(client, url):
            assert (await client.get(url)).status_code == 200
        async def stream(client, url):
            request = client.build_request("GET", url)
            client.kept = await client.send(request, stream=True)
        url = {chaos.url("/drip?n=3&ms=1")!r}
        client = http.AsyncClient(transport=AsyncCurlTransport())
        {SCRIPTS[name]}
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
