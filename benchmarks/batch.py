"""A batch through the command line, killed and resumed: memory, and what the server was asked.

Job: writes the inputs, runs `python -m llmcurl batch` against a mock in another process, kills it with SIGKILL when a
part is done, goes on with --resume, and compares the output with the server's counts. Not its job: speed.

    python benchmarks/batch.py --inputs 100000 --kills 2
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec("llmcurl") is None:
    sys.path.insert(0, str(ROOT / "python"))

from llmcurl import testing  # noqa: E402

MockLLM = testing.MockLLM
PACKAGE = str(Path(testing.__file__).parents[2])
"""Where the package was found: the processes take the same."""


@dataclass
class Part:
    """One process: what it did until it ended or was killed. Memory in bytes, times in seconds."""

    seconds: float = 0.0
    answered: int = 0
    status: int = 0
    peak: int = 0
    samples: list[tuple[int, int]] = field(default_factory=list)
    """(lines in the output, resident memory), a few times a second."""


@dataclass
class Outcome:
    """What all parts together did."""

    inputs: int
    concurrency: int
    parts: list[Part]
    lines: int
    missing: int
    wrong: int
    twice: int
    """Inputs that have more than one line in the output."""
    requests: int
    """Requests that the server received."""
    answered: int
    """Of these, sent an answer to."""
    asked: Counter[int]
    """How many inputs were asked so many times."""

    @property
    def lost(self) -> int:
        """Answers that were on their way when the process was killed: called again, and answered twice."""
        return self.answered - self.lines

    @property
    def again(self) -> int:
        """Calls of inputs that had been called before."""
        return sum((times - 1) * count for times, count in self.asked.items())

    def problems(self) -> list[str]:
        """What is not as promised."""
        found = []
        if self.lines != self.inputs or self.missing or self.wrong or self.twice:
            found.append(
                f"{self.lines} lines, {self.missing} missing, {self.wrong} wrong, {self.twice} twice"
            )
        allowed = (len(self.parts) - 1) * self.concurrency
        if self.again > allowed:
            found.append(
                f"{self.again} calls were made again, {allowed} were in flight at the kills"
            )
        if self.asked[0]:
            found.append(f"{self.asked[0]} inputs were never asked")
        return found


def write_inputs(path: Path, count: int, form: str) -> None:
    """So many lines."""
    with path.open("w") as file:
        for number in range(count):
            text = f"Say the number of this call: {number}"
            if form == "plain":
                line = {"id": f"call-{number}", "prompt": text}
            else:
                body = {"model": "mock-1", "messages": [{"role": "user", "content": text}]}
                line = {
                    "custom_id": f"call-{number}",
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": body,
                }
            file.write(json.dumps(line) + "\n")


def resident(pid: int) -> tuple[int, int]:
    """(now, peak) of a process, in bytes; zeros when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
    return tuple(int(found.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


class Lines:
    """How many lines a growing file has, by looking at what is new only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.count = 0

    def look(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                while chunk := file.read(1 << 20):
                    self._at += len(chunk)
                    self.count += chunk.count(b"\n")
        return self.count


def run_part(command: list[str], output: Path, kill_at: int | None) -> Part:
    """Runs the command; kills it when the output has so many lines."""
    part, lines = Part(), Lines(output)
    started = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PACKAGE})
    before, noted = lines.look(), 0.0
    while process.poll() is None:
        now = time.monotonic()
        if now >= noted + 0.2:
            noted = now
            memory, peak = resident(process.pid)
            part.peak = max(part.peak, peak)
            part.samples.append((lines.look(), memory))
        if kill_at is not None and lines.look() >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
        else:
            time.sleep(0.01)
    part.seconds = time.monotonic() - started
    part.status = process.returncode
    part.answered = lines.look() - before
    return part


def answers(output: Path, form: str) -> Iterator[tuple[str, str]]:
    """(key, text) of the lines of an output."""
    with output.open() as file:
        for line in file:
            found = json.loads(line)
            if form == "plain":
                yield found["key"], found["text"]
            else:
                yield (
                    found["custom_id"],
                    found["response"]["body"]["choices"][0]["message"]["content"],
                )


def drive(
    folder: Path,
    inputs: int,
    concurrency: int,
    kills: int,
    latency: float,
    form: str = "openai",
    more: tuple[str, ...] = (),
) -> Outcome:
    """The whole experiment, in a folder of its own."""
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    write_inputs(source, inputs, form)
    with MockLLM.spawn(latency=latency, echo=True, jitter=0.5, keep_requests=1) as mock:
        command = [
            sys.executable, "-m", "llmcurl", "batch", str(source), str(output), "--resume", "--idempotency",
            "--model", "mock-1", "--base-url", mock.openai_url, "--concurrency", str(concurrency), *more,
        ]  # fmt: skip
        parts = [
            run_part(command, output, inputs * (number + 1) // (kills + 1))
            for number in range(kills)
        ]
        parts.append(run_part(command, output, None))
        stats, attempts = mock.stats, mock.attempts
    seen: Counter[str] = Counter()
    wrong = 0
    for key, text in answers(output, form):
        seen[key] += 1
        wrong += text != f"Say the number of this call: {key.removeprefix('call-')}"
    asked = Counter(attempts.values())
    if len(attempts) < inputs:
        asked[0] = inputs - len(attempts)
    return Outcome(
        inputs,
        concurrency,
        parts,
        seen.total(),
        sum(f"call-{number}" not in seen for number in range(inputs)),
        wrong,
        sum(count > 1 for count in seen.values()),
        stats.requests,
        stats.answered,
        asked,
    )


def report(outcome: Outcome) -> list[str]:
    """For people, in Markdown."""
    mib = 1 << 20
    rows = [
        "| process | ended by | seconds | answers written | peak memory | memory at 25 / 50 / 75 / 100 % of its time |"
    ]
    rows.append("|---|---|---|---|---|---|")
    for number, part in enumerate(outcome.parts, 1):
        end = "SIGKILL" if part.status == -9 else f"itself, status {part.status}"
        quarters = [
            part.samples[max(len(part.samples) * q // 4 - 1, 0)][1] / mib for q in (1, 2, 3, 4)
        ]
        rows.append(
            f"| {number} | {end} | {part.seconds:.1f} | {part.answered:,} | {part.peak / mib:.0f} MiB | "
            + " / ".join(f"{one:.0f}" for one in quarters)
            + " MiB |"
        )
    asked = ", ".join(
        f"{count:,} inputs {times} x" for times, count in sorted(outcome.asked.items())
    )
    return [
        f"{outcome.inputs:,} inputs, {outcome.concurrency:,} in flight, Python {platform.python_version()}",
        "",
        *rows,
        "",
        f"Output: {outcome.lines:,} lines, {outcome.missing} inputs missing, {outcome.twice} twice, "
        f"{outcome.wrong} with another one's answer.",
        f"Server: {outcome.requests:,} requests; asked: {asked}. {outcome.again} calls were in flight "
        f"at the kills and made again; {outcome.lost} of their answers had left the server.",
    ]


def main() -> int:
    """Prints the report; 1 if something is not as promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=500)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--form", choices=("openai", "plain"), default="openai")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = drive(
            Path(folder),
            args.inputs,
            args.concurrency,
            args.kills,
            args.latency,
            args.form,
            ("--quiet",),
        )
    print("\n".join(report(outcome)))
    problems = outcome.problems()
    peak = max(part.peak for part in outcome.parts)
    if peak > 150_000_000:
        problems.append(f"peak memory {peak:,} bytes")
    print("\n".join(f"NOT AS PROMISED: {one}" for one in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
