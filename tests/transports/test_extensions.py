"""Request extensions that change what is sent, and socket options."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

import pytest
from servers.proxies import HttpProxy
from servers.witness import Witness

from .conftest import Package, as_sent

NAME = "model-7.inference.example"


@pytest.fixture
def elsewhere(authority):
    """A server whose certificate is for NAME only."""
    context = authority.server_context(authority._write("elsewhere", authority.ca.issue_cert(NAME)))
    with Witness(context) as made:
        yield made


class TestSniHostname:
    """Connect to the URL's host, ask for and verify another name, send the URL's Host."""

    async def test_another_name(self, package, elsewhere, authority):
        async def case(client):
            url = elsewhere.url("/a/../b?c=%2F")
            return (await client.get(url, extensions={"sni_hostname": NAME})).json()

        theirs, ours = await package.both(
            case, None, {"verify": ssl.create_default_context(cafile=str(authority.ca_file))}
        )
        assert theirs.error is None and ours.result == theirs.result
        assert (
            ours.result["name"] == NAME
            and f"Host: 127.0.0.1:{elsewhere.port}" in ours.result["head"]
        )

    @pytest.mark.parametrize("sni", [None, "another.example"])
    async def test_it_is_verified(self, package, elsewhere, authority, sni):
        case = lambda c: c.get(elsewhere.url(), extensions={"sni_hostname": sni} if sni else {})  # noqa: E731
        theirs, ours = await package.both(
            case, None, {"verify": ssl.create_default_context(cafile=str(authority.ca_file))}
        )
        assert ours.error == theirs.error == f"{package.name}.ConnectError"

    async def test_connections_are_not_shared_between_names(self, package, tls, authority):
        """A connection that was verified for one name is not used for another."""
        verify = ssl.create_default_context(cafile=str(authority.ca_file))
        async with package.client(package.ours(verify=verify)) as client:
            assert (await client.get(tls.good.url("/ok"))).status_code == 200
            for name in ("localhost", "127.0.0.1", "localhost"):
                assert (
                    await client.get(tls.good.url("/ok"), extensions={"sni_hostname": name})
                ).status_code == 200
            with pytest.raises(package.module.ConnectError):
                await client.get(tls.good.url("/ok"), extensions={"sni_hostname": NAME})
            assert (await client.get(tls.good.url("/ok"))).status_code == 200
        assert len({r.connection for r in tls.good.requests()}) == 2

    async def test_plain_http_has_none(self, package, chaos):
        case = lambda c: c.get(chaos.url("/ok"), extensions={"sni_hostname": NAME})  # noqa: E731
        theirs, ours = await package.both(case, chaos)
        assert ours.error is theirs.error is None
        assert [as_sent(r.raw) for r in ours.requests] == [as_sent(r.raw) for r in theirs.requests]

    async def test_through_a_proxy(self, package, elsewhere, authority):
        """As httpx2 does it; httpx forgets the name there."""
        with HttpProxy() as proxy:
            transport = package.ours(
                verify=ssl.create_default_context(cafile=str(authority.ca_file)), proxy=proxy.origin
            )
            async with package.client(transport) as client:
                answer = await client.get(elsewhere.url(), extensions={"sni_hostname": NAME})
                assert answer.json()["name"] == NAME
            assert [(a.kind, a.target) for a in proxy.asked] == [
                ("CONNECT", f"127.0.0.1:{elsewhere.port}")
            ]

    async def test_http2(self, package, nginx, authority):
        async with package.client(package.ours(verify=False, http2=True)) as client:
            answer = await client.get(nginx.https2 + "/json", extensions={"sni_hostname": NAME})
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)


class TestTarget:
    @pytest.mark.parametrize(
        "target",
        ["*", "http://other.example/x?y", "host.example:443", "/a#b", "/a/../b", "?x", "//a//b"],
    )
    @pytest.mark.parametrize("method", ["OPTIONS", "POST"])
    async def test_verbatim(self, package, target, method):
        with Witness() as server:

            async def case(client):
                return (
                    await client.request(
                        method,
                        server.url("/x"),
                        content=b"",
                        extensions={"target": target.encode()},
                    )
                ).json()

            theirs, ours = await package.both(case)
        assert theirs.error is None and ours.result == theirs.result
        assert ours.result["head"].startswith(f"{method} {target} HTTP/1.1\r\n")

    async def test_the_next_call_has_its_own(self, package):
        with Witness() as server:
            async with package.client(package.ours()) as client:
                await client.options(server.url("/x"), extensions={"target": b"*"})
                answer = await client.get(server.url("/y"))
        assert answer.json()["head"].startswith("GET /y HTTP/1.1\r\n")

    @pytest.mark.parametrize("target", [b"/a b", b"/\r\nX: y", b"/\xff", b"/a\x00"])
    async def test_refused(self, package, chaos, target):
        case = lambda c: c.get(chaos.url("/ok"), extensions={"target": target})  # noqa: E731
        theirs, ours = await package.both(case, chaos)
        assert ours.error == theirs.error == f"{package.name}.LocalProtocolError"
        assert ours.requests == []


@contextlib.contextmanager
def sockets_to(port: int):
    """This process's sockets that are connected to the port."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    sock = stack.enter_context(
                        socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM)
                    )
                    if sock.getpeername()[1:2] == (port,):
                        found.append(sock)
        yield found


