"""uvicorn with a small ASGI application, in a thread: the server most Python LLM back ends run on.

Job: start, stop, the application (/json /echo /sse /slow?ms= /bytes?n=). `keep_alive` is uvicorn's idle time (its default is 5 s).
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from urllib.parse import parse_qsl

import uvicorn

from servers.thread import until_sync


async def application(scope: dict, receive, send) -> None:
    if scope["type"] != "http":
        return
    query = dict(parse_qsl(scope["query_string"].decode()))

    async def start(kind: bytes = b"application/json") -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        )

    async def body() -> bytes:
        data, more = b"", True
        while more:
            message = await receive()
            data, more = data + message.get("body", b""), message.get("more_body", False)
        return data

    async def end(data: bytes = b"") -> None:
        await send({"type": "http.response.body", "body": data})

    path = scope["path"]
    if path == "/echo":
        data = await body()
        await start(b"application/octet-stream")
        await end(data)
    elif path == "/sse":
        await start(b"text/event-stream")
        for i in range(int(query.get("n", 5))):
            await send(
                {"type": "http.response.body", "body": b"data: %d\n\n" % i, "more_body": True}
            )
            await asyncio.sleep(float(query.get("ms", 0)) / 1000)
        await end(b"data: [DONE]\n\n")
    elif path == "/slow":
        await body()
        await asyncio.sleep(float(query.get("ms", 100)) / 1000)
        await start()
        await end(b'{"slow":true}')
    elif path == "/bytes":
        await start(b"application/octet-stream")
        await end(b"x" * int(query.get("n", 1000)))
    else:
        await body()
        await start()
        facts = {
            "method": scope["method"],
            "path": path,
            "query": query,
            "version": scope["http_version"],
        }
        await end(json.dumps(facts).encode())


class Uvicorn:
    def __init__(self, *, keep_alive: int = 5) -> None:
        self.keep_alive = keep_alive

    def start(self) -> Uvicorn:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            application, loop="asyncio", lifespan="off", log_config=None, access_log=False, timeout_keep_alive=self.keep_alive,
            timeout_graceful_shutdown=1, backlog=4096,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="uvicorn", daemon=True)
        self._thread.start()
        until_sync(lambda: self._server.started, 10, "uvicorn")
        return self

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    def url(self, path: str = "/") -> str:
        return self.origin + path

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self._socket.close()

    def __enter__(self) -> Uvicorn:
        return self.start()

    def __exit__(self, *exc) -> None:
        self.stop()
