"""Run a piece of Python in a fresh process, where it may fork, exit in the middle or break its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

PRELUDE = """
import asyncio, gc, logging, os, sys, threading, time, warnings
import llmcurl
logging.getLogger("llmcurl").addHandler(logging.NullHandler())  # a slow machine is no news here
def fork_in_loop():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    pid = os.fork()
    if pid == 0:  # in no loop any more, nor in a task of it, whatever this asyncio remembers
        asyncio._set_running_loop(loop)
        try:
            asyncio.tasks._leave_task(loop, task)
        except RuntimeError:
            pass  # it has left it by itself
        asyncio._set_running_loop(None)
    return pid
"""


def run(
    script: str,
    *arguments: str,
    prelude: str = PRELUDE,
    timeout: float = 60,
    options: tuple[str, ...] = (),
) -> subprocess.CompletedProcess:
    """The finished process; `sys.argv[1:]` are the arguments."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # Python 3.12 and newer warn of any fork beside another thread, such as the loop's watcher, and
    # 3.14 of subinterpreters that are left
    quiet = (
        "-W",
        "ignore:This process:DeprecationWarning",
        "-W",
        "ignore:remaining:RuntimeWarning",
    )
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        *quiet,
        *options,
        "-c",
        prelude + textwrap.dedent(script),
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def silent(script: str, *arguments: str, **options) -> str:
    """The same; it must end well and say nothing on stderr. Returns its output."""
    done = run(script, *arguments, **options)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == "", done.stderr
    return done.stdout
