"""Certificates: who is trusted, who is not, who must show one; how a TLS connection may end."""

from __future__ import annotations

import asyncio
import ssl
import uuid

import llmcurl
import pytest
from servers.nginx import Nginx


def trusting(authority, **options) -> llmcurl.AsyncClient:
    return llmcurl.AsyncClient(verify=str(authority.ca_file), **options)


async def test_a_ca_file_verifies_the_server(tls, authority) -> None:
    async with trusting(authority) as client:
        for _ in range(2):
            assert (await client.get(tls.good.url("/ok"))).json() == {"ok": True}
        assert (
            await client.get(tls.good.url("/ok").replace("127.0.0.1", "localhost"))
        ).status_code == 200
    assert tls.good.new_connections == 2


async def test_a_ca_directory_verifies_the_server(tls, authority) -> None:
    async with llmcurl.AsyncClient(verify=str(authority.ca_directory)) as client:
        assert (await client.get(tls.good.url("/ok"))).status_code == 200
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.self_signed.url("/ok"))


async def test_the_default_trusts_the_system_and_not_our_test_ca(client, tls) -> None:
    with pytest.raises(llmcurl.ConnectError) as caught:
        await client.get(tls.good.url("/ok"))
    assert type(caught.value) is llmcurl.ConnectError and caught.value.phase == "tls"
    assert "certificate" in str(caught.value).lower()


@pytest.mark.parametrize("case", ["wrong_host", "expired", "self_signed"])
async def test_a_certificate_that_is_no_good_is_a_connect_error(tls, authority, case: str) -> None:
    server = getattr(tls, case)
    async with trusting(authority) as client:
        with pytest.raises(llmcurl.ConnectError) as caught:
            await client.post(server.url("/ok"), content=b"secret")
        assert type(caught.value) is llmcurl.ConnectError and caught.value.code == 60
        assert (await client.get(tls.good.url("/ok"))).status_code == 200
    assert server.count() == 0, "nothing was sent"


async def test_another_ca_does_not_do(tls, authority) -> None:
    async with llmcurl.AsyncClient(verify=str(authority.other_ca_file)) as client:
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.good.url("/ok"))


async def test_two_clients_with_different_trust_do_not_share_connections_or_stores(
    tls, authority
) -> None:
    async with (
        trusting(authority) as one,
        llmcurl.AsyncClient(verify=str(authority.other_ca_file)) as other,
    ):
        for _ in range(3):
            assert (await one.get(tls.good.url("/ok"))).status_code == 200
            with pytest.raises(llmcurl.ConnectError):
                await other.get(tls.good.url("/ok"))


@pytest.mark.parametrize("case", ["good", "wrong_host", "expired", "self_signed"])
async def test_verify_false_accepts_anything(tls, case: str) -> None:
    async with llmcurl.AsyncClient(verify=False) as client:
        assert (await client.get(getattr(tls, case).url("/ok"))).status_code == 200


async def test_ssl_cert_file_of_the_environment_is_trusted(tls, authority, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    async with llmcurl.AsyncClient() as client:
        assert (await client.get(tls.good.url("/ok"))).status_code == 200


async def test_a_list_adds_a_ca_to_the_others(tls, authority, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    async with llmcurl.AsyncClient(verify=[True, str(authority.other_ca_file)]) as client:
        assert (await client.get(tls.good.url("/ok"))).status_code == 200
        assert (await client.get(tls.self_signed.url("/ok"))).status_code == 200
    async with llmcurl.AsyncClient(verify=[str(authority.other_ca_file)]) as client:
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.good.url("/ok"))


async def test_the_variables_do_not_count_without_trust_env(tls, authority, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    async with llmcurl.AsyncClient(trust_env=False) as client:
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.good.url("/ok"))


async def test_a_python_ssl_context_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="SSLContext"):
        llmcurl.AsyncClient(verify=ssl.create_default_context())


