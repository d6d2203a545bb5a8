"""`python -m llmcurl chat`: what it prints where, what it asks, its exit status, and how it is interrupted."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from common import PROVIDERS
from llmcurl._cli import main
from llmcurl._cli.chat import SIGNS
from llmcurl.testing import Failure, Reply

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for _, names in SIGNS for name in names] + ["OPENAI_ORG_ID", "OPENAI_PROJECT_ID"]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def stdin(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def address(provider: str, mock) -> str:
    return mock.openai_url if provider == "openai" else mock.base_url


def chat(mock, *words: str, provider: str = "openai") -> int:
    return main(["chat", "-p", provider, "--base-url", address(provider, mock), *words])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_of_each_provider(provider, mock_llm, capsys, monkeypatch):
    if provider in ("anthropic", "gemini"):
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", "k")
    mock_llm.script(Reply("Blue, because.\nReally.", reasoning="Hm.", output_tokens=9))
    words = ["-s", "Be brief.", "--max-tokens", "50", "--reasoning", "-v", "Why", "blue?"]
    assert chat(mock_llm, *words, provider=provider) == 0
    out, err = capsys.readouterr()
    assert out == "Blue, because.\nReally.\n"
    assert err.startswith("Hm.\n[mock-1, ") and "9 out]" in err and "first token after" in err
    request = mock_llm.requests[-1]
    assert "Why blue?" in request.body.decode() and "Be brief." in request.body.decode()
    assert [r.path for r in mock_llm.requests][:-1], "the first model that is listed is asked"


def test_the_provider_is_the_one_with_a_key(mock_llm, capsys, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", mock_llm.base_url)
    assert main(["chat", "-m", "mock-2", "Hi"]) == 0
    request = mock_llm.requests[0]
    assert request.path == "/v1/messages" and request.json["model"] == "mock-2"
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    capsys.readouterr()
    assert main(["chat", "Hi"]) == 2
    out, err = capsys.readouterr()
    assert not out and "which provider?" in err and "OPENAI_API_KEY" in err


def test_standard_input_is_the_prompt_or_a_part_of_it(mock_llm, capsys, monkeypatch):
    stdin(monkeypatch, "a tälë\n")
    assert chat(mock_llm) == 0
    stdin(monkeypatch, "a file")
    assert chat(mock_llm, "Sum up:", "-", "Now.") == 0
    asked = [r.json["messages"][0]["content"] for r in mock_llm.requests if r.method == "POST"]
    assert asked == ["a tälë\n", "Sum up:\n\na file Now."]
    for text, words in (("", ()), (" \n", ("-",)), ("x", ("-", "-"))):
        stdin(monkeypatch, text)
        assert chat(mock_llm, *words) == 2
    assert "the prompt is empty" in capsys.readouterr().err


def test_images_and_models_and_json(mock_llm, capsys, tmp_path):
    file = tmp_path / "x.png"
    file.write_bytes(b"\x89PNG")
    assert chat(mock_llm, "-i", str(file), "-i", "https://example.com/a.png", "What?") == 0
    parts = mock_llm.requests[-1].json["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts[1:]]
    assert urls == ["data:image/png;base64,iVBORw==", "https://example.com/a.png"]
    assert chat(mock_llm, "-i", str(tmp_path / "none.png"), "What?") == 1
    assert "none.png" in capsys.readouterr().err
    assert chat(mock_llm, "--models") == 0
    assert capsys.readouterr().out == "mock-1\nmock-2\n"
    mock_llm.script("whole", "whole")
    assert chat(mock_llm, "--json", "x") == 0
    assert json.loads(capsys.readouterr().out)["choices"][0]["message"]["content"] == "whole"
    assert chat(mock_llm, "--no-stream", "x") == 0
    assert capsys.readouterr().out == "whole\n"


@pytest.mark.parametrize(
    ("failure", "said", "printed"),
    [
        (Failure.unauthorized(), "Incorrect API key", ""),
        (Failure.rate_limit(3), "429", ""),
        (Failure.cut(after=1, reply=Reply("one two")), "broke off", "one\n"),
        (Failure.error_event(after=1, reply=Reply("one two")), "overloaded", "one\n"),
        (Failure.close(), "", ""),
        (Reply("cut", finish_reason="length"), "limit of tokens", "cut\n"),
    ],
    ids=["401", "429", "cut", "error-event", "close", "length"],
)
def test_what_goes_wrong_is_told_in_a_line(mock_llm, capsys, failure, said, printed):
    mock_llm.script(failure)
    assert chat(mock_llm, "-m", "m", "x") == 1
    out, err = capsys.readouterr()
    assert out == printed
    assert err.startswith("chat: ") and said in err and err.count("\n") == 1


def test_nobody_listens_and_wrong_addresses(capsys):
    for url in ("http://127.0.0.1:1/v1", "nonsense://x", "http://[::1"):
        assert main(["chat", "--base-url", url, "-m", "m", "x"]) == 1
        out, err = capsys.readouterr()
        assert not out and err.startswith("chat: ") and "Traceback" not in err
    assert main(["chat", "-p", "openai", "x"]) == 1
    assert "OPENAI_API_KEY" in capsys.readouterr().err


def command(mock, *words: str) -> list[str]:
    return [sys.executable, "-m", "llmcurl", "chat", "--base-url", mock.openai_url, "-m", "mock-1", *words]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "python"), **more}


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def test_ctrl_c_ends_the_answer_at_the_server_too(mock_llm):
    mock_llm.script(Reply(" ".join(["word"] * 1000), token_interval=0.02))
    with subprocess.Popen(
        command(mock_llm, "x"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout.read(9) == b"word word", "it comes while it is written"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith(b"\n") and err == b"interrupted\n"
    wait_for(lambda: mock_llm.stats.disconnects == 1)


def test_a_reader_that_leaves_ends_it_without_noise(mock_llm):
    mock_llm.script(Reply(" ".join(["word"] * 1000), token_interval=0.02))
    with subprocess.Popen(
        command(mock_llm, "x"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout.read(4) == b"word"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
    wait_for(lambda: mock_llm.stats.disconnects == 1)


def test_a_terminal_without_the_characters(mock_llm):
    mock_llm.script("snow: \u2603")
    done = subprocess.run(
        command(mock_llm, "x"),
        capture_output=True,
        env=environment(PYTHONIOENCODING="ascii", LC_ALL="C"),
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"snow: ?\n", b"")


def test_a_conversation_on_a_terminal(mock_llm):
    slow = Reply(" ".join(["word"] * 1000), token_interval=0.02)
    mock_llm.script("one \x1b[31mred", slow, Failure.server_error(), "two")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(mock_llm), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="dumb"), start_new_session=True
    )  # fmt: skip
    os.close(theirs)
    seen = b""

    def expect(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(ours, 1000)
        seen = seen[seen.index(text) + len(text) :]

    try:
        expect(b"> ")
        os.write(ours, b"first\n")
        expect(b"one [31mred\r\n")  # the escape character is taken out
        expect(b"> ")
        os.write(ours, b"\n")
        expect(b"> ")
        os.write(ours, b"second\n")
        expect(b"word word")
        process.send_signal(signal.SIGINT)
        expect(b"interrupted\r\n")
        expect(b"> ")
        os.write(ours, b"third\n")
        expect(b"chat: openai: 500")
        expect(b"> ")
        os.write(ours, b"fourth\n")
        expect(b"two\r\n")
        expect(
            b"> "
        )  # before that an end of file would be lost with the change of the terminal's mode
        os.write(ours, b"\x04")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    said = [m["content"] for m in mock_llm.requests[-1].json["messages"]]
    assert said == ["first", "one \x1b[31mred", "fourth"], "what was not answered is not repeated"
