"""A request that is being sent again over a fresh connection, and what may happen to it until that one stands."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import llmcurl
import pytest

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class OneConnection:
    """Accepts one connection, answers its first request, closes it at the second; nobody else gets in: SYNs are dropped."""

    def __enter__(self) -> OneConnection:
        self.stack = contextlib.ExitStack()
        self.listener = self.stack.enter_context(socket.socket())
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def serve(self) -> None:
        peer, _ = self.listener.accept()
        with peer:
            peer.recv(65536)
            for _ in range(3):
                filler = self.stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(self.listener.getsockname())
            peer.sendall(ANSWER)
            peer.recv(65536)
        self.closed.set()

    def __exit__(self, *exc: object) -> None:
        self.thread.join(20)
        self.stack.close()


@pytest.mark.parametrize("end", ["cancel", "timeout", "close"])
async def test_a_call_may_end_while_its_second_connection_is_being_made(end: str) -> None:
    """Nothing of that attempt stays behind: neither its socket nor its place."""
    with OneConnection() as server:
        client = llmcurl.AsyncClient(timeout=20)
        assert (await client.get(server.url)).json() == {}
        call = client.get(
            server.url, timeout=llmcurl.Timeout(20, total=0.3 if end == "timeout" else None)
        )
        async with asyncio.timeout(20):
            while not server.closed.is_set():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        if end == "cancel":
            call.cancel()
        elif end == "close":
            await client.aclose()
        with pytest.raises((asyncio.CancelledError, llmcurl.TotalTimeout, llmcurl.ClientClosed)):
            await call
        await client.aclose()
    # the numbers of the sockets that are gone come back
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(socket.socket())
        async with llmcurl.AsyncClient() as another:
            with pytest.raises(llmcurl.TransportError):
                await another.get("http://127.0.0.1:1/")
