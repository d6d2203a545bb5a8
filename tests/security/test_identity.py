"""A connection belongs to one identity: proxy and its credentials, client certificate, trust. Nobody else's call goes over it."""

from __future__ import annotations

import llmcurl
import pytest
from servers.proxies import HttpProxy


async def test_verification_is_on_by_default_for_certificate_and_name(client, tls) -> None:
    for server in (tls.self_signed, tls.expired, tls.wrong_host, tls.good):
        with pytest.raises(llmcurl.ConnectError):
            await client.get(server.url("/ok"))
        assert server.count() == 0, "not a byte of the request"


async def test_a_client_that_does_not_verify_lends_its_connection_to_none_that_does(tls) -> None:
    async with llmcurl.AsyncClient(verify=False) as careless, llmcurl.AsyncClient() as careful:
        assert (await careless.get(tls.self_signed.url("/ok"))).status_code == 200
        with pytest.raises(llmcurl.ConnectError):
            await careful.get(tls.self_signed.url("/ok"))
        assert (await careless.get(tls.self_signed.url("/ok"))).status_code == 200
    assert tls.self_signed.count() == 2


async def test_a_client_certificate_serves_its_own_client_only(tls, authority) -> None:
    trust = str(authority.ca_file)
    async with (
        llmcurl.AsyncClient(verify=trust, cert=tuple(map(str, authority.client))) as member,
        llmcurl.AsyncClient(verify=trust) as anonymous,
        llmcurl.AsyncClient(verify=trust, cert=tuple(map(str, authority.stranger))) as stranger,
    ):
        for server in (tls.wants_client_cert, tls.wants_client_cert_tls12):
            for _ in range(2):
                assert (await member.get(server.url("/ok"))).status_code == 200
                for other in (anonymous, stranger):
                    with pytest.raises(llmcurl.TransportError):
                        await other.get(server.url("/ok"))
            assert server.count("/ok") == 2


async def test_proxy_credentials_have_connections_of_their_own(chaos) -> None:
    with HttpProxy() as proxy:
        at = proxy.origin.removeprefix("http://")
        one, two = (llmcurl.AsyncClient(proxy=f"http://{name}@{at}") for name in ("one:1", "two:2"))
        async with one, two, llmcurl.AsyncClient(proxy=f"http://{at}") as nobody:
            for _ in range(2):
                for client in (one, two, nobody):
                    assert (await client.get(chaos.url("/ok"))).status_code == 200
        sent = {asked.connection: asked.headers.get("proxy-authorization") for asked in proxy.asked}
    assert proxy.connections == 3 and len(set(sent.values())) == 3
    for asked in proxy.asked:
        assert asked.headers.get("proxy-authorization") == sent[asked.connection]


async def test_credentials_of_the_environment_that_change_get_another_connection(
    chaos, monkeypatch
) -> None:
    with HttpProxy() as proxy:
        at = proxy.origin.removeprefix("http://")
        async with llmcurl.AsyncClient() as client:
            for name in ("one:1", "two:2", "one:1"):
                monkeypatch.setenv("http_proxy", f"http://{name}@{at}")
                assert (await client.get(chaos.url(f"/ok?{name[:3]}"))).status_code == 200
        credentials: dict[int, set] = {}
        for asked in proxy.asked:
            credentials.setdefault(asked.connection, set()).add(
                asked.headers["proxy-authorization"]
            )
    assert len(credentials) == 2 and all(len(used) == 1 for used in credentials.values())


async def test_a_proxy_is_not_gone_around_when_it_fails(chaos) -> None:
    for fail in ("502", "drop", "garbage"):
        with HttpProxy(fail=fail) as proxy:
            async with llmcurl.AsyncClient(proxy=proxy.origin) as client:
                try:
                    answer = await client.get(chaos.url("/ok"))
                except llmcurl.TransportError:
                    continue
                assert answer.status_code == 502
    assert chaos.count("/ok") == 0


async def test_the_authorization_of_one_call_is_not_sent_with_the_next(chaos, client) -> None:
    answers = [
        await client.get(chaos.url("/json"), auth=("user", "s3cret")),
        await client.get(chaos.url("/json")),
        await client.get(chaos.url("/json"), headers={"X-Api-Key": "k"}),
        await client.get(chaos.url("/json")),
    ]
    sent = [
        {name.lower() for name, _ in answer.json()["headers"]} & {"authorization", "x-api-key"}
        for answer in answers
    ]
    assert sent == [{"authorization"}, set(), {"x-api-key"}, set()]
    assert len({answer.json()["connection"] for answer in answers}) == 1