async def test_a_client_certificate_is_shown_from_two_files_or_from_one(tls, authority) -> None:
    for cert in (tuple(map(str, authority.client)), str(authority.client_both)):
        async with trusting(authority, cert=cert) as client:
            for server in (tls.wants_client_cert, tls.wants_client_cert_tls12):
                assert (await client.get(server.url("/ok"))).status_code == 200


@pytest.mark.parametrize("who", [None, "stranger"])
async def test_a_missing_or_foreign_client_certificate_is_refused(
    tls, authority, who: str | None
) -> None:
    cert = tuple(map(str, getattr(authority, who))) if who else None
    async with trusting(authority, cert=cert) as client:
        with pytest.raises(llmcurl.ConnectError):
            await client.get(tls.wants_client_cert_tls12.url("/ok"))
        # In TLS 1.3 the server's refusal arrives when the client's part of the handshake is long over.
        with pytest.raises((llmcurl.NetworkError, llmcurl.RemoteProtocolError)):
            await client.get(tls.wants_client_cert.url("/ok"))
    assert tls.wants_client_cert.count() == tls.wants_client_cert_tls12.count() == 0


async def test_tls_spoken_to_a_plain_server_is_a_connect_error(client, nginx: Nginx) -> None:
    with pytest.raises(llmcurl.ConnectError):
        await asyncio.wait_for(client.get(nginx.http.replace("http://", "https://") + "/json"), 20)


async def test_a_body_that_ends_with_the_connection_needs_no_close_notify(tls, authority) -> None:
    async with trusting(authority) as client:
        assert (await client.get(tls.good.url("/no-notify"))).content == b"x" * 500
        assert (await client.get(tls.good.url("/http10"))).text == "until the end"


async def test_a_promised_length_is_not_cut_short_by_a_missing_close_notify(tls, authority) -> None:
    async with trusting(authority) as client:
        with pytest.raises((llmcurl.RemoteProtocolError, llmcurl.ReadError)):
            await client.get(tls.good.url("/no-notify?length=1000"))


@pytest.mark.parametrize(
    "path",
    ["/cut?after=0", "/cut?body=500", "/cut?body=500&chunked=1", "/garbage?sort=ssh&close=1"],
)
async def test_what_goes_wrong_inside_tls_has_the_same_class_as_outside(
    tls, authority, path: str
) -> None:
    async with trusting(authority) as client:
        with pytest.raises(llmcurl.RemoteProtocolError):
            await client.get(tls.good.url(path))


async def test_a_reset_inside_tls_is_a_read_error(tls, authority) -> None:
    async with trusting(authority) as client:
        with pytest.raises(llmcurl.ReadError):
            await client.get(tls.good.url("/rst"))


@pytest.mark.parametrize("do", ["idle-fin", "next-fin"])
async def test_a_stale_tls_connection_is_replaced(tls, authority, do: str) -> None:
    async with trusting(authority) as client:
        await client.get(tls.good.url(f"/then?do={do}"))
        await asyncio.sleep(0.1)
        assert (await client.get(tls.good.url("/ok"))).status_code == 200


async def test_two_hundred_verified_connections_open_at_once(nginx: Nginx, authority) -> None:
    async with trusting(authority) as client:
        before, meeting = nginx.accepted(), uuid.uuid4()
        responses = await asyncio.gather(
            *(client.get(f"{nginx.https}/meet?n=200&as={meeting}") for _ in range(200))
        )
        assert {(response.status_code, response.http_version) for response in responses} == {
            (200, "HTTP/1.1")
        }
        assert nginx.accepted() - before == 200
        assert all(response.timings.tls >= 0 for response in responses if not response.reused)


async def test_large_bodies_pass_through_tls_unchanged(nginx: Nginx, authority) -> None:
    blob = bytes(range(256)) * 20_000
    async with trusting(authority) as client:
        responses = await asyncio.gather(
            *(client.post(nginx.https + "/echo", content=blob) for _ in range(10))
        )
    assert all(response.content == blob for response in responses)
