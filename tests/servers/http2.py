"""HTTP/2 servers that end a connection, or one stream of it, in a chosen way, or follow a script.

Job: requests are met as the test wants, and kept. Not its job: well-behaved HTTP/2 (nginx.py).
"""

from __future__ import annotations

import asyncio
import os

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from llmcurl import _native

from servers.thread import ThreadedServer

LIBCURL = _native.curl_info()["version_num"]
TELLS_GOAWAY = (
    LIBCURL >= 0x080400
)  # before, a request that GOAWAY left out ends like one that was taken


class Scripted(ThreadedServer):
    """`script(server, peer, stream)` meets each request when it is whole, or when its body begins if its path starts
    with /early; `requests` has those met. `peer` is a Peer."""

    def __init__(self, script, **options) -> None:
        super().__init__(**options)
        self.script = script
        self.requests: list[tuple[int, str]] = []  # (connection, path)
        self.done: set[str] = set()  # what scripts tell the test

    def connections_of(self, path: str) -> list[int]:
        return [number for number, seen in self.requests if seen == path]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self.connections, writer)
        while data := await reader.read(65536):
            for event in peer.http.receive_data(data):
                if isinstance(event, RequestReceived):
                    peer.paths[event.stream_id] = dict(event.headers)[":path"]
                    continue
                begun = isinstance(event, DataReceived)
                if begun and event.flow_controlled_length:  # the other streams may go on
                    peer.http.increment_flow_control_window(event.flow_controlled_length)
                if not begun and not isinstance(event, StreamEnded):
                    continue
                path = peer.paths[event.stream_id]
                if begun == path.startswith("/early") and event.stream_id not in peer.met:
                    peer.met.add(event.stream_id)
                    self.requests.append((peer.number, path))
                    self.script(self, peer, event.stream_id)
            if writer.is_closing():
                return
            peer.flush()


class Peer:
    """One connection of `Scripted`."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.paths: dict[int, str] = {}
        self.met: set[int] = set()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.http.data_to_send())

    def answer(self, stream: int, status: int = 200) -> None:
        self.http.send_headers(stream, [(":status", str(status))])
        self.http.send_data(stream, self.paths[stream].encode(), end_stream=True)

    def raw(self, kind: int, payload: bytes, stream: int = 0) -> None:
        """A frame that need not be a lawful one."""
        self.flush()
        head = len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big")
        self.writer.write(head + payload)


class Fateful(Scripted):
    """Answers a connection's first request, meets its second as `fate` says, answers everything on later connections.

    "goaway": GOAWAY that leaves the request out, then the end of the connection;
    "goaway-open": the same, and the connection stays;
    "refused": RST_STREAM with REFUSED_STREAM;
    "taken": GOAWAY that includes the request, then the end of the connection;
    "fin": the end of the connection; "reset": a TCP reset; "bad-record": bytes that TLS cannot decrypt;
    "internal": RST_STREAM with INTERNAL_ERROR."""

    def __init__(self, fate: str, **options) -> None:
        super().__init__(self.meet, **options)
        self.fate = fate

    def meet(self, server: Scripted, peer: Peer, stream: int) -> None:
        if peer.number > 1 or len(peer.paths) != 2:
            peer.answer(stream)
        elif self.fate == "refused":
            peer.http.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif self.fate == "internal":
            peer.http.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif self.fate == "bad-record":
            socket = peer.writer.get_extra_info("socket")
            os.write(socket.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        elif self.fate == "reset":
            peer.writer.transport.abort()
        else:
            if self.fate != "fin":
                last = stream if self.fate == "taken" else stream - 2
                peer.http.close_connection(last_stream_id=last)
            if self.fate != "goaway-open":
                peer.flush()
                peer.writer.close()
