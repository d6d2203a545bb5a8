"""`python -m llmcurl doctor`: what it reads, what it makes of it, and its exit status."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import llmcurl
import pytest
from lifetime.scripts import run as run_script
from llmcurl._cli import main
from llmcurl._preflight import Facts, judge, look
from servers.chaos import Chaos

GOOD_CURL = {
    "version": "8.22.0",
    "version_num": 0x081600,
    "features": ["HTTP2", "AsynchDNS"],
    "built_with": "8.22.0",
    "ssl_store": True,
    "ssl_version": "OpenSSL/3.5.0",
}


def good(**changes) -> Facts:
    facts = Facts(
        fd_soft=100_000, fd_hard=100_000, fd_used=10, port_first=32768, port_last=60999, somaxconn=4096, cpus=4,
        memory_limit=8 << 30, memory_free=8 << 30, nameservers=["9.9.9.9"], ca={"cainfo": "/x.pem"},
        curl=GOOD_CURL, python="3.13.1",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(facts, name, value)
    return facts


def verdict(facts: Facts, name: str, calls: int = 1000, **options) -> tuple[str, str]:
    found = [check for check in judge(facts, calls, **options) if check.name == name]
    assert found, name
    worst = max(found, key=lambda check: ["ok", "note", "warning", "problem"].index(check.level))
    return worst.level, " ".join(check.text for check in found)


@pytest.fixture(autouse=True)
def certificates(authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may have none."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))


@pytest.fixture
def root(tmp_path: Path):
    """A machine of files: `root(path, text)` puts one there."""

    def put(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path

    return put


def test_all_is_well_on_a_good_machine() -> None:
    assert {check.level for check in judge(good(), 10_000)} == {"ok"}


@pytest.mark.parametrize(
    ("name", "changes", "calls", "level", "words"),
    [
        ("open files", {"fd_soft": 1024, "fd_hard": 4096}, 2000, "problem", "raise_fd_limit"),
        ("open files", {"fd_soft": 1024, "fd_hard": 4096}, 900, "ok", "964"),
        ("open files", {"fd_soft": 1024, "fd_hard": 4096}, 5000, "problem", "--ulimit nofile=5064"),
        ("open files", {"fd_soft": None}, 5000, "note", "No limit"),
        ("ports", {}, 28_233, "problem", "28,232 local ports"),
        ("ports", {}, 25_000, "warning", "ip_local_port_range"),
        ("ports", {"ports_reserved": 20_000}, 9000, "problem", "8,232 local ports"),
        ("somaxconn", {"somaxconn": 128}, 1000, "warning", "128 connections"),
        ("somaxconn", {"somaxconn": 128}, 100, "ok", "128 connections"),
        ("CPU", {"cpu_quota": 0.5}, 1, "warning", "allows 0.5"),
        ("CPU", {"cpu_quota": 2.0}, 1, "ok", "allows 2"),
        ("memory", {"memory_limit": 64 << 20}, 1000, "warning", "64 MB"),
        ("memory", {"memory_limit": 64 << 20}, 10_000, "problem", "64 MB"),
        ("DNS", {"curl": {**GOOD_CURL, "features": []}}, 1, "problem", "AsynchDNS"),
        ("DNS", {"ndots": 5, "search": ["a.local", "b.local"]}, 1, "note", "2 search domains"),
        ("proxy", {"proxies": {"https_proxy": "http://p:3128"}}, 1, "note", "https_proxy=http://p:3128"),
        ("certificates", {"ca_missing": ["SSL_CERT_FILE=/none"]}, 1, "problem", "SSL_CERT_FILE=/none"),
        ("libcurl", {"curl": {**GOOD_CURL, "version_num": 0x080201, "version": "8.2.1"}}, 1, "warning", "11426"),
        ("libcurl", {"curl": {**GOOD_CURL, "version_num": 0x080B01}}, 1, "warning", "resolver"),
        ("TLS", {"curl": {**GOOD_CURL, "ssl_store": False}}, 1, "warning", "CA bundle"),
        ("HTTP/2", {}, 1000, "ok", "about 10 connections"),
        ("HTTP/2", {"curl": {**GOOD_CURL, "version_num": 0x075801}}, 1, "note", "off"),
        ("Python", {"asyncio_debug": True}, 1, "warning", "debug mode"),
    ],
)  # fmt: skip
def test_what_is_found_becomes_a_sentence(name, changes, calls, level, words) -> None:
    found, text = verdict(good(**changes), name, calls)
    assert found == level and words in text


def test_plain_connections_take_less_memory_than_tls() -> None:
    facts = good(memory_limit=200 << 20)
    assert verdict(facts, "memory", 3000, tls=False)[0] == "ok"
    assert verdict(facts, "memory", 3000, tls=True)[0] == "warning"


def test_kernel_settings_are_read(root) -> None:
    root("proc/sys/net/ipv4/ip_local_port_range", "40000\t49999\n")
    root("proc/sys/net/ipv4/ip_local_reserved_ports", "39990-40009,45000,60000\n")
    root("proc/sys/net/core/somaxconn", "511\n")
    root("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:      2048 kB\n")
    facts = look(
        root(
            "etc/resolv.conf",
            "nameserver 1.1.1.1\n# nameserver 2.2.2.2\nsearch a b\noptions edns0 ndots:5\n",
        )
    )
    assert (facts.port_first, facts.port_last, facts.ports_reserved) == (40000, 49999, 11)
    assert facts.somaxconn == 511 and facts.memory_free == 2 << 20
    assert (facts.nameservers, facts.search, facts.ndots) == (["1.1.1.1"], ["a", "b"], 5)


def test_what_is_not_there_is_not_known(tmp_path: Path) -> None:
    facts = look(tmp_path)
    assert facts.port_first is facts.somaxconn is facts.cpu_quota is facts.memory_limit is None
    assert {check.level for check in judge(facts)} <= {"ok", "note", "warning", "problem"}


def test_the_smallest_quota_of_the_groups_counts_version_2(root) -> None:
    root("proc/self/cgroup", "0::/pod/container\n")
    root("sys/fs/cgroup/cpu.max", "max 100000\n")
    root("sys/fs/cgroup/pod/cpu.max", "150000 100000\n")
    root("sys/fs/cgroup/pod/memory.max", "1073741824\n")
    facts = look(root("sys/fs/cgroup/pod/container/cpu.max", "400000 100000\n"))
    assert facts.cpu_quota == 1.5 and facts.memory_limit == 1 << 30


def test_a_container_that_sees_its_own_group_only_version_1(root) -> None:
    root("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    root("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
    root("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    root("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n")
    facts = look(
        root("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n")
    )
    assert facts.cpu_quota == 0.5 and facts.memory_limit == 512 << 20


def test_the_environment_is_read_without_its_secrets(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    facts = look(
        environ={
            "HTTPS_PROXY": "http://user:secret@proxy:3128",
            "NO_PROXY": "local",
            "SSL_CERT_FILE": missing,
        }
    )
    assert facts.proxies == {"https_proxy": "http://proxy:3128", "no_proxy": "local"}
    assert facts.ca_missing == [f"SSL_CERT_FILE={missing}"]
    assert "secret" not in repr(facts)


def test_the_command_tells_and_its_status_says_whether_it_will_work(capsys) -> None:
    assert main(["doctor", "--calls", "1"]) == 0
    assert "1 calls at once will work here." in capsys.readouterr().out
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 < hard < 10**9:
        assert main(["doctor", "--calls", str(hard * 2)]) == 1
        assert "PROBLEM open files" in capsys.readouterr().out


def test_json_has_the_findings_and_the_facts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmcurl", "doctor", "--json", "--calls", "3"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(llmcurl.__file__).parents[1])},
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["ok"] else 1) and document["calls"] == 3
    assert document["facts"]["curl"]["version"] and {"name", "level", "text"} == set(
        document["checks"][0]
    )


def test_a_url_is_tried(chaos: Chaos, capsys) -> None:
    assert main(["doctor", "--calls", "1", chaos.url("/ok")]) == 0
    assert "answers 200 over HTTP/1.1" in capsys.readouterr().out
    assert main(["doctor", "--calls", "1", "--timeout", "0.2", chaos.url("/stall?key=secret")]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM URL: ReadTimeout" in out or "PROBLEM URL: TotalTimeout" in out
    assert "secret" not in out
    assert main(["doctor", "nonsense"]) == 1


def test_the_soft_limit_is_raised_to_the_hard_one_on_request() -> None:
    script = """
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
    assert llmcurl.raise_fd_limit(512) == 512 and resource.getrlimit(resource.RLIMIT_NOFILE) == (512, 1024)
    assert llmcurl.raise_fd_limit(100) == 512
    assert llmcurl.raise_fd_limit() == 1024 and resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1024)
    try:
        llmcurl.raise_fd_limit(5000)
    except OSError as error:
        assert "1,024" in str(error) and "LimitNOFILE=5000" in str(error)
    else:
        raise AssertionError
    from llmcurl._cli import main
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024))
    assert main(["doctor", "--calls", "700"]) == 1
    assert main(["doctor", "--calls", "700", "--raise"]) == 0
    """
    done = run_script(script)
    assert done.returncode == 0, done.stderr
