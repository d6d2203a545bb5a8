"""What N calls at once need, and whether this process and machine have it.

`look` reads the facts (limits, kernel settings, cgroup, name servers, environment, libcurl), `judge`
says in sentences what they mean. Nothing here opens a connection. Used by `python -m llmcurl doctor`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ._redact import mask_url
from ._trust import http2_available

__all__ = ["Check", "Facts", "judge", "look", "raise_fd_limit"]

RESERVE = 64
"""Descriptors left for the process itself: standard streams, the loop, the reactor's own, DNS, logs."""

ENDLESS = 1 << 30
STREAMS = 100
"""Requests that providers commonly let share one HTTP/2 connection."""

KB_PLAIN, KB_TLS = 18, 65
"""Resident KB of a call that waits on a connection of its own (benchmarks/REPORT.md), and over TLS."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `level`: "ok", "note" (worth knowing), "warning" (it works, but badly or not
    for sure), "problem" (N calls will not work)."""

    name: str
    level: str
    text: str


@dataclass(slots=True)
class Facts:
    """What was found; None where the system does not tell."""

    fd_soft: int | None = None
    fd_hard: int | None = None
    fd_used: int | None = None
    port_first: int | None = None
    port_last: int | None = None
    ports_reserved: int = 0
    tcp_tw_reuse: int | None = None
    somaxconn: int | None = None
    cpus: int = 1
    cpu_quota: float | None = None
    memory_limit: int | None = None
    memory_free: int | None = None
    nameservers: list[str] = field(default_factory=list)
    ndots: int = 1
    search: list[str] = field(default_factory=list)
    proxies: dict[str, str] = field(default_factory=dict)
    ca: dict[str, str] = field(default_factory=dict)
    ca_missing: list[str] = field(default_factory=list)
    curl: dict[str, Any] = field(default_factory=dict)
    python: str = ""
    uvloop: str | None = None
    asyncio_debug: bool = False


