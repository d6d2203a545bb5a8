"""The suite's header line, the servers as fixtures, both event loops, and the check that every test leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers.chaos import Chaos
from servers.nginx import Missing, Nginx
from servers.proxies import HttpProxy, SocksProxy
from servers.tls import Authority, TlsServers

try:
    import uvloop
except ImportError:
    uvloop = None

HERE = Path(__file__).parent
PROXY_VARIABLES = [f"{name}_proxy" for name in ("http", "https", "all", "no")] + [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
]


def native():
    """The extension, or None while it is not built."""
    try:
        return importlib.import_module("llmcurl._native")
    except ImportError:
        return None


# -- header and configuration ------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts into the background with SIGINT ignored; the programs that tests interrupt would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if (
        uvloop is not None
    ):  # the first loop that runs opens a pipe that stays for the life of the process
        loop = uvloop.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    config.addinivalue_line(
        "markers", "leaves_traces: the check for live objects, descriptors and threads is off"
    )


def pytest_report_header(config: pytest.Config) -> str:
    module = native()
    curl = "llmcurl._native is not built"
    if module is not None:
        info = module.curl_info()
        curl = f"libcurl {info['version']}, {info['ssl_version']}"
    loops = "asyncio" + (f" and uvloop {uvloop.__version__}" if uvloop else "; no uvloop")
    return f"Python {platform.python_version()} ({sys.executable}); {curl}; loops: {loops}"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict:
    """What talks to real peers runs on both loops, the rest on asyncio's."""
    factories = {"asyncio": asyncio.new_event_loop}
    if uvloop is not None and HERE / "integration" in item.path.parents:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_collection_finish(session: pytest.Session) -> None:
    """What exists now stays: the collections after each test need not walk it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if call.when == "call":
        item.call_passed = report.passed
    if report.failed:
        item.session.a_test_failed = True
    return report


# -- nothing is left behind --------------------------------------------------------------------------------------------


def _descriptors() -> Counter:
    """What our descriptors point to; sockets and pipes without their numbers."""
    found: Counter = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").partition(":[")[0]] += 1
        except OSError:
            pass  # the descriptor of this very listing
    return found


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _live() -> dict[str, int]:
    module = sys.modules.get("llmcurl._native")
    return dict(module._live()) if hasattr(module, "_live") else {}


def _left(before: tuple[dict, Counter, int], clean: bool) -> list[str]:
    """What is different now. After a failed test (not `clean`) its remains may vanish meanwhile: then less is no fault."""
    live, descriptors, threads = before
    left = []
    for key, value in _live().items():
        if value > live.get(key, 0) or (clean and value != live.get(key, 0)):
            left.append(f"live {key}: {live.get(key, 0)} before, {value} after")
    now = _descriptors()
    if now.total() > descriptors.total():
        left.append(
            f"file descriptors: {descriptors.total()} before, {now.total()} after: {dict(now - descriptors)}"
        )
    if _threads() > threads:
        left.append(f"threads: {threads} before, {_threads()} after")
    return left


@pytest.fixture(autouse=True)
def live(request: pytest.FixtureRequest) -> Iterator[None]:
    """Live native objects, descriptors and threads return to where they were.

    Servers and libcurl's resolver threads may take a moment to finish: the wait is bounded. A failed test is not checked: its
    traceback keeps objects alive.
    """
    native()
    before = (_live(), _descriptors(), _threads())
    yield
    if not getattr(request.node, "call_passed", False) or request.node.get_closest_marker(
        "leaves_traces"
    ):
        return
    gc.collect()
    deadline = time.monotonic() + 20
    clean = not getattr(request.session, "a_test_failed", False)
    while left := _left(before, clean):
        if time.monotonic() > deadline:
            pytest.fail("left behind: " + "; ".join(left))
        time.sleep(0.005)
        gc.collect()


@pytest.fixture(autouse=True)
def no_proxy_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxy settings and CA bundle have no say in the tests."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# -- peers -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Nginx]:
    server = Nginx(tmp_path_factory.mktemp("nginx"), *authority.good)
    try:
        server.start()
    except Missing as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _chaos() -> Iterator[Chaos]:
    with Chaos() as server:
        yield server


@pytest.fixture
def chaos(_chaos: Chaos) -> Chaos:
    _chaos.reset_log()
    return _chaos


@pytest.fixture(scope="session")
def _tls_servers(authority: Authority) -> Iterator[TlsServers]:
    with TlsServers(authority) as servers:
        yield servers


@pytest.fixture
def tls(_tls_servers: TlsServers) -> TlsServers:
    for server in _tls_servers.all:
        server.reset_log()
    return _tls_servers


@pytest.fixture(scope="session")
def asgi() -> Iterator[object]:
    from servers.asgi import Uvicorn

    with Uvicorn(keep_alive=1) as server:
        yield server


@pytest.fixture
def http_proxy() -> Iterator[HttpProxy]:
    with HttpProxy() as proxy:
        yield proxy


@pytest.fixture
def socks_proxy() -> Iterator[SocksProxy]:
    with SocksProxy(names={"only-the-proxy-knows.example": "127.0.0.1"}) as proxy:
        yield proxy


@pytest.fixture
async def client() -> AsyncIterator[object]:
    import llmcurl

    async with llmcurl.AsyncClient() as client:
        yield client
