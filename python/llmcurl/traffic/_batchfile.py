"""The files of `python -m llmcurl batch`: what a line of the input asks, and what is written for it.

Two forms. OpenAI's batch files: {"custom_id", "method", "url", "body"} in, {"id", "custom_id", "response",
"error"} out (https://platform.openai.com/docs/guides/batch). And a plain one: a text, or an object with
"prompt" or "messages" and the parameters of a chat; the output has the text, the usage and the input.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from ._journal import Entry
from ._records import (
    FailedBefore,
    JournalRecorder,
    Known,
    Problem,
    checked,
    problem_of,
    text_of,
    transient_status,
)

if TYPE_CHECKING:
    from ._batch import BatchResult

__all__ = [
    "BadLine",
    "FileRecorder",
    "Form",
    "Item",
    "Scan",
    "items_of",
    "one_line",
    "parse",
    "scan",
]

Form = Literal["openai", "plain"]

CHAT = "/v1/chat/completions"
_ENDPOINTS = (CHAT, "/v1/embeddings", "/v1/completions", "/v1/responses")


class BadLine(ValueError):
    """A line of the input that cannot be; the text names the line."""


class Item(NamedTuple):
    """An input: its key in the output, where it goes to, its parameters, and the line as it was read."""

    key: str
    url: str
    body: dict[str, Any]
    raw: bytes


class Scan(NamedTuple):
    """What a look at the whole input says."""

    form: Form
    total: int


class Answer(NamedTuple):
    """What a call gives to the recorder: bodies are JSON."""

    status: int
    request_id: str
    body: bytes
    text: str
    finish_reason: str | None
    tool_calls: list[Any]
    model: str
    usage: Any


# The input ------------------------------------------------------------------------------------------


class _Request(msgspec.Struct):
    custom_id: str
    url: str
    body: dict[str, Any]
    method: str = "POST"


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_any = msgspec.json.Decoder().decode


def _form_of(value: Any) -> Form:
    return "openai" if isinstance(value, dict) and "body" in value and "url" in value else "plain"


def parse(line: bytes, index: int, form: Form) -> Item:
    """The item of a line.

    Raises:
        BadLine: it is not of that form.
    """
    raw = line.strip()
    where = f"line {index + 1} of the input"
    try:
        if form == "openai":
            request = _decode_request(raw)
            if request.method.upper() != "POST" or request.url not in _ENDPOINTS:
                raise BadLine(
                    f"{where}: {request.method} {request.url} cannot be sent; POST to one of "
                    + ", ".join(_ENDPOINTS)
                )
            return Item(request.custom_id, request.url, request.body, raw)
        value = _decode_any(raw)
    except msgspec.DecodeError as error:
        raise BadLine(f"{where}: {error}") from None
    if isinstance(value, str):
        value = {"messages": value}
    if not isinstance(value, dict):
        raise BadLine(f"{where}: a text or an object is needed")
    body = dict(value)
    name = body.pop("custom_id", None)
    name = body.pop("id", None) if name is None else name
    if "messages" not in body:
        if "prompt" not in body:
            raise BadLine(f'{where}: it has neither "prompt" nor "messages"')
        body["messages"] = body.pop("prompt")
    if not isinstance(body["messages"], (str, list)) or not body["messages"]:
        raise BadLine(f"{where}: the messages must be a text or a list, and not empty")
    if name is None:
        key = f"{index}-{hashlib.blake2b(raw, digest_size=8).hexdigest()}"
    elif isinstance(name, (str, int)):
        key = str(name)
    else:
        raise BadLine(f"{where}: its id must be a text or a number")
    return Item(key, CHAT, body, raw)


class _Seen:
    """Whether a key comes for the second time; on disk, in a little memory."""

    def __init__(self) -> None:
        import sqlite3

        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-4096"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE seen (key TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def add(self, key: str) -> bool:
        """False if it was there."""
        return self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def close(self) -> None:
        self._db.close()


def scan(path: str | os.PathLike[str], form: Form | None = None) -> Scan:
    """Reads the input once: its form, its length, and whether all of it can be.

    Raises:
        BadLine: a line cannot be, or has the custom_id of an earlier one.
        OSError: it cannot be read.
    """
    total = 0
    found = form
    seen = _Seen()
    try:
        with open(path, "rb") as file:
            for line in _lines(file):
                if found is None:
                    found = guess(line)
                item = parse(line, total, found)
                if not seen.add(item.key):
                    raise BadLine(
                        f"line {total + 1} of the input: {item.key!r} has come before; ids must differ"
                    )
                total += 1
    finally:
        seen.close()
    return Scan(found or "plain", total)


def guess(line: bytes) -> Form:
    """The form of an input, by its first line. Raises: BadLine."""
    try:
        return _form_of(_decode_any(line))
    except msgspec.DecodeError as error:
        raise BadLine(f"line 1 of the input is not JSON: {error}") from None


def items_of(lines: Iterator[bytes], form: Form) -> Iterator[Item]:
    """The items of an input that was scanned. Raises: BadLine."""
    for index, line in enumerate(_lines(lines)):
        yield parse(line, index, form)


def _lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Those that are not empty, without the mark that some editors begin a file with."""
    mark = codecs.BOM_UTF8
    for line in lines:
        text, mark = line.removeprefix(mark), b""
        if text.strip():
            yield text


