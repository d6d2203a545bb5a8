"""Ask a model and print its answer while it is written.

The prompt is the words given; `-` stands for what comes on standard input, which is also read when no prompt is
given. On a terminal without a prompt it is a conversation, ended by Ctrl-D. Ctrl-C ends the answer, at the server too.

The keys and addresses come from the providers' usual environment variables; the first provider that has one is asked.
Against the mock: `python -m llmcurl mock`, then `python -m llmcurl chat --base-url http://127.0.0.1:8080/v1 "Hello"`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..llm import LLM, Reply, Stream

HELP = "ask a model, and see its answer while it is written"

MODELS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "ollama": None,
}
"""What is asked at a provider's public address when no model is named; None: the first that the server lists."""

SIGNS = (
    ("openai", ("OPENAI_API_KEY", "OPENAI_BASE_URL")),
    ("anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")),
    ("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL")),
    ("ollama", ("OLLAMA_HOST", "OLLAMA_API_KEY")),
)
"""The environment variables that speak for a provider, in the order of asking."""

# What a model says must not steer the terminal: control characters but for line feed and tab.
_HARMLESS = {n: None for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}


class Wrong(Exception):
    """Wrong usage; the text says what."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `chat`."""
    add = parser.add_argument
    add("prompt", nargs="*", metavar="PROMPT", help="the prompt; - for standard input")
    add("-p", "--provider", choices=tuple(MODELS), help="default: the first with a key set")
    add("-m", "--model", metavar="NAME", help="default: one of the provider's")
    add("-s", "--system", metavar="TEXT", help="the system prompt")
    add("-i", "--image", action="append", default=[], metavar="FILE|URL", help="show an image, too")
    add("--base-url", metavar="URL", help="of a compatible server, a proxy or the mock")
    add("--max-tokens", type=int, metavar="N", help="of the answer")
    add("--temperature", type=float, metavar="T")
    add("--timeout", type=float, metavar="S", help="seconds to wait for the next byte")
    add("--no-stream", action="store_true", help="print the answer when it is complete")
    add("--reasoning", action="store_true", help="print what the model thinks, to stderr")
    add("--json", action="store_true", help="print the provider's whole answer as JSON")
    add("--models", action="store_true", help="list the models on offer")
    add("-v", "--verbose", action="store_true", help="tell tokens and times, to stderr")


