"""Debian's Redis and PostgreSQL as private processes in a temporary directory, reached by Unix sockets.

Job: start, wait until it answers, stop. Works as root (PostgreSQL then runs as nobody) and not. Nothing is kept.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .nginx import Missing

START_TIMEOUT = 40.0  # seconds; a machine may be slow

ENV = {
    key: value
    for key, value in os.environ.items()
    if key not in ("LD_PRELOAD", "ASAN_OPTIONS", "LSAN_OPTIONS")
}


def _program(name: str) -> str:
    """The newest PostgreSQL's, or what is on the path. Missing if there is none."""
    found = sorted(
        glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(path.split("/")[4])
    )
    program = found[-1] if found else shutil.which(name)
    if program is None:
        raise Missing(f"{name} is not installed; scripts/bootstrap test does that")
    return program


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    # Under /tmp: the path of a Unix socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(
        prefix="llmcurl-db-", dir="/tmp", ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def _wait(process: subprocess.Popen, ready, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            process.wait()
            raise RuntimeError(f"it did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen, number: int) -> None:
    process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """A Redis server; its URL."""
    with _directory() as home:
        socket, log = home / "redis.sock", home / "log"
        command = [
            _program("redis-server"),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--save",
            "",
            "--dir",
            str(home),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=ENV, stdin=subprocess.DEVNULL
            )
        try:
            _wait(process, socket.exists, log)
            yield f"unix://{socket}"
        finally:
            _stop(process, signal.SIGTERM)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server with an empty database; its URL."""
    initdb, server = _program("initdb"), _program("postgres")
    with _directory() as home:
        user = {}
        if os.getuid() == 0:  # it refuses to run as root
            entry = pwd.getpwnam("nobody")
            os.chown(home, entry.pw_uid, entry.pw_gid)
            user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        data, log = home / "data", home / "log"
        common = {
            "env": {**ENV, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            "cwd": home,
            "stdin": subprocess.DEVNULL,
            **user,
        }
        made = subprocess.run(
            [initdb, "-D", str(data), "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"],
            capture_output=True, text=True, check=False, **common,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stderr[-2000:]}")
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={home}",
            "fsync=off",
            "shared_buffers=8MB",
            "max_connections=20",
        ]
        command = [server, "-D", str(data)]
        for setting in settings:
            command += ["-c", setting]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, **common)
        try:
            # The socket is there before the server takes sessions; its log says when it does.
            _wait(process, lambda: b"ready to accept connections" in log.read_bytes(), log)
            yield f"postgresql://tests@/postgres?host={home}"
        finally:
            _stop(process, signal.SIGINT)
