"""HTTP proxies (forwarding and CONNECT), SOCKS5 with names resolved here or there, the environment, and proxies that fail."""

from __future__ import annotations

import asyncio
import base64

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.proxies import HttpProxy, SocksProxy
from servers.sockets import refused


async def test_plain_http_goes_through_a_proxy_in_absolute_form(
    chaos: Chaos, http_proxy: HttpProxy
) -> None:
    async with llmcurl.AsyncClient(proxy=http_proxy.origin) as client:
        response = await client.post(
            chaos.url("/json?a=%2F"), content=b"body", headers={"X-A": "b"}
        )
    assert response.json()["body"] == "body"
    assert http_proxy.asked[0].kind == "POST" and http_proxy.asked[0].target == chaos.url(
        "/json?a=%2F"
    )
    assert chaos.requests()[0].target == "/json?a=%2F" and chaos.requests()[0].header("X-A") == "b"


async def test_https_goes_through_a_tunnel_of_which_the_proxy_sees_only_the_target(
    tls, authority, http_proxy: HttpProxy
) -> None:
    async with llmcurl.AsyncClient(
        proxy=http_proxy.origin, verify=str(authority.ca_file)
    ) as client:
        for _ in range(3):
            response = await client.get(
                tls.good.url("/json"), headers={"Authorization": "Bearer secret"}
            )
            assert response.status_code == 200
    assert [(asked.kind, asked.target) for asked in http_proxy.asked] == [
        ("CONNECT", tls.good.authority)
    ]
    assert "authorization" not in http_proxy.asked[0].headers
    assert tls.good.new_connections == 1, "a tunnel is used again"


async def test_connections_to_a_proxy_are_used_again(chaos: Chaos, http_proxy: HttpProxy) -> None:
    async with llmcurl.AsyncClient(proxy=http_proxy.origin) as client:
        for _ in range(5):
            assert (await client.get(chaos.url("/ok"))).status_code == 200
    assert http_proxy.connections == 1


async def test_credentials_in_the_proxy_url_are_sent_to_the_proxy_only(
    chaos: Chaos, tls, authority
) -> None:
    with HttpProxy(auth=("user", "pä:ss")) as proxy:
        url = proxy.origin.replace("http://", "http://user:p%C3%A4%3Ass@")
        async with llmcurl.AsyncClient(proxy=url, verify=str(authority.ca_file)) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
            assert (await client.get(tls.good.url("/ok"))).status_code == 200
        assert {
            base64.b64decode(asked.headers["proxy-authorization"][6:]).decode()
            for asked in proxy.asked
        } == {"user:pä:ss"}
    assert all(
        seen.header("Proxy-Authorization") is None
        for seen in chaos.requests() + tls.good.requests()
    )


async def test_a_407_is_an_answer_of_a_forwarding_proxy_and_a_proxy_error_of_a_tunnel(
    chaos: Chaos, tls
) -> None:
    with HttpProxy(auth=("user", "right")) as proxy:
        async with llmcurl.AsyncClient(
            proxy=proxy.origin.replace("http://", "http://user:wrong@")
        ) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 407
            with pytest.raises(llmcurl.ProxyError, match="407"):
                await client.get(tls.good.url("/ok"))


async def test_a_502_to_connect_is_a_proxy_error(tls) -> None:
    with HttpProxy(fail="502") as proxy:
        async with llmcurl.AsyncClient(proxy=proxy.origin) as client:
            with pytest.raises(llmcurl.ProxyError, match="502"):
                await client.get(tls.good.url("/ok"))
    assert tls.good.new_connections == 0


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
async def test_a_proxy_that_hangs_up_is_a_transport_error_and_no_timeout(
    chaos: Chaos, tls, kind: type
) -> None:
    with kind(fail="drop") as proxy:
        async with llmcurl.AsyncClient(proxy=proxy.origin) as client:
            for url in (tls.good.url("/ok"), chaos.url("/ok")):
                with pytest.raises(
                    (llmcurl.ProxyError, llmcurl.NetworkError, llmcurl.RemoteProtocolError)
                ):
                    await asyncio.wait_for(client.get(url), 20)
    assert chaos.count() == 0


