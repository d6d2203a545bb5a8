"""Reads a callgrind output file: own and inclusive instructions of each function.

Job: the file format (name compression, call lines, inlined parts). Not its job: running callgrind (run.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"^(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?$")


@dataclass
class Profile:
    own: dict[tuple[str, str], int] = field(default_factory=dict)  # by (function, object)
    inclusive: dict[str, int] = field(default_factory=dict)  # by function; recursion counts twice


def plain(name: str) -> str:
    """The name in the source: without the suffixes of the compiler and of recursion."""
    return name.partition("'")[0].partition(".")[0]


def read(path: Path) -> Profile:
    names: dict[str, dict[str, str]] = {"ob": {}, "fl": {}, "fn": {}}
    kinds = {"cob": "ob", "cfn": "fn", "fi": "fl", "fe": "fl", "cfi": "fl", "cfl": "fl"}
    profile = Profile()
    current_object = function = ""
    after_calls = False
    for line in path.read_text(errors="replace").splitlines():
        found = _NAME.match(line)
        if found:
            kind, number, name = found.groups()
            table = names[kinds.get(kind, kind)]
            if name is not None:
                table[number] = name
            if kind == "ob":
                current_object = table[number]
            elif kind == "fn":
                function = plain(table[number])
            continue
        if line.startswith("calls="):
            after_calls = True
            continue
        if not line or not (line[0].isdigit() or line[0] in "+-*"):
            continue
        parts = line.split()
        cost = int(parts[1]) if len(parts) > 1 else 0
        profile.inclusive[function] = profile.inclusive.get(function, 0) + cost
        if after_calls:
            after_calls = False
        else:
            key = (function, current_object)
            profile.own[key] = profile.own.get(key, 0) + cost
    return profile
