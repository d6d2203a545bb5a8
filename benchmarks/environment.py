"""What a run needs and stands on: the peers' interpreter, the floor, the description of the machine.

Job: make build/bench-venv, build the floor, collect versions. Not its job: measuring.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build"


def missing_tools(more: tuple[str, ...] = ()) -> list[str]:
    """Packages that are missing, by their Debian names. more: tools that are called as their package."""
    need = {
        "nginx": "nginx libnginx-mod-http-lua",
        "openssl": "openssl",
        "cc": "gcc",
        "make": "make",
        "wrk": "wrk",
        "h2load": "nghttp2-client",
        **{tool: tool for tool in more},
    }
    places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for tool, package in need.items() if not shutil.which(tool, path=places)]


def ensure_tools(*more: str) -> None:
    """Installs what is missing where that is possible, else says how."""
    missing = missing_tools(more)
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *" ".join(missing).split()]
    if os.getuid() == 0 and shutil.which("apt-get"):
        print("installing:", " ".join(missing), file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    still = missing_tools(more)
    optional = {"wrk", "nghttp2-client"}
    if still:
        print("missing: sudo apt install " + " ".join(still), file=sys.stderr)
    if set(still) - optional:
        raise SystemExit(1)


def ensure_python(where: Path | None = None) -> Path:
    """The interpreter of build/bench-venv, with requirements.txt installed for this very Python."""
    where = where or BUILD / "bench-venv"
    python = where / "bin" / "python"
    requirements = HERE / "requirements.txt"
    stamp = where / "installed"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making {where} (once)", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(where)], check=True)
    subprocess.run(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-r",
            str(requirements),
        ],
        check=True,
    )
    stamp.write_text(wanted)
    return python


def build_floor(prefix: str = "") -> Path:
    """Builds floor/floor.c against the libcurl in `prefix`, "" = the system's."""
    tag = hashlib.sha256(prefix.encode()).hexdigest()[:8] if prefix else "system"
    out = BUILD / "floor" / tag
    command = ["make", "-s", "-C", str(HERE / "floor"), f"OUT={out}"]
    if prefix:
        command.append(f"CURL_PREFIX={prefix}")
    subprocess.run(command, check=True)
    return out / "floor"


def libcurl_prefix(given: str | None = None) -> str:
    """The libcurl of package and floor: the one given, LLMCURL_CURL_PREFIX, the wheel's if
    scripts/build_deps.py has made it, else "" (the system's)."""
    prefix = given or os.environ.get("LLMCURL_CURL_PREFIX", "")
    if prefix or os.environ.get("LLMCURL_SYSTEM_CURL"):
        return prefix
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "build_deps.py"), "--check"])
    return str(BUILD / "deps" / "prefix") if done.returncode == 0 else ""


def build_package(python: Path, prefix: str, source: Path = ROOT, lib: Path | None = None) -> Path:
    """Builds the llmcurl in `source` for that interpreter and libcurl; returns where to import it from.

    Raises:
        RuntimeError: it does not build; with the compiler's output.
    """
    lib = lib or BUILD / "bench-lib"
    shutil.rmtree(lib, ignore_errors=True)
    steps = ["build_py", "--build-lib", str(lib), "build_ext", "--build-lib", str(lib)]
    env = {
        **os.environ,
        **({"LLMCURL_CURL_PREFIX": prefix} if prefix else {"LLMCURL_SYSTEM_CURL": "1"}),
    }
    done = subprocess.run(
        [str(python), "setup.py", "-q", *steps], cwd=source, capture_output=True, text=True, env=env
    )
    if done.returncode:
        raise RuntimeError(f"{source} does not build:\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    return lib


def snapshot(path: Path) -> Path:
    """Copies the llmcurl in `path` into build/bench-lib; returns the directory to import it from."""
    target = BUILD / "bench-lib"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if (path / "llmcurl").is_dir():
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path / "llmcurl", target / "llmcurl", ignore=ignore)
    return target


def native_info(python: Path, path: str) -> dict[str, Any] | None:
    """Version and libcurl of the llmcurl found in `path`; None when it is not built for this Python."""
    code = (
        "import json, llmcurl, llmcurl._native as n\n"
        "i = n.curl_info()\n"
        "print(json.dumps({'version': llmcurl.__version__, 'libcurl': i['version'], 'ssl': i['ssl_version']}))"
    )
    done = subprocess.run(
        [str(python), "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        print(
            "llmcurl is not importable, its rows are left out:",
            done.stderr.strip().split("\n")[-1],
            file=sys.stderr,
        )
        return None
    info: dict[str, Any] = json.loads(done.stdout)
    return info


def _first(path: str, key: str) -> str:
    try:
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "?"


def machine() -> dict[str, Any]:
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def revision(root: Path = ROOT) -> str:
    """The short commit id, with + when the sources differ from it."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True
        ).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "csrc", "python")
    return (git("rev-parse", "--short", "HEAD") or "?") + ("+" if dirty else "")
