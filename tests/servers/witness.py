"""A server that tells what it saw: of each connection the TLS parameters, of each request the bytes of its head.

Job: what chaos.py cannot know of a handshake. Not its job: HTTP; one request per connection, answered with JSON.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from typing import Any


class Witness:
    """On a port of its own, or on the Unix socket `path`. `context`: a server's SSLContext, None = plain."""

    def __init__(self, context: ssl.SSLContext | None = None, path: str | None = None) -> None:
        self._context = context
        self._asked: str | None = None
        if context is not None:
            context.sni_callback = self._note_name
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self.seen: list[dict[str, Any]] = []

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http{'s' if self._context else ''}://{host}:{self.port}{path}"

    def _note_name(self, _: Any, name: str | None, __: Any) -> None:
        self._asked = name

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                peer.settimeout(30)
                with contextlib.suppress(OSError), peer:
                    self._answer(peer)

    def _answer(self, peer: socket.socket) -> None:
        self._asked = None
        told: dict[str, Any] = {}
        if self._context is not None:
            peer = self._context.wrap_socket(peer, server_side=True)
            told = {"name": self._asked, "version": peer.version(), "cipher": peer.cipher()[0]}
        with peer:
            raw = b""
            while b"\r\n\r\n" not in raw:
                part = peer.recv(65536)
                if not part:
                    return
                raw += part
            lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            # libcurl 8 writes Connection last; the order of different fields means nothing
            lines.sort(key=lambda line: line.startswith("Connection:"))
            told["head"] = "\r\n".join(lines)
            self.seen.append(told)
            body = json.dumps(told).encode()
            peer.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
                + body
            )

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