def run(args: argparse.Namespace) -> int:
    """Ask; 0, or 1 when the model could not be asked or did not answer whole."""
    from .._exceptions import HTTPError, InvalidURL

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may not know every character
    try:
        return _run(args)
    except Wrong as exc:
        print(f"chat: {exc}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise  # nobody reads on: `main` knows what to do
    except (HTTPError, InvalidURL, OSError, ValueError) as exc:
        print(f"chat: {_words(exc)}", file=sys.stderr)
        return 1


def _words(exc: BaseException) -> str:
    return str(exc).translate(_HARMLESS) or type(exc).__name__


def _run(args: argparse.Namespace) -> int:
    talk = Talk(args)
    # One loop for all answers: the connections are kept from one to the next.
    with asyncio.Runner() as runner:
        try:
            if args.models:
                runner.run(talk.list_models())
            elif talk.first is None:
                _converse(talk, runner)
            else:
                return runner.run(talk.answer(talk.first))
        finally:
            runner.run(talk.llm.aclose())
    return 0


def _converse(talk: Talk, runner: asyncio.Runner) -> None:
    """Lines of the terminal, each answered. Ctrl-C ends an answer; at the prompt, or Ctrl-D, the talk."""
    from .._exceptions import HTTPError

    try:
        import readline  # noqa: F401 - line editing for input()
    except ImportError:
        pass
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if not line:
            continue
        try:
            runner.run(talk.answer(line))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        except (HTTPError, ValueError) as exc:
            print(f"chat: {_words(exc)}", file=sys.stderr)


class Talk:
    """The conversation so far and how it goes on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._is_terminal = sys.stdout.isatty()
        self._messages: list[Any] = []
        self.first = None if args.models else _prompt(args)
        self._images = [_image(source) for source in args.image]
        self.llm = _llm(args)

    async def list_models(self) -> None:
        for model in await self.llm.models():
            print(model.id)

    async def answer(self, prompt: str) -> int:
        """Ask and print; the answer becomes a part of the conversation. 1 if it is not whole."""
        llm, args = self.llm, self._args
        if llm.model is None:
            models = await llm.models()
            if not models:
                raise ValueError(f"{llm.base_url} lists no models; name one with --model")
            llm.model = models[0].id
        content: Any = [prompt, *self._images] if self._images else prompt
        self._images = []
        question = {"role": "user", "content": content}
        params = {
            name: value
            for name in ("system", "max_tokens", "temperature")
            if (value := getattr(args, name)) is not None
        }
        begun = time.monotonic()
        first = None
        if args.no_stream or args.json:
            reply = await llm.chat([*self._messages, question], **params)
            if args.json:
                self._write(reply.raw.decode("utf-8", "replace"))
            else:
                if args.reasoning and reply.reasoning:
                    self._think(reply.reasoning + "\n")
                self._write(reply.text)
            self._write("\n")
        else:
            async with llm.stream([*self._messages, question], **params) as stream:
                try:
                    await self._print(stream)
                finally:
                    first = stream.first_token_after
                reply = await stream.reply()
        self._messages += [question, reply.message]
        return self._tell(reply, time.monotonic() - begun, first)

    async def _print(self, stream: Stream) -> None:
        last = "\n"
        thought = ""
        try:
            async for delta in stream:
                if delta.reasoning and self._args.reasoning:
                    self._think(delta.reasoning)
                    thought = delta.reasoning
                elif delta.text:
                    if thought:
                        self._think("" if thought.endswith("\n") else "\n")
                        thought = ""
                    self._write(delta.text)
                    last = delta.text
        finally:
            # Also when it is interrupted: what follows begins on a line of its own.
            if not last.endswith("\n"):
                self._write("\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text.translate(_HARMLESS) if self._is_terminal else text)
        sys.stdout.flush()

    @staticmethod
    def _think(text: str) -> None:
        sys.stderr.write(text.translate(_HARMLESS) if sys.stderr.isatty() else text)
        sys.stderr.flush()

    def _tell(self, reply: Reply, seconds: float, first: float | None) -> int:
        """Say on stderr what the answer itself does not tell."""
        if self._args.verbose:
            usage = reply.usage
            words = [reply.model or self.llm.model or "", f"{seconds:.2f} s"]
            if first is not None:
                words.append(f"first token after {first:.2f} s")
            if usage.input_tokens is not None:
                words.append(f"{usage.input_tokens} tokens in")
            if usage.output_tokens is not None:
                words.append(f"{usage.output_tokens} out")
            print("[" + ", ".join(words) + "]", file=sys.stderr)
        reason = reply.finish_reason
        if reason in (None, "stop"):
            return 0
        meaning = {"length": "it came to its limit of tokens", "content_filter": "it was filtered"}
        print(f"chat: the answer is not whole: {meaning.get(reason, reason)}", file=sys.stderr)
        return 1


def _prompt(args: argparse.Namespace) -> str | None:
    """The prompt of the command line and of standard input; None: a person sits at the terminal."""
    words: list[str] = args.prompt
    if not words:
        if sys.stdin is None or sys.stdin.isatty():
            return None
        words = ["-"]
    if words.count("-") > 1:
        raise Wrong("standard input can be read once only")
    text = ""
    for word in words:
        if word == "-":
            found = sys.stdin.buffer.read().decode("utf-8", "replace")
            text += f"\n\n{found}" if text else found
        else:
            text += f" {word}" if text and not text.endswith("\n") else word
    if not text.strip():
        raise Wrong("the prompt is empty")
    return text


def _image(source: str) -> dict[str, Any]:
    from ..llm import image

    if source.startswith(("http://", "https://", "data:", "gs://")):
        return image(source)
    return image(Path(source).read_bytes())


def _llm(args: argparse.Namespace) -> LLM:
    from .. import llm

    provider = args.provider
    if provider is None:
        for name, variables in SIGNS:
            if any(os.environ.get(variable) for variable in variables):
                provider = name
                break
        else:
            if args.base_url is None:
                names = ", ".join(variables[0] for _, variables in SIGNS)
                raise Wrong(f"which provider? set one of {names}, or give --provider or --base-url")
            provider = "openai"
    classes = {
        "openai": llm.OpenAI,
        "anthropic": llm.Anthropic,
        "gemini": llm.Gemini,
        "ollama": llm.Ollama,
    }
    options: dict[str, Any] = {}
    if args.timeout is not None:
        options["timeout"] = args.timeout
    made: LLM = classes[provider](model=args.model, base_url=args.base_url, **options)
    if made.model is None and made.base_url == _public(classes[provider]):
        made.model = MODELS[provider]
    return made


def _public(cls: Any) -> str:
    """The provider's own address, where it is known what models there are."""
    return {
        "openai": "https://api.openai.com/v1",
        "anthropic": "https://api.anthropic.com",
        "gemini": "https://generativelanguage.googleapis.com",
    }.get(cls.provider, "")
