"""`batch`: order, bounds, failures, checkpoints, progress."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import struct
import termios

import llmcurl
import pytest
from llmcurl import OpenAI
from llmcurl.llm import BadRequestError, OverloadedError
from llmcurl.testing import Failure, MockLLM, Reply
from llmcurl.traffic import BatchStats, FailedBefore, batch
from llmcurl.traffic._journal import Journal
from llmcurl.traffic._progress import _Bar, _Lines, build_progress, summary
from waiting import until


@pytest.fixture
async def llm(mock_llm):
    mock_llm.configure(echo=True)
    async with OpenAI(base_url=mock_llm.openai_url, api_key="k", model="m") as llm:
        yield llm


@pytest.fixture
async def near():
    """A mock in this process, and a client of it."""
    async with MockLLM(echo=True) as mock:
        async with OpenAI(base_url=mock.openai_url, api_key="k", model="m") as llm:
            yield mock, llm


class Meter:
    """A call that notes how many of it are in flight."""

    def __init__(self, seconds=lambda n: 0.0) -> None:
        self.now = self.most = self.calls = 0
        self.seconds = seconds
        self.seen: list[int] = []

    async def __call__(self, number: int) -> int:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.seen.append(number)
        try:
            await asyncio.sleep(self.seconds(number))
        finally:
            self.now -= 1
        return number * 2


async def numbers(count: int):
    for number in range(count):
        await asyncio.sleep(0)
        yield number


# Inputs and results ----------------------------------------------------------------------------


async def test_replies_of_a_model(llm, mock_llm):
    prompts = [f"prompt {n}" for n in range(300)]
    run = llmcurl.batch(prompts, llm.chat, concurrency=20)
    answers = {result.input: result.value.text async for result in run}
    assert answers == {prompt: prompt for prompt in prompts}
    assert mock_llm.stats.max_in_flight <= 20
    stats = run.stats()
    assert (stats.total, stats.done, stats.failed, stats.running) == (300, 300, 0, 0)
    assert stats.input_tokens > 0 and stats.output_tokens > 0


async def test_calls_of_a_plain_client(client, mock_llm):
    url = mock_llm.base_url + "/health"
    seen = [r.value.status_code async for r in batch([url] * 30, client.get, concurrency=4)]
    assert seen == [200] * 30


@pytest.mark.parametrize(
    "source", [range(50), list(range(50)), numbers], ids=["range", "list", "async"]
)
async def test_any_iterable(source):
    call = Meter()
    got = [
        r.value
        async for r in batch(source(50) if source is numbers else source, call, concurrency=7)
    ]
    assert sorted(got) == [n * 2 for n in range(50)] and call.most <= 7


async def test_ordered_and_not():
    def slow_start(n):
        return 0.1 if n % 10 == 0 else 0.0

    got = [r.index async for r in batch(range(60), Meter(slow_start), concurrency=10, ordered=True)]
    assert got == list(range(60))
    got = [r.index async for r in batch(range(60), Meter(slow_start), concurrency=10)]
    assert sorted(got) == list(range(60)) and got[0] != 0


async def test_nothing():
    assert [r async for r in batch([], Meter())] == []


async def test_endless_input_is_read_as_it_is_needed():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    call, count = Meter(), 0
    async with batch(endless(), call, concurrency=5) as run:
        async for _ in run:
            count += 1
            await asyncio.sleep(0)
            assert taken - count <= 11  # 2 x concurrency, and the one that was just given
            if count == 100:
                break
        await asyncio.sleep(0.02)
        assert taken <= 111
    assert call.now == 0


async def test_ordered_holds_few_when_the_first_is_slow():
    call = Meter(lambda n: 0.3 if n == 0 else 0.0)
    run = batch(range(1000), call, concurrency=5, ordered=True)
    async for result in run:
        if result.index == 0:
            assert call.calls <= 10
    assert call.calls == 1000


async def test_a_failure_is_kept_beside_its_input(near):
    mock_llm, llm = near
    mock_llm.respond_with(lambda r: Failure.bad_request() if "bad" in r.body.decode() else None)
    results = [r async for r in batch(["a", "bad", "c"], llm.chat, ordered=True)]
    assert [r.ok for r in results] == [True, False, True]
    assert results[1].input == "bad" and isinstance(results[1].error, BadRequestError)
    assert results[0].unwrap().text == "a"
    with pytest.raises(BadRequestError):
        results[1].unwrap()


async def test_a_call_that_raises_at_once_or_is_cancelled_inside():
    def refuse(n):
        if n == 1:
            raise KeyError(n)
        return cancelled() if n == 2 else Meter()(n)

    async def cancelled():
        raise asyncio.CancelledError

    errors = {r.input: type(r.error) async for r in batch(range(4), refuse)}
    assert errors == {0: type(None), 1: KeyError, 2: RuntimeError, 3: type(None)}


async def test_inputs_that_fail_let_what_runs_finish():
    def broken():
        yield 1
        yield 2
        raise OSError("the file ended early")

    got = []
    with pytest.raises(OSError, match="ended early"):
        async for result in batch(broken(), Meter(lambda n: 0.05)):
            got.append(result.value)
    assert sorted(got) == [2, 4]


async def test_leaving_early_cancels_what_is_in_flight(llm, mock_llm):
    mock_llm.script(Reply("first"), *[Reply("late", latency=30)] * 20)
    async with batch(["x"] * 21, llm.chat, concurrency=21) as run:
        async for result in run:
            assert result.value.text == "first"
            await until(lambda: mock_llm.stats.requests == 21)
            break
    await until(lambda: mock_llm.stats.disconnects == 20)


async def test_leaving_a_bare_loop_cancels_what_is_in_flight():
    call = Meter(lambda n: 0.0 if n == 0 else 30)
    run = batch(range(100), call, concurrency=5)
    async for _ in run:
        await until(lambda: call.now == 5)
        break
    await until(lambda: call.now == 0)
    assert run.stats().done == 1
    with pytest.raises(RuntimeError, match="once only"):
        aiter(run)


async def test_cancelling_the_task_cancels_what_is_in_flight():
    call = Meter(lambda n: 30)

    async def consume():
        async for _ in batch(range(100), call, concurrency=10):
            pass

    task = asyncio.ensure_future(consume())
    await until(lambda: call.now == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.now == 0


async def test_wrong_arguments(tmp_path):
    call = Meter()
    for options in ({"concurrency": 0}, {"concurrency": 1.5}, {"progress": 3}, {"key": str},
                    {"checkpoint": tmp_path / "c", "retry_failed": "maybe"}):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            batch([], call, **options)
    with pytest.raises(TypeError):
        batch(3, call)
    with pytest.raises(TypeError):
        batch([], 3)
    run = batch([1], call)
    assert [r.value async for r in run] == [2]
    with pytest.raises(RuntimeError, match="once"):
        aiter(run)


# Checkpoints ---------------------------------------------------------------------------------------


async def test_a_finished_batch_is_not_called_again(llm, mock_llm, tmp_path):
    path = tmp_path / "out.jsonl"
    prompts = [f"p{n}" for n in range(20)]
    first = [r async for r in batch(prompts, llm.chat, checkpoint=path)]
    assert not any(r.restored for r in first) and mock_llm.stats.requests == 20
    again = [r async for r in batch(prompts, llm.chat, checkpoint=path, ordered=True)]
    assert mock_llm.stats.requests == 20 and all(r.restored for r in again)
    assert [r.value["choices"][0]["message"]["content"] for r in again] == prompts
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["input"] for line in lines) == sorted(prompts)
    assert all(line["error"] is None for line in lines)


async def test_goes_on_where_it_was_left(tmp_path):
    path = tmp_path / "out.jsonl"
    call = Meter()
    async with batch(range(50), call, checkpoint=path, concurrency=4) as run:
        async for _ in run:
            if run.stats().done >= 20:
                break
    written = len(path.read_text().splitlines())
    assert 20 <= written < 50
    other = Meter()
    run = batch(range(50), other, checkpoint=path)
    assert sorted([r.value async for r in run]) == [n * 2 for n in range(50)]
    assert other.calls == 50 - written == 50 - run.stats().restored


async def test_a_changed_input_is_called(tmp_path):
    path = tmp_path / "out.jsonl"
    assert [r.value async for r in batch([1, 2], Meter(), checkpoint=path)]
    call = Meter()
    got = [r.value async for r in batch([1, 5], call, checkpoint=path, ordered=True)]
    assert got == [2, 10] and call.seen == [5]


async def test_failures_of_before(tmp_path, near):
    mock_llm, llm = near
    path = tmp_path / "out.jsonl"

    def fail(request):
        text = request.body.decode()
        if "busy" in text:
            return Failure.overloaded(503)
        return Failure.bad_request() if "wrong" in text else None

    mock_llm.respond_with(fail)
    inputs = ["good", "busy", "wrong"]
    errors = [type(r.error) async for r in batch(inputs, llm.chat, checkpoint=path, ordered=True)]
    assert errors == [type(None), OverloadedError, BadRequestError]

    mock_llm.respond_with(None)
    mock_llm.reset()
    none = [
        r async for r in batch(inputs, llm.chat, checkpoint=path, ordered=True, retry_failed="none")
    ]
    assert mock_llm.stats.requests == 0
    assert isinstance(none[2].error, FailedBefore) and none[2].error.status == 400
    assert none[2].error.type == "BadRequestError" and none[2].input == "wrong"

    some = [r.ok async for r in batch(inputs, llm.chat, checkpoint=path, ordered=True)]
    assert some == [True, True, False] and mock_llm.stats.requests == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["input"] for line in lines) == ["busy", "good", "wrong"]

    run = batch(inputs, llm.chat, checkpoint=path, retry_failed="all")
    assert all([r.ok async for r in run]) and mock_llm.stats.requests == 2
    assert len(path.read_text().splitlines()) == 3


async def test_dump_load_and_key(tmp_path):
    path = tmp_path / "out.jsonl"

    async def call(pair):
        return complex(*pair[1])

    options = {
        "checkpoint": path,
        "key": lambda pair: pair[0],
        "dump": lambda value: [value.real, value.imag],
        "load": lambda data: complex(*data),
    }
    inputs = [("a", (1, 2)), ("b", (3, 4))]
    assert len([r async for r in batch(inputs, call, **options)]) == 2
    again = [r async for r in batch(reversed(inputs), call, ordered=True, **options)]
    assert [(r.key, r.value, r.restored) for r in again] == [
        ("b", 3 + 4j, True),
        ("a", 1 + 2j, True),
    ]


async def test_what_is_no_json_is_refused(tmp_path):
    with pytest.raises(TypeError, match="must be JSON"):
        async for _ in batch([object()], Meter(), checkpoint=tmp_path / "a"):
            pass

    async def call(n):
        return object()

    with pytest.raises(TypeError):
        async for _ in batch([1], call, checkpoint=tmp_path / "b"):
            pass


async def test_a_full_disk_ends_it_and_nothing_is_given_that_is_not_written(tmp_path, monkeypatch):
    written = []

    def append(self, entry, line):
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        written.append(entry.key)

    monkeypatch.setattr(Journal, "append", append)
    call, given = Meter(lambda n: 0.001 * n), []
    with pytest.raises(OSError, match="space"):
        async for result in batch(range(100), call, checkpoint=tmp_path / "out", concurrency=10):
            given.append(result.key)
    assert given == written[: len(given)] and call.now == 0 and call.calls < 100


@pytest.mark.parametrize("cut", [1, 2, 40])
async def test_a_torn_last_line(tmp_path, cut):
    path = tmp_path / "out.jsonl"
    assert [r async for r in batch(range(10), Meter(), checkpoint=path)]
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    call = Meter()
    assert sorted([r.value async for r in batch(range(10), call, checkpoint=path)]) == list(
        range(0, 20, 2)
    )
    assert call.calls == (0 if cut == 1 else 1)
    assert (
        sorted(path.read_bytes().splitlines()) != [] and len(path.read_bytes().splitlines()) == 10
    )
    assert all(json.loads(line)["error"] is None for line in path.read_bytes().splitlines())


async def test_an_error_with_text_that_is_no_text(tmp_path):
    async def call(n):
        raise OSError(f"no file a\udcff{n}")

    path = tmp_path / "out.jsonl"
    assert len([r async for r in batch([1, 2], call, checkpoint=path)]) == 2
    assert [json.loads(line)["error"]["message"] for line in path.read_text().splitlines()] == [
        "no file a\\udcff1",
        "no file a\\udcff2",
    ]


@pytest.mark.parametrize("content", ["my notes\n", '{"a": 1}\n', "no end", '{"key": "x"'])
async def test_a_file_that_is_not_ours_is_left_alone(tmp_path, content):
    path = tmp_path / "notes"
    path.write_text(content)
    if content.startswith('{"key'):  # might be the first line of a batch that was torn
        assert [r.value async for r in batch([1], Meter(), checkpoint=path)] == [2]
        return
    with pytest.raises(ValueError, match="left as it is"):
        async for _ in batch([1], Meter(), checkpoint=path):
            pass
    assert path.read_text() == content


async def test_two_runs_cannot_share_a_checkpoint(tmp_path):
    path = tmp_path / "out.jsonl"
    async with batch([1, 2], Meter(), checkpoint=path) as run:
        async for _ in run:
            with pytest.raises(RuntimeError, match="in use"):
                async for _ in batch([1], Meter(), checkpoint=path):
                    pass


# Progress -----------------------------------------------------------------------------------------


async def test_progress_as_a_function():
    seen: list[BatchStats] = []
    async for _ in batch(range(30), Meter(), progress=seen.append):
        pass
    assert seen[-1].done == seen[-1].total == 30 and seen[-1].rate > 0


@pytest.mark.parametrize("when", ["start", "update", "close"])
async def test_progress_that_fails_is_logged_and_ends_nothing(when, monkeypatch, caplog):
    class Failing(_Lines):
        period = 0.0

        def start(self, stats):
            self.fail("start")
            super().start(stats)

        def show(self, stats):
            self.fail("update")

        def close(self, stats):
            self.fail("close")

        def fail(self, what):
            if what == when:
                raise BrokenPipeError(what)

    run = batch(range(20), Meter(), concurrency=3)
    monkeypatch.setattr(run, "_progress", Failing(io.StringIO(), "\n", 0.0))
    results = await asyncio.wait_for(collect(run), 30)
    assert len(results) == 20 and run.stats().done == 20
    assert [r.name for r in caplog.records] == ["llmcurl.traffic"] and "progress" in caplog.text


async def collect(run):
    return [result async for result in run]


async def test_values_with_a_usage_of_their_own():
    class Value:
        class usage:
            input_tokens = "many"
            output_tokens = 2

    async def call(n):
        return Value()

    run = batch(range(3), call, price=(1, 1))
    assert len(await asyncio.wait_for(collect(run), 30)) == 3
    assert (run.stats().input_tokens, run.stats().output_tokens) == (0, 6)


async def test_a_call_that_returns_nothing_to_wait_for():
    with pytest.raises(TypeError, match="call must return an awaitable"):
        await asyncio.wait_for(collect(batch([1], lambda n: n)), 30)


def test_no_progress_where_there_is_no_stderr(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    build_progress(True).update(BatchStats(1), BatchStats)


def test_summary_says_all():
    stats = BatchStats(1000, 250, 3, 50, 10, 20.0, 6000, 4000, 0.125)
    text = summary(stats)
    for part in ("250/1,000 (25%)", "50 from before", "10.0/s", "1:15 left", "10k tokens (500/s)",
                 "cost 0.125", "3 failed"):  # fmt: skip
        assert part in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_lines_in_a_log_and_a_bar_on_a_terminal():
    log, terminal = io.StringIO(), Terminal()
    assert isinstance(build_progress(True, log), _Lines)
    bar = build_progress(True, terminal)
    run = batch(range(5), Meter())
    run._progress = build_progress(True, log)
    async for _ in run:
        pass
    assert "5/5 (100%)" in log.getvalue() and log.getvalue().count("\n") == 1
    pytest.importorskip("tqdm")
    assert isinstance(bar, _Bar)
    run = batch(range(5), Meter())
    run._progress = bar
    async for _ in run:
        pass
    assert "5/5" in terminal.getvalue() and "0 failed" in terminal.getvalue()


@pytest.mark.parametrize("columns", [0, 120])
async def test_a_bar_on_a_terminal_of_any_size(columns, monkeypatch):
    pytest.importorskip("tqdm")
    ours, theirs = os.openpty()
    fcntl.ioctl(
        theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30 if columns else 0, columns, 0, 0)
    )
    with os.fdopen(ours, "rb", buffering=0) as reader:
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr("sys.stderr", terminal)  # tqdm asks for the size of this one
            async for _ in batch(range(5), Meter(), progress=True):
                pass
            monkeypatch.undo()
            shown = reader.read(65536)  # before its end: what is not read then is lost
            while b"0 failed" not in shown:
                shown += reader.read(65536)
    assert b"5/5" in shown and b"0 failed" in shown
