"""Hours of mixed work in minutes: nothing may grow, nothing may be lost.

    soak.py [--seconds 600] [--workers 40] [--out build/soak]

Workers do random things with one set of clients against peers.py: calls, streams, uploads, cancellations, time-outs, calls that are
forgotten, through proxies, over HTTP/2 and TLS, while servers restart and the proxy fails. Every call counts once as it begins and
once as it ends: in a right answer, an error of ours, or a cancellation. Memory, descriptors, threads, native objects and the loop's
lateness are sampled each second into soak.csv, summed up in soak.json, drawn in soak.png (with matplotlib).

Flat means: after a warm-up (the first third) the slope of resident memory, times the rest of the run, is below `GROWTH` bytes, and
descriptors, threads and live objects at the end are not above their level after the warm-up by more than `SLACK`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import llmcurl
from llmcurl import _native

HERE = Path(__file__).resolve().parent
GROWTH = 4 << 20  # bytes that memory may grow in what follows the warm-up
SLACK = 0.25  # share
TICK = 0.01  # seconds between two looks at the loop's lateness
HANG = 60.0  # seconds after which a call counts as lost


class Lost(AssertionError):
    """A call that did not end, or ended in something it should not."""


class Soak:
    def __init__(self, peers: dict[str, str], workers: int) -> None:
        self.peers = peers
        self.workers = workers
        self.began = 0
        self.ended: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.late: list[float] = []
        self.stopping = False
        timeout = llmcurl.Timeout(20, connect=5, total=40)
        plain = llmcurl.AsyncClient(timeout=timeout)
        self.clients = {
            "plain": plain,
            "narrow": llmcurl.AsyncClient(
                timeout=timeout, limits=llmcurl.Limits(max_connections=8, keepalive_expiry=1)
            ),
            "h2": llmcurl.AsyncClient(timeout=timeout, http2=True, verify=peers["ca"]),
            "proxied": llmcurl.AsyncClient(
                timeout=llmcurl.Timeout(2, total=10), proxy=peers["proxy"]
            ),
            "driven": llmcurl.AsyncClient(timeout=timeout, follow_redirects=True, cookies={}),
        }

    # -- one call ------------------------------------------------------------------------------------------------------

    async def one(self, what: Callable[[], Awaitable[Any]], name: str) -> None:
        """Runs a call to its one end and notes it."""
        self.began += 1
        self.actions[name] += 1
        try:
            async with asyncio.timeout(HANG):
                await what()
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                self.ended["lost"] += 1
                raise
            self.ended["cancelled"] += 1
        except TimeoutError:
            self.ended["lost"] += 1
            self.wrong.append(f"{name}: no end after {HANG} s")
        except (llmcurl.HTTPError, llmcurl.ClientClosed) as error:
            self.ended["error"] += 1
            self.errors[type(error).__name__] += 1
        except Exception as error:
            self.ended["wrong"] += 1
            self.wrong.append(f"{name}: {error!r}")
        else:
            self.ended["answer"] += 1

    def place(self) -> tuple[llmcurl.AsyncClient, str]:
        """A client and a chaos server for it."""
        client = self.clients[random.choice(["plain", "plain", "narrow", "driven"])]
        return client, self.peers[random.choice(["chaos", "steady", "steady"])]

    async def get(self) -> None:
        client, origin = self.place()
        answer = await client.get(f"{origin}/ok?ms={random.randrange(30)}")
        assert answer.json() == {"ok": True}

    async def post(self) -> None:
        client, origin = self.place()
        body = f"{random.random()}" * random.choice([1, 100, 5000])
        answer = await client.post(f"{origin}/json", content=body)
        assert answer.json()["body"] == body

    async def own_answer(self) -> None:
        """Whose answer is it? Over HTTP/2 and TLS, through the proxy, from nginx."""
        number = random.random()
        name, origin = random.choice(
            [
                ("h2", "h2"),
                ("h2", "https"),
                ("plain", "nginx"),
                ("proxied", "nginx"),
                ("proxied", "nginx"),
            ]
        )
        answer = await self.clients[name].get(f"{self.peers[origin]}/query?n={number}")
        assert answer.status_code in (200, 502) and (
            answer.status_code != 200 or answer.text == f"/query?n={number}"
        ), answer.text

    async def stream(self) -> None:
        client, origin = self.place()
        pieces, total = random.randrange(1, 20), 0
        async with client.stream("GET", f"{origin}/drip?n={pieces}&size=500&ms=3") as response:
            async for chunk in response.aiter_bytes():
                total += len(chunk)
        assert total == pieces * 500

    async def lagging_reader(self) -> None:
        client, origin = self.place()
        total = 0
        async with client.stream("GET", f"{origin}/bytes?n=1500000") as response:
            await asyncio.sleep(random.random() * 0.2)
            async for chunk in response.aiter_raw():
                total += len(chunk)
        assert total == 1_500_000

    async def left_early(self) -> None:
        client, origin = self.place()
        async with client.stream("GET", f"{origin}/drip?n=100&size=100&ms=5") as response:
            async for _ in response.aiter_bytes():
                break

    async def upload(self) -> None:
        client, origin = self.place()
        count = random.randrange(1, 10)

        async def chunks():
            for _ in range(count):
                await asyncio.sleep(random.random() * 0.005)
                yield b"u" * 10_000

        answer = await client.post(f"{origin}/sink", content=chunks())
        assert answer.json() == count * 10_000

    async def keep_alive_race(self) -> None:
        """uvicorn closes after a second, which is about when this comes again."""
        await asyncio.sleep(random.choice([0, 0.98]))
        answer = await self.clients["plain"].post(f"{self.peers['uvicorn']}/echo", content=b"x")
        assert answer.status_code == 200

    async def cancelled(self) -> None:
        client, origin = self.place()
        call = client.get(f"{origin}/{random.choice(['stall', 'ok?ms=20', 'drip?n=50&ms=5'])}")
        await asyncio.sleep(random.choice([0, 0, 0.001, random.random() * 0.05]))
        call.cancel()
        await call

    async def timed_out(self) -> None:
        client, origin = self.place()
        timeout = random.choice([llmcurl.Timeout(5, read=0.05), llmcurl.Timeout(5, total=0.05)])
        await client.get(
            f"{origin}/stall?at={random.choice(['request', 'head', 'body'])}", timeout=timeout
        )

    async def forgotten(self) -> None:
        client, origin = self.place()
        if random.random() < 0.5:
            client.get(f"{origin}/stall").done()
        else:
            response = await client.send(
                client.build_request("GET", f"{origin}/stall?at=body"), stream=True
            )
            del response

    async def broken(self) -> None:
        client, origin = self.place()
        await client.get(
            origin
            + random.choice(
                [
                    "/rst",
                    "/rst?at=body",
                    "/cut?after=0",
                    "/cut?body=10",
                    "/garbage?sort=binary&close=1",
                    "/chunks?bad=size",
                ]
            )
        )

    async def redirected(self) -> None:
        answer = await self.clients["driven"].get(
            f"{self.peers['steady']}/redirect?to=/set-cookie%3Fa%3D{random.randrange(100)}"
        )
        assert answer.status_code == 200 and len(answer.history) == 1

    async def gathered(self) -> None:
        client, origin = self.place()
        results = await asyncio.gather(
            *(client.get(f"{origin}/ok?ms=5&n={n}") for n in range(20)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, llmcurl.HTTPError):
                raise result

    async def short_lived_client(self) -> None:
        async with llmcurl.AsyncClient(timeout=10) as client:
            assert (await client.get(f"{self.peers['steady']}/ok")).status_code == 200

    async def no_such_name(self) -> None:
        await self.clients["plain"].get(
            f"http://no-such-name-{random.randrange(5)}.invalid/", timeout=5
        )

    MIX = {
        "get": 30, "post": 15, "own_answer": 20, "stream": 10, "lagging_reader": 2, "left_early": 4, "upload": 5, "keep_alive_race": 3,
        "cancelled": 10, "timed_out": 4, "forgotten": 3, "broken": 4, "redirected": 4, "gathered": 3, "short_lived_client": 2, "no_such_name": 1,
    }  # fmt: skip

    # -- the run -------------------------------------------------------------------------------------------------------

    async def worker(self) -> None:
        names, weights = list(self.MIX), list(self.MIX.values())
        while not self.stopping:
            name = random.choices(names, weights)[0]
            await self.one(getattr(self, name), name)
            await asyncio.sleep(random.random() * 0.05)

    async def trouble(self, tell: Callable[[str], None]) -> None:
        """Something happens every few seconds."""
        while not self.stopping:
            await asyncio.sleep(random.uniform(2, 5))
            tell(
                random.choice(
                    [
                        "restart chaos",
                        "restart chaos",
                        "reload nginx",
                        "proxy 502",
                        "proxy drop",
                        "proxy stall",
                        "weather 4",
                    ]
                )
            )
            await asyncio.sleep(random.uniform(1, 2))
            tell("proxy none")
            tell("weather 1")

    async def lateness(self) -> None:
        while not self.stopping:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.late.append(time.monotonic() - due)

    def sample(self, begin: float) -> dict[str, float]:
        late, self.late = self.late, []
        live = _native._live()
        return {
            "t": round(time.monotonic() - begin, 1),
            "rss": rss(),
            "fds": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "calls": live["call"],
            "transfers": live["xfer"],
            "lanes": live["lane"],
            "slots": live["slot"],
            "objects": sum(live.values())
            - live["target"]
            - live["headers"],  # these two are caches, with ceilings
            "began": self.began,
            "ended": sum(self.ended.values()),
            "stall_ms": round(max(late, default=0) * 1000, 2),
            "stall_p50_ms": round(statistics.median(late) * 1000, 3) if late else 0,
            "load": os.getloadavg()[0],
        }

    async def run(self, seconds: float, tell: Callable[[str], None]) -> list[dict[str, float]]:
        begin = time.monotonic()
        tasks = [asyncio.create_task(self.worker()) for _ in range(self.workers)]
        side = [asyncio.create_task(self.trouble(tell)), asyncio.create_task(self.lateness())]
        samples = []
        while time.monotonic() - begin < seconds:
            await asyncio.sleep(1)
            samples.append(self.sample(begin))
            if len(samples) % 60 == 0:
                print(
                    f"{samples[-1]['t']:.0f} s: {self.began} begun, {dict(self.ended)}, {samples[-1]['rss'] >> 20} MB",
                    flush=True,
                )
        self.stopping = True
        for task in side:
            task.cancel()
        await asyncio.gather(*tasks, *side, return_exceptions=True)
        for client in self.clients.values():
            await client.aclose()
        self.clients.clear()
        return samples


NETEM = "ip link set lo up && tc qdisc add dev lo root netem delay 3ms 2ms loss 0.5%"


def netem() -> str:
    """Whether a network namespace of ours can have latency and loss: "" or why not."""
    if os.environ.get("LLMCURL_SOAK_NETEM"):
        return ""
    try:
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", NETEM], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def slope(samples: list[dict[str, float]], key: str) -> float:
    """Least squares, per second."""
    xs, ys = [s["t"] for s in samples], [s[key] for s in samples]
    return statistics.linear_regression(xs, ys).slope if len(samples) > 2 else 0.0


def verdict(
    soak: Soak, samples: list[dict[str, float]], left: dict[str, int], network: str
) -> dict[str, Any]:
    steady = samples[len(samples) // 3 :]
    rest = steady[-1]["t"] - steady[0]["t"] if steady else 0
    growth = {key: slope(steady, key) * rest for key in ("rss", "fds", "threads", "objects")}
    level = {key: statistics.median(s[key] for s in steady) for key in growth}
    bad = list(soak.wrong[:20])
    if sum(soak.ended.values()) != soak.began or soak.ended["lost"]:
        bad.append(
            f"{soak.began} calls began, {sum(soak.ended.values())} ended, {soak.ended['lost']} lost"
        )
    if growth["rss"] > GROWTH:
        bad.append(f"memory grows by {growth['rss'] / 2**20:.1f} MB in {rest:.0f} s")
    bad += [
        f"{key} grow: {growth[key]:+.1f} on {level[key]:.0f}"
        for key in ("fds", "threads", "objects")
        if growth[key] > max(5, SLACK * level[key])
    ]
    if left:
        bad.append(f"left behind at the end: {left}")
    stalls = sorted(s["stall_ms"] for s in samples)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "revision": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip(),
        "python": platform.python_version(), "libcurl": _native.curl_info()["version"],
        "seconds": samples[-1]["t"], "workers": soak.workers, "network": network,
        "calls": soak.began, "ended": dict(soak.ended), "errors": dict(soak.errors), "actions": dict(soak.actions),
        "growth_after_warm_up": {key: round(value, 1) for key, value in growth.items()}, "level": level,
        "stall_ms": {"median_of_seconds": stalls[len(stalls) // 2], "p99_of_seconds": stalls[int(len(stalls) * 0.99)], "worst": stalls[-1]},
        "load": round(statistics.mean(s["load"] for s in samples), 1),
        "bad": bad,
    }  # fmt: skip


def draw(samples: list[dict[str, float]], where: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib: no plot")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(4, 1, figsize=(9, 10), sharex=True)
    ts = [s["t"] for s in samples]
    axes[0].plot(ts, [s["rss"] / 2**20 for s in samples], label="resident memory, MB")
    axes[1].plot(ts, [s["fds"] for s in samples], label="descriptors")
    axes[1].plot(ts, [s["threads"] for s in samples], label="threads")
    axes[2].plot(ts, [s["objects"] for s in samples], label="native objects")
    axes[2].plot(ts, [s["transfers"] for s in samples], label="of these: transfers")
    axes[3].plot(ts, [s["stall_ms"] for s in samples], label="loop late, worst of each second, ms")
    for axis in axes:
        axis.legend(loc="upper right")
        axis.set_ylim(bottom=0)
    axes[3].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(where, dpi=80)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    parser.add_argument(
        "--draw", type=Path, metavar="CSV", help="only draws what a run has left, beside it"
    )
    args = parser.parse_args()
    if args.draw:
        with open(args.draw, newline="") as file:
            draw(
                [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)],
                args.draw.with_suffix(".png"),
            )
        return 0
    why_not = netem()
    if not why_not and not os.environ.get("LLMCURL_SOAK_NETEM"):
        command = [
            "unshare",
            "-n",
            "sh",
            "-c",
            NETEM + ' && exec "$@"',
            "soak",
            sys.executable,
            *sys.argv,
        ]
        os.execvpe("unshare", command, {**os.environ, "LLMCURL_SOAK_NETEM": "1"})
    network = (
        f"relays with latency and loss; no netem here: {why_not}"
        if why_not
        else f"{NETEM}, and relays"
    )
    print(network)
    random.seed(args.seed)
    warnings.simplefilter("ignore", RuntimeWarning)  # calls that are forgotten on purpose
    args.out.mkdir(parents=True, exist_ok=True)
    peers = subprocess.Popen(
        [sys.executable, str(HERE / "peers.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        soak = Soak(json.loads(peers.stdout.readline()), args.workers)

        def tell(line: str) -> None:
            peers.stdin.write(line + "\n")
            peers.stdin.flush()

        samples = asyncio.run(soak.run(args.seconds, tell))
        gc.collect()
        gc.collect()  # what had finalizers goes at the second
        left = {key: n for key, n in _native._live().items() if n}
        tell("stop")
    finally:
        peers.stdin.close()
        peers.wait(20)
    result = verdict(soak, samples, left, network)
    with open(args.out / "soak.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, samples[0])
        writer.writeheader()
        writer.writerows(samples)
    (args.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(samples, args.out / "soak.png")
    print(json.dumps(result, indent=1))
    return 1 if result["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
