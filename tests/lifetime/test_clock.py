"""The wall clock jumps while calls are under way: no call ends sooner or later for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lifetime.scripts import silent

# Stands in front of libc's functions; what asks the kernel for CLOCK_MONOTONIC gets the truth.
SHIM = """
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static atomic_long ahead;
void jump(long seconds) { atomic_fetch_add(&ahead, seconds); }
int clock_gettime(clockid_t clock, struct timespec *out)
{
  int rc = (int)syscall(SYS_clock_gettime, clock, out);
  if(!rc && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    out->tv_sec += ahead;
  return rc;
}
int gettimeofday(struct timeval *out, void *zone)
{
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *out)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if(out)
    *out = now.tv_sec;
  return now.tv_sec;
}
"""

SCRIPT = """
import ctypes
jump = ctypes.CDLL(None).jump
jump.argtypes = [ctypes.c_long]
url = sys.argv[1]

async def main():
    timeout = llmcurl.Timeout(60, total=120)
    async with llmcurl.AsyncClient(timeout=timeout) as client:
        calls = [asyncio.ensure_future(client.get(url + "/ok?ms=1000")) for _ in range(20)]
        began = time.monotonic()
        late = asyncio.ensure_future(client.get(url + "/ok?ms=100000", timeout=2))
        while client.stats()["started"] < 21:
            await asyncio.sleep(0.01)
        for days in (400, -800):
            wall = time.time()
            jump(days * 86400)
            assert abs(time.time() - wall - days * 86400) < 3600, "the clock jumps"
            await asyncio.sleep(0.1)
        assert {(await call).status_code for call in calls} == {200}
        try:
            await late
        except llmcurl.ReadTimeout:
            took = time.monotonic() - began
            assert 1.99 <= took < 60, took
        else:
            raise AssertionError("it has an answer")
        jump(800 * 86400)
        assert (await client.get(url + "/ok")).reused, "a kept connection is not too old"
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clock")
    (folder / "shim.c").write_text(SHIM)
    made = folder / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(made), str(folder / "shim.c")]
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(command, check=True, env=env)
    return str(made)


@pytest.mark.skipif(sys.maxsize < 2**32, reason="time_t may have other names")
def test_calls_and_deadlines_do_not_see_the_wall_clock_jump(chaos, shim, monkeypatch) -> None:
    others = os.environ.get("LD_PRELOAD", "").split()
    monkeypatch.setenv("LD_PRELOAD", " ".join([*others, shim]))
    silent(SCRIPT, chaos.origin)
