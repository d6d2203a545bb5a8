"""A free-threaded Python: we say that we need the GIL, and it gives us one."""

from __future__ import annotations

import sysconfig

import pytest

from lifetime.scripts import run

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL anyway"
)

SCRIPT = """
import asyncio, sys, threading, warnings
assert not sys._is_gil_enabled()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    import llmcurl
assert any("llmcurl._native" in str(warning.message) for warning in said), said
assert sys._is_gil_enabled()

async def work(out):
    async with llmcurl.AsyncClient() as client:
        for _ in range(5):
            calls = [client.get(sys.argv[1] + "/ok") for _ in range(20)]
            out += [response.status_code for response in await asyncio.gather(*calls)]

out = []
threads = [threading.Thread(target=lambda: asyncio.run(work(out))) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert out == [200] * 400
assert sys._is_gil_enabled()
"""


def test_it_switches_the_gil_on_when_it_loads_us(chaos, monkeypatch) -> None:
    monkeypatch.delenv("PYTHON_GIL", raising=False)
    done = run(SCRIPT, chaos.origin, prelude="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
