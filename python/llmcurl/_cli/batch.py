"""Carry out a file of LLM calls, so many at a time, and write each answer to another file.

A line of the input is a text, an object with "prompt" or "messages" and the parameters of a chat, or a line
of OpenAI's batch files ("custom_id", "method", "url", "body"); the output has the same form. Killed at any
point, `--resume` goes on: what was answered is not called again. Ids ("id", "custom_id") must differ.

Exit status 0: all were answered; 1: some failed, or the files cannot be used; 2: wrong usage; 130, 143: stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ._limits import make_room
from ._numbers import above, not_below, whole

if TYPE_CHECKING:
    from ..traffic import BatchStats
    from ..traffic._batchfile import Form, Scan
    from ..traffic._batchrun import Spec

HELP = "carry out a file of LLM calls, with limits, retries and a restart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `batch`."""
    add = parser.add_argument
    add("input", help="JSONL file, or - for stdin")
    add("output", help="JSONL file, written as the answers come")
    add("--model", help="of lines that name none")
    add("--override-model", action="store_true", help="--model also for lines that name one")
    add("--provider", choices=("openai", "anthropic", "gemini", "ollama"), default="openai")
    add("--base-url", metavar="URL", help="default: the provider's, or its environment variable")
    add("--format", choices=("auto", "plain", "openai"), default="auto", help="of the input")
    add(
        "--concurrency",
        type=whole,
        default=100,
        metavar="N",
        help="calls in flight (default: 100)",
    )
    add("--rpm", type=above, metavar="N", help="requests per minute, at most")
    add("--tpm", type=above, metavar="N", help="tokens per minute, at most")
    add("--redis", metavar="URL", help="share these limits with others through this Redis")
    add("--limit-name", default="default", metavar="NAME", help="of the limit in that Redis")
    add("--retries", type=int, default=4, metavar="N", help="further attempts (default: 4)")
    add(
        "--deadline",
        type=above,
        metavar="S",
        help="seconds for a line: its turn in the limits, all attempts",
    )
    add("--timeout", type=above, metavar="S", help="seconds for each phase of an attempt")
    add("--system", metavar="TEXT", help="system prompt of plain lines that have none")
    add("--max-tokens", type=whole, metavar="N", help="of plain lines that do not say")
    add("--resume", action="store_true", help="go on with an output that exists")
    add("--overwrite", action="store_true", help="replace an output that exists")
    add(
        "--retry-failed",
        choices=("transient", "all", "none"),
        default="transient",
        help="with --resume: which failures are called again (default: those that may pass)",
    )
    add("--idempotency", action="store_true", help="send an Idempotency-Key, the same in each run")
    add(
        "--price",
        nargs=2,
        type=not_below,
        metavar=("IN", "OUT"),
        help="per million tokens, for the cost",
    )
    add("--quiet", action="store_true", help="no progress, no summary")
    add("--dask", metavar="ADDRESS", help="let the workers of this Dask cluster send")
    add(
        "--chunk",
        type=whole,
        default=50,
        metavar="N",
        help="with --dask: lines per task (default: 50)",
    )


def _spec(args: argparse.Namespace) -> Spec:
    from ..traffic._batchrun import Spec

    defaults: dict[str, object] = {}
    if args.system is not None:
        defaults["system"] = args.system
    if args.max_tokens is not None:
        defaults["max_tokens"] = args.max_tokens
    return Spec(
        args.provider,
        args.base_url,
        args.model,
        args.override_model,
        defaults,
        args.retries,
        args.timeout,
        args.deadline,
        args.rpm,
        args.tpm,
        args.redis,
        args.limit_name,
        args.idempotency,
    )


def _wrong(args: argparse.Namespace) -> str | None:
    """What cannot be about the arguments."""
    if args.retries < 0:
        return "--retries must not be negative"
    if args.resume and args.overwrite:
        return "--resume and --overwrite exclude each other"
    if args.output == "-":
        return "the output must be a file: --resume needs it"
    if args.override_model and args.model is None:
        return "--override-model needs --model"
    if args.redis is not None and args.rpm is None and args.tpm is None:
        return "--redis needs --rpm or --tpm"
    if args.dask is not None and (args.rpm or args.tpm) and args.redis is None:
        return "--dask with --rpm or --tpm needs --redis: the workers have to share the limit"
    if not (args.resume or args.overwrite) and os.path.exists(args.output):
        if os.path.getsize(args.output):
            return f"{args.output} exists: --resume goes on with it, --overwrite replaces it"
    if args.input != "-" and os.path.exists(args.output) and os.path.exists(args.input):
        if os.path.samefile(args.input, args.output):
            return "input and output are the same file"
    return None


