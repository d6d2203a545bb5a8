"""The file of a batch: cut at any byte, compacted, many lines in little memory."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llmcurl import testing
from llmcurl.traffic._journal import Entry, Journal


def entry_of(line: bytes) -> Entry:
    try:
        found = json.loads(line)
        return Entry(found["key"], found["ok"])
    except (LookupError, TypeError) as error:
        raise ValueError(str(error)) from None


def line(key: str, ok: bool = True, text: str = "") -> bytes:
    return json.dumps({"key": key, "ok": ok, "text": text}).encode()


def fill(path: Path, *entries: tuple[str, bool]) -> None:
    journal = Journal(path, entry_of)
    for key, ok in entries:
        journal.append(Entry(key, ok), line(key, ok))
    journal.close()


def test_cut_at_any_byte_it_goes_on(tmp_path):
    path = tmp_path / "out"
    fill(path, *((f"key {number}", True) for number in range(4)))
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        ended = whole[:cut].count(b"\n")
        # a line that lacks its line feed only is whole
        ended += whole[cut : cut + 1] == b"\n" and cut > 0 and whole[cut - 1 : cut] == b"}"
        journal = Journal(path, entry_of)
        known = [journal.find(f"key {number}") is not None for number in range(4)]
        assert known == [number < ended for number in range(4)] and journal.lines == ended
        for number in range(ended, 4):
            journal.append(Entry(f"key {number}", True), line(f"key {number}"))
        for number in range(ended):
            assert journal.read(journal.find(f"key {number}")) == line(f"key {number}")
        journal.close()
        assert path.read_bytes() == whole


def test_failures_make_way_for_what_came_later(tmp_path):
    path = tmp_path / "out"
    fill(path, ("a", False), ("b", False), ("c", True))
    fill(path, ("a", True), ("b", False))
    journal = Journal(path, entry_of)
    assert (journal.lines, journal.answered) == (5, 2)
    assert journal.compact() == 2 and journal.compact() == 0
    journal.close()
    assert path.read_bytes().splitlines() == [line("c"), line("a"), line("b", False)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_line_is_read_whole(tmp_path):
    path = tmp_path / "out"
    journal = Journal(path, entry_of)
    journal.append(Entry("a", True), line("a", text="x" * 300_000))
    journal.append(Entry("b", True), line("b"))
    journal.close()
    journal = Journal(path, entry_of)
    assert journal.read(journal.find("a")) == line("a", text="x" * 300_000)
    assert journal.read(journal.find("b")) == line("b")
    journal.close()


def test_a_disk_that_is_full_is_told(tmp_path):
    try:
        journal = Journal("/dev/full", entry_of)
    except OSError:
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="space"):
        journal.append(Entry("a", True), line("a"))
    journal.close()


def test_a_disk_that_takes_a_part_of_a_line(tmp_path, monkeypatch):
    """What it took is taken back: the file has whole lines only, also for what reads it at once."""
    path = tmp_path / "out"
    fill(path, ("a", False), ("b", True))
    journal = Journal(path, entry_of)
    journal.append(Entry("a", True), line("a"))
    write = os.write

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        os, "write", lambda fd, data: write(fd, data[:7]) if len(data) > 20 else full()
    )
    with pytest.raises(OSError, match="space"):
        journal.append(Entry("c", True), line("c"))
    monkeypatch.undo()
    journal.append(Entry("d", True), line("d"))
    assert journal.compact() == 1
    journal.close()
    assert path.read_bytes().splitlines() == [line("b"), line("a"), line("d")]


def test_a_disk_that_is_full_when_the_file_is_compacted(tmp_path, monkeypatch):
    path = tmp_path / "out"
    fill(path, ("a", False), ("b", True))
    journal = Journal(path, entry_of)
    journal.append(Entry("a", True), line("a"))
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        journal.compact()
    monkeypatch.undo()
    journal.close()
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    path = tmp_path / "link"
    path.symlink_to("real")
    fill(path, ("a", False))
    journal = Journal(path, entry_of)
    journal.append(Entry("a", True), line("a"))
    assert journal.compact() == 1
    journal.close()
    assert path.is_symlink() and (tmp_path / "real").read_bytes() == line("a") + b"\n"


def test_a_file_that_was_replaced_while_it_was_opened(tmp_path, monkeypatch):
    """Another run puts its compacted file there between the opening and the lock."""
    path = tmp_path / "out"
    fill(path, ("a", True))
    flock, calls = fcntl.flock, []

    def late(fd, how):
        if not calls:
            path.rename(tmp_path / "old")
            path.write_bytes(line("b") + b"\n")
        calls.append(fd)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    journal = Journal(path, entry_of)
    journal.append(Entry("c", True), line("c"))
    journal.close()
    assert len(calls) == 2 and path.read_bytes().splitlines() == [line("b"), line("c")]


MEMORY = """
import json, sys
from llmcurl.traffic._journal import Entry, Journal
def entry_of(line):
    found = json.loads(line)
    return Entry(found["key"], True)
def memory():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
Journal(sys.argv[2], entry_of).close()
before = memory()
journal = Journal(sys.argv[1], entry_of)
assert journal.lines == 100000 and journal.find("key 99999") is not None
print(memory() - before)
"""


@pytest.mark.no_asan
def test_a_hundred_thousand_lines_take_little_memory(tmp_path):
    path = tmp_path / "out"
    with path.open("wb") as file:
        for number in range(100_000):
            file.write(line(f"key {number}") + b"\n")
    fill(tmp_path / "few", ("key", True))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "few")],
        env={"PYTHONPATH": str(Path(testing.__file__).parents[2])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 20_000, f"{done.stdout} KiB"
