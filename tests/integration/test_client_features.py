"""What the client adds above one request: redirects, cookies, authentication, event hooks, closing."""

from __future__ import annotations

import base64

import llmcurl
import pytest
from servers.chaos import Chaos
from servers.nginx import Nginx

# -- redirects ---------------------------------------------------------------------------------------------------------


async def test_redirects_are_answers_unless_they_are_to_be_followed(client, nginx: Nginx) -> None:
    response = await client.get(nginx.http + "/redirect?n=3")
    assert response.status_code == 302 and response.is_redirect and response.history == []
    assert response.next_request is not None


async def test_followed_redirects_leave_their_history(client, nginx: Nginx) -> None:
    response = await client.get(nginx.http + "/redirect?n=3", follow_redirects=True)
    assert response.status_code == 200 and response.json()["ok"]
    assert [step.status_code for step in response.history] == [302, 302, 302]
    assert str(response.url) == nginx.http + "/json"
    assert str(response.history[0].url) == nginx.http + "/redirect?n=3"
    assert len(response.history[2].history) == 2


@pytest.mark.parametrize(
    ("status", "method", "expected", "body"),
    [
        (301, "POST", "GET", ""), (302, "POST", "GET", ""), (303, "POST", "GET", ""), (303, "PUT", "GET", ""), (302, "PUT", "GET", ""),
        (307, "POST", "POST", "data"), (308, "POST", "POST", "data"), (302, "HEAD", "HEAD", ""), (301, "DELETE", "DELETE", ""),
    ],
)  # fmt: skip
async def test_the_method_after_a_redirect_is_httpxs(
    client, chaos: Chaos, status: int, method: str, expected: str, body: str
) -> None:
    content = {"content": b"data"} if method in ("POST", "PUT") else {}
    await client.request(
        method, chaos.url(f"/redirect?status={status}&to=/json"), follow_redirects=True, **content
    )
    seen = chaos.requests("/json")[0]
    assert (seen.method, seen.body.decode()) == (expected, body)
    assert (seen.header("Content-Length") == "4") == bool(body)


async def test_credentials_are_dropped_when_a_redirect_leaves_the_origin(
    client, chaos: Chaos, tls
) -> None:
    there = tls.plain.url("/ok")
    await client.get(
        chaos.url(f"/redirect?to={there}"),
        headers={"Authorization": "Bearer secret"},
        follow_redirects=True,
    )
    await client.get(
        chaos.url("/redirect?to=/ok"),
        headers={"Authorization": "Bearer secret"},
        follow_redirects=True,
    )
    assert tls.plain.requests("/ok")[0].header("Authorization") is None
    assert tls.plain.requests("/ok")[0].header("Host") == tls.plain.authority
    assert chaos.requests("/ok")[0].header("Authorization") == "Bearer secret"


