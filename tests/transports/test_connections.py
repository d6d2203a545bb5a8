"""The constructor's arguments: TLS, proxies, sockets; what cannot be honoured is refused at once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest
from servers.proxies import HttpProxy, SocksProxy

from .conftest import as_sent, facts


@pytest.fixture(autouse=True)
def old_ways(recwarn):
    """The reference warns of paths in verify= and of cert=."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def context(authority, **changes) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(authority.ca_file))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


async def status(client, url: str) -> int:
    return facts(await client.get(url))["status"]


class TestTls:
    async def check(self, package, server, **transport):
        theirs, ours = await package.both(lambda c: status(c, server.url("/ok")), server, transport)
        assert (ours.result, ours.error) == (theirs.result, theirs.error)
        return ours.error

    @pytest.mark.parametrize("kind", ["good", "wrong_host", "expired", "self_signed"])
    @pytest.mark.parametrize(
        "verify", ["path", "context", "no host check", "no check", "false", "default"]
    )
    async def test_verify(self, package, tls, authority, kind, verify):
        unchecked = context(authority, check_hostname=False)
        unchecked.verify_mode = ssl.CERT_NONE
        values = {
            "path": str(authority.ca_file), "context": context(authority), "default": True, "false": False,
            "no host check": context(authority, check_hostname=False), "no check": unchecked,
        }  # fmt: skip
        error = await self.check(package, getattr(tls, kind), verify=values[verify])
        if kind == "good":
            assert (error is None) == (verify != "default")

    async def test_a_directory(self, package, tls, authority):
        assert await self.check(package, tls.good, verify=str(authority.ca_directory)) is None

    async def test_the_environment(self, package, tls, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
        assert await self.check(package, tls.good) is None
        assert await self.check(package, tls.good, trust_env=False) is not None

    async def test_client_certificate(self, package, tls, authority):
        ca = str(authority.ca_file)
        both = [str(path) for path in authority.client]
        async with package.client(package.ours(verify=ca, cert=tuple(both))) as client:
            assert await status(client, tls.wants_client_cert.url("/ok")) == 200
        async with package.client(
            package.ours(verify=context(authority), cert=str(authority.client_both))
        ) as client:
            assert await status(client, tls.wants_client_cert.url("/ok")) == 200
        seen = await package.observe(
            lambda c: status(c, tls.wants_client_cert_tls12.url("/ok")), package.ours(verify=ca)
        )
        assert seen.error == f"{package.name}.ConnectError"

    async def test_minimum_version(self, package, tls, authority):
        strict = context(authority, minimum_version=ssl.TLSVersion.TLSv1_3)
        seen = await package.observe(
            lambda c: status(c, tls.good.url("/ok")), package.ours(verify=strict)
        )
        assert seen.result == 200
        seen = await package.observe(
            lambda c: status(c, tls.wants_client_cert_tls12.url("/ok")), package.ours(verify=strict)
        )
        assert seen.error == f"{package.name}.ConnectError"

    @pytest.mark.parametrize("length", ["", "&length=1000"])
    async def test_without_close_notify(self, package, tls, length):
        case = lambda c: c.get(tls.good.url(f"/no-notify?x=1{length}"))  # noqa: E731
        theirs, ours = await package.both(case, tls.good, {"verify": False})
        assert ours.error == theirs.error
        if not length:
            assert ours.result.content == theirs.result.content == b"x" * 500

    def test_no_such_kind(self, package):
        with pytest.raises(TypeError, match="verify"):
            package.ours(verify=3)

    def test_missing_files(self, package):
        with pytest.raises(FileNotFoundError, match="verify"):
            package.ours(verify="/does/not/exist")
        with pytest.raises(FileNotFoundError, match="cert"):
            package.ours(cert="/does/not/exist")


class TestProxies:
    async def check(self, package, make, url, server, **transport):
        """Both through a proxy of their own; returns what the two were asked."""
        asked, seen = [], []
        for kind in (package.reference, package.ours):
            with make() as proxy:
                given = {
                    name: value(proxy) if callable(value) else value
                    for name, value in transport.items()
                }
                seen.append(await package.observe(lambda c: status(c, url), kind(**given), server))
                asked.append(
                    [
                        (a.kind, a.target.rpartition(":")[0] if a.kind == "CONNECT" else a.target)
                        for a in proxy.asked
                    ]
                )
        theirs, ours = seen
        assert (ours.result, ours.error) == (theirs.result, theirs.error)
        assert asked[1] == asked[0]
        if server is not None:
            strip = [b"\r\nConnection: close"]
            assert [as_sent(r.raw.replace(*strip, b"")) for r in ours.requests] == [
                as_sent(r.raw.replace(*strip, b"")) for r in theirs.requests
            ]
        return ours

    async def test_http(self, package, chaos):
        ours = await self.check(
            package, HttpProxy, chaos.url("/ok"), chaos, proxy=lambda p: p.origin
        )
        assert ours.result == 200

    async def test_connect(self, package, tls):
        url = tls.good.url("/ok")
        ours = await self.check(
            package, HttpProxy, url, tls.good, proxy=lambda p: p.origin, verify=False
        )
        assert ours.result == 200

    async def test_credentials_and_headers(self, package, tls):
        def proxy(p):
            return package.module.Proxy(p.origin, auth=("u@:", "p w"), headers={"X-Proxy": "1"})

        make = lambda: HttpProxy(auth=("u@:", "p w"))  # noqa: E731
        ours = await self.check(
            package, make, tls.good.url("/ok"), tls.good, proxy=proxy, verify=False
        )
        assert ours.result == 200

    @pytest.mark.parametrize("fail", ["502", "drop", "garbage"])
    async def test_failures(self, package, tls, fail):
        make = lambda: HttpProxy(fail=fail)  # noqa: E731
        ours = await self.check(
            package, make, tls.good.url("/ok"), None, proxy=lambda p: p.origin, verify=False
        )
        assert ours.error is not None

    @pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
    async def test_socks(self, package, chaos, scheme):
        pytest.importorskip("socksio")
        ours = await self.check(
            package,
            SocksProxy,
            chaos.url("/ok"),
            chaos,
            proxy=lambda p: f"{scheme}://{p.authority}",
        )
        assert ours.result == 200

    async def test_socks_resolves_there(self, package, chaos):
        pytest.importorskip("socksio")
        make = lambda: SocksProxy(names={"only-there.example": "127.0.0.1"})  # noqa: E731
        url = f"http://only-there.example:{chaos.port}/ok"
        ours = await self.check(package, make, url, None, proxy=lambda p: f"socks5://{p.authority}")
        assert ours.result == 200

    async def test_a_proxy_nobody_knows(self, package, chaos):
        theirs, ours = await package.both(
            lambda c: status(c, chaos.url("/ok")),
            None,
            {"proxy": "http://does-not-exist.invalid:3128"},
        )
        assert ours.error == theirs.error == f"{package.name}.ConnectError"

    async def test_the_environment_has_no_say(self, package, chaos, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        theirs, ours = await package.both(lambda c: status(c, chaos.url("/ok")), chaos)
        assert ours.result == theirs.result == 200

    def test_refused(self, package):
        proxy = package.module.Proxy("https://127.0.0.1", ssl_context=ssl.create_default_context())
        with pytest.raises(ValueError, match="ssl_context"):
            package.ours(proxy=proxy)
        with pytest.raises(ValueError):
            package.ours(proxy="ftp://127.0.0.1")


@contextlib.contextmanager
def unix_server(path: str):
    """Answers each connection on a Unix socket with the request it got."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    data = peer.recv(65536)
                    peer.sendall(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                        % len(data)
                        + data
                    )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


class TestSockets:
    async def test_uds(self, package, tmp_path):
        path = str(tmp_path / "s")
        with unix_server(path):
            theirs, ours = await package.both(
                lambda c: c.get("http://some.host/x?y"), None, {"uds": path}
            )
        assert ours.error is None and as_sent(ours.result.content) == as_sent(theirs.result.content)

    async def test_local_address(self, package, chaos):
        theirs, ours = await package.both(
            lambda c: status(c, chaos.url("/ok")), chaos, {"local_address": "127.0.0.2"}
        )
        assert ours.result == theirs.result == 200
        seen = await package.observe(
            lambda c: status(c, chaos.url("/ok")), package.ours(local_address="192.0.2.1")
        )
        assert seen.error == f"{package.name}.ConnectError"

    async def test_socket_options(self, package, chaos):
        # those anthropic and langchain-openai set
        given = [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 60), (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ]  # fmt: skip
        theirs, ours = await package.both(
            lambda c: status(c, chaos.url("/ok")), chaos, {"socket_options": given}
        )
        assert ours.result == theirs.result == 200

    def test_no_protocol(self, package):
        with pytest.raises(ValueError, match="http1"):
            package.ours(http1=False, http2=False)
