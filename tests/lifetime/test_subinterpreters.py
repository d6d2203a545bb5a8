"""Subinterpreters: each has a module, a reactor and a life of its own."""

from __future__ import annotations

import sys

import pytest
from servers.chaos import Chaos

from lifetime.scripts import run, silent

MODULE = """
try:
    import _interpreters
    def create(isolated=False):
        return _interpreters.create("isolated" if isolated else "legacy")
    def execute(interpreter, code):
        failed = _interpreters.exec(interpreter, code)
        assert failed is None, failed
except ImportError:
    import _xxsubinterpreters as _interpreters
    def create(isolated=False):
        return _interpreters.create(isolated=isolated)
    execute = _interpreters.run_string
"""

INTERPRETERS = (
    MODULE
    + """
CODE = '''
import sys, asyncio
sys.path[:] = %r
import llmcurl
async def main():
    async with llmcurl.AsyncClient() as client:
        responses = await asyncio.gather(*(client.get(%r + "/ok") for _ in range(10)))
        assert all(response.status_code == 200 for response in responses)
asyncio.run(main())
''' % (sys.path, sys.argv[1])
"""
)


MSGSPEC = """
import msgspec
one = create()
execute(one, "import msgspec")
_interpreters.destroy(one)
"""


@pytest.fixture(scope="module")
def shared_gil() -> None:
    """Skips where msgspec by itself cannot be imported in a subinterpreter: 3.12.1 crashes, 3.14t refuses."""
    done = run(MODULE + MSGSPEC, prelude="")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        pytest.skip(f"msgspec cannot be used in a subinterpreter here: {said[-1]}")


def test_a_subinterpreter_makes_calls_and_dies(shared_gil, chaos: Chaos) -> None:
    silent(
        INTERPRETERS + "one = create(); execute(one, CODE); _interpreters.destroy(one)",
        chaos.origin,
    )
    assert chaos.count("/ok") == 10


def test_the_main_interpreter_works_before_between_and_after(shared_gil, chaos: Chaos) -> None:
    script = """
for _ in range(3):
    exec(CODE, {})
    one, two = create(), create()
    execute(one, CODE)
    execute(two, CODE)
    _interpreters.destroy(one)
    execute(two, CODE)
    _interpreters.destroy(two)
exec(CODE, {})
"""
    silent(INTERPRETERS + script, chaos.origin)
    assert chaos.count("/ok") == 130


def test_a_subinterpreter_left_alive_is_no_trouble_at_exit(shared_gil, chaos: Chaos) -> None:
    silent(
        INTERPRETERS
        + "execute(create(), CODE.replace('asyncio.run(main())', 'client = llmcurl.AsyncClient()'))",
        chaos.origin,
    )


OWN_GIL = (
    MODULE
    + """
import threading
# msgspec, which the Python layer stands on, knows one GIL only: the native layer by itself
CODE = '''
import sys, asyncio, importlib.util, types
sys.path[:] = %r
package = sys.modules["llmcurl"] = types.ModuleType("llmcurl")
spec = importlib.util.spec_from_file_location("llmcurl._native", %r)
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
origin = %r
async def main():
    reactor = native.Reactor(asyncio.get_running_loop(), native.RawResponse)
    pool = native.Pool(reactor, {}, (0, 0, 0, 0, 0))
    target = pool.target(origin + "/ok", origin, False, False)
    headers = native.HeaderList([b"x: y"])
    for _ in range(5):
        calls = [pool.call("GET", target, headers, None, None, 0) for _ in range(10)]
        assert {(await call).status_code for call in calls} == {200}
    pool.close()
asyncio.run(main())
''' % (sys.path, llmcurl._native.__file__, sys.argv[1])
"""
)


@pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="3.11 has one GIL for all; 3.12 crashes when asyncio was used in such an interpreter",
)
def test_interpreters_with_their_own_gil_work_at_the_same_time(chaos: Chaos) -> None:
    script = """
def live(out):
    interpreter = create(isolated=True)
    for _ in range(2):
        execute(interpreter, CODE)
    _interpreters.destroy(interpreter)
    out.append(True)
ended = []
threads = [threading.Thread(target=live, args=(ended,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert ended == [True] * 4
"""
    silent(OWN_GIL + script, chaos.origin)
    assert chaos.count("/ok") == 400
