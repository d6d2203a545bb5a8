"""What is known of an answer besides its head and body: `Timings`, and what its status means."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .traffic import Attempt

__all__ = ["KINDS", "REDIRECTS", "StatusKind", "Timings", "reason_of"]

#: Statuses whose Location is followed (RFC 9110 15.4).
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What a first digit says, for the text of an error.
KINDS = {
    1: "Informational response",
    3: "Redirect response",
    4: "Client error",
    5: "Server error",
}


@dataclass(frozen=True, slots=True)
class Timings:
    """When things happened, in seconds since the call was made; None: did not happen.

    Attributes:
        queued: left the queue.
        dns: name resolved. connect: TCP (or the proxy) connected. tls: handshake done. None
            on a reused connection.
        sent: the request went out.
        first_byte: the answer began.
        done: the answer was complete. delivered: the caller was given it.
        loop_delay: how many of these seconds were the own loop's doing: how long the bytes had
            been there before they were delivered; of a streamed LLM reply, those of its first
            token. What lay in the kernel counts as far as the watcher saw it (`watch`), to 50 ms.
        first_token, last_token: of a streamed LLM reply: its first and last piece was read.
        attempts: how often the request was sent, where retries are on.
    """

    queued: float | None = None
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    sent: float | None = None
    first_byte: float | None = None
    done: float | None = None
    delivered: float | None = None
    loop_delay: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    attempts: int | None = None

    @classmethod
    def from_raw(cls, values: tuple[float, ...]) -> Timings:
        """From the native tuple, in which a negative number stands for None."""
        times = (None if value < 0 else value for value in values)
        return cls(*times)  # type: ignore[arg-type]  # `attempts` comes later


def reason_of(status_code: int) -> str:
    """The standard reason phrase, "" for an unknown status."""
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return ""


class StatusKind:
    """The questions one asks about a status; mixed into `Response`."""

    __slots__ = ()

    status_code: int

    def _get(self, key: str) -> Any:
        raise NotImplementedError

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried, the last attempt last, if the call was under control (`Retry`, `RateLimit`,
        observers...) and is over; else ()."""
        return self._get("attempts") or ()

    @property
    def is_informational(self) -> bool:
        """1xx."""
        return 100 <= self.status_code <= 199

    @property
    def is_success(self) -> bool:
        """2xx."""
        return 200 <= self.status_code <= 299

    @property
    def is_redirect(self) -> bool:
        """3xx."""
        return 300 <= self.status_code <= 399

    @property
    def is_client_error(self) -> bool:
        """4xx."""
        return 400 <= self.status_code <= 499

    @property
    def is_server_error(self) -> bool:
        """5xx."""
        return 500 <= self.status_code <= 599

    @property
    def is_error(self) -> bool:
        """4xx or 5xx."""
        return 400 <= self.status_code <= 599
