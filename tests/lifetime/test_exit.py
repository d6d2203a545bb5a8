"""However a program ends, the interpreter exits quietly."""

from __future__ import annotations

import pytest
from servers.chaos import Chaos

from lifetime.scripts import run, silent

ENDINGS = {
    "a global client that was used": """
        client = llmcurl.AsyncClient()
        async def main():
            await client.get(sys.argv[1] + "/ok")
        asyncio.run(main())
    """,
    "a global client, response, stream and call": """
        client = llmcurl.AsyncClient()
        things = []
        async def main():
            things.append(await client.get(sys.argv[1] + "/ok"))
            things.append(await client.send(client.build_request("GET", sys.argv[1] + "/stall?at=body"), stream=True))
            things.append(client.get(sys.argv[1] + "/stall"))
            await asyncio.wait(things[-1:], timeout=0.1)
        asyncio.run(main())
    """,
    "a loop that was never closed": """
        loop = asyncio.new_event_loop()
        client = llmcurl.AsyncClient()
        async def main():
            calls = [client.get(sys.argv[1] + "/stall") for _ in range(5)]
            await asyncio.wait(calls, timeout=0.1)
            return calls
        calls = loop.run_until_complete(main())
    """,
    "sys.exit in the middle": """
        async def main():
            client = llmcurl.AsyncClient()
            calls = [client.get(sys.argv[1] + "/stall") for _ in range(5)]
            await asyncio.wait(calls, timeout=0.1)
            sys.exit(0)
        asyncio.run(main())
    """,
    "a daemon thread with a loop that is still running": """
        ready = threading.Event()
        async def main():
            client = llmcurl.AsyncClient()
            await client.get(sys.argv[1] + "/ok")
            ready.set()
            await asyncio.gather(*(client.get(sys.argv[1] + "/stall") for _ in range(5)))
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        ready.wait()
        time.sleep(0.1)
    """,
    "a client kept in a module, a cycle and a frame": """
        client = llmcurl.AsyncClient()
        client_in_cycle = [llmcurl.AsyncClient()]
        client_in_cycle.append(client_in_cycle)
        sys.modules["mine"] = client
        async def main():
            await client_in_cycle[0].get(sys.argv[1] + "/ok")
        asyncio.run(main())
    """,
    "an exit handler that makes calls": """
        import atexit
        client = llmcurl.AsyncClient()
        async def main():
            assert (await client.get(sys.argv[1] + "/ok")).status_code == 200
        atexit.register(lambda: asyncio.run(main()))
        asyncio.run(main())
    """,
    "only an import": "",
    "an unused client": "client = llmcurl.AsyncClient()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_exits_quietly_with(chaos: Chaos, ending: str) -> None:
    silent(ENDINGS[ending], chaos.origin)


def test_an_exception_out_of_the_program_is_all_that_is_printed(chaos: Chaos) -> None:
    script = """
    client = llmcurl.AsyncClient()
    async def main():
        calls = [client.get(sys.argv[1] + "/stall") for _ in range(5)]
        await asyncio.wait(calls, timeout=0.1)
        raise SystemError("mine")
    asyncio.run(main())
    """
    done = run(script, chaos.origin)
    assert done.returncode == 1 and done.stderr.strip().endswith("SystemError: mine")
    assert done.stderr.count("Traceback") == 1, done.stderr


def test_an_interrupt_ends_the_program_at_once(chaos: Chaos) -> None:
    script = """
    import signal
    async def main():
        async with llmcurl.AsyncClient() as client:
            asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.gather(*(client.get(sys.argv[1] + "/stall") for _ in range(50)))
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert silent(script, chaos.origin) == "interrupted\n"


def test_importing_is_quick_and_starts_nothing() -> None:
    script = """
    assert len(os.listdir("/proc/self/task")) == 1
    assert sum("eventpoll" in os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")) == 0
    """
    silent(script)
