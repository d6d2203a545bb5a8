"""The servers of the soak test, in a process of their own: chaos (restarted now and then), nginx, uvicorn, a proxy that fails at times.

Each but nginx is reached through a `Relay` with a port that stays: it adds latency, holds bytes back as a retransmission does, cuts a
connection now and then, and leads to whatever instance of the server lives at the moment. Prints one line of JSON with the
addresses, then obeys lines on stdin: "restart chaos", "reload nginx", "proxy 502|drop|stall|none", "weather N" (N times the usual
latency and loss), "stop". Used by tests/soak/soak.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from servers.asgi import Uvicorn  # noqa: E402
from servers.chaos import Chaos  # noqa: E402
from servers.nginx import Nginx  # noqa: E402
from servers.proxies import HttpProxy  # noqa: E402
from servers.thread import ThreadedServer  # noqa: E402
from servers.tls import Authority  # noqa: E402


class Weather:
    """What happens to bytes on their way, in one direction of one connection."""

    factor = 1.0
    LATENCY = (0.0, 0.02)  # seconds, evenly spread
    HELD = (0.01, 0.2)  # share of the pieces, seconds: a lost segment
    CUT = 0.0005  # share of the pieces after which the connection is reset

    def delay(self) -> float:
        held = self.HELD[1] if random.random() < self.HELD[0] * self.factor else 0.0
        return random.uniform(*self.LATENCY) * self.factor + held

    def cuts(self) -> bool:
        return random.random() < self.CUT * self.factor


class Relay(ThreadedServer):
    def __init__(self, weather: Weather) -> None:
        super().__init__()
        self.weather = weather
        self.to: tuple[str, int] | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.to is None:
            writer.transport.abort()
            return
        there = await asyncio.open_connection(*self.to)
        try:
            both = [
                asyncio.create_task(self.carry(reader, there[1])),
                asyncio.create_task(self.carry(there[0], writer)),
            ]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.05)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        finally:
            there[1].close()

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await asyncio.sleep(self.weather.delay())
            if self.weather.cuts():
                sink.transport.abort()
                return
            sink.write(data)
            await sink.drain()
        sink.write_eof()


def main() -> None:
    weather = Weather()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder) / "tls")
        nginx = Nginx(Path(folder) / "nginx", *authority.good).start()
        chaos, uvicorn, proxy = Chaos().start(), Uvicorn(keep_alive=1).start(), HttpProxy().start()
        relays = {name: Relay(weather).start() for name in ("chaos", "uvicorn", "proxy")}
        relays["chaos"].to = ("127.0.0.1", chaos.port)
        relays["uvicorn"].to = ("127.0.0.1", int(uvicorn.origin.rpartition(":")[2]))
        relays["proxy"].to = ("127.0.0.1", proxy.port)
        steady = Chaos().start()
        found = {name: relay.origin for name, relay in relays.items()}
        found |= {
            "steady": steady.origin,
            "nginx": nginx.http,
            "https": nginx.https,
            "h2": nginx.https2,
            "ca": str(authority.ca_file),
        }
        print(json.dumps(found), flush=True)

        def forget() -> None:
            """The chaos servers keep every request they have seen."""
            while True:
                time.sleep(1)
                for server in (chaos, steady):
                    server.reset_log()
                proxy.asked.clear()

        threading.Thread(target=forget, daemon=True).start()
        for line in sys.stdin:
            words = line.split()
            if words == ["restart", "chaos"]:
                relays["chaos"].to = None
                chaos.stop()
                time.sleep(0.3)
                chaos = Chaos().start()
                relays["chaos"].to = ("127.0.0.1", chaos.port)
            elif words == ["reload", "nginx"]:
                nginx.process.send_signal(signal.SIGHUP)
            elif words[:1] == ["proxy"]:
                proxy.fail = None if words[1] == "none" else words[1]
            elif words[:1] == ["weather"]:
                weather.factor = float(words[1])
            elif words == ["stop"]:
                break
        for server in (*relays.values(), chaos, steady, proxy, uvicorn, nginx):
            server.stop()


if __name__ == "__main__":
    main()
