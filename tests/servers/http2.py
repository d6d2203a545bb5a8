"""An HTTP/2 server that ends a connection, or one stream of it, in a chosen way.

Job: answer a connection's first request, meet its second as `fate` says, answer everything on later connections,
and keep what it saw. Not its job: well-behaved HTTP/2 (nginx.py).
"""

from __future__ import annotations

import asyncio

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded

from servers.thread import ThreadedServer


class Fateful(ThreadedServer):
    """`fate` is one of
    "goaway": GOAWAY that leaves the request out, then the end of the connection;
    "goaway-open": the same, and the connection stays;
    "refused": RST_STREAM with REFUSED_STREAM;
    "taken": GOAWAY that includes the request, then the end of the connection;
    "fin": the end of the connection; "reset": a TCP reset;
    "internal": RST_STREAM with INTERNAL_ERROR."""

    def __init__(self, fate: str, **options) -> None:
        super().__init__(**options)
        self.fate = fate
        self.requests: list[tuple[int, str, str]] = []  # (connection, method, path), each ended

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        writer.write(http.data_to_send())
        heads: dict[int, dict[str, str]] = {}
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived):
                    heads[event.stream_id] = dict(event.headers)
                elif isinstance(event, StreamEnded):
                    head = heads[event.stream_id]
                    self.requests.append((connection, head[":method"], head[":path"]))
                    if connection == 1 and len(heads) == 2:
                        if not self.meet(http, event.stream_id, writer):
                            return
                    else:
                        http.send_headers(event.stream_id, [(":status", "200")])
                        http.send_data(event.stream_id, head[":path"].encode(), end_stream=True)
            writer.write(http.data_to_send())

    def meet(self, http: H2Connection, stream: int, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection lives on."""
        if self.fate == "refused":
            http.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        elif self.fate == "internal":
            http.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)
        elif self.fate == "reset":
            writer.transport.abort()
            return False
        elif self.fate != "fin":
            last = stream if self.fate == "taken" else stream - 2
            http.close_connection(last_stream_id=last)
        writer.write(http.data_to_send())
        return self.fate in ("refused", "internal", "goaway-open")
