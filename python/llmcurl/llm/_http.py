"""How an LLM client sends: straight to the client's native pool where nothing stands between."""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any

from .._client import AsyncClient
from .._config import UNSET, Timeout, TimeoutTypes, Unset, build_timeout
from .._decoders import ceiling_of, too_large
from .._drive import STREAM
from .._models import Response
from .._native import Call
from ._events import MAX_EVENT

__all__ = ["is_framed", "is_unclear", "open_stream", "post", "reader_of", "rest_of", "start_of"]

#: connect, read, write, pool, total in milliseconds, 0 = none.
Milliseconds = tuple[int, int, int, int, int]


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
    times = None if isinstance(timeout, Unset) else build_timeout(timeout, client.timeout).as_ms()
    response = await _straight(client, url, headers, body, times, STREAM)
    response._attach(delivered=time.monotonic(), max_body=_ceiling(client))
    return response


def _ceiling(client: AsyncClient) -> int | None:
    """Of a body that is read as a whole after all, bytes."""
    return client._settings.more.get("max_body")


def _straight(
    client: AsyncClient,
    url: str,
    headers: dict[str, str],
    body: bytes,
    times: Milliseconds | None,
    flags: int,
) -> Call:
    binding = client._binding
    if binding is None or binding.loop is not _get_running_loop():
        binding = client._bind()
    entry = binding.ready.get(url)
    if entry is None:
        entry = binding.remember(url, client._merge_url(url))
    start, target = entry
    return start("POST", target, client._ready_headers(binding, headers, False), body, times, flags)


async def post(
    client: AsyncClient,
    url: str,
    headers: dict[str, str],
    body: bytes,
    timeout: TimeoutTypes | Unset,
    limit: Callable[[Milliseconds], Milliseconds],
    stream: bool,
) -> Response:
    """One attempt of a controlled call: past the client's own control. `limit` shortens the
    time-outs.

    Raises:
        As `AsyncClient.send`.
    """
    times = limit(build_timeout(timeout, client.timeout).as_ms())
    if client._simple:
        response: Response = await _straight(
            client, url, headers, body, times, STREAM if stream else 0
        )
        if stream:
            response._attach(delivered=time.monotonic(), max_body=_ceiling(client))
        return response
    request = client.build_request("POST", url, content=body, headers=headers)
    seconds = [ms / 1000 if ms else None for ms in times]
    connect, read, write, pool, total = seconds
    allowed = Timeout(connect=connect, read=read, write=write, pool=pool, total=total)
    response = await client._launch(request, client._plan(request, UNSET, UNSET, allowed, stream))
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


#: How the lines of server-sent events begin.
_FIELDS = (b"data", b"event", b"id", b"retry", b":")


def start_of(data: bytes) -> bytes:
    """What is left without a byte order mark and blanks before it."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")


def is_unclear(provider: str, start: bytes) -> bool:
    """More of the body is needed before `is_framed` can be asked."""
    if provider != "ollama":
        return len(start) < max(map(len, _FIELDS))
    return b"\n" not in start and len(start) < MAX_EVENT


def is_framed(provider: str, start: bytes) -> bool:
    """Whether a body that begins so is a stream, whatever its Content-Type says."""
    if provider != "ollama":
        return start.startswith((*_FIELDS, b"["))
    line, end, _ = start.partition(b"\n")
    return bool(end) and line.rstrip().endswith(b"}") and b'"error"' not in line


async def rest_of(response: Response, first: bytes, read: Callable[[], Awaitable[bytes]]) -> bytes:
    """The whole body, of which `first` was read already; `response` has it, too.

    Raises:
        ResponseTooLarge: as `Response.aread`.
        TransportError: as `Response.aiter_bytes`.
    """
    pieces, total = [first], len(first)
    encoded = bool(response._encodings())
    while chunk := await read():
        pieces.append(chunk)
        total += len(chunk)
        received = response.num_bytes_downloaded or total
        if total > (limit := ceiling_of(response._extra, received, None, encoded)):
            raise too_large(limit, received)
    body = b"".join(pieces)
    response._attach(content=body)
    return body
