"""`Journal`: the append-only file of a batch. It survives SIGKILL at any point.

One line of JSON for each input that was called. A line is written before its result is handed out, with
one `write`: once that has returned, the line outlives the process (a power cut may take the last lines;
the file is synced at the end). What a kill can leave behind is a torn last line; it is cut off when the
file is opened again.

To go on, the lines are looked up by key in an index, which is a temporary SQLite file with a small
cache: its memory does not grow with the number of lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Entry", "Journal"]

_CHUNK = 1 << 16
_COMMIT = 10_000


class Entry(NamedTuple):
    """What a line is about: the key of its input, and whether it is an answer (else a failure)."""

    key: str
    answered: bool


class Journal:
    """Opens the file, and creates it if there is none.

    Args:
        path: of the file.
        entry_of: reads a line; raises ValueError if it is none of ours.

    Raises:
        OSError: the file cannot be opened.
        RuntimeError: another process writes to it.
        ValueError: it has lines that are not ours. It is left as it is.
    """

    def __init__(self, path: str | os.PathLike[str], entry_of: Callable[[bytes], Entry]) -> None:
        self.path = os.fspath(path)
        self._entry_of = entry_of
        self._index: sqlite3.Connection | None = None
        self.lines = 0
        self.answered = 0
        self._superseded = 0  # failures of which a later line tells more
        self._fd = -1
        try:
            self._open()
            self._size = os.fstat(self._fd).st_size
            if self._size:
                self._read_all()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Opens and locks the file that has this name now: between the two another run may have
        put a new one into its place (`compact`)."""
        while True:
            self._fd = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
            )
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{self.path} is in use by another run") from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), os.stat(self.path)):
                    return
            os.close(self._fd)
            self._fd = -1

    # Reading what is there ------------------------------------------------------------------

    def _read_all(self) -> None:
        import sqlite3

        # "" is a temporary file that SQLite removes by itself.
        index = self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-4096"):
            index.execute(f"PRAGMA {pragma}")
        index.execute(
            "CREATE TABLE line (key TEXT PRIMARY KEY, at INTEGER, answered INTEGER) WITHOUT ROWID"
        )
        index.execute("BEGIN")
        for at, line, whole in self._walk():
            if not whole:
                self._mend(at, line)
                break
            self._note(at, self._entry(line, self.lines + 1))
            if self.lines % _COMMIT == 0:
                index.execute("COMMIT")
                index.execute("BEGIN")
        index.execute("COMMIT")

    def _walk(self) -> Iterator[tuple[int, bytes, bool]]:
        """(offset, line, whether it ends with a line feed) of each line."""
        with open(self.path, "rb", buffering=_CHUNK) as file:
            at = 0
            for line in file:
                yield at, line, line.endswith(b"\n")
                at += len(line)

    def _entry(self, line: bytes, number: int) -> Entry:
        try:
            return self._entry_of(line)
        except ValueError as error:
            raise ValueError(
                f"line {number} of {self.path} is not of a batch's output ({error}); the file is left as it is"
            ) from error

    def _mend(self, at: int, line: bytes) -> None:
        """The last line has no end: a kill tore it, or only its line feed is missing."""
        try:
            entry = self._entry_of(line)
        except ValueError:
            if not line.startswith(b"{"):
                raise ValueError(
                    f"the end of {self.path} is not of a batch's output; the file is left as it is"
                ) from None
            os.ftruncate(self._fd, at)
            self._size = at
            return
        self._write(b"\n")
        self._note(at, entry)

    def _note(self, at: int, entry: Entry) -> None:
        assert self._index is not None
        found = self._index.execute(
            "SELECT answered FROM line WHERE key = ?", (entry.key,)
        ).fetchone()
        if found is not None:
            self._superseded += not found[0]
            self.answered -= found[0]
        self._index.execute(
            "INSERT OR REPLACE INTO line VALUES (?, ?, ?)", (entry.key, at, entry.answered)
        )
        self.lines += 1
        self.answered += entry.answered

    # Using it ----------------------------------------------------------------------------------

    def find(self, key: str) -> int | None:
        """Where the last line of that input begins, None if there is none."""
        if self._index is None:
            return None
        found = self._index.execute("SELECT at FROM line WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    def read(self, at: int) -> bytes:
        """The line that begins there."""
        parts = []
        while chunk := os.pread(self._fd, _CHUNK, at):
            end = chunk.find(b"\n")
            if end >= 0:
                parts.append(chunk[:end])
                break
            parts.append(chunk)
            at += len(chunk)
        return b"".join(parts)

    def append(self, entry: Entry, line: bytes) -> None:
        """Writes a line.

        Raises:
            OSError: it could not be written. ValueError: it is more than one.
        """
        if b"\n" in line:
            raise ValueError(f"a line of {self.path} must not have a line feed")
        at = self._size
        try:
            self._write(line + b"\n")
        except OSError:
            with contextlib.suppress(OSError):  # a disk that is full may have taken a part
                os.ftruncate(self._fd, at)
                self._size = at
            raise
        if self._index is not None and self.find(entry.key) is not None:
            self._note(at, entry)
        else:
            self.lines += 1
            self.answered += entry.answered

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._size += count
            view = view[count:]

    def compact(self) -> int:
        """Takes out failures of which a later line tells more; how many there were.

        The new file takes the old one's place in one step: a kill leaves the one or the other.
        """
        gone = self._superseded
        if not gone:
            return 0
        path = os.path.realpath(self.path)  # a link stays one
        temporary = f"{path}.tmp"
        try:
            with open(temporary, "wb", buffering=_CHUNK) as out:
                for at, line, _ in self._walk():
                    entry = self._entry_of(line)
                    if entry.answered or self.find(entry.key) == at:
                        out.write(line)
                out.flush()
                os.fsync(out.fileno())
                os.fchmod(out.fileno(), os.fstat(self._fd).st_mode & 0o777)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the disk is full: it is not to stay so
                os.unlink(temporary)
            raise
        self._superseded = 0
        return gone

    def close(self) -> None:
        """Syncs and closes the file. Idempotent."""
        if self._index is not None:
            self._index.close()
            self._index = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # a pipe, say
                os.fsync(fd)
            os.close(fd)
