"""Run a mock LLM server that speaks the OpenAI, Anthropic, Gemini and Ollama protocols.

Read its counters at /__mock__/stats and its last requests at /__mock__/requests; queue replies by POST to
/__mock__/script ({"replies": ["text", {"type": "Failure", "status": 429}]}); change settings at /__mock__/config.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

HELP = "run a mock LLM server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mock`."""
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080, help="0: any free one (default: 8080)")
    add(
        "--latency",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds until an answer (default: 0)",
    )
    add(
        "--ttft",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds until the first token of a stream",
    )
    add("--token-interval", type=float, default=0.0, metavar="S", help="seconds between two tokens")
    add("--reply", metavar="TEXT", help="the text of every answer")
    add("--echo", action="store_true", help="answer with the last user message")
    add("--fail", metavar="STATUS", type=int, help="answer with this HTTP error")
    add(
        "--fail-rate",
        metavar="P",
        type=float,
        default=1.0,
        help="in this part of the requests (default: 1)",
    )
    add("--retry-after", metavar="S", type=float, help="Retry-After of these errors, in seconds")
    add(
        "--raise",
        action="store_true",
        dest="lift",
        help="raise the limit of open files as far as it goes",
    )
    add("--rpm", metavar="N", type=int, help="requests per minute for each key; more get 429")
    add("--tpm", metavar="N", type=int, help="tokens per minute for each key; more get 429")
    add("--workers", metavar="N", type=int, help="requests worked on at once; more wait")
    add(
        "--jitter",
        metavar="SIGMA",
        type=float,
        default=0.0,
        help="spread of the latencies: sigma of a lognormal factor (default: 0)",
    )
    add(
        "--slow-rate",
        metavar="P",
        type=float,
        default=0.0,
        help="part of the requests that take ten times as long (default: 0)",
    )
    add("--api-key", help="refuse requests without this key")
    add(
        "--model",
        action="append",
        dest="models",
        help="a model to list; may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from ..testing import Failure, MockLLM
    from ..testing._process import serve

    if args.lift:
        from .._preflight import raise_fd_limit

        raise_fd_limit()
    settings = {}
    if args.reply is not None:
        settings["reply"] = args.reply
    if args.models:
        settings["models"] = tuple(args.models)
    if args.fail is not None:
        settings["failure"] = Failure(status=args.fail, retry_after=args.retry_after)
        settings["failure_rate"] = args.fail_rate
    try:
        mock = MockLLM(
            host=args.host,
            port=args.port,
            listeners=8,
            latency=args.latency,
            ttft=args.ttft,
            token_interval=args.token_interval,
            echo=args.echo,
            api_key=args.api_key,
            rpm=args.rpm,
            tpm=args.tpm,
            workers=args.workers,
            jitter=args.jitter,
            slow_rate=args.slow_rate,
            **settings,
        )
    except ValueError as exc:
        print(f"mock: {exc}", file=sys.stderr)
        return 2

    async def stopped() -> None:
        print(f"mock LLM on {mock.base_url}  (OpenAI clients: {mock.openai_url})", flush=True)
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, done.set)
        await done.wait()
        stats = mock.stats
        print(
            f"{stats.requests} requests, at most {stats.max_in_flight} at once, over {stats.connections} connections",
            flush=True,
        )

    try:
        asyncio.run(serve(mock, stopped))
    except BrokenPipeError:
        raise  # nobody reads on: `main` knows what to do
    except OSError as exc:
        print(f"cannot listen on {args.host}:{args.port}: {exc.strerror or exc}", file=sys.stderr)
        return 1
    return 0