def run(args: argparse.Namespace) -> int:
    """Carry out the batch."""
    from ..traffic._batchfile import BadLine, scan

    problem = _wrong(args)
    if problem is not None:
        print(problem, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        try:
            path = args.input
            if path == "-" or os.path.exists(path) and not os.path.isfile(path):
                path = stack.enter_context(_spooled(path))
            found = scan(path, None if args.format == "auto" else args.format)
            if found.form == "openai" and (args.system, args.max_tokens) != (None, None):
                print(
                    "--system and --max-tokens are for plain lines; these have a body",
                    file=sys.stderr,
                )
                return 2
            if args.overwrite and os.path.exists(args.output):
                _empty(args.output)
            if args.dask is None and (note := make_room(args.concurrency)) and not args.quiet:
                print(note, file=sys.stderr)
            if not args.quiet:
                stack.enter_context(_logs_above_the_bar())
            stats, stopped = _carry_out(args, path, found)
        except (BadLine, OSError, ImportError) as error:
            print(error, file=sys.stderr)
            return 1
        except (RuntimeError, ValueError, TypeError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        except Exception as error:  # an LLMError: no key, say
            from ..llm import LLMError

            if not isinstance(error, LLMError):
                raise
            print(error, file=sys.stderr)
            return 1
    if stopped:
        print("stopped; --resume goes on", file=sys.stderr)
        return 128 + stopped
    return 1 if stats.failed else 0


@contextmanager
def _spooled(path: str) -> Iterator[str]:
    """The path of a copy of stdin (-) or a pipe: the input is read twice."""
    with tempfile.NamedTemporaryFile(prefix="llmcurl-batch-") as spool:
        if path == "-":
            shutil.copyfileobj(sys.stdin.buffer, spool)
        else:
            with open(path, "rb") as pipe:
                shutil.copyfileobj(pipe, spool)
        spool.flush()
        yield spool.name


def _empty(path: str) -> None:
    """Empties a file. RuntimeError: another run writes to it (see `Journal`)."""
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"{path} is in use by another run") from None
        file.truncate(0)


def _logs_above_the_bar() -> AbstractContextManager[object]:
    """What is logged meanwhile does not tear the progress bar."""
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            logs: Any = importlib.import_module("tqdm.contrib.logging")
        except ImportError:
            return nullcontext()
        above: AbstractContextManager[object] = logs.logging_redirect_tqdm(
            [logging.getLogger("llmcurl")]
        )
        return above
    return nullcontext()


def _carry_out(args: argparse.Namespace, path: str, found: Scan) -> tuple[BatchStats, int]:
    """The numbers in the end, and the signal that stopped it, 0 if none did."""
    stopped = 0

    async def main() -> BatchStats:
        nonlocal stopped
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(_work(args, path, found.form, found.total))

        def stop(number: int) -> None:
            nonlocal stopped
            stopped = number
            work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        return await work

    return asyncio.run(main()), stopped


async def _work(args: argparse.Namespace, path: str, form: Form, total: int) -> BatchStats:
    from ..traffic._batch import Batch
    from ..traffic._batchfile import FileRecorder, items_of
    from ..traffic._batchrun import sender

    recorder = FileRecorder(args.output, form, args.retry_failed)
    price = None if args.price is None else tuple(args.price)
    progress: bool | Callable[..., object] = not args.quiet
    spec = _spec(args)
    if args.dask is None:
        sending = sender(spec, form)
    else:
        from ..traffic._dask import cluster_sender

        sending = cluster_sender(args.dask, spec, form, min(args.chunk, args.concurrency))
    with open(path, "rb") as lines:  # noqa: ASYNC230 a file is read line by line, ahead of the disk
        async with sending as call:
            run = Batch(
                items_of(lines, form),
                call,
                args.concurrency,
                False,
                recorder,
                progress,
                total,
                price,
            )
            try:
                async with run:
                    async for _ in run:
                        pass
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling() > 1:  # type: ignore[union-attr]
                    raise
            return run.stats()
