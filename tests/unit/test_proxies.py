"""Proxies: what proxy= may be, and what the environment says for a URL."""

from __future__ import annotations

from typing import Any

import pytest
from llmcurl._exceptions import InvalidURL
from llmcurl._proxies import Proxy, build_proxy, no_proxy_matches, proxy_for
from llmcurl._urls import URL

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
def test_a_proxy_takes_credentials_from_its_url_or_its_argument(scheme: str) -> None:
    for proxy in (
        Proxy(f"{scheme}://u%40:p%3A@proxy.example:3128"),
        Proxy(URL(f"{scheme}://proxy.example:3128"), auth=("u@", "p:")),
    ):
        assert (
            proxy.auth == ("u@", "p:")
            and str(proxy.url).rstrip("/") == f"{scheme}://proxy.example:3128"
        )
        assert proxy.curl_url == f"{scheme}://u%40:p%3A@proxy.example:3128"
        assert "p:" not in repr(proxy).replace("http:", "").replace("https:", "")
    assert Proxy("http://p.example").curl_url == "http://p.example"


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("ftp://p", ValueError), ("p.example:3128", ValueError), ("/p", ValueError), ("http://", InvalidURL), ("socks5://", ValueError),
        ("http://h:99999", InvalidURL), (5, TypeError),
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Proxy(value)


def test_a_proxy_is_a_value_and_build_proxy_takes_all_forms() -> None:
    proxy = Proxy("http://u:hush@p.example", headers={"X": "1"})
    assert build_proxy(proxy) is proxy and build_proxy(None) is None
    assert build_proxy("http://p.example") == build_proxy(URL("http://p.example")) != proxy
    assert len({Proxy("http://p"), Proxy("http://p")}) == 1
    assert "hush" not in repr(proxy) and "'x': '1'" in repr(proxy)
    with pytest.raises(TypeError):
        Proxy("http://p", auth="u:p")  # type: ignore[arg-type]


P = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "env", "expected"),
    [
        ("http://x/", {}, None),
        ("http://x/", {"http_proxy": P}, P),
        ("https://x/", {"http_proxy": P}, None),
        ("https://x/", {"https_proxy": P}, P),
        ("https://x/", {"HTTPS_PROXY": P}, P),
        ("https://x/", {"HTTPS_PROXY": "http://upper", "https_proxy": P}, P),
        ("https://x/", {"HTTPS_PROXY": P, "https_proxy": ""}, None),
        ("https://x/", {"all_proxy": P}, P),
        ("https://x/", {"ALL_PROXY": P}, P),
        ("https://x/", {"ALL_PROXY": "http://all", "HTTPS_PROXY": P}, P),
        ("http://x/", {"HTTP_PROXY": P}, P),
        ("http://x/", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
        ("http://x/", {"http_proxy": P, "REQUEST_METHOD": "GET"}, P),
        ("http://x/", {"http_proxy": "proxy.example:3128"}, P),
        ("http://x/", {"http_proxy": "  "}, None),
        ("http://x/", {"all_proxy": "socks5h://s:1080"}, "socks5h://s:1080"),
        ("http://x/", {"http_proxy": P, "no_proxy": "x"}, None),
        ("http://x/", {"http_proxy": P, "NO_PROXY": "*"}, None),
        ("http://x/", {"http_proxy": P, "NO_PROXY": "x", "no_proxy": ""}, P),
        ("http://x:8080/", {"http_proxy": P, "NO_PROXY": "x:8080"}, None),
        ("https://x/", {"https_proxy": P, "NO_PROXY": "x:443"}, None),
        ("https://x/", {"https_proxy": P, "NO_PROXY": "x:80"}, P),
        ("http://[::1]/", {"http_proxy": P, "NO_PROXY": "::1"}, None),
        ("http://müller.example/", {"http_proxy": P, "NO_PROXY": "xn--mller-kva.example"}, None),
    ],
)
def test_the_environment_names_the_proxy(
    url: str, env: dict[str, str], expected: str | None
) -> None:
    assert proxy_for(url, env) == expected
    assert proxy_for(URL(url), env) == expected


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", P)
    assert proxy_for("https://x/") == P


@pytest.mark.parametrize(
    ("host", "port", "entries", "covered"),
    [
        ("example.com", 80, "example.com", True),
        ("sub.example.com", 80, "example.com", True),
        ("sub.example.com", 80, ".example.com", True),
        ("example.com", 80, ".example.com", True),
        ("sub.example.com", 80, "*.example.com", True),
        ("notexample.com", 80, "example.com", False),
        ("example.com.evil.org", 80, "example.com", False),
        ("EXAMPLE.com", 80, "Example.COM", True),
        ("example.com.", 80, "example.com", True),
        ("example.com", 80, "example.com.", True),
        ("example.com", 80, "a.org, example.com", True),
        ("example.com", 80, "a.org example.com", True),
        ("example.com", 80, "a.org,,", False),
        ("example.com", 8080, "example.com:8080", True),
        ("example.com", 80, "example.com:8080", False),
        ("localhost", 80, "localhost,127.0.0.1", True),
        ("10.1.2.3", 80, "10.0.0.0/8", True),
        ("11.1.2.3", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "10.1.2.3", True),
        ("10.1.2.3", 80, "2.3", False),
        ("10.1.2.3", 80, "10.1.2.3:81", False),
        ("::1", 80, "::1", True),
        ("::1", 80, "[::1]", True),
        ("::1", 80, "[::1]:80", True),
        ("::1", 80, "[::1]:81", False),
        ("0:0:0:0:0:0:0:1", 80, "::1", True),
        ("fd00::5", 80, "fd00::/8", True),
        ("fe00::5", 80, "fd00::/8", False),
        ("example.com", 80, "10.0.0.0/8", False),
        ("10.1.2.3", 80, "nonsense/8, also/x", False),
        ("anything", 1, "*", True),
        ("anything", 1, "", False),
        ("anything", 1, ".", False),
    ],
)
def test_no_proxy_covers_domains_ports_addresses_and_networks(
    host: str, port: int, entries: str, covered: bool
) -> None:
    assert no_proxy_matches(host, port, entries) is covered
