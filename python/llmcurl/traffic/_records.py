"""What a batch writes to its checkpoint, and what it finds there when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from .._exceptions import HTTPError, TransportError
from ._journal import Entry, Journal

if TYPE_CHECKING:
    from ._batch import BatchResult

__all__ = [
    "FailedBefore",
    "Known",
    "Recorder",
    "ResultRecorder",
    "is_transient",
    "transient_status",
]

RETRY_FAILED = ("transient", "all", "none")


class FailedBefore(HTTPError):
    """An input failed in an earlier run, and was not called again.

    Attributes:
        type: the class of the error. status: the HTTP status, None if there was none.
    """

    def __init__(self, message: str, type: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.status = status


class Known(NamedTuple):
    """What the checkpoint has of an input. `hidden`: it is not given as a result."""

    value: Any = None
    error: Exception | None = None
    hidden: bool = False


class Recorder(Protocol):
    """Where a batch writes to."""

    def open(self) -> None:
        """Before the first input."""

    def known(self, index: int, input: Any) -> tuple[str, Known | None]:
        """The key of an input, and what is known of it; None if it has to be called."""

    def add(self, result: BatchResult[Any, Any]) -> None:
        """A call has ended."""

    def close(self) -> None:
        """At the end, also after an error."""


def transient_status(status: int | None) -> bool:
    """Whether another try may help after this status. None: there was no answer."""
    return status is None or status in (408, 409, 425, 429) or status >= 500


def is_transient(error: Exception) -> bool:
    """Whether another try may help."""
    status = getattr(error, "status", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return transient_status(status)
    return isinstance(error, (TransportError, OSError, TimeoutError)) or (
        type(error).__name__ in ("StreamInterrupted", "CircuitOpen")
    )


class _Error(msgspec.Struct, omit_defaults=True):
    type: str
    message: str
    status: int | None = None
    transient: bool = False


class _Line(msgspec.Struct):
    """A line of the file."""

    key: str
    index: int
    input: msgspec.Raw
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    seconds: float = 0.0


_decode = msgspec.json.Decoder(_Line).decode


def _entry_of(line: bytes) -> Entry:
    try:
        found = _decode(line)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(str(error)) from None
    return Entry(found.key, found.error is None)


def _plain(value: Any) -> Any:
    """JSON data of a value: replies, responses and embeddings have `json()`."""
    method = getattr(value, "json", None)
    return method() if callable(method) else value


class ResultRecorder:
    """The checkpoint of `batch`.

    Raises:
        ValueError: `retry_failed` is none of its words.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        key: Callable[[Any], str] | None,
        dump: Callable[[Any], Any] | None,
        load: Callable[[Any], Any] | None,
        retry_failed: str,
    ) -> None:
        if retry_failed not in RETRY_FAILED:
            raise ValueError(f"retry_failed must be one of {RETRY_FAILED}, not {retry_failed!r}")
        self._path = path
        self._key = key
        self._dump = _plain if dump is None else dump
        self._load = load
        self._retry = retry_failed
        self._journal: Journal | None = None

    def open(self) -> None:
        self._journal = Journal(self._path, _entry_of)

    def _key_of(self, index: int, input: Any) -> str:
        if self._key is not None:
            key = self._key(input)
            if not isinstance(key, str):
                raise TypeError(f"key must return a str, not {key!r}")
            return key
        digest = hashlib.blake2b(self._json_of(input), digest_size=8).hexdigest()
        return f"{index}-{digest}"

    @staticmethod
    def _json_of(input: Any) -> bytes:
        try:
            return msgspec.json.encode(input, order="deterministic")
        except (TypeError, ValueError) as error:
            raise TypeError(f"with a checkpoint an input must be JSON data: {error}") from error

    def known(self, index: int, input: Any) -> tuple[str, Known | None]:
        assert self._journal is not None
        key = self._key_of(index, input)
        at = self._journal.find(key)
        if at is None:
            return key, None
        line = _decode(self._journal.read(at))
        error = line.error
        if error is not None:
            if self._retry == "all" or self._retry == "transient" and error.transient:
                return key, None
            return key, Known(error=FailedBefore(error.message, error.type, error.status))
        value = msgspec.json.decode(line.value)
        return key, Known(value if self._load is None else self._load(value))

    def add(self, result: BatchResult[Any, Any]) -> None:
        assert self._journal is not None
        line = _Line(
            result.key,
            result.index,
            msgspec.Raw(self._json_of(result.input)),
            seconds=round(result.seconds, 6),
        )
        error = result.error
        if error is None:
            line.value = msgspec.Raw(msgspec.json.encode(self._dump(result.value)))
        else:
            status = getattr(error, "status", None)
            line.error = _Error(
                type(error).__name__,
                str(error),
                status if isinstance(status, int) else None,
                is_transient(error),
            )
        self._journal.append(Entry(result.key, error is None), msgspec.json.encode(line))

    def close(self) -> None:
        if self._journal is not None:
            try:
                self._journal.compact()
            finally:
                self._journal.close()
                self._journal = None
