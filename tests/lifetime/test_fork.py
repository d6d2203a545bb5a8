"""fork: the child starts afresh and cannot disturb its parent."""

from __future__ import annotations

import pytest
from servers.nginx import Nginx

from lifetime.scripts import silent

CHILD = """
base = sys.argv[1]
client = llmcurl.AsyncClient()
async def some(n, path="/delay?ms=30"):
    responses = await asyncio.gather(*(client.get(base + path) for _ in range(n)))
    return [response.status_code for response in responses].count(200)
"""


def test_a_child_after_the_first_run_makes_its_own_calls(nginx: Nginx) -> None:
    script = (
        CHILD
        + """
assert asyncio.run(some(10)) == 10
pid = os.fork()
if pid == 0:
    ok = asyncio.run(some(10)) == 10
    sys.exit(0 if ok else 3)
assert os.waitpid(pid, 0)[1] == 0
assert asyncio.run(some(10)) == 10
"""
    )
    silent(script, nginx.http)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_fork_inside_a_running_loop_leaves_the_parents_calls_alone(
    nginx: Nginx, loop: str
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    script = (
        CHILD
        + """
async def main():
    assert await some(20) == 20                                  # idle connections exist
    calls = [client.get(base + f"/delay?ms=300&n={i}") for i in range(40)]
    await asyncio.wait(calls, timeout=0.1)                         # and calls are in flight
    pid = fork_in_loop()
    if pid == 0:
        status = 9
        try:
            status = 0 if asyncio.run(some(10)) == 10 else 3
        finally:
            os._exit(status)
    results = await asyncio.gather(*calls)
    assert [str(r.url) for r in results] == [base + f"/delay?ms=300&n={i}" for i in range(40)]
    assert all(r.json()["ms"] == 300 for r in results)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        await asyncio.sleep(0.01)
    assert status == 0, status
    assert await some(20) == 20
if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
    )
    silent(script, nginx.http, loop)


def test_a_child_that_does_nothing_and_exits_normally_disturbs_nobody(nginx: Nginx) -> None:
    script = (
        CHILD
        + """
async def main():
    calls = [client.get(base + "/delay?ms=300") for _ in range(20)]
    await asyncio.wait(calls, timeout=0.1)
    pid = os.fork()
    if pid == 0:
        del calls
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert all(r.status_code == 200 for r in await asyncio.gather(*calls))
    assert await some(5) == 5
asyncio.run(main())
"""
    )
    silent(script, nginx.http)


def test_multiprocessing_with_fork_works_from_a_program_that_has_used_a_client(
    nginx: Nginx,
) -> None:
    script = (
        CHILD
        + """
import multiprocessing
def work(n):
    return asyncio.run(some(n))
if __name__ == "__main__":
    assert asyncio.run(some(5)) == 5
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(work, [5, 6, 7, 8]) == [5, 6, 7, 8]
    assert asyncio.run(some(5)) == 5
"""
    )
    silent(script, nginx.http)


def test_a_grandchild_works_too_and_tls_connections_survive_their_copies(
    nginx: Nginx, authority
) -> None:
    script = """
base = sys.argv[1]
client = llmcurl.AsyncClient(verify=sys.argv[2])
async def get():
    return (await client.get(base + "/json")).status_code
async def main():
    assert await get() == 200
    pid = fork_in_loop()
    if pid == 0:
        assert asyncio.run(get()) == 200
        pid = os.fork()
        if pid == 0:
            os._exit(0 if asyncio.run(get()) == 200 else 3)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    await asyncio.to_thread(os.waitpid, pid, 0)
    for _ in range(5):
        response = await client.get(base + "/json")
        assert response.status_code == 200 and response.reused    # the child did not shut our TLS session down
asyncio.run(main())
"""
    silent(script, nginx.https, str(authority.ca_file))
