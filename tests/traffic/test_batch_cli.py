"""`python -m llmcurl batch`: forms of files, what it refuses, kill and resume."""

from __future__ import annotations

import fcntl
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from llmcurl import testing
from llmcurl._cli import main
from llmcurl.testing import Failure, Raw, Reply, ToolCall

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = str(Path(testing.__file__).parents[2])


def load(name: str):
    spec = importlib.util.spec_from_file_location(
        f"benchmarks_{name}", ROOT / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def request(number: int, text: str | None = None, **body) -> dict:
    messages = [{"role": "user", "content": text or f"text {number}"}]
    return {
        "custom_id": f"id-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "mock-1", "messages": messages, **body},
    }


@pytest.fixture
def files(tmp_path):
    """Writes an input, runs the command on it, and reads the output."""

    class Files:
        source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"

        def write(self, *lines: object) -> None:
            self.source.write_text("".join(json.dumps(line) + "\n" for line in lines))

        def run(self, *options: str) -> int:
            return main(["batch", str(self.source), str(self.output), "--quiet", *options])

        def read(self) -> list[dict]:
            return [json.loads(line) for line in self.output.read_text().splitlines()]

    return Files()


# The command installs signal handlers on a loop of its own and leaves nothing behind.


def test_openai_files(files, mock_llm):
    mock_llm.configure(echo=True)
    files.write(*(request(n, max_completion_tokens=5) for n in range(20)))
    assert files.run("--base-url", mock_llm.openai_url, "--concurrency", "4") == 0
    lines = files.read()
    assert {line["custom_id"] for line in lines} == {f"id-{n}" for n in range(20)}
    assert len({line["id"] for line in lines}) == 20
    for line in lines:
        assert line["error"] is None and line["response"]["status_code"] == 200
        assert line["response"]["request_id"].startswith("req_")
        text = line["response"]["body"]["choices"][0]["message"]["content"]
        assert text == f"text {line['custom_id'].removeprefix('id-')}"
    assert mock_llm.stats.max_in_flight <= 4
    assert mock_llm.requests[0].json["max_completion_tokens"] == 5


def test_openai_embeddings(files, mock_llm):
    files.write(
        {
            "custom_id": "e",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "m", "input": ["a", "b"]},
        }
    )
    assert files.run("--base-url", mock_llm.openai_url) == 0
    assert len(files.read()[0]["response"]["body"]["data"]) == 2
    assert mock_llm.requests[0].path == "/v1/embeddings"


def test_openai_failures(files, mock_llm):
    mock_llm.script(Failure.bad_request("no good"), Failure.cut(after=0))
    files.write(request(1), request(2))
    assert files.run("--base-url", mock_llm.openai_url, "--concurrency", "1", "--retries", "0") == 1
    refused, cut = files.read()
    assert refused["response"]["status_code"] == 400 and refused["error"] is None
    assert refused["response"]["body"]["error"]["message"] == "no good"
    assert cut["response"] is None and cut["error"]["code"] and cut["error"]["message"]
    # what may pass is called again, and its failure goes from the file
    assert files.run("--base-url", mock_llm.openai_url, "--resume") == 1
    again = {line["custom_id"]: line for line in files.read()}
    assert len(files.read()) == 2 and again["id-2"]["response"]["status_code"] == 200
    assert mock_llm.stats.requests == 3
    assert files.run("--base-url", mock_llm.openai_url, "--resume", "--retry-failed", "all") == 0
    assert len(files.read()) == 2 and mock_llm.stats.requests == 4


def test_an_answer_of_several_lines_becomes_one(files, mock_llm):
    body = json.dumps({"choices": [{"message": {"content": "x\ny"}}], "model": "m"}, indent=2)
    mock_llm.script(Raw(body.encode()))
    files.write(request(1))
    assert files.run("--base-url", mock_llm.openai_url) == 0
    assert files.read()[0]["response"]["body"] == json.loads(body)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "ollama"])
def test_plain_files(files, mock_llm, provider, monkeypatch):
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "sk-secret")
    mock_llm.script(
        "one",
        Reply("two", input_tokens=3, output_tokens=4),
        Reply(tool_calls=(ToolCall("f", {"a": 1}),)),
    )
    files.write(
        "a text",
        {"id": 7, "prompt": "another", "temperature": 0.5},
        {"custom_id": "x", "messages": [{"role": "user", "content": "hi"}], "model": "its-own"},
    )
    base = mock_llm.openai_url if provider == "openai" else mock_llm.base_url
    options = [
        "--provider",
        provider,
        "--base-url",
        base,
        "--model",
        "mock-1",
        "--concurrency",
        "1",
    ]
    assert files.run(*options, "--max-tokens", "9", "--system", "Be brief.") == 0
    first, second, third = files.read()
    assert first["text"] == "one" and first["input"] == "a text" and first["key"].startswith("0-")
    assert (second["key"], second["text"]) == ("7", "two")
    assert (second["usage"]["input_tokens"], second["usage"]["output_tokens"]) == (3, 4)
    assert third["tool_calls"][0]["name"] == "f" and third["finish_reason"] == "tool_calls"
    assert third["input"]["custom_id"] == "x" and third["error"] is None and third["seconds"] > 0
    assert b"Be brief." in mock_llm.requests[0].body and b"9" in mock_llm.requests[0].body
    assert b"sk-secret" not in files.output.read_bytes()