async def test_a_proxy_that_talks_nonsense_is_a_transport_error(tls) -> None:
    with HttpProxy(fail="garbage") as proxy:
        async with llmcurl.AsyncClient(proxy=proxy.origin) as client:
            with pytest.raises(llmcurl.TransportError) as caught:
                await asyncio.wait_for(client.get(tls.good.url("/ok")), 20)
    assert not isinstance(caught.value, llmcurl.TimeoutException)


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_proxy_that_nobody_runs_is_a_connect_error(chaos: Chaos, scheme: str) -> None:
    with refused() as nobody:
        async with llmcurl.AsyncClient(proxy=f"{scheme}://{nobody}") as client:
            with pytest.raises((llmcurl.ConnectError, llmcurl.ProxyError)):
                await client.get(chaos.url("/ok"))


# -- SOCKS -------------------------------------------------------------------------------------------------------------


async def test_socks5h_lets_the_proxy_resolve_the_name(
    chaos: Chaos, socks_proxy: SocksProxy
) -> None:
    async with llmcurl.AsyncClient(proxy=socks_proxy.origin) as client:
        response = await client.get(f"http://only-the-proxy-knows.example:{chaos.port}/json")
    assert ["Host", f"only-the-proxy-knows.example:{chaos.port}"] in response.json()["headers"]
    assert [asked.kind for asked in socks_proxy.asked] == ["domain"]


async def test_socks5_carries_tls_and_is_used_again(
    tls, authority, socks_proxy: SocksProxy
) -> None:
    async with llmcurl.AsyncClient(
        proxy=socks_proxy.origin.replace("socks5h", "socks5"), verify=str(authority.ca_file)
    ) as client:
        for _ in range(3):
            assert (await client.get(tls.good.url("/ok"))).status_code == 200
    assert [asked.target for asked in socks_proxy.asked] == [tls.good.authority]


async def test_socks_credentials_are_checked(chaos: Chaos) -> None:
    with SocksProxy(auth=("user", "secret")) as proxy:
        async with llmcurl.AsyncClient(
            proxy=proxy.origin.replace("://", "://user:secret@")
        ) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
        async with llmcurl.AsyncClient(
            proxy=proxy.origin.replace("://", "://user:wrong@")
        ) as client:
            with pytest.raises(llmcurl.ProxyError):
                await client.get(chaos.url("/ok"))


async def test_a_socks_proxy_that_cannot_connect_is_a_proxy_error(chaos: Chaos) -> None:
    with SocksProxy(fail="refused") as proxy:
        async with llmcurl.AsyncClient(proxy=proxy.origin) as client:
            with pytest.raises(llmcurl.ProxyError):
                await client.get(chaos.url("/ok"))


# -- the environment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
async def test_the_environment_names_the_proxy(
    chaos: Chaos, http_proxy: HttpProxy, monkeypatch, name: str
) -> None:
    monkeypatch.setenv(name, http_proxy.origin)
    async with llmcurl.AsyncClient() as client:
        await client.get(chaos.url("/ok"))
    assert http_proxy.targets() == [chaos.url("/ok")]


async def test_https_proxy_is_for_https_only(
    chaos: Chaos, tls, authority, http_proxy: HttpProxy, monkeypatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", http_proxy.origin)
    async with llmcurl.AsyncClient(verify=str(authority.ca_file)) as client:
        await client.get(chaos.url("/ok"))
        await client.get(tls.good.url("/ok"))
    assert http_proxy.targets() == [tls.good.authority]


@pytest.mark.parametrize("exempt", ["*", "127.0.0.1", "example.com, 127.0.0.1"])
async def test_no_proxy_exempts_hosts(
    chaos: Chaos, http_proxy: HttpProxy, monkeypatch, exempt: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", http_proxy.origin)
    monkeypatch.setenv("NO_PROXY", exempt)
    async with llmcurl.AsyncClient() as client:
        await client.get(chaos.url("/ok"))
    assert http_proxy.connections == 0 and chaos.count() == 1


async def test_trust_env_false_ignores_the_environment(
    chaos: Chaos, http_proxy: HttpProxy, monkeypatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, http_proxy.origin)
    async with llmcurl.AsyncClient(trust_env=False) as client:
        await client.get(chaos.url("/ok"))
    assert http_proxy.connections == 0


async def test_an_explicit_proxy_wins_over_the_environment(
    chaos: Chaos, http_proxy: HttpProxy, monkeypatch
) -> None:
    with refused() as nobody:
        monkeypatch.setenv("HTTP_PROXY", f"http://{nobody}")
        async with llmcurl.AsyncClient(proxy=http_proxy.origin) as client:
            assert (await client.get(chaos.url("/ok"))).status_code == 200
    assert http_proxy.connections == 1
