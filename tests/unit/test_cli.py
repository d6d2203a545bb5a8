"""`python -m llmcurl`: the commands' output, their exit status, and what they say when the system is too small."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from llmcurl._cli import COMMANDS, build_parser, demo, info, main
from llmcurl._cli._limits import RESERVE, calls_allowed, fd_limits, make_room
from llmcurl._cli._measure import StallMeter, sleep_baseline
from llmcurl._cli._progress import LineBar

ROOT = str(Path(demo.__file__).parents[2])

FACTS = {
    "llmcurl": "0.1",
    "python": "3.12.0",
    "libcurl": "8.22.0",
    "libcurl_built_with": "8.14.1",
    "tls": "OpenSSL/3.5.0",
    "shared_ca_store": True,
    "http2": True,
    "brotli": True,
    "zstd": False,
    "fd_soft": 1024,
    "fd_hard": 524288,
}


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "llmcurl", *args]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ROOT}


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_an_unknown_command_is_wrong_usage():
    with pytest.raises(SystemExit) as stop:
        main(["nonsense"])
    assert stop.value.code == 2


def test_a_number_of_calls_below_one_is_wrong_usage():
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(["demo", "--calls", "0"])
    assert stop.value.code == 2


@pytest.mark.parametrize("buffering", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["info"],
        ["info", "--json"],
        ["doctor", "--json"],
        ["doctor", "--calls", "10"],
        ["demo", "--calls", "2", "--latency", "0"],
        ["mock", "--port", "0"],
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_traceback(words, buffering):
    readable, writable = os.pipe()
    os.close(readable)
    try:
        done = subprocess.run(
            command(*words),
            stdout=writable,
            stderr=subprocess.PIPE,
            env={**environment(), "PYTHONUNBUFFERED": buffering},
            text=True,
            check=False,
        )
    finally:
        os.close(writable)
    assert done.stderr == ""
    # argparse itself drops the help that cannot be written at once
    assert done.returncode == 141 or words == ["--help"]


def test_nobody_who_reads_the_errors_is_no_traceback_either():
    readable, writable = os.pipe()
    os.close(readable)
    try:
        done = subprocess.run(
            [*command("batch", "/nowhere/in", "/nowhere/out"), "--model", "m"],
            stdout=subprocess.PIPE,
            stderr=writable,
            env=environment(),
            text=True,
            check=False,
        )
    finally:
        os.close(writable)
    assert (done.returncode, done.stdout) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("buffering", ["", "1"], ids=["buffered", "unbuffered"])
def test_output_on_a_full_disk_is_one_sentence(buffering):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("doctor", "--json"),
            stdout=full,
            stderr=subprocess.PIPE,
            env={**environment(), "PYTHONUNBUFFERED": buffering},
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "cannot write the output: No space left on device\n"


def test_an_error_that_is_not_of_the_output_passes(monkeypatch):
    def fails(args: object) -> int:
        raise BrokenPipeError("a socket's")

    monkeypatch.setattr(info, "run", fails)
    with pytest.raises(BrokenPipeError, match="a socket's"):
        main(["info"])


def needs_the_client() -> None:
    """Skip while the extension or the client is not built."""
    if not hasattr(importlib.import_module("llmcurl"), "AsyncClient"):
        pytest.skip("the client is not built")


# -- info --------------------------------------------------------------------------------------------------------------


def test_info_says_versions_features_and_how_many_calls_the_limit_allows():
    text = "\n".join(info.render(FACTS))
    assert "8.22.0" in text and "8.14.1" in text and "OpenSSL/3.5.0" in text
    assert "h2: yes, br: yes, zstd: no" in text
    assert f"1,024 allowed: about {1024 - RESERVE:,} calls" in text
    assert "ulimit -n 524288" in text


def test_info_runs(capsys):
    needs_the_client()
    assert main(["info"]) == 0
    assert "libcurl" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0


# -- limits ------------------------------------------------------------------------------------------------------------


def in_a_child_with_limits(soft: int, hard: int, connections: int) -> str:
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from llmcurl._cli._limits import make_room\n"
        "try:\n"
        f"    print(make_room({connections}))\n"
        "except OSError as exc:\n"
        "    print('refused:', exc)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_limit_of_open_files_is_raised_when_it_is_too_low():
    said = in_a_child_with_limits(256, 512, 300)
    assert "raised from 256 to 512" in said
    assert said.endswith("\n512\n")


def test_a_limit_that_is_high_enough_is_left_alone():
    assert in_a_child_with_limits(400, 512, 300) == "None\n400\n"


def test_a_hard_limit_that_is_too_low_is_explained():
    said = in_a_child_with_limits(256, 512, 1000)
    assert "refused:" in said and "the hard limit is 512" in said and "ulimit" in said


def test_few_calls_need_no_room():
    assert make_room(1) is None
    limits = fd_limits()
    assert limits is not None and calls_allowed(limits[0]) > 0


# -- measuring ---------------------------------------------------------------------------------------------------------


async def test_the_stall_meter_sees_a_blocked_loop():
    async with StallMeter() as meter:
        time.sleep(0.05)  # noqa: ASYNC251
    assert 0.04 < meter.worst < 30


async def test_gathering_sleeps_is_measured():
    assert 0 <= await sleep_baseline(10, 0.01) < 30


def test_the_bar_draws_on_a_terminal_only():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, plain = Terminal(), io.StringIO()
    for stream in (out, plain):
        bar = LineBar(4, "call", stream)
        bar.update(4)
        bar.close()
    assert "100%" in out.getvalue() and "4/4 calls" in out.getvalue()
    assert plain.getvalue() == ""


# -- demo --------------------------------------------------------------------------------------------------------------


class Answer:
    status_code = 200

    def __init__(self, text: str) -> None:
        self.text = text

    def json(self) -> dict:
        return {"choices": [{"message": {"content": self.text}}]}


def test_the_demo_notices_wrong_answers():
    assert demo.check(3, Answer(demo.prompt(3))) is None
    assert demo.check(3, Answer(demo.prompt(4))) is not None
    assert "boom" in demo.check(3, OSError("boom"))
    wrong = Answer("")
    wrong.status_code = 500
    assert demo.check(3, wrong) == "status 500"


def test_durations_are_said_as_people_say_them():
    assert demo.duration(1.234) == "1.23 s"
    assert demo.duration(1000) == "16 min 40 s"
    assert demo.duration(20_000) == "5 h 33 min 20 s"


def test_the_demo_runs_and_prints_what_it_measured(capsys):
    needs_the_client()
    assert main(["demo", "--calls", "50", "--latency", "0.1"]) == 0
    text = capsys.readouterr().out
    for part in (
        "50 of 50 calls",
        "wall time",
        "CPU per call",
        "memory per call",
        "worst loop stall",
        "connections used",
    ):
        assert part in text


def test_a_failed_call_fails_the_demo(capsys, monkeypatch):
    needs_the_client()
    real = demo.check
    monkeypatch.setattr(demo, "check", lambda n, answer: "made up" if n == 7 else real(n, answer))
    assert main(["demo", "--calls", "20", "--latency", "0.05"]) == 1
    assert "FAILED 1 x made up" in capsys.readouterr().out


# -- mock --------------------------------------------------------------------------------------------------------------


def test_mock_serves_until_it_is_told_to_stop():
    process = subprocess.Popen(
        command("mock", "--port", "0", "--fail", "429", "--retry-after", "5"),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as refused:
            opener.open(
                url + "/api/chat", b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
            )
        with refused.value as answer:
            assert answer.code == 429 and answer.headers["retry-after"] == "5"
        process.send_signal(signal.SIGTERM)
        assert "1 requests" in process.stdout.read()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
