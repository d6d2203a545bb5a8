"""URL: httpx's behaviour where it is sound, stricter where a lax reading is a trap."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import httpx
import pytest
from llmcurl._exceptions import InvalidURL, UnsupportedProtocol
from llmcurl._urls import URL, check_url, merge_params, origin, parse_url

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

GOOD = [
    "https://api.example.com/v1/chat/completions",
    "HTTP://EXAMPLE.com/",
    "http://EXAMPLE.com:80/",
    "https://example.com:443/a?b",
    "https://example.com:8443",
    "http://example.com?x=1",
    "http://example.com/?",
    "http://example.com/#frag ment",
    "http://example.com/a/../b/./c",
    "http://example.com/%7euser/%2F/%zz/100%",
    "http://example.com/sp ace?q=a b&c=\"<>'",
    "http://example.com/{a}|[b]^`c`\\d",
    "http://example.com/日本?ö=ü#ß",
    "http://user:pa%20ss@example.com/",
    "http://user@example.com/",
    "http://us er:p@ss@example.com/",
    "http://[::1]/",
    "http://[2001:db8::1]:8080/x",
    "http://127.0.0.1:8000/",
    "http://müller.example/",
    "http://中国.icom.museum/",
    "http://xn--mller-kva.example/",
    "http://under_score.example/",
    "/relative/path?x=1#y",
    "relative",
    "?only=query",
    "#frag",
    "",
    "//host/path",
    "mailto:someone@example.com",
    "socks5h://proxy:1080",
]
PARTS = [
    "scheme",
    "userinfo",
    "username",
    "password",
    "host",
    "raw_host",
    "port",
    "netloc",
    "query",
    "fragment",
    "is_absolute_url",
    "is_relative_url",
]


@pytest.mark.parametrize("text", GOOD)
def test_the_parts_are_those_of_httpx(text: str) -> None:
    ours, theirs = URL(text), httpx.URL(text)
    for name in PARTS:
        assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize("text", [text for text in GOOD if "/.." not in text])
def test_the_text_and_path_are_those_of_httpx(text: str) -> None:
    ours, theirs = URL(text), httpx.URL(text)
    assert str(ours) == str(theirs)
    assert (ours.path, ours.raw_path) == (theirs.path, theirs.raw_path)
    assert str(URL(str(ours))) == str(ours), "a URL that was made sound stays as it is"


def test_dot_segments_and_escapes_stay_as_given() -> None:
    assert URL("http://h/a/../b/./%2e%2F%7e").raw_path == b"/a/../b/./%2e%2F%7e"


@pytest.mark.parametrize(
    "text",
    [
        "http://", "https://", "http:///path", "http:path", "https:?x", "http://:80/", "http://user@/", "http://user:pass@:80/",
        "http://h:99999/", "http://h:-1/", "http://h:port/", "http://h:８０/", "http://h:+80/", "http://h:80:80/", "http://h: 80/",
        "http://[::1/", "http://[::1]x/", "http://[zz]/", "http://[::1%eth0]/", "http://[]/", "http://::1/",
        "http://ho st/", " http://h/", "http://h/\n", "http://h\r\n.evil/", "http://h/\0", "\thttp://h/", "http://h\x7f/",
        "http://good.example\\@evil.example/", "http://good.example\\.evil/", "http://exa%6Dple.com/", "http://a<b/", "http://a\"b/", "http://a|b/",
        "http://999.1.1.1/", "http://1.2.3.400/", "http://\u2025/", "http://a..ö/", "://x", "http://a{b}/",
        "http://h/" + "x" * 70000,
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        URL(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, 5, b"http://h/", ["http://h/"]])
def test_what_is_no_text_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        URL(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "http"}, {"scheme": "HTTP"}, {"host": "other.example"}, {"host": "::1"}, {"host": "müller.example"}, {"port": 81}, {"port": None},
        {"path": "/new path"}, {"query": b"x=1"}, {"query": None}, {"raw_path": b"/p?q=1"}, {"raw_path": b"/p"}, {"fragment": "f g"},
        {"username": "u@", "password": "p:w"}, {"userinfo": b"u:p"}, {"netloc": b"h.example:82"}, {"params": {"a": "b c"}}, {"params": None},
        {"scheme": "http", "host": "h", "port": 80, "path": "/"},
    ],
)  # fmt: skip
def test_copy_with_changes_what_httpx_changes(changes: dict[str, Any]) -> None:
    base = "https://bob:secret@example.com:444/p?a=1#f"
    assert str(URL(base).copy_with(**changes)) == str(httpx.URL(base).copy_with(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "a/b"}, {"host": "a@b"}, {"host": ""}, {"host": "a\nb"}, {"netloc": b"u:p@h"}, {"netloc": b"h/x"}, {"port": 70000}, {"port": "x"},
        {"scheme": "a b"}, {"path": "no-slash"}, {"path": "/a\r\nb"}, {"query": b"\r\n"}, {"fragment": "\0"},
    ],
)  # fmt: skip
def test_a_component_cannot_spill_into_another(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidURL):
        URL("https://example.com/p").copy_with(**changes)


def test_scheme_and_ipv6_are_made_lower_case_and_default_ports_vanish() -> None:
    assert str(URL("HTTPS://[2001:DB8::A]:443/X")) == "https://[2001:db8::a]/X"
    assert (
        str(URL("http://h/#f").copy_with(fragment=""))
        == str(URL("http://h/#f").copy_with(fragment=None))
        == "http://h/"
    )
    assert str(URL("http://h/").copy_with(path="/a?b#c")) == "http://h/a%3Fb%23c"


def test_an_unknown_component_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        URL("https://example.com/").copy_with(colour="red")


@pytest.mark.parametrize(
    "other",
    [
        "/abs",
        "rel",
        "../up",
        "?q=1",
        "#f",
        "https://other.example/x",
        "//other.example/y",
        "",
        "./a b",
        "?x=http://z/",
    ],
)
def test_join_is_that_of_httpx(other: str) -> None:
    base = "https://user:pw@example.com/a/b/c?x=1"
    assert str(URL(base).join(other)) == str(httpx.URL(base).join(other))


def test_params_are_merged_by_name_and_the_rest_keeps_its_text() -> None:
    url = URL("https://h/?a=%7e&b=1&c=x+y&b=2")
    assert (
        str(url.copy_merge_params({"b": ["3", "4"], "d": None}))
        == "https://h/?a=%7e&c=x+y&b=3&b=4&d="
    )
    assert merge_params(url, None) is url and merge_params(url, {}) is url
    assert (
        str(merge_params(URL("https://h/"), {"q": "a b&c=d/ü", "t": True}))
        == "https://h/?q=a+b%26c%3Dd%2F%C3%BC&t=true"
    )
    assert str(url.copy_set_param("a", 5)) == "https://h/?b=1&c=x+y&b=2&a=5"
    assert str(url.copy_add_param("a", 5)) == "https://h/?a=%7e&b=1&c=x+y&b=2&a=5"
    assert str(url.copy_remove_param("b")) == "https://h/?a=%7e&c=x+y"
    assert str(URL("https://h/?a=1").copy_remove_param("a")) == "https://h/"
    assert url.params.get_list("b") == ["1", "2"]


def test_a_url_is_a_value() -> None:
    url = URL("https://user:pw@example.com/")
    assert (
        url == "HTTPS://user:pw@EXAMPLE.com:443/"
        and url == URL(url)
        and url != "https://example.com/"
        and url != 5
        and url != "http://"
    )
    assert hash(url) == hash(URL(str(url)))
    for again in (copy.copy(url), copy.deepcopy(url), pickle.loads(pickle.dumps(url))):
        assert again == url and again.password == "pw"
    with pytest.raises(AttributeError):
        url.host = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del url._text
    assert parse_url(url) is url and parse_url("http://h/") == "http://h/"


def test_a_password_is_in_the_text_but_never_in_the_repr() -> None:
    url = URL("https://user:hush@example.com/?api_key=hush&a=1")
    assert "hush@" in str(url)
    assert (
        repr(URL("https://user:hush@example.com/")) == "URL('https://user:[secure]@example.com/')"
    )
    assert "hush" not in repr(url) + repr(url.params) + repr(
        URL("https://hush@example.com/")
    ) and "a=1" in repr(url)
    assert url.masked == "https://example.com/?api_key=***&a=1"


def test_the_origin_has_the_default_port() -> None:
    assert origin("https://Example.com/x") == ("https", "example.com", 443)
    assert origin("http://example.com") == ("http", "example.com", 80)
    assert origin(URL("http://[::1]:8080/")) == ("http", "::1", 8080)
    assert origin("http://müller.example/") == ("http", "xn--mller-kva.example", 80)


@pytest.mark.parametrize(
    "text",
    [
        "/path",
        "example.com/x",
        "ftp://h/",
        "file:///etc/passwd",
        "localhost:8000/x",
        "127.0.0.1:80/",
        "",
    ],
)
def test_only_http_and_https_are_for_requests(text: str) -> None:
    with pytest.raises(UnsupportedProtocol):
        check_url(URL(text))


def test_a_zone_is_kept() -> None:
    assert str(URL("http://[fe80::1%25eth0]:8080/")) == "http://[fe80::1%25eth0]:8080/"
