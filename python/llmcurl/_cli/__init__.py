"""The command line, `python -m llmcurl COMMAND`. One module per command, imported only when it is the one asked for.

A command module has `HELP` (one line), `add_arguments(parser)` and `run(args) -> int`, the exit status.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

COMMANDS = ("batch", "chat", "demo", "doctor", "info", "mock")
"""Names of the command modules, in the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m llmcurl", description="Thousands of LLM calls at once."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__name__}.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 nobody read its output."""
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is known here, not at exit
    except OSError as exc:
        if not _give_up_broken_streams() and exc.errno != errno.ENOSPC:
            raise
        if isinstance(exc, BrokenPipeError):
            return 141  # as a shell tells of a program that SIGPIPE ended
        print(f"cannot write the output: {exc.strerror or exc}", file=sys.stderr)
        return 1


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(argv)
    ours = logging.getLogger("llmcurl")
    if not ours.handlers:  # what a command has to say it says itself
        ours.addHandler(logging.NullHandler())
    try:
        status: int = args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def _give_up_broken_streams() -> bool:
    """Whether standard output or error takes nothing any more; what is buffered must not fail again at exit."""
    found = False
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and _is_broken(stream):
            found = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return found


def _is_broken(stream: TextIO) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            return True
    except (OSError, ValueError):  # no descriptor: it is a program's own stream
        return False
    try:
        stream.flush()
    except OSError:
        return True
    return False
