"""What the mock saw: counters and the last requests."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from ._dialect import loads
from ._http import RequestHead


@dataclass(slots=True)
class Stats:
    """Counters since the start or the last reset. Calls to `/__mock__/` are not counted."""

    requests: int = 0
    """Complete requests received."""
    answered: int = 0
    """Answers sent to their last byte, planned failures included."""
    in_flight: int = 0
    """Requests received and not yet answered."""
    max_in_flight: int = 0
    connections: int = 0
    """Connections accepted."""
    open_connections: int = 0
    max_open_connections: int = 0
    disconnects: int = 0
    """Connections closed by the client before their answer was complete."""
    rate_limited: int = 0
    """Requests refused by `rpm`, `tpm` or `max_concurrent`."""
    waiting: int = 0
    """Requests that wait for one of the `workers`."""
    tokens: int = 0
    """Input and output tokens of the replies given."""

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return dataclasses.asdict(self)


class RecordedRequest:
    """One request as the mock got it."""

    __slots__ = ("number", "at", "size", "_head", "_body")

    def __init__(self, number: int, at: float, head: RequestHead, body: bytes, keep: int) -> None:
        self.number = number
        """1 for the first request."""
        self.at = at
        """When it was complete: seconds on the clock of the mock's loop."""
        self.size = len(body)
        """Bytes of the body, also of the part that was not kept."""
        self._head = head
        self._body = body if len(body) <= keep else body[:keep]

    @property
    def method(self) -> str:
        return self._head.method

    @property
    def path(self) -> str:
        """The path without the query, percent-decoded."""
        return self._head.path

    @property
    def target(self) -> str:
        """The request target as sent."""
        return self._head.target

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self._head.query, keep_blank_values=True))

    @property
    def headers(self) -> dict[str, str]:
        """Header values by lower-case name; repeated ones joined by a comma."""
        fields: dict[str, str] = {}
        for name, value in self._head.headers:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return fields

    @property
    def raw_headers(self) -> list[tuple[str, str]]:
        """Headers in the order sent, names in lower case."""
        return list(self._head.headers)

    @property
    def body(self) -> bytes:
        """The body, cut to the mock's `keep_body` bytes."""
        return self._body

    @property
    def json(self) -> Any:
        """The body decoded from JSON. ValueError if it is none, or was cut."""
        return loads(self._body)

    def as_dict(self) -> dict[str, Any]:
        """The form `/__mock__/requests` sends."""
        return {
            "number": self.number,
            "at": self.at,
            "size": self.size,
            "method": self.method,
            "target": self.target,
            "headers": self.raw_headers,
            "body": self._body.decode("latin-1"),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RecordedRequest:
        """The inverse of `as_dict`."""
        path, _, query = fields["target"].partition("?")
        headers = tuple((name, value) for name, value in fields["headers"])
        head = RequestHead(
            fields["method"], fields["target"], path, query, "HTTP/1.1", headers, 0, True, False
        )
        body = fields["body"].encode("latin-1")
        request = cls(fields["number"], fields["at"], head, body, len(body))
        request.size = fields["size"]
        return request

    def __repr__(self) -> str:
        return f"<RecordedRequest {self.number}: {self.method} {self.target}, {self.size} bytes>"


class Recorder:
    """The last requests, bounded in number and in bytes of each body."""

    __slots__ = ("kept", "_keep_body")

    def __init__(self, keep: int, keep_body: int) -> None:
        self.kept: deque[RecordedRequest] = deque(maxlen=keep)
        self._keep_body = keep_body

    def record(self, number: int, at: float, head: RequestHead, body: bytes) -> RecordedRequest:
        """Keep a request; the oldest goes when there are too many."""
        request = RecordedRequest(number, at, head, body, self._keep_body)
        self.kept.append(request)
        return request