def raise_fd_limit(wanted: int | None = None) -> int:
    """Raises this process's soft limit of open files (RLIMIT_NOFILE, getrlimit(2)) to `wanted`, or
    to the hard limit, and returns what it is now. It is never lowered.

    Programs that use select(2) with descriptors above 1,023 break; asyncio and uvloop do not.

    Raises:
        OSError: `wanted` is above the hard limit; the text says how to raise that one.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    known_soft, known_hard = (ENDLESS if limit < 0 else limit for limit in (soft, hard))
    ceiling = min(known_hard, _number(Path("/proc/sys/fs/nr_open")) or ENDLESS)
    target = ceiling if wanted is None else wanted
    if target > ceiling:
        raise OSError(
            f"{target:,} open files are wanted, the hard limit is {ceiling:,}. {_raise_hard(target)}"
        )
    if target > known_soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return known_soft


def _raise_hard(files: int) -> str:
    return (
        f"Raise it: as root `prlimit --pid $$ --nofile={files}:{files}` in the shell, or "
        f"`docker run --ulimit nofile={files}:{files}`, or LimitNOFILE={files} in a systemd unit."
    )


# -- reading -------------------------------------------------------------------------------------


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    try:
        return None if text is None else int(text.split()[0])
    except (ValueError, IndexError):
        return None


def look(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> Facts:
    """The facts of this process. Tests give another root of /proc, /sys and /etc."""
    env = os.environ if environ is None else environ
    facts = Facts(python=platform.python_version())
    _limits(facts, root)
    kernel = root / "proc/sys/net"
    ports = (_text(kernel / "ipv4/ip_local_port_range") or "").split()
    if len(ports) == 2 and all(port.isdigit() for port in ports):
        facts.port_first, facts.port_last = (int(port) for port in ports)
        facts.ports_reserved = _reserved(
            facts, _text(kernel / "ipv4/ip_local_reserved_ports") or ""
        )
    facts.tcp_tw_reuse = _number(kernel / "ipv4/tcp_tw_reuse")
    facts.somaxconn = _number(kernel / "core/somaxconn")
    facts.cpus = len(os.sched_getaffinity(0))
    facts.cpu_quota, facts.memory_limit = _cgroup(root)
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            facts.memory_free = int(line.split()[1]) * 1024
    _resolver(facts, root)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        # curl's and our rule: HTTP_PROXY in capitals is not read where CGI could set it
        value = env.get(name) or env.get(name.upper())
        if value:
            facts.proxies[name] = mask_url(value)
    from . import _native

    facts.curl = dict(_native.curl_info())
    _certificates(facts, env)
    facts.uvloop = metadata.version("uvloop") if find_spec("uvloop") else None
    facts.asyncio_debug = bool(env.get("PYTHONASYNCIODEBUG")) or sys.flags.dev_mode
    return facts


def _limits(facts: Facts, root: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts.fd_soft, facts.fd_hard = (ENDLESS if limit < 0 else limit for limit in (soft, hard))
    try:
        facts.fd_used = len(os.listdir(root / "proc/self/fd"))
    except OSError:
        pass


def _reserved(facts: Facts, text: str) -> int:
    """How many ports of the range `ip_local_reserved_ports` takes out of it."""
    count = 0
    assert facts.port_first is not None and facts.port_last is not None
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            begin = max(int(first), facts.port_first)
            end = min(int(last) if last.isdigit() else int(first), facts.port_last)
            count += max(0, end - begin + 1)
    return count


def _cgroup(root: Path) -> tuple[float | None, int | None]:
    """CPUs and bytes that the control groups (cgroups(7), versions 2 and 1) allow."""
    paths: dict[str, str] = {}
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path.strip("/")
    base = root / "sys/fs/cgroup"
    quotas: list[float] = []
    limits: list[int] = []
    for unified in (base, base / "unified"):
        for folder in _up(unified, paths.get("")):
            words = (_text(folder / "cpu.max") or "max").split()
            if len(words) == 2 and words[0].isdigit() and int(words[1]):
                quotas.append(int(words[0]) / int(words[1]))
            if (most := _number(folder / "memory.max")) is not None:
                limits.append(most)
    for folder in _up(base / "cpu", paths.get("cpu")):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and quota > 0 and period:
            quotas.append(quota / period)
    for folder in _up(base / "memory", paths.get("memory")):
        most = _number(folder / "memory.limit_in_bytes")
        if most is not None and most < 1 << 60:
            limits.append(most)
    return (min(quotas) if quotas else None, min(limits) if limits else None)


def _up(base: Path, path: str | None) -> list[Path]:
    """A group's folder and those above it. Inside a container the path may be the host's, and
    then only the root is there."""
    found = [base]
    for part in (path or "").split("/"):
        if part and part != "..":
            found.append(found[-1] / part)
    return [folder for folder in found if folder.is_dir()]


def _resolver(facts: Facts, root: Path) -> None:
    for line in (_text(root / "etc/resolv.conf") or "").splitlines():
        words = line.split("#")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            facts.nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            facts.search = words[1:]
        elif words[0] == "options":
            for option in words[1:]:
                name, _, value = option.partition(":")
                if name == "ndots" and value.isdigit():
                    facts.ndots = int(value)


def _certificates(facts: Facts, env: Mapping[str, str]) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if value := env.get(name):
            facts.ca[name] = value
            paths = value.split(":") if name == "SSL_CERT_DIR" else [value]
            if not any(Path(path).exists() for path in paths):
                facts.ca_missing.append(f"{name}={value}")
    for name in ("cainfo", "capath"):
        if value := facts.curl.get(name):
            facts.ca[name] = value
    if not any(Path(path).exists() for value in facts.ca.values() for path in value.split(":")):
        import ssl

        found = ssl.get_default_verify_paths()
        if found.cafile or found.capath:
            facts.ca["openssl"] = found.cafile or found.capath or ""
        else:
            facts.ca_missing.append("no CA bundle of the system")


# -- judging -------------------------------------------------------------------------------------


def judge(facts: Facts, calls: int = 1000, *, tls: bool = True) -> list[Check]:
    """What the facts mean for `calls` calls in flight at once."""
    checks = [
        _files(facts, calls),
        _ports(facts, calls),
        _backlog(facts, calls),
        _processors(facts),
        _memory(facts, calls, tls),
        _names(facts),
        _proxy(facts),
        _trust(facts),
        *_libcurl(facts, calls),
        _interpreter(facts),
    ]
    return checks


def _files(facts: Facts, calls: int) -> Check:
    soft, hard = facts.fd_soft, facts.fd_hard
    if soft is None or hard is None:
        return Check("open files", "note", "No limit of open files is known.")
    need = calls + max(RESERVE, facts.fd_used or 0)
    text = f"{calls:,} calls need {need:,} open files over HTTP/1.1 (one connection each)"
    if need <= soft:
        return Check("open files", "ok", f"{text}; {soft:,} are allowed.")
    if need <= hard:
        return Check(
            "open files",
            "problem",
            f"{text}; {soft:,} are allowed, and up to {hard:,} without root: call "
            f"llmcurl.raise_fd_limit() at the start of the program, or run `ulimit -n {hard}` in the "
            f"shell (the commands demo and batch raise it by themselves). Without it, calls wait for a "
            f"descriptor: about {max(0, soft - RESERVE):,} run at a time.",
        )
    return Check(
        "open files",
        "problem",
        f"{text}; the hard limit is {hard:,}. {_raise_hard(need)} Or limit the calls in flight to "
        f"{max(0, hard - RESERVE):,}, or use a server with HTTP/2.",
    )


def _ports(facts: Facts, calls: int) -> Check:
    if facts.port_first is None or facts.port_last is None:
        return Check("ports", "note", "The range of local ports is not known.")
    count = facts.port_last - facts.port_first + 1 - facts.ports_reserved
    text = (
        f"{count:,} local ports ({facts.port_first}-{facts.port_last}) are there for connections to "
        "one address and port of a server"
    )
    if calls <= count * 0.8:
        return Check("ports", "ok", f"{text}: enough for {calls:,}.")
    level = "problem" if calls > count else "warning"
    return Check(
        "ports",
        level,
        f"{text}; {calls:,} calls over HTTP/1.1 take "
        f"{'more' if calls > count else 'nearly all'} of them, and a port stays taken for a minute "
        "after its connection was closed. As root `sysctl net.ipv4.ip_local_port_range='1024 65535'`"
        "; or more addresses of the server, or HTTP/2.",
    )


def _backlog(facts: Facts, calls: int) -> Check:
    if facts.somaxconn is None:
        return Check("somaxconn", "note", "net.core.somaxconn is not known.")
    text = (
        f"A server on this machine can have {facts.somaxconn:,} connections waiting to be accepted"
    )
    if facts.somaxconn >= min(calls, 4096):
        return Check("somaxconn", "ok", f"{text} (somaxconn).")
    return Check(
        "somaxconn",
        "warning",
        f"{text} (somaxconn); of {calls:,} new ones at once some will be a second or more late. It "
        "concerns local servers only: `sysctl net.core.somaxconn=4096`, and their own backlog.",
    )


def _processors(facts: Facts) -> Check:
    quota = facts.cpu_quota
    if quota is None:
        return Check("CPU", "ok", f"{facts.cpus} CPUs, and no quota.")
    text = f"{facts.cpus} CPUs, but the control group allows {quota:g}"
    if quota < 1:
        return Check(
            "CPU",
            "warning",
            f"{text}: the process stands still for the rest of each 100 ms once that is used up, and "
            "the loop with it. Give it at least 1.",
        )
    return Check("CPU", "ok", f"{text}; one loop uses one at most.")


def _memory(facts: Facts, calls: int, tls: bool) -> Check:
    known = [size for size in (facts.memory_limit, facts.memory_free) if size is not None]
    each = KB_TLS if tls else KB_PLAIN
    need = calls * each * 1024
    kind = "TLS connections" if tls else "connections"
    text = (
        f"{calls:,} waiting calls on {kind} of their own take about {_size(need)}, and their bodies"
    )
    if not known:
        return Check("memory", "note", f"{text}.")
    room = min(known)
    if need > room * 0.8:
        return Check(
            "memory", "problem" if need > room else "warning", f"{text}; there is {_size(room)}."
        )
    return Check("memory", "ok", f"{text}; there is {_size(room)}.")


def _size(count: float) -> str:
    for unit in ("KB", "MB", "GB"):
        count /= 1024
        if count < 1024 or unit == "GB":
            break
    return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"


def _names(facts: Facts) -> Check:
    if "AsynchDNS" not in facts.curl.get("features", ()):
        return Check(
            "DNS",
            "problem",
            "This libcurl looks names up while everything waits (it was built without AsynchDNS): the "
            "loop stands still for each look-up. Use another build of libcurl.",
        )
    servers = ", ".join(facts.nameservers) or "none named (the local one is asked)"
    text = f"Name servers: {servers}."
    if facts.ndots > 1 and facts.search:
        return Check(
            "DNS",
            "note",
            f"{text} With ndots:{facts.ndots} a name with fewer dots is tried with {len(facts.search)} "
            f"search domains first: write a dot behind the host (https://api.example.com./) or set "
            "ndots:1 if look-ups are slow. llmcurl keeps an answer for 50 s, and asks once for all calls.",
        )
    return Check("DNS", "ok", text)


def _proxy(facts: Facts) -> Check:
    used = {name: value for name, value in facts.proxies.items() if name != "no_proxy"}
    if not used:
        return Check("proxy", "ok", "The environment names no proxy.")
    names = ", ".join(f"{name}={value}" for name, value in used.items())
    excepted = facts.proxies.get("no_proxy")
    text = f"Calls go through {names}" + (f", but not to {excepted}" if excepted else "")
    return Check(
        "proxy",
        "note",
        f"{text}. Servers in the local network belong into NO_PROXY, or use trust_env=False; the "
        "proxy's own limit of connections counts, too.",
    )


def _trust(facts: Facts) -> Check:
    if facts.ca_missing:
        missing = "; ".join(facts.ca_missing)
        return Check(
            "certificates",
            "problem",
            f"Certificates are missing: {missing}. Install ca-certificates, or set SSL_CERT_FILE, or "
            "give verify= a path: no https call works without.",
        )
    places = ", ".join(f"{name}: {value}" for name, value in facts.ca.items())
    return Check("certificates", "ok", f"Trusted are {places}.")


_TRAPS: tuple[tuple[int, int, str, str], ...] = (
    # from, before, level, sentence; sources: curl's changelog and the issues named
    (
        0x000000,
        0x080E00,
        "note",
        "Before 8.14 it keeps its books of transfers in lists: it works at thousands of calls, with "
        "more CPU for each (curl commit 909af1a).",
    ),
    (
        0x000000,
        0x080400,
        "note",
        "Before 8.4 cancelled HTTP/2 streams use up the connection's window and what a GOAWAY refused "
        "is lost: HTTP/2 is off unless you ask for it.",
    ),
    (
        0x080000,
        0x080300,
        "warning",
        "From 8.0 to 8.2 uploads over HTTP/2 may stall (curl issue 11426): take another version, or "
        "leave http2 off.",
    ),
    (
        0x080B01,
        0x080B02,
        "warning",
        "8.11.1 can hang in the name resolver (curl issue 15870): take another version.",
    ),
    (
        0x080D00,
        0x081600,
        "note",
        "From 8.13 to 8.21 HTTP/2 takes about half again as much CPU as with 8.22.",
    ),
)


def _libcurl(facts: Facts, calls: int) -> list[Check]:
    curl = facts.curl
    number, version = curl.get("version_num", 0), curl.get("version", "?")
    checks = [
        Check("libcurl", level, f"libcurl {version}. {sentence}")
        for since, before, level, sentence in _TRAPS
        if since <= number < before
    ]
    if curl.get("built_with") not in (None, version):
        checks.append(
            Check(
                "libcurl",
                "note",
                f"Built with the headers of {curl['built_with']}, running on {version}.",
            )
        )
    if not curl.get("ssl_store"):
        checks.append(
            Check(
                "TLS",
                "warning",
                f"{curl.get('ssl_version') or 'No TLS'}: each TLS connection loads the CA bundle for "
                "itself (20 ms of CPU and 0.8 MB), because libcurl's OpenSSL is not the one llmcurl was "
                "built with. Build llmcurl against it.",
            )
        )
    if http2_available(curl, None):
        needed = -(-calls // STREAMS)
        checks.append(
            Check(
                "HTTP/2",
                "ok",
                f"HTTP/2 is on: where the server speaks it, {calls:,} calls need about {needed:,} "
                f"connections ({STREAMS} calls each) instead of {calls:,}.",
            )
        )
    else:
        checks.append(
            Check("HTTP/2", "note", "HTTP/2 is off: each call has a connection of its own.")
        )
    return checks


def _interpreter(facts: Facts) -> Check:
    loop = (
        f"uvloop {facts.uvloop} is there"
        if facts.uvloop
        else "uvloop is not installed: none is needed"
    )
    text = f"Python {facts.python}; {loop}"
    if facts.asyncio_debug:
        return Check(
            "Python",
            "warning",
            f"{text}. asyncio's debug mode is on (PYTHONASYNCIODEBUG or -X dev): each call costs several "
            "times as much.",
        )
    return Check("Python", "ok", f"{text}.")
