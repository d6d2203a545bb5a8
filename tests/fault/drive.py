"""Makes one call after another fail, in every scenario: see csrc/fault/lc_fault.h.

    drive.py [words]                the scenarios whose name holds one of the words, each in a process of its own
    --all                           each call of each site; otherwise a site's first three and its last
    --one NAME [--skip N]           one scenario, in this process

A trial runs a scenario with one failure. It must end in time; each call in it has its right answer, or a clear error;
only one call has an error, unless the failure was libcurl's in what several share; the same client works afterwards; nothing
is left: native objects, descriptors. Run by scripts/fault, with the sanitizers.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fault.faults import Faults, Site  # noqa: E402

TRIAL_SECONDS = 15
INSIDE_TRIALS = 120  # of a scenario's allocations inside libcurl, evenly spread
STOP_AFTER = 12  # bad trials of a scenario
# what these say holds for all transfers that share a CURLM or an identity
SHARED = ("curl_multi_socket_action", "curl_multi_perform", "allocation libcurl")


class Stuck(Exception):
    pass


class Bad(Exception):
    """What is wrong with a trial."""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Driver:
    def __init__(self, name: str) -> None:
        import llmcurl
        from llmcurl import _native

        from fault import scenarios

        self.native = _native
        self.faults = Faults(_native.__file__)
        self.allowed = (MemoryError, OSError, llmcurl.HTTPError, llmcurl.ClientClosed)
        self.world = scenarios.World(self.faults)
        self.scenario = scenarios.SCENARIOS[name]
        self.sync = name in scenarios.SYNC

    def trial(self, nth: int, site: Site | None = None, in_libcurl: bool = False) -> str | None:
        """One run with one failure; where it was, None if it did not come to it."""
        strange: list[str] = []

        def note(what: str, error: object) -> None:
            if not isinstance(error, MemoryError):
                strange.append(f"{what}: {error!r}")

        def loop_handler(loop: asyncio.AbstractEventLoop, context: dict) -> None:
            error = context.get("exception")
            if not isinstance(error, self.allowed):
                note("the loop was told", error or context["message"])

        async def run(trial) -> None:
            asyncio.get_running_loop().set_exception_handler(loop_handler)
            try:
                async with asyncio.timeout(TRIAL_SECONDS):
                    await self.scenario(trial)
            except TimeoutError as error:
                raise Stuck(f"still running after {TRIAL_SECONDS} s") from error

        sys.unraisablehook = lambda info: note("unraisable", info.exc_value)
        trial = self.world.trial()
        faulthandler.dump_traceback_later(3 * TRIAL_SECONDS, exit=True)
        fds = descriptors()
        self.faults.arm(nth, site, in_libcurl)
        try:
            self.scenario(trial) if self.sync else asyncio.run(run(trial))
        finally:
            trial.disarm()
            faulthandler.cancel_dump_traceback_later()
        self.last, fired = trial, trial.fired
        errors = [error for error in trial.errors if not isinstance(error, self.allowed)]
        if errors:
            raise Bad(f"not a clear error: {errors[0]!r}") from errors[0]
        if len(trial.errors) > 1 and not (fired or "").startswith(SHARED):
            raise Bad(f"more than one call failed: {trial.errors!r}")
        if trial.errors and not fired:
            raise Bad(f"an error without a failure: {trial.errors!r}") from trial.errors[0]
        if strange:
            raise Bad("; ".join(strange))
        trial.errors.clear()
        deadline = time.monotonic() + 5
        while True:
            gc.collect()
            left = {key: n for key, n in self.native._live().items() if n}
            more = descriptors() - fds
            if not left and more <= 0:
                return fired
            if time.monotonic() > deadline:
                raise Bad(f"left behind: {left}, {more} descriptors")
            time.sleep(0.002)

    def plan(self, everything: bool) -> list[tuple[int, Site | None, bool]]:
        """What is to fail: (which call, of which site, inside libcurl), as counted in runs without a failure."""
        for _ in range(3):  # imports and caches
            self.trial(0)
        sites: dict[int, Site] = {}
        for _ in range(2):
            for site in self.count(False).sites:
                if site.hits and (
                    site.pointer not in sites or sites[site.pointer].hits < site.hits
                ):
                    sites[site.pointer] = site
        plan: list[tuple[int, Site | None, bool]] = []
        for site in sites.values():
            every = range(1, site.hits + 1)
            chosen = every if everything else sorted({*every[:3], site.hits})
            plan += [(nth, site, False) for nth in chosen]
        if not self.sync:
            inside = self.count(True).calls
            step = max(1, 1 if everything else inside // INSIDE_TRIALS)
            plan += [(nth, None, True) for nth in range(1, inside + 1, step)]
        return plan

    def count(self, in_libcurl: bool):
        self.trial(10**9, None, in_libcurl)
        return self.last

    def run(self, everything: bool, skip: int, progress: Path) -> int:
        bad = fired = 0
        plan = self.plan(everything)
        for number, (nth, site, in_libcurl) in enumerate(plan[skip:], skip):
            where = f"{site.text if site else 'allocation libcurl'}, call {nth}"
            progress.write_text(f"{number}: {where}")
            try:
                fired += self.trial(nth, site, in_libcurl) is not None
            except Exception as error:
                bad += 1
                print(f"  BAD {where}: {type(error).__name__}: {error}", flush=True)
                if os.environ.get("FAULT_TRACE"):
                    traceback.print_exception(error.__cause__ or error)
                if isinstance(error, Stuck) or bad >= STOP_AFTER:
                    break
        sites = [site for site in self.faults.sites() if site.fired]
        print(
            f"  {len(plan)} trials, {fired} failures at {len(sites)} sites, {bad} bad", flush=True
        )
        for site in sites:
            print(f"  @{site.text}")
        return 1 if bad else 0


def one(name: str, everything: bool, skip: int, progress: Path) -> int:
    warnings.simplefilter("ignore")
    logging.getLogger("llmcurl.loop").setLevel(
        logging.CRITICAL
    )  # collections hold the loop up here
    driver = Driver(name)
    try:
        return driver.run(everything, skip, progress)
    finally:
        driver.world.stop()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--one")
    parser.add_argument("--skip", type=int, default=0)
    args = parser.parse_args()
    progress = Path(os.environ.get("FAULT_PROGRESS", "/tmp/llmcurl-fault-progress"))
    if args.one:
        return one(args.one, args.all, args.skip, progress)
    from fault import scenarios

    names = [
        name
        for name in scenarios.SCENARIOS
        if not args.words or any(word in name for word in args.words)
    ]
    failed, sites, trials = [], set(), 0
    for name in names:
        print(name, flush=True)
        begin = time.monotonic()
        command = [sys.executable, __file__, "--one", name, *(["--all"] if args.all else [])]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3600
        )
        for line in done.stdout.splitlines():
            if line.startswith("  @"):
                sites.add(line[3:])
            else:
                print(line)
                if " trials, " in line:
                    trials += int(line.split()[0])
        if done.returncode:
            failed.append(name)
            if done.returncode != 1:
                print(
                    f"  DIED with {done.returncode} at trial {progress.read_text() if progress.exists() else '?'}"
                )
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    print(
        f"faults: {len(names)} scenarios, {trials} trials, {len(sites)} sites failed in turn; bad: {', '.join(failed) or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
