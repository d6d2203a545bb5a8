"""Reads the sanitizers' report files and tells ours from Python's: exit code 1 if any is ours.

CPython and many extensions still hold memory when the process ends, and LeakSanitizer calls much of
it leaked. A leak counts when it is direct (nothing else that leaked points to it) and the function
that called the allocator lies in one of OURS. Objects of our Python types are allocated by the
interpreter and counted by `_native._live()` instead. Every other kind of report counts.
Used by scripts/asan, which sets a trace format that ends each frame with the module's path.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = re.compile(r"/(_native\.[^/]*|libcurl[^/]*|libnghttp2[^/]*)$")
MODULE = re.compile(r"\(([^()+]+?)(?:\+0x[0-9a-f]+)?\)\s*$")


def leaks(text: str) -> Iterator[str]:
    """The direct leaks of a report that are ours, each with its trace."""
    for block in re.split(r"\n\s*\n", text):
        lines = block.strip().splitlines()
        if not lines or not lines[0].startswith("Direct leak"):
            continue
        # frame 0 is the sanitizer's malloc, frame 1 is who called it
        caller = next((line for line in lines if line.lstrip().startswith("#1 ")), "")
        module = MODULE.search(caller)
        if module and OURS.search(module.group(1)):
            yield "\n".join(lines)


def main(paths: list[str]) -> int:
    count = 0
    for path in map(Path, paths):
        text = path.read_text(errors="replace")
        if "LeakSanitizer: detected memory leaks" in text:
            before, _, after = text.partition("LeakSanitizer: detected memory leaks")
            found = list(leaks(after))
            if re.search(r"runtime error:|ERROR: AddressSanitizer", before):
                found.insert(0, before)
        else:
            found = [text] if text.strip() else []
        for report in found:
            print(f"--- {path.name}\n{report}\n")
        count += len(found)
    print(f"sanitizers: {count} reports" if count else "sanitizers: nothing to report")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
