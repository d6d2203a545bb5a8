"""Rules for the sources that a compiler does not check, and what the built extension exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
C_FILES = sorted([*ROOT.glob("csrc/**/*.[ch]"), *ROOT.glob("tests/core/*.[ch]")])
OUR_C_FILES = [path for path in C_FILES if path.name != "pythoncapi_compat.h"]
CORE_FILES = [path for path in OUR_C_FILES if "csrc/core" in path.as_posix()]
EXTENSION_FILES = [path for path in OUR_C_FILES if "csrc" in path.parts]
PYTHON_FILES = sorted(
    path
    for top in ("python", "tests", "scripts", "benchmarks", "examples")
    for path in ROOT.glob(f"{top}/**/*.py")
) + [ROOT / "setup.py"]
MAX_LINES = 600
BANNED = "sprintf vsprintf strcpy strcat gets atoi atol strtok alloca".split()
HEAP = "malloc calloc realloc free strdup strndup".split()
LABELS = re.compile(r"done|error|fail_\w+")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def strip(text: str) -> str:
    """C source without comments, strings and character constants; the lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        word = match.group()
        if word[0] in "\"'":
            return word[0] * 2
        return " " + "\n" * word.count("\n")

    token = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(token, blank, text, flags=re.S)


def calls(code: str, names: list[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every call of one of the functions."""
    pattern = re.compile(rf"(?<![\w.])(?<!->)({'|'.join(names)})\s*\(")
    for number, line in enumerate(code.splitlines(), 1):
        for match in pattern.finditer(line):
            yield number, match.group(1)


def by_name(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name)


@by_name([*OUR_C_FILES, *PYTHON_FILES])
def test_file_is_at_most_600_lines_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@by_name(OUR_C_FILES)
def test_c_file_starts_with_a_comment_that_names_it(path: Path) -> None:
    assert path.read_text().startswith(f"/* {path.name} - ")


@by_name([path for path in EXTENSION_FILES if path.suffix == ".h"])
def test_header_says_its_job_its_users_and_its_threads(path: Path) -> None:
    comment = path.read_text().split("*/", 1)[0]
    missing = [word for word in ("Job:", "Used by:", "Threads:") if word not in comment]
    assert not missing


@by_name(CORE_FILES)
def test_core_does_not_know_python(path: Path) -> None:
    assert not re.search(r"\bPython\.h\b|\bPy[A-Z_]\w*", strip_includes_kept(path.read_text()))


def strip_includes_kept(text: str) -> str:
    includes = "\n".join(re.findall(r"^\s*#\s*include.*$", text, flags=re.M))
    return strip(text) + includes


@by_name(EXTENSION_FILES)
def test_no_function_without_a_bound_is_called(path: Path) -> None:
    found = [
        f"{name(path)}:{line}: {call}" for line, call in calls(strip(path.read_text()), BANNED)
    ]
    assert not found


@by_name([path for path in CORE_FILES if path.name not in ("lc_alloc.c", "lc_alloc.h")])
def test_core_reaches_the_heap_through_lc_alloc_only(path: Path) -> None:
    found = [f"{name(path)}:{line}: {call}" for line, call in calls(strip(path.read_text()), HEAP)]
    assert not found


@by_name(EXTENSION_FILES)
def test_python_versions_are_tested_in_compat_h_only(path: Path) -> None:
    if path.name == "compat.h":
        return
    assert "PY_VERSION_HEX" not in strip(path.read_text())


@by_name(EXTENSION_FILES)
def test_goto_leads_to_done_error_or_fail(path: Path) -> None:
    labels = re.findall(r"\bgoto\s+(\w+)\s*;", strip(path.read_text()))
    assert not [label for label in labels if not LABELS.fullmatch(label)]


@by_name(OUR_C_FILES)
def test_c_file_has_no_tabs_and_no_trailing_blanks(path: Path) -> None:
    text = path.read_text()
    assert "\t" not in text and not re.search(r"[ \r]$", text, flags=re.M) and text.endswith("\n")


@pytest.mark.no_asan
def test_extension_exports_its_init_function_only() -> None:
    native = pytest.importorskip("llmcurl._native")
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm here")
    out = subprocess.run(
        [nm, "-D", "--defined-only", native.__file__], capture_output=True, text=True, check=True
    ).stdout
    symbols = {line.split()[-1] for line in out.splitlines() if line.strip()}
    assert symbols == {"PyInit__native"}


def test_strip_forgets_comments_and_strings_and_keeps_lines() -> None:
    assert strip('a; /* free(x)\n */ b("free(\\"x");\n// gets(\nc') == 'a;  \n b("");\n \nc'


def test_calls_sees_functions_not_members_or_longer_names() -> None:
    code = "lc_free(a); t->free(b); t.free(c);\nfree (d); fgets(e);"
    assert list(calls(code, ["free", "gets"])) == [(2, "free")]
