"""Both event loops, and the reports of a blocked one."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from servers.thread import until_sync

try:
    import uvloop
except ImportError:
    uvloop = None

FACTORIES = [pytest.param(asyncio.new_event_loop, id="asyncio")]
if uvloop is not None:
    FACTORIES.append(pytest.param(uvloop.new_event_loop, id="uvloop"))
each_loop = pytest.mark.parametrize("factory", FACTORIES)


def run(coroutine, factory=asyncio.new_event_loop):
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


class Reports(logging.Handler):
    """The log records of `llmcurl.loop`, as they come, of any thread."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def about(self, function: Callable) -> list[logging.LogRecord]:
        """Those that name a line of this function."""
        lines, first = inspect.getsourcelines(function)
        return [
            record
            for record in self.records
            if (block := record.__dict__.get("block")) is not None
            and block.file == inspect.getsourcefile(function)
            and first <= block.line < first + len(lines)
        ]

    def over(self, function: Callable) -> list[logging.LogRecord]:
        """Those of them that tell of the end."""
        return [record for record in self.about(function) if record.__dict__["block"].over]

    def wait(self, function: Callable) -> logging.LogRecord:
        """The first of these; reports come after the block, from another thread."""
        until_sync(lambda: self.over(function), 20, f"a report about {function.__name__}")
        return self.over(function)[0]


@contextmanager
def loop_reports() -> Iterator[Reports]:
    logger, reports = logging.getLogger("llmcurl.loop"), Reports()
    level = logger.level
    logger.addHandler(reports)
    logger.setLevel(logging.DEBUG)
    try:
        yield reports
    finally:
        logger.removeHandler(reports)
        logger.setLevel(level)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "llmcurl-watch"]
