"""Subinterpreters: each has a module, a reactor and a life of its own."""

from __future__ import annotations

from servers.chaos import Chaos

from lifetime.scripts import silent

INTERPRETERS = """
try:
    import _interpreters
    def create(): return _interpreters.create("legacy")
    def execute(interpreter, code):
        failed = _interpreters.exec(interpreter, code)
        assert failed is None, failed
except ImportError:
    import _xxsubinterpreters as _interpreters
    create = lambda: _interpreters.create(isolated=False)
    execute = _interpreters.run_string
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


def test_a_subinterpreter_makes_calls_and_dies(chaos: Chaos) -> None:
    silent(
        INTERPRETERS + "one = create(); execute(one, CODE); _interpreters.destroy(one)",
        chaos.origin,
    )
    assert chaos.count("/ok") == 10


def test_the_main_interpreter_works_before_between_and_after(chaos: Chaos) -> None:
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


def test_a_subinterpreter_left_alive_is_no_trouble_at_exit(chaos: Chaos) -> None:
    silent(
        INTERPRETERS
        + "execute(create(), CODE.replace('asyncio.run(main())', 'client = llmcurl.AsyncClient()'))",
        chaos.origin,
    )