class TestSocketOptions:
    @pytest.mark.parametrize(
        "level, name, value, expected",
        [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0, 0),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0, 0),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 61, 61),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 62, 62),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5, 5),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000, 120_000),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000, 40_000),  # the kernel doubles it
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, (0).to_bytes(4, "little"), 0),
        ],
    )
    async def test_set(self, package, chaos, level, name, value, expected):
        async with package.client(package.ours(socket_options=[(level, name, value)])) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
            with sockets_to(chaos.port) as found:
                assert {sock.getsockopt(level, name) for sock in found} == {expected}

    async def test_what_the_kernel_refuses(self, package, chaos):
        async with package.client(
            package.ours(socket_options=[(socket.SOL_SOCKET, 9999, 1)])
        ) as client:
            with pytest.raises(
                package.module.ConnectError,
                match="socket option could not be set: Protocol not available",
            ):
                await client.get(chaos.url("/ok"))

    async def test_on_unix_sockets(self, package, tmp_path):
        path = str(tmp_path / "s")
        with Witness(path=path):
            case = lambda c: c.get("http://some.host/x")  # noqa: E731
            theirs, ours = await package.both(
                case,
                None,
                {"uds": path, "socket_options": [(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)]},
            )
        assert ours.error is None and ours.result.json() == theirs.result.json()

    @pytest.mark.parametrize(
        "option", [(1, 2), (1, 2, "x"), (1, 2, None), (1, 2, 1 << 40), (1, 2, b"x" * 100)]
    )
    def test_refused(self, package, option):
        with pytest.raises((TypeError, ValueError), match="socket_options"):
            transport = package.ours(socket_options=[option])
            asyncio.run(
                transport.handle_async_request(package.module.Request("GET", "http://127.0.0.1:1/"))
            )


@pytest.mark.leaves_traces
@pytest.mark.filterwarnings("ignore")
async def test_an_sdk_and_a_host_with_an_underscore(tls, authority):
    """anthropic asks for the name with dashes then, as no certificate can be had for the other."""
    anthropic = pytest.importorskip("anthropic")
    transport = Package("httpx2").ours(verify=str(authority.ca_file))
    context = authority.server_context(
        authority._write("underscore", authority.ca.issue_cert("my-gateway.localhost"))
    )
    with Witness(context) as server:
        url = server.url(host="my_gateway.localhost")
        async with anthropic.AsyncAnthropic(
            base_url=url,
            api_key="k",
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(transport=transport),
        ) as client:
            await client.get("/x", cast_to=str)
        told = server.seen[-1]
    assert (
        told["name"] == "my-gateway.localhost"
        and f"Host: my_gateway.localhost:{server.port}" in told["head"]
    )
