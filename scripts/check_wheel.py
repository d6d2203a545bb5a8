"""Checks a finished wheel: what it weighs, links, exports, is tagged and built with.

scripts/check_wheel.py dist/*.whl      one line per wheel, exit code 1 if something is wrong
scripts/check_wheel.py --requirements  the packages that the suite needs, for a new venv
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

from fetch_source import ROOT, pins

MOST = 6_000_000  # bytes
LIBC = re.compile(
    r"(lib(c|m|dl|rt|pthread)\.so\.\d+|ld-linux[-\w]*\.so\.\d+|libc\.musl-\w+\.so\.1)"
)


def project_version() -> str:
    text = (ROOT / "python" / "llmcurl" / "_version.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"', text, re.M)
    assert found is not None, "_version.py has no version"
    return found[1]


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def faults_of(wheel: Path) -> list[str]:
    """Everything that is wrong with it, one sentence each."""
    found = []
    size = wheel.stat().st_size
    if size >= MOST:
        found.append(f"weighs {size:,} bytes, {MOST:,} are the limit")
    if not re.search(r"-(manylinux|musllinux)_\d+_\d+_\w+\.whl$", wheel.name):
        found.append("has no manylinux or musllinux tag")
    if f"llmcurl-{project_version()}-" not in wheel.name:
        found.append(f"is not of version {project_version()}")
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        objects = [name for name in names if ".so" in Path(name).suffixes]
        if len(objects) != 1 or not objects[0].startswith("llmcurl/_native."):
            found.append(f"holds these objects: {', '.join(objects) or 'none'}")
            return found
        for pin in pins():
            if not any(name.endswith(f"/licenses/{pin.name}.txt") for name in names):
                found.append(f"lacks the licence of {pin.name}")
        native = archive.extract(objects[0], folder)
        content = Path(native).read_bytes()
        dynamic = tool("readelf", "-dW", native)
        strange = [
            lib for lib in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic) if not LIBC.fullmatch(lib)
        ]
        if strange:
            found.append(f"needs {', '.join(strange)}")
        if re.search(r"\((RPATH|RUNPATH|TEXTREL)\)", dynamic):
            found.append("has a run path, or relocations in its code")
        symbols = {
            line.split()[-1] for line in tool("nm", "-D", "--defined-only", native).splitlines()
        }
        if symbols != {"PyInit__native"}:
            found.append(f"exports {', '.join(sorted(symbols)[:5])} ({len(symbols)} symbols)")
        if str(ROOT).encode() in content:
            found.append(f"names the directory it was built in, {ROOT}")
        for pin in pins():
            said = {"curl": f"{pin.version}", "openssl": f"OpenSSL {pin.version} "}.get(pin.name)
            if said and said.encode() not in content:
                found.append(f"does not say {said.strip()!r}, the pinned {pin.name}")
    return found


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # what checks sources, and the SDKs, is no concern of a wheel
    needed = ("pytest", "uvloop", "uvicorn", "fastapi", "trustme", "cryptography", "httpx", "tqdm")
    extras = project["optional-dependencies"]["test"]
    return [line for line in extras if re.match(r"[\w-]+", line)[0].startswith(needed)]  # type: ignore[index]


def main() -> int:
    if "--requirements" in sys.argv:
        print(*requirements(), sep="\n")
        return 0
    bad = 0
    for wheel in map(Path, sys.argv[1:]):
        found = faults_of(wheel)
        bad |= bool(found)
        print(
            f"{wheel.name}: {wheel.stat().st_size:,} bytes, {'; '.join(found) or 'as it should be'}"
        )
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
