"""What a batch writes to its checkpoint, and what it finds there when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from .._exceptions import HTTPError, TransportError
from ._journal import Entry, Journal

if TYPE_CHECKING:
    from ._batch import BatchResult

__all__ = [
    "FailedBefore",
    "JournalRecorder",
    "Known",
    "Problem",
    "Recorder",
    "ResultRecorder",
    "checked",
    "is_transient",
    "problem_of",
    "text_of",
    "transient_status",
]

RETRY_FAILED = ("transient", "all", "none")


def check_retry_failed(value: str) -> None:
    """ValueError if it is none of `RETRY_FAILED`."""
    if value not in RETRY_FAILED:
        raise ValueError(f"retry_failed must be one of {RETRY_FAILED}, not {value!r}")


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


class Problem(msgspec.Struct, omit_defaults=True):
    """An error as a line of a file tells it. `transient`: another try may help."""

    type: str
    message: str
    status: int | None = None
    transient: bool = False


def text_of(error: BaseException) -> str:
    """Its words, as UTF-8 can have them: names of files may have other bytes."""
    return str(error).encode("utf-8", "backslashreplace").decode()


def problem_of(error: Exception) -> Problem:
    """What a line tells of an error."""
    status = getattr(error, "status", None)
    return Problem(
        type(error).__name__,
        text_of(error),
        status if isinstance(status, int) else None,
        is_transient(error),
    )


_L = TypeVar("_L")


def checked(
    decode: Callable[[bytes], _L], entry: Callable[[_L], Entry]
) -> Callable[[bytes], Entry]:
    """What a journal asks of a line: its entry, ValueError if it is none of ours."""

    def entry_of(line: bytes) -> Entry:
        try:
            return entry(decode(line))
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(str(error)) from None

    return entry_of


class JournalRecorder:
    """A recorder that writes to a journal: opening, closing, and whether a failed input is called again.

    Raises:
        ValueError: `retry_failed` is none of its words.
    """

    def __init__(self, path: str | PathLike[str], retry_failed: str) -> None:
        check_retry_failed(retry_failed)
        self._path = path
        self._retry = retry_failed
        self._opened: Journal | None = None

    def entry_of(self, line: bytes) -> Entry:
        """The entry of a line; ValueError if it is none of this recorder's."""
        raise NotImplementedError

    @property
    def _journal(self) -> Journal:
        assert self._opened is not None, "open() comes first"
        return self._opened

    def open(self) -> None:
        self._opened = Journal(self._path, self.entry_of)

    def _again(self, transient: bool) -> bool:
        """Whether an input that failed is called again."""
        return self._retry == "all" or self._retry == "transient" and transient

    def close(self) -> None:
        journal, self._opened = self._opened, None
        if journal is not None:
            try:
                journal.compact()
            finally:
                journal.close()


class _Line(msgspec.Struct):
    """A line of the file."""

    key: str
    index: int
    input: msgspec.Raw
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: Problem | None = None
    seconds: float = 0.0


_decode = msgspec.json.Decoder(_Line).decode


_entry_of = checked(_decode, lambda found: Entry(found.key, found.error is None))


def _plain(value: Any) -> Any:
    """JSON data of a value: replies, responses and embeddings have `json()`."""
    method = getattr(value, "json", None)
    return method() if callable(method) else value


class ResultRecorder(JournalRecorder):
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
        super().__init__(path, retry_failed)
        self._key = key
        self._dump = _plain if dump is None else dump
        self._load = load

    def entry_of(self, line: bytes) -> Entry:
        return _entry_of(line)

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
        key = self._key_of(index, input)
        at = self._journal.find(key)
        if at is None:
            return key, None
        line = _decode(self._journal.read(at))
        error = line.error
        if error is not None:
            if self._again(error.transient):
                return key, None
            return key, Known(error=FailedBefore(error.message, error.type, error.status))
        value = msgspec.json.decode(line.value)
        return key, Known(value if self._load is None else self._load(value))

    def add(self, result: BatchResult[Any, Any]) -> None:
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
            line.error = problem_of(error)
        self._journal.append(Entry(result.key, error is None), msgspec.json.encode(line))