# The output -----------------------------------------------------------------------------------------


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _OpenAIError(msgspec.Struct):
    code: str
    message: str


class _OpenAILine(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _OpenAIError | None


class _PlainLine(msgspec.Struct):
    key: str
    input: msgspec.Raw
    text: str | None = None
    finish_reason: str | None = None
    tool_calls: list[Any] = []
    model: str = ""
    usage: Any = None
    seconds: float = 0.0
    error: Problem | None = None


_decode_openai = msgspec.json.Decoder(_OpenAILine).decode
_decode_plain = msgspec.json.Decoder(_PlainLine).decode


_openai_entry = checked(
    _decode_openai,
    lambda found: Entry(
        found.custom_id, found.response is not None and found.response.status_code < 400
    ),
)
_plain_entry = checked(_decode_plain, lambda found: Entry(found.key, found.error is None))


class FileRecorder(JournalRecorder):
    """Writes the output, and knows what is in it already.

    Raises:
        ValueError: `retry_failed` is none of its words.
    """

    def __init__(
        self, path: str | os.PathLike[str], form: Form, retry_failed: str = "transient"
    ) -> None:
        super().__init__(path, retry_failed)
        self._form = form
        self._began = hashlib.blake2b(os.urandom(16), digest_size=6).hexdigest()
        self._count = 0

    def entry_of(self, line: bytes) -> Entry:
        return _openai_entry(line) if self._form == "openai" else _plain_entry(line)

    def known(self, index: int, input: Item) -> tuple[str, Known | None]:
        at = self._journal.find(input.key)
        if at is None:
            return input.key, None
        line = self._journal.read(at)
        failure = self._failure_of(line)
        if failure is not None:
            error, transient = failure
            if self._again(transient):
                return input.key, None
            return input.key, Known(error=error, hidden=True)
        return input.key, Known(hidden=True)

    def _failure_of(self, line: bytes) -> tuple[FailedBefore, bool] | None:
        """The error in a line, and whether another try may help; None if it is an answer."""
        if self._form == "plain":
            problem = _decode_plain(line).error
            if problem is None:
                return None
            return FailedBefore(problem.message, problem.type, problem.status), problem.transient
        found = _decode_openai(line)
        if found.response is None:
            error = found.error or _OpenAIError("", "")
            return FailedBefore(error.message, error.code), error.code not in _PERMANENT
        if found.response.status_code < 400:
            return None
        status = found.response.status_code
        return FailedBefore(f"status {status}", "", status), transient_status(status)

    def add(self, result: BatchResult[Item, Answer]) -> None:
        make = self._openai_line if self._form == "openai" else self._plain_line
        self.write(result.key, result.error is None, make(result))

    def write(self, key: str, answered: bool, line: bytes) -> None:
        """Writes a line that was made elsewhere."""
        self._journal.append(Entry(key, answered), line)

    def _openai_line(self, result: BatchResult[Item, Answer]) -> bytes:
        self._count += 1
        line = _OpenAILine(
            f"batch_req_{self._began}{self._count:08x}", result.input.key, None, None
        )
        error = result.error
        if error is None:
            answer = result.unwrap()
            line.response = _Response(answer.status, answer.request_id, msgspec.Raw(answer.body))
            return msgspec.json.encode(line)
        status = getattr(error, "status", None)
        if isinstance(status, int) and status >= 400:
            body: bytes = getattr(error, "body", b"")
            line.response = _Response(status, getattr(error, "request_id", ""), _json_or_text(body))
        else:
            line.error = _OpenAIError(type(error).__name__, text_of(error))
        return msgspec.json.encode(line)

    @staticmethod
    def _plain_line(result: BatchResult[Item, Answer]) -> bytes:
        item, error = result.input, result.error
        line = _PlainLine(
            item.key, msgspec.Raw(one_line(item.raw)), seconds=round(result.seconds, 6)
        )
        if error is not None:
            line.error = problem_of(error)
            return msgspec.json.encode(line)
        answer = result.unwrap()
        line.text = answer.text
        line.finish_reason = answer.finish_reason
        line.tool_calls = answer.tool_calls
        line.model = answer.model
        line.usage = answer.usage
        return msgspec.json.encode(line)


_PERMANENT = frozenset(
    {"InvalidReply", "ResponseTooLarge", "BadRequestError", "TypeError", "ValueError"}
)


def one_line(body: bytes) -> bytes:
    """JSON without line breaks: OpenAI's errors, for one, have them."""
    if b"\n" in body or b"\r" in body:
        return msgspec.json.format(body, indent=-1)
    return body


def _json_or_text(body: bytes) -> msgspec.Raw:
    try:
        _decode_any(body)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(body.decode("utf-8", "replace")))
    return msgspec.Raw(one_line(body))
