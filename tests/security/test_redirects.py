"""Where a redirect may lead, and what goes along: no secret leaves its origin."""

from __future__ import annotations

import llmcurl
import pytest

SECRETS = {
    "Authorization": "Bearer k1",
    "Cookie": "sid=k2",
    "Proxy-Authorization": "Basic k3",
    "X-Api-Key": "k4",
    "Api-Key": "k5",
    "X-Goog-Api-Key": "k6",
}


def secrets_of(seen) -> set[str]:
    return {name.lower() for name, _ in seen.headers} & {name.lower() for name in SECRETS}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_secrets_stay_with_the_origin(chaos, tls, status: int) -> None:
    """The other origin is another port; then another host name of the same machine."""
    for there in (
        tls.plain.url("/ok"),
        chaos.url("/ok?elsewhere").replace("127.0.0.1", "localhost"),
    ):
        chaos.reset_log()
        tls.plain.reset_log()
        async with llmcurl.AsyncClient(follow_redirects=True, headers=SECRETS) as client:
            answer = await client.post(
                chaos.url(f"/redirect?status={status}&to={there}"), content=b"{}"
            )
        assert answer.status_code == 200 and len(answer.history) == 1
        last = (tls.plain.requests() + [seen for seen in chaos.requests() if seen.path == "/ok"])[
            -1
        ]
        assert secrets_of(last) == set()


async def test_they_go_along_within_the_origin(chaos) -> None:
    async with llmcurl.AsyncClient(follow_redirects=True, headers=SECRETS) as client:
        await client.get(chaos.url("/redirect?to=/ok"))
    assert secrets_of(chaos.requests()[-1]) == {name.lower() for name in SECRETS} - {"cookie"}


async def test_nothing_secret_goes_from_https_to_http(chaos, tls, authority) -> None:
    async with llmcurl.AsyncClient(
        verify=str(authority.ca_file), follow_redirects=True, headers=SECRETS, auth=("user", "pass")
    ) as client:
        await client.get(tls.good.url(f"/redirect?to={chaos.url('/ok')}"))
    assert secrets_of(chaos.requests()[-1]) == set()


async def test_credentials_in_the_location_are_not_used(chaos, client) -> None:
    target = chaos.url("/json").replace("//", "//evil:creds@")
    answer = await client.get(chaos.url(f"/redirect?to={target}"), follow_redirects=True)
    assert "authorization" not in {name.lower() for name, _ in answer.json()["headers"]}


@pytest.mark.parametrize(
    "to",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1:1/x",
        "dict://127.0.0.1:1/",
        "javascript:1",
    ],
)
async def test_a_redirect_leads_to_http_only(chaos, client, to: str) -> None:
    with pytest.raises((llmcurl.UnsupportedProtocol, llmcurl.RemoteProtocolError)):
        await client.get(chaos.url(f"/redirect?to={to}"), follow_redirects=True)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "scp://127.0.0.1/x",
        "smtp://127.0.0.1/",
        "telnet://127.0.0.1/",
    ],
)
async def test_other_protocols_of_libcurl_cannot_be_asked_for(client, url: str) -> None:
    with pytest.raises(llmcurl.UnsupportedProtocol):
        await client.get(url)


async def test_libcurl_itself_refuses_them_too(chaos) -> None:
    """The second line: even past our own look at the URL."""
    from llmcurl._pools import header_list

    async with llmcurl.AsyncClient() as client:
        await client.get(chaos.url("/ok"))
        (pool,) = client._binding._pools.values()
        target = pool.target("file:///etc/hostname", "file://", False, False)
        with pytest.raises(llmcurl.UnsupportedProtocol):
            await pool.call("GET", target, header_list(llmcurl.Headers()), None, None, 0)


async def test_redirects_are_not_followed_unless_asked_for_and_end_after_twenty(
    chaos, client
) -> None:
    assert (await client.get(chaos.url("/redirect?to=/ok"))).status_code == 302
    with pytest.raises(llmcurl.TooManyRedirects):
        await client.get(chaos.url("/redirect"), follow_redirects=True)
    assert chaos.count("/redirect") == 1 + 21


async def test_an_endless_body_of_a_redirect_does_not_fill_the_memory(client, endless) -> None:
    with pytest.raises(llmcurl.ResponseTooLarge):
        async with client.stream("GET", endless + "/redirect", follow_redirects=True) as response:
            await response.aread()
