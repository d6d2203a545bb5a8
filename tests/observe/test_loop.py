"""A blocked loop is noticed, and the code that holds it up is named."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import threading
import time
import urllib.request

import llmcurl
import pytest
from lifetime.scripts import run as run_script
from servers.chaos import Chaos
from servers.thread import until, until_sync

from observe.common import each_loop, loop_reports, run, watchers


def sleeps() -> None:
    time.sleep(0.3)


def counts() -> int:
    return sum(range(7 * 10**6)) + sum(range(7 * 10**6)) + sum(range(7 * 10**6))


def runs_a_program() -> None:
    subprocess.run(["sleep", "0.3"], check=True)


def holds_the_gil() -> None:
    ctypes.PyDLL(None).usleep(400_000)


async def held_up(url: str, block, reports=None, watch=0.05) -> None:
    """A call is in flight while `block` runs on its loop; with `reports` until they tell of it.

    The watcher takes samples: it misses a block during which the machine stops.
    """
    async with llmcurl.AsyncClient(watch=watch) as client:
        call = client.get(url)
        await asyncio.sleep(0.01)
        for _ in range(5):
            block()
            await asyncio.sleep(0.01)
            if reports is None or await named(reports, block):
                break
        call.cancel()


async def named(reports, block) -> bool:
    end = time.monotonic() + 2
    while not reports.over(block) and time.monotonic() < end:
        await asyncio.sleep(0.005)
    return bool(reports.over(block))


@each_loop
@pytest.mark.parametrize("block", [sleeps, counts, runs_a_program])
def test_code_that_holds_the_loop_is_named_with_file_and_line(chaos: Chaos, factory, block) -> None:
    with loop_reports() as reports:
        run(held_up(chaos.url("/stall"), block, reports), factory)
        record = reports.wait(block)
    assert record.levelno == logging.WARNING and record.name == "llmcurl.loop"
    found = record.block
    assert found.function == block.__name__ and found.thread == "MainThread" and found.over
    assert f"{__file__}:{found.line} in {block.__name__}" in record.getMessage()
    assert 0.05 <= found.duration < 300
    assert (__file__, "held_up") in [(file, name) for file, _, name in found.stack]


@each_loop
def test_code_that_keeps_the_gil_is_named_too(chaos: Chaos, factory) -> None:
    # The watcher sees it only if it gets the GIL before the loop's thread has moved on: nearly always.
    for _ in range(6):
        with loop_reports() as reports:
            run(held_up(chaos.url("/stall"), holds_the_gil), factory)
            until_sync(
                lambda: [r for r in reports.records if r.levelno >= logging.INFO], 20, "a report"
            )  # noqa: B023
            if reports.over(holds_the_gil):
                return
            assert "another thread kept the GIL" in reports.records[0].getMessage(), (
                "it blames nobody else"
            )
    pytest.fail("six times it was not seen")


def test_what_the_culprit_was_doing_is_named_too(chaos: Chaos) -> None:
    with loop_reports() as reports:
        run(held_up(chaos.url("/stall"), runs_a_program, reports))
        text = reports.wait(runs_a_program).getMessage()
    assert "(in subprocess.py:" in text or "(in selectors.py:" in text


@each_loop
def test_a_callback_and_a_task_woken_by_an_answer_are_named(chaos: Chaos, factory) -> None:
    def in_callback(_: object) -> None:
        time.sleep(0.25)

    async def main() -> None:
        async with llmcurl.AsyncClient(watch=0.05) as client:
            waiting = client.get(chaos.url("/stall"))
            for _ in range(5):
                call = client.get(chaos.url("/ok"))
                call.add_done_callback(in_callback)
                await call
                asyncio.get_running_loop().call_soon(sleeps)
                await asyncio.sleep(0.01)
                if await named(reports, in_callback) and await named(reports, sleeps):
                    break
            waiting.cancel()

    with loop_reports() as reports:
        run(main(), factory)
        reports.wait(in_callback)
        reports.wait(sleeps)


@each_loop
def test_a_thread_that_keeps_the_gil_is_not_blamed_on_the_loop(chaos: Chaos, factory) -> None:
    async def main() -> None:
        async with llmcurl.AsyncClient(watch=0.05) as client:
            call = client.get(chaos.url("/stall"))
            await asyncio.sleep(0.2)  # the watcher looks after it
            await asyncio.to_thread(
                lambda: (time.sleep(0.1), holds_the_gil())
            )  # when the loop has gone to sleep
            call.cancel()

    with loop_reports() as reports:
        run(main(), factory)
        until_sync(
            lambda: [record for record in reports.records if not record.block.stack], 20, "a report"
        )
    assert not reports.about(holds_the_gil)
    starved = [record for record in reports.records if not record.block.stack]
    assert starved[0].levelno == logging.INFO and "kept the GIL" in starved[0].getMessage()


def test_a_long_block_is_reported_while_it_lasts(chaos: Chaos) -> None:
    def deadlocked() -> None:
        assert reported.wait(20)

    class Tell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reported.set()

    reported, handler = threading.Event(), Tell()
    logging.getLogger("llmcurl.loop").addHandler(handler)
    try:
        with loop_reports() as reports:
            run(held_up(chaos.url("/stall"), deadlocked))
            last = reports.wait(deadlocked)
            first = reports.about(deadlocked)[0]
    finally:
        logging.getLogger("llmcurl.loop").removeHandler(handler)
    assert (
        not first.block.over and first.block.duration >= 1 and "being held up" in first.getMessage()
    )
    assert last.block.duration >= first.block.duration


def test_each_of_several_loops_has_its_own_culprit(chaos: Chaos) -> None:
    def one() -> None:
        time.sleep(0.3)

    def other() -> None:
        time.sleep(0.3)

    with loop_reports() as reports:
        threads = [
            threading.Thread(
                target=lambda block=block: run(held_up(chaos.url("/stall"), block, reports)),
                name=block.__name__,
            )
            for block in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        for block in (one, other):
            record = reports.wait(block)
            assert record.block.thread in (block.__name__, str(record.block.thread))
            assert block.__name__ in record.block.function


def test_the_same_line_is_logged_once_in_a_while_and_told_each_time(chaos: Chaos) -> None:
    blocks: list[llmcurl.LoopBlock] = []

    class Watching(llmcurl.Observer):
        def loop_blocked(self, block: llmcurl.LoopBlock) -> None:
            blocks.append(block)

    async def main() -> None:
        async with llmcurl.AsyncClient(watch=0.05, observers=[Watching()]) as client:
            call = client.get(chaos.url("/stall"))
            for _ in range(15):
                before = len(blocks)
                await asyncio.sleep(0.01)
                sleeps()
                end = time.monotonic() + 2
                while len(blocks) == before and time.monotonic() < end:
                    await asyncio.sleep(0.005)
                if len([b for b in blocks if b.over and b.function == "sleeps"]) == 3:
                    break
            else:
                pytest.fail("they are not told of each time")
            assert client.stats()["loop_blocks"] >= 3
            call.cancel()

    with loop_reports() as reports:
        run(main())
    assert len(reports.over(sleeps)) == 1


def test_the_watcher_ends_with_the_last_client_and_comes_back(chaos: Chaos) -> None:
    async def main() -> None:
        first, second = llmcurl.AsyncClient(), llmcurl.AsyncClient()
        await first.get(chaos.url("/ok"))
        await second.get(chaos.url("/ok"))
        assert len(watchers()) == 1
        await first.aclose()
        await asyncio.sleep(0.05)
        assert len(watchers()) == 1
        await second.aclose()
        await until(lambda: not watchers(), 20, "the thread's end")

    assert not watchers()
    for _ in range(2):
        run(main())


def test_a_client_can_do_without_and_the_environment_decides_otherwise(
    chaos: Chaos, monkeypatch
) -> None:
    async def main(**options) -> bool:
        await until(lambda: not watchers(), 20, "the end of an earlier one")
        async with llmcurl.AsyncClient(**options) as client:
            await client.get(chaos.url("/ok"))
            return bool(watchers())

    assert run(main()) and run(main(watch=True)) and not run(main(watch=False))
    monkeypatch.setenv("LLMCURL_WATCH", "off")
    assert not run(main()) and run(main(watch=0.5))
    monkeypatch.setenv("LLMCURL_WATCH", "soon")
    with pytest.raises(ValueError, match="LLMCURL_WATCH"):
        llmcurl.AsyncClient()
    for bad, error in ((0, ValueError), (-1.0, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="watch must be"):
            llmcurl.AsyncClient(watch=bad)


def test_a_loop_that_is_in_time_is_not_reported_and_its_lag_is_known(chaos: Chaos) -> None:
    async def main() -> dict:
        async with llmcurl.AsyncClient(watch=5) as client:
            assert "loop_lag_max" not in client.stats()
            call = client.get(chaos.url("/stall"))
            await until(
                lambda: client.stats().get("loop_lag_samples", 0) >= 5, 20, "samples of the lag"
            )
            sleeps()
            await until(lambda: client.stats()["loop_lag_max"] > 0.1, 20, "a late sample")
            call.cancel()
            return client.stats()

    with loop_reports() as reports:
        stats = run(main())
    assert 0 <= stats["loop_lag_p50"] <= stats["loop_lag_p99"] <= stats["loop_lag_max"] < 30
    assert not reports.records and stats["loop_blocks"] == 0


@each_loop
def test_timings_say_how_long_the_answer_lay_in_the_kernel(chaos: Chaos, factory) -> None:
    async def main() -> llmcurl.Timings:
        async with llmcurl.AsyncClient() as client:
            await client.get(chaos.url("/ok"))
            for n in (3, 5, 7):  # the watcher takes samples: it may miss one
                call = client.get(chaos.url(f"/ok?upto={n}"))
                asked = await chaos.wait_for_request("/ok", n - 1)
                # holds the loop up
                urllib.request.urlopen(chaos.url("/ok"), timeout=20).close()  # noqa: ASYNC210
                until_sync(lambda asked=asked: asked.sent, 20, "the answer")
                time.sleep(0.5)
                timings = (await call).timings
                if timings.loop_delay > 0.1:
                    break
            return timings

    timings = run(main(), factory)
    assert timings.done <= timings.delivered
    assert 0.1 < timings.loop_delay < timings.delivered


def test_a_forked_child_has_a_watcher_of_its_own(chaos: Chaos) -> None:
    script = """
    import logging
    records = []
    class Keep(logging.Handler):
        def emit(self, record): records.append(record.getMessage())
    logging.getLogger("llmcurl.loop").addHandler(Keep())
    async def main():
        async with llmcurl.AsyncClient(watch=0.05) as client:
            call = client.get(sys.argv[1])
            await asyncio.sleep(0.01)
            deadline = time.monotonic() + 20
            while not any("<string>" in text for text in records) and time.monotonic() < deadline:
                time.sleep(0.3)
                await asyncio.sleep(0.05)
            call.cancel()
            if len(sys.argv) > 2:
                pid = fork_in_loop()
                if pid == 0:
                    records.clear()
                    sys.argv.pop()
                    asyncio.run(main())
                    os._exit(0 if any("<string>" in text for text in records) else 3)
                status = (await asyncio.to_thread(os.waitpid, pid, 0))[1]
                assert status == 0, status
                records.clear()
                await asyncio.sleep(0.01)
                call = client.get(sys.argv[1])
                await asyncio.sleep(0.2)
                while not any("<string>" in text for text in records):
                    time.sleep(0.3)
                    await asyncio.sleep(0.05)
                call.cancel()
    asyncio.run(main())
    assert any("<string>" in text and "in main" in text for text in records), records
    while any(thread.name == "llmcurl-watch" for thread in threading.enumerate()):
        time.sleep(0.01)
    """
    done = run_script(script, chaos.url("/stall"), "fork")
    assert done.returncode == 0 and done.stderr == "", done.stderr


@pytest.mark.parametrize("how", ["pass", "sys.exit(0)", "client = call = None"])
def test_a_program_may_end_with_calls_in_flight(chaos: Chaos, how: str) -> None:
    script = f"""
    loop = asyncio.new_event_loop()
    client = llmcurl.AsyncClient()
    async def main():
        global call
        call = client.get(sys.argv[1])
        call.add_done_callback(lambda _: None)
        await asyncio.sleep(0.1)
    loop.run_until_complete(main())
    assert len(threading.enumerate()) >= 2
    {how}
    """
    done = run_script(script, chaos.url("/stall"))
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Fatal" not in done.stderr, (
        done.stderr
    )
    assert os.path.exists(__file__)
