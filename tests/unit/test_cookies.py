"""Cookies: httpx's interface, the standard library's rules."""

from __future__ import annotations

import http.cookiejar
from typing import Any

import httpx
import pytest
from llmcurl._cookies import Cookies
from llmcurl._exceptions import CookieConflict
from llmcurl._models import Request, Response

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces


def answer(url: str, *set_cookie: str) -> Response:
    return Response(
        200, headers=[("Set-Cookie", value) for value in set_cookie], request=Request("GET", url)
    )


def sent(cookies: Cookies, url: str) -> str | None:
    request = Request("GET", url)
    cookies.set_cookie_header(request)
    return request.headers.get("cookie")


@pytest.mark.parametrize("value", [None, {}, {"a": "1", "b": "2"}, [("a", "1"), ("b", "2")]])
def test_cookies_read_as_in_httpx(value: Any) -> None:
    ours, theirs = Cookies(value), httpx.Cookies(value)
    assert dict(ours) == dict(theirs) and len(ours) == len(theirs) and bool(ours) == bool(theirs)
    assert list(ours) == list(theirs)
    assert sent(ours, "https://x.example/") == httpx.Request(
        "GET", "https://x.example/", cookies=value
    ).headers.get("cookie")


def test_a_cookie_goes_back_to_its_own_host_and_path_only() -> None:
    cookies = Cookies()
    cookies.extract_cookies(
        answer("https://a.example/x/y", "s=1; Path=/x; Secure; HttpOnly", "t=2")
    )
    assert sent(cookies, "https://a.example/x/z") == "s=1; t=2"
    assert sent(cookies, "https://a.example/other") is None
    assert sent(cookies, "http://a.example/x/z") == "t=2"
    assert sent(cookies, "https://b.example/x/y") is None


def test_a_cookie_for_another_domain_is_not_taken() -> None:
    cookies = Cookies()
    cookies.extract_cookies(answer("https://a.example/", "s=1; Domain=b.example"))
    assert len(cookies) == 0


def test_an_expired_cookie_is_deleted() -> None:
    cookies = Cookies()
    cookies.extract_cookies(answer("https://a.example.com/", "s=1"))
    assert cookies["s"] == "1"
    cookies.extract_cookies(answer("https://a.example.com/", "s=1; Max-Age=0"))
    assert "s" not in cookies


def test_an_answer_without_cookies_needs_no_request() -> None:
    Cookies().extract_cookies(Response(200))


def test_a_cookie_header_of_the_caller_stays() -> None:
    request = Request("GET", "https://x.example/", headers={"Cookie": "own=1"}, cookies={"a": "1"})
    assert request.headers["cookie"] == "own=1"


def test_the_mapping_is_that_of_httpx() -> None:
    for cookies in (Cookies(), httpx.Cookies()):
        cookies.set("a", "1", domain="one.example")
        cookies.set("a", "2", domain="two.example", path="/p")
        cookies["b"] = "3"
        assert cookies.get("a", domain="one.example") == "1" and cookies.get("a", path="/p") == "2"
        assert cookies.get("zz") is None and cookies.get("zz", "default") == "default"
        with pytest.raises((CookieConflict, httpx.CookieConflict)):
            cookies["a"]
        with pytest.raises(KeyError):
            cookies["zz"]
        cookies.delete("a", domain="one.example", path="/")
        assert cookies["a"] == "2"
        del cookies["b"]
        assert dict(cookies) == {"a": "2"}
        cookies.update({"c": "4"})
        cookies.clear(domain="two.example", path="/p")
        assert dict(cookies) == {"c": "4"}
        cookies.set("d", "5", domain="three.example")
        cookies.clear(domain="three.example")
        cookies.clear()
        assert len(cookies) == 0 and not cookies
    Cookies().delete("never", domain="x", path="/")


def test_a_jar_is_shared_and_cookies_are_copied() -> None:
    jar = http.cookiejar.CookieJar()
    shared, copied = Cookies(jar), Cookies(Cookies({"a": "1"}))
    shared["b"] = "2"
    assert len(jar) == 1 and shared.jar is jar
    copied.update(shared)
    assert dict(copied) == {"a": "1", "b": "2"}
    copied.update(jar)
    assert Cookies(copied).jar is not copied.jar


@pytest.mark.parametrize("value", [5, "a=1", ["a"]])
def test_what_is_no_cookies_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Cookies(value)


def test_a_repr_has_names_but_no_values() -> None:
    cookies = Cookies({"session": "hush"})
    cookies.set("other", "hush", domain="x.example")
    assert (
        "hush" not in repr(cookies) and "session" in repr(cookies) and "x.example" in repr(cookies)
    )