def test_openai_files_for_another_provider(files, mock_llm, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    mock_llm.script("from claude")
    files.write(request(1, max_tokens=5))
    options = ["--provider", "anthropic", "--base-url", mock_llm.base_url]
    assert files.run(*options, "--model", "claude", "--override-model") == 0
    assert files.read()[0]["response"]["body"]["content"][0]["text"] == "from claude"
    assert mock_llm.requests[0].json["model"] == "claude"


def test_resume_calls_only_what_is_missing(files, mock_llm):
    mock_llm.configure(echo=True)
    files.write(*(request(n) for n in range(30)))
    assert files.run("--base-url", mock_llm.openai_url) == 0
    whole = files.output.read_bytes().splitlines(keepends=True)
    files.output.write_bytes(b"".join(whole[:20]) + whole[20][:-30])  # torn
    assert files.run("--base-url", mock_llm.openai_url, "--resume") == 0
    assert len({line["custom_id"] for line in files.read()}) == 30 == len(files.read())
    assert mock_llm.stats.requests == 40
    assert files.run("--base-url", mock_llm.openai_url, "--resume") == 0
    assert mock_llm.stats.requests == 40


def test_retries(files, mock_llm):
    mock_llm.script(Failure.server_error(), Failure.rate_limit(0.01))
    files.write("a", "b")
    assert files.run("--base-url", mock_llm.openai_url, "--model", "m") == 0
    assert mock_llm.stats.requests == 4


def test_limits(files, mock_llm):
    mock_llm.configure(rpm=600, rate_burst=0.02)
    files.write(*(f"text {n}" for n in range(30)))
    options = ["--base-url", mock_llm.openai_url, "--model", "m", "--retries", "0"]
    assert files.run(*options, "--rpm", "500", "--tpm", "1000000") == 0
    assert mock_llm.stats.requests == 30 and mock_llm.stats.rate_limited == 0


def test_an_existing_output_is_safe(files, capsys):
    files.write("a")
    files.output.write_text("precious\n")
    assert files.run("--model", "m", "--base-url", "http://127.0.0.1:1") == 2
    assert "--resume" in capsys.readouterr().err
    assert files.run("--model", "m", "--base-url", "http://127.0.0.1:1", "--resume") == 1
    assert "left as it is" in capsys.readouterr().err
    assert files.output.read_text() == "precious\n"


def test_overwrite(files, mock_llm):
    files.write("a")
    files.output.write_text("old\n")
    assert files.run("--model", "m", "--base-url", mock_llm.openai_url, "--overwrite") == 0
    assert len(files.read()) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], ["line 1"]),
        (['"ok"', "[1]"], ["line 2"]),
        (['{"x": 1}'], ["line 1", "prompt"]),
        (['{"id": 1, "prompt": "a"}', '{"id": "1", "prompt": "b"}'], ["line 2", "come before"]),
        ([json.dumps({**request(1), "url": "/v1/files"})], ["line 1", "/v1/files"]),
        ([json.dumps(request(1)), '{"custom_id": "x"}'], ["line 2"]),
    ],
)
def test_bad_lines_are_found_before_anything_is_sent(files, mock_llm, capsys, lines, words):
    files.source.write_text("\n".join(lines))
    assert files.run("--model", "m", "--base-url", mock_llm.openai_url) == 1
    errors = capsys.readouterr().err
    assert all(word in errors for word in words) and "Traceback" not in errors
    assert mock_llm.stats.requests == 0 and not files.output.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--resume", "--overwrite"],
        ["--override-model"],
        ["--redis", "redis://x"],
        ["--dask", "tcp://x", "--rpm", "5"],
        ["--retries", "-1"],
    ],
)
def test_options_that_do_not_go_together(files, capsys, options):
    files.write("a")
    assert files.run("--base-url", "http://127.0.0.1:1", *options) == 2
    assert capsys.readouterr().err


def test_options_of_plain_lines(files, capsys):
    files.write(request(1))
    assert files.run("--base-url", "http://127.0.0.1:1", "--max-tokens", "5") == 2
    assert "plain lines" in capsys.readouterr().err


