"""Authentication: what auth= may be, and what it makes of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx
import pytest
from llmcurl._auth import Auth, BasicAuth, BearerAuth, FunctionAuth, auth_from_url, build_auth
from llmcurl._exceptions import InvalidHeader
from llmcurl._models import Request, Response
from llmcurl._urls import URL


def request() -> Request:
    return Request("GET", "https://x.example/")


async def first(auth: Auth) -> Request:
    flow = auth.async_auth_flow(request())
    try:
        return await anext(flow)
    finally:
        await flow.aclose()


@pytest.mark.parametrize(
    ("user", "password"), [("u", "p"), ("ü", "p:w"), (b"u", b"\xff"), ("", "")]
)
async def test_basic_is_that_of_httpx(user: Any, password: Any) -> None:
    theirs = next(httpx.BasicAuth(user, password).auth_flow(httpx.Request("GET", "http://x/")))
    auth = build_auth((user, password))
    assert isinstance(auth, BasicAuth)
    assert (
        (await first(auth)).headers["authorization"]
        == auth.header_value
        == theirs.headers["authorization"]
    )
    assert next(auth.auth_flow(request())).headers["authorization"] == auth.header_value


async def test_bearer_sends_the_token() -> None:
    assert (await first(BearerAuth("sk-1"))).headers["authorization"] == "Bearer sk-1"


@pytest.mark.parametrize("token", ["", "a b", "sk-1\n", "sk\0", "schlüssel"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidHeader) as caught:
        BearerAuth(token)
    assert not token or token.strip() not in str(caught.value)


def test_a_colon_in_the_user_name_is_refused() -> None:
    with pytest.raises(ValueError, match="RFC 7617"):
        BasicAuth("a:b", "c")


async def test_functions_sync_and_async_may_sign_a_request() -> None:
    def sign(asked: Request) -> Request:
        asked.headers["X-Sign"] = asked.method
        return asked

    async def sign_later(asked: Request) -> Request:
        return sign(asked)

    for function in (sign, sign_later):
        auth = build_auth(function)
        assert isinstance(auth, FunctionAuth) and auth.header_value is None
        assert (await first(auth)).headers["x-sign"] == "GET"
    assert next(FunctionAuth(sign).auth_flow(request())).headers["x-sign"] == "GET"
    with pytest.raises(RuntimeError, match="async"):
        next(FunctionAuth(sign_later).auth_flow(request()))
    with pytest.raises(TypeError, match="must return the request"):
        await first(FunctionAuth(lambda asked: None))


async def test_a_flow_may_take_several_round_trips_and_read_bodies() -> None:
    class Challenge(Auth):
        requires_request_body = True
        requires_response_body = True

        def auth_flow(self, asked: Request) -> Generator[Request, Response, None]:
            assert asked.content == b"ab"
            response = yield asked
            asked.headers["X-Nonce"] = response.text
            yield asked

    async def body() -> AsyncGenerator[bytes, None]:
        yield b"nonce"

    flow = Challenge().async_auth_flow(
        Request("POST", "https://x.example/", content=iter([b"a", b"b"]))
    )
    assert "x-nonce" not in (await anext(flow)).headers
    asked = await flow.asend(Response(401, content=body()))
    assert asked.headers["x-nonce"] == "nonce"
    with pytest.raises(StopAsyncIteration):
        await flow.asend(Response(200))
    assert (await first(Auth())).method == "GET"


def test_auth_of_a_url_is_basic() -> None:
    assert auth_from_url(URL("https://u%40:p%3A@x.example/")) == BasicAuth("u@", "p:")
    assert auth_from_url(URL("https://x.example/")) is None


def test_auth_objects_pass_and_none_is_none() -> None:
    auth = BearerAuth("x")
    assert build_auth(auth) is auth and build_auth(None) is None


@pytest.mark.parametrize(
    "value", ["sk-secret", b"sk-secret", 5, ("a",), ("a", "b", "c"), ("a", 5), {}, ["u", "p"]]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        build_auth(value)
    assert "secret" not in str(caught.value)
    if isinstance(value, str):
        assert "BearerAuth" in str(caught.value)


def test_no_repr_shows_the_secret() -> None:
    assert "hush" not in repr(BearerAuth("hush")) + repr(BasicAuth("u", "hush"))
    assert (
        BearerAuth("a") == BearerAuth("a") != BearerAuth("b")
        and len({BearerAuth("a"), BearerAuth("a")}) == 1
    )