async def test_too_many_redirects_end_with_their_error(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(follow_redirects=True, max_redirects=5) as client:
        with pytest.raises(llmcurl.TooManyRedirects):
            await client.get(chaos.url("/redirect"))
    assert chaos.count("/redirect") == 6


async def test_a_redirect_to_another_protocol_is_refused(client, chaos: Chaos) -> None:
    for target in ("ftp://127.0.0.1/x", "file:///etc/passwd"):
        with pytest.raises(llmcurl.UnsupportedProtocol):
            await client.get(chaos.url(f"/redirect?to={target}"), follow_redirects=True)


async def test_a_body_that_was_streamed_cannot_be_redirected(client, chaos: Chaos) -> None:
    async def parts():
        yield b"once"

    with pytest.raises(llmcurl.StreamConsumed):
        await client.post(
            chaos.url("/redirect?status=307&to=/ok"), content=parts(), follow_redirects=True
        )


# -- cookies -----------------------------------------------------------------------------------------------------------


async def test_cookies_of_the_client_are_sent_and_answers_add_to_them(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(cookies={"mine": "1"}) as client:
        await client.get(chaos.url("/set-cookie?a=x&b=y"))
        assert (client.cookies["a"], client.cookies["b"]) == ("x", "y")
        await client.get(chaos.url("/ok"))
    first, second = chaos.requests()
    assert first.header("Cookie") == "mine=1"
    assert set(second.header("Cookie").split("; ")) == {"mine=1", "a=x", "b=y"}


async def test_cookies_that_servers_set_are_kept_only_when_asked_for(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient() as client:
        response = await client.get(chaos.url("/set-cookie?a=x"))
        assert response.cookies["a"] == "x"
        await client.get(chaos.url("/ok"))
    async with llmcurl.AsyncClient(cookies={}) as client:
        await client.get(chaos.url("/set-cookie?a=x"))
        await client.get(chaos.url("/ok"))
    _, without, _, kept = chaos.requests()
    assert without.header("Cookie") is None
    assert kept.header("Cookie") == "a=x"


async def test_cookies_do_not_travel_between_clients(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient() as one, llmcurl.AsyncClient() as two:
        await one.get(chaos.url("/set-cookie?a=x"))
        await two.get(chaos.url("/ok"))
    assert chaos.requests("/ok")[0].header("Cookie") is None


# -- authentication ----------------------------------------------------------------------------------------------------


async def test_basic_credentials_come_from_a_pair_or_from_the_url(
    chaos: Chaos, nginx: Nginx
) -> None:
    async with llmcurl.AsyncClient(auth=("user", "s3cret")) as client:
        assert (await client.get(chaos.url("/basic"))).status_code == 200
        assert (await client.get(nginx.http + "/basic")).status_code == 200
        assert (await client.get(chaos.url("/basic"), auth=("user", "wrong"))).status_code == 401
    async with llmcurl.AsyncClient() as client:
        assert (await client.get(chaos.url("/basic"))).status_code == 401
        assert (
            await client.get(chaos.url("/basic").replace("http://", "http://user:s3cret@"))
        ).status_code == 200
        assert (
            await client.get(chaos.url("/basic"), auth=llmcurl.BasicAuth("user", "s3cret"))
        ).status_code == 200


async def test_credentials_outside_ascii_are_sent_as_utf8(client, chaos: Chaos) -> None:
    await client.get(chaos.url("/ok"), auth=("ü", "pä:ss"))
    assert (
        base64.b64decode(
            chaos.requests()[0].header("Authorization").removeprefix("Basic ")
        ).decode()
        == "ü:pä:ss"
    )


async def test_auth_may_be_a_callable_that_changes_the_request(client, chaos: Chaos) -> None:
    def sign(request):
        request.headers["X-Signed"] = request.method
        return request

    await client.post(chaos.url("/ok"), auth=sign)
    assert chaos.requests()[0].header("X-Signed") == "POST"


async def test_a_bearer_token_is_one_word(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient(auth=llmcurl.BearerAuth("token-1")) as client:
        await client.get(chaos.url("/ok"))
    assert chaos.requests()[0].header("Authorization") == "Bearer token-1"


# -- hooks and life ----------------------------------------------------------------------------------------------------


async def test_event_hooks_see_every_request_and_answer_also_on_the_way(chaos: Chaos) -> None:
    log = []

    async def on_request(request):
        request.headers["X-Hook"] = "yes"
        log.append(("request", request.url.path))

    async def on_response(response):
        log.append(("response", response.status_code))

    hooks = {"request": [on_request], "response": [on_response]}
    async with llmcurl.AsyncClient(event_hooks=hooks, follow_redirects=True) as client:
        await client.get(chaos.url("/redirect?to=/ok"))
    assert log == [
        ("request", "/redirect"),
        ("response", 302),
        ("request", "/ok"),
        ("response", 200),
    ]
    assert all(seen.header("X-Hook") == "yes" for seen in chaos.requests())


async def test_an_error_in_a_hook_ends_the_call_with_it(chaos: Chaos) -> None:
    async def refuse(response):
        raise LookupError("hook")

    async with llmcurl.AsyncClient(event_hooks={"response": [refuse]}) as client:
        with pytest.raises(LookupError, match="hook"):
            await client.get(chaos.url("/ok"))


async def test_closing_the_client_closes_its_idle_connections(chaos: Chaos) -> None:
    client = llmcurl.AsyncClient()
    await client.get(chaos.url("/ok"))
    assert chaos.open - chaos._open_before == 1 and not client.is_closed
    await client.aclose()
    assert client.is_closed
    await chaos.wait_closed()
    await client.aclose()


async def test_a_closed_client_refuses_calls(chaos: Chaos) -> None:
    async with llmcurl.AsyncClient() as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await client.get(chaos.url("/ok"))
