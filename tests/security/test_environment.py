"""What the environment may decide, and what not: netrc, cookies, proxies, certificates; and that no clock that jumps is looked at."""

from __future__ import annotations

import re
from pathlib import Path

import llmcurl
import pytest
from servers.proxies import HttpProxy

ROOT = Path(__file__).resolve().parent.parent.parent


async def test_netrc_is_not_read(chaos, tmp_path, monkeypatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(
        "machine 127.0.0.1 login user password s3cret\ndefault login user password s3cret\n"
    )
    netrc.chmod(0o600)
    for name in ("HOME", "CURL_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    (tmp_path / ".curlrc").write_text('header = "X-From: curlrc"\n')
    async with llmcurl.AsyncClient() as client:
        answer = await client.get(chaos.url("/json"))
    names = {name.lower() for name, _ in answer.json()["headers"]}
    assert not names & {"authorization", "x-from"}


async def test_cookies_are_not_kept_unless_asked_for(chaos) -> None:
    async with llmcurl.AsyncClient() as plain, llmcurl.AsyncClient(cookies={}) as keeping:
        for client in (plain, keeping):
            await client.get(chaos.url("/set-cookie?sid=1"))
            await client.get(chaos.url("/ok"))
    assert [seen.header("Cookie") for seen in chaos.requests() if seen.path == "/ok"] == [
        None,
        "sid=1",
    ]


async def test_cookies_of_a_chain_of_redirects_end_with_it(chaos, client) -> None:
    await client.get(chaos.url("/redirect?to=/set-cookie%3Fsid%3D1"), follow_redirects=True)
    await client.get(chaos.url("/ok"), follow_redirects=True)
    assert chaos.requests()[-1].header("Cookie") is None


async def test_proxy_variables_count_only_with_trust_env(chaos, monkeypatch) -> None:
    with HttpProxy() as proxy:
        for name in ("http_proxy", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.origin)
        async with llmcurl.AsyncClient(trust_env=False) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
        assert proxy.asked == []
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with llmcurl.AsyncClient() as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
        assert proxy.asked == []


async def test_under_cgi_the_variable_that_a_visitor_can_set_is_ignored(chaos, monkeypatch) -> None:
    """ "httpoxy", CVE-2016-5385."""
    with HttpProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin)
        monkeypatch.setenv("REQUEST_METHOD", "GET")
        async with llmcurl.AsyncClient() as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
        assert proxy.asked == []


async def test_old_versions_of_tls_are_refused(tls, authority) -> None:
    import ssl

    from servers.chaos import Chaos

    context = authority.server_context(authority.good)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Chaos(tls=context) as old:
        async with llmcurl.AsyncClient(verify=str(authority.ca_file)) as client:
            assert (await client.get(old.url("/ok"))).status_code == 200
    with pytest.warns(DeprecationWarning):
        context = authority.server_context(authority.good)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Chaos(tls=context) as older:
        async with llmcurl.AsyncClient(verify=str(authority.ca_file)) as client:
            with pytest.raises(llmcurl.ConnectError):
                await client.get(older.url("/ok"))


# Where a server gives a date, it can only be compared with the wall clock.
DATES = {"_waits.py", "traffic/_feedback.py", "traffic/_record.py"}


def test_no_deadline_looks_at_a_clock_that_can_jump() -> None:
    for path in sorted(ROOT.glob("csrc/**/*.[ch]")):
        text = path.read_text()
        assert not re.search(r"CLOCK_REALTIME|gettimeofday|[^_\w]time\(NULL|[^_\w]time\(0", text), (
            path
        )
        clocks = set(re.findall(r"\bCLOCK_\w+", text)) - {"CLOCK_EVERY"}
        assert clocks <= {"CLOCK_MONOTONIC"}, (path, clocks)
    package = ROOT / "python" / "llmcurl"
    for path in sorted(package.glob("**/*.py")):
        name = str(path.relative_to(package))
        if name.startswith("testing/"):
            continue
        looks = (
            re.search(r"\btime\.time\(|datetime\.(now|utcnow|today)\(", path.read_text())
            is not None
        )
        assert looks == (name in DATES), name
