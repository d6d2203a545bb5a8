"""How an LLM client sends: straight to the client's native pool where nothing stands between."""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any

from .._client import AsyncClient
from .._config import TimeoutTypes, Unset, build_timeout
from .._drive import STREAM
from .._models import Response

__all__ = ["open_stream", "reader_of"]


async def open_stream(
    client: AsyncClient,
    url: str,
    headers: dict[str, str],
    body: bytes,
    timeout: TimeoutTypes | Unset,
) -> Response:
    """POSTs `body` and returns the response as soon as its head is there.

    Raises:
        As `AsyncClient.send`.
    """
    if not client._direct:
        request = client.build_request("POST", url, content=body, headers=headers)
        response: Response = await client.send(request, stream=True, timeout=timeout)
        return response
    binding = client._binding
    if binding is None or binding.loop is not _get_running_loop():
        binding = client._bind()
    entry = binding.ready.get(url)
    if entry is None:
        entry = binding.remember(url, client._merge_url(url))
    start, target = entry
    ready = client._ready_headers(binding, headers, False)
    times = None if isinstance(timeout, Unset) else build_timeout(timeout, client.timeout).as_ms()
    response = await start("POST", target, ready, body, times, STREAM)
    response._attach(delivered=time.monotonic())
    return response


def reader_of(response: Response) -> Callable[[], Awaitable[bytes]]:
    """A function whose await gives what has arrived of the body, b"" at its end."""
    stream = response._stream
    if stream is not None and not response._encodings():
        read: Any = stream.read
        return read  # type: ignore[no-any-return]
    chunks = response.aiter_bytes()

    async def read_decoded() -> bytes:
        async for chunk in chunks:
            return chunk
        return b""

    return read_decoded