def test_no_key_and_no_file(files, capsys, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    files.write("a")
    assert files.run("--provider", "anthropic", "--model", "m") == 1
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().err
    files.source.unlink()
    assert files.run("--model", "m", "--base-url", "http://127.0.0.1:1") == 1
    assert "in.jsonl" in capsys.readouterr().err


def test_stdin(files, mock_llm, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"a"\n"b"\n')))
    status = main(
        [
            "batch",
            "-",
            str(files.output),
            "--quiet",
            "--model",
            "m",
            "--base-url",
            mock_llm.openai_url,
        ]
    )
    assert status == 0 and len(files.read()) == 2


def test_a_pipe_as_input(files, mock_llm):
    os.mkfifo(files.source)
    writer = threading.Thread(target=files.source.write_bytes, args=(b'"a"\n"b"\n',))
    writer.start()
    assert files.run("--model", "m", "--base-url", mock_llm.openai_url) == 0
    writer.join()
    assert len(files.read()) == mock_llm.stats.requests == 2


def test_overwrite_leaves_the_file_of_another_run(files, mock_llm, capsys):
    files.write("a")
    files.output.write_text("answers\n")
    with files.output.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert files.run("--model", "m", "--base-url", mock_llm.openai_url, "--overwrite") == 1
    assert "in use" in capsys.readouterr().err and files.output.read_text() == "answers\n"


def test_lines_that_were_written_for_streams(files, mock_llm):
    files.write(request(1, stream=True, stream_options={"include_usage": True}))
    assert files.run("--base-url", mock_llm.openai_url) == 0
    assert not {"stream", "stream_options"} & mock_llm.requests[0].json.keys()


def test_a_failure_of_several_lines_becomes_one(files, mock_llm):
    """OpenAI's errors are of this kind. The output can be read, and the batch resumed."""
    body = b'{\r\n  "error": {\n    "message": "no"\n  }\n}'
    mock_llm.script(Raw(body, status=400))
    files.write(request(1), request(2))
    options = ["--base-url", mock_llm.openai_url, "--concurrency", "1"]
    assert files.run(*options) == 1
    assert [line["response"]["status_code"] for line in files.read()] == [400, 200]
    assert files.read()[0]["response"]["body"] == json.loads(body)
    assert files.run(*options, "--resume", "--retry-failed", "all") == 0
    assert [line["custom_id"] for line in files.read()] == ["id-2", "id-1"]


def test_marks_and_ends_of_lines_of_other_systems(files, mock_llm):
    files.source.write_bytes(b'\xef\xbb\xbf"a"\r\n\r\n{"prompt":\r"b"}\r\n   \n"\xe2\x80\xa8c"')
    assert files.run("--model", "m", "--base-url", mock_llm.openai_url) == 0
    output = files.output.read_bytes()
    inputs = {json.dumps(json.loads(line)["input"]) for line in output.split(b"\n") if line}
    assert inputs == {'"a"', '{"prompt": "b"}', r'"\u2028c"'} and b"\r" not in output


def test_an_answer_of_a_form_of_its_own_is_kept(files, mock_llm):
    body = b'{"model": null, "choices": [], "usage": {"prompt_tokens": "3"}}'
    mock_llm.script(Raw(body))
    files.write(request(1))
    assert files.run("--base-url", mock_llm.openai_url) == 0
    assert files.read()[0]["response"]["body"] == json.loads(body)


@pytest.mark.parametrize(
    "option",
    ["--rpm inf", "--rpm x", "--tpm 0", "--concurrency 1.5", "--timeout nan", "--deadline inf",
     "--price -1 1", "--price 1 x", "--chunk 0", "--max-tokens no"],
)  # fmt: skip
def test_numbers_that_cannot_be(files, capsys, option):
    with pytest.raises(SystemExit) as ended:
        files.run(*option.split())
    name, *_ = option.split()
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {name}: " in errors
    assert "invalid" not in errors.splitlines()[-1], "the name of a Python function"


# Processes that end early -----------------------------------------------------------------------


def test_killed_twice_and_resumed_every_input_is_answered_once(tmp_path):
    outcome = load("batch").drive(tmp_path, 2000, 50, 2, 0.07, "plain", ("--quiet",))
    assert [part.status for part in outcome.parts] == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert outcome.problems() == []
    assert outcome.requests <= 2000 + 2 * 50
    assert sum(part.answered for part in outcome.parts) in range(
        1998, 2003
    )  # torn lines come again


@pytest.mark.no_asan
def test_memory_does_not_grow_with_the_input(tmp_path):
    few = load("batch").drive(tmp_path / made(tmp_path, "few"), 500, 50, 0, 0.0, more=("--quiet",))
    many = load("batch").drive(
        tmp_path / made(tmp_path, "many"), 4000, 50, 0, 0.0, more=("--quiet",)
    )
    assert many.parts[0].peak < few.parts[0].peak + 16 * 2**20


def made(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(files, mock_llm, number):
    mock_llm.configure(latency=30.0)
    mock_llm.script(*[Reply("quick", latency=0.0)] * 5)
    files.write(*(f"text {n}" for n in range(50)))
    command = [sys.executable, "-m", "llmcurl", "batch", str(files.source), str(files.output), "--model", "m",
               "--base-url", mock_llm.openai_url, "--concurrency", "10"]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": PACKAGE}, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 30
    while not files.output.exists() or len(files.output.read_bytes().splitlines()) < 5:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number, errors
    assert "--resume" in errors and "Traceback" not in errors
    assert len(files.read()) == 5
