"""Which proxy, if any: `Proxy` for the argument, `proxy_for` for the environment.

libcurl reads proxy variables by itself; the client always tells it the answer of this file
instead, so that ``trust_env=False`` holds and the rules are the same everywhere.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import quote

from ._exceptions import InvalidURL
from ._headers import Headers, HeaderTypes
from ._urls import DEFAULT_PORTS, URL, URLTypes, parse_url

__all__ = ["Proxy", "ProxyTypes", "build_proxy", "no_proxy_matches", "proxy_for"]

_SCHEMES = ("http", "https", "socks5", "socks5h")


class Proxy:
    """A proxy server.

    Args:
        url: ``http://``, ``https://`` (TLS to the proxy), ``socks5://`` (we resolve names)
            or ``socks5h://`` (the proxy does). May hold user and password.
        auth: (user, password) instead.
        headers: for the proxy only, sent with CONNECT.

    Raises:
        InvalidURL: malformed or without host. ValueError: another scheme.
    """

    __slots__ = ("auth", "headers", "url")

    def __init__(
        self,
        url: URLTypes,
        *,
        auth: tuple[str, str] | None = None,
        headers: HeaderTypes | None = None,
    ) -> None:
        parsed = parse_url(url)
        if parsed.scheme not in _SCHEMES:
            raise ValueError(
                f"Proxy: {parsed.masked!r} must start with http://, https://, socks5:// or "
                "socks5h://"
            )
        if not parsed.host:
            raise InvalidURL(f"Proxy: no host in {parsed.masked!r}")
        if auth is not None:
            if not isinstance(auth, tuple) or len(auth) != 2:
                raise TypeError("Proxy: auth must be (user, password)")
        elif parsed.userinfo:
            auth = (parsed.username, parsed.password)
        self.url = parsed.copy_with(userinfo="") if parsed.userinfo else parsed
        self.auth = auth
        self.headers = Headers(headers)

    @property
    def curl_url(self) -> str:
        """What libcurl takes: scheme, credentials, host and port, nothing else."""
        credentials = ""
        if self.auth is not None:
            user, password = (quote(text, safe="") for text in self.auth)
            credentials = f"{user}:{password}@"
        return f"{self.url.scheme}://{credentials}{self.url.netloc.decode('ascii')}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Proxy):
            return NotImplemented
        return (self.url, self.auth, self.headers) == (other.url, other.auth, other.headers)

    def __hash__(self) -> int:
        return hash((self.url, self.auth))

    def __repr__(self) -> str:
        auth = "" if self.auth is None else f", auth=({self.auth[0]!r}, '[secure]')"
        headers = "" if not self.headers else f", headers={self.headers!r}"
        return f"Proxy({str(self.url)!r}{auth}{headers})"


ProxyTypes = URL | str | Proxy


def build_proxy(value: ProxyTypes | None) -> Proxy | None:
    """The `Proxy` an argument means; raises as `Proxy`."""
    return value if value is None or isinstance(value, Proxy) else Proxy(value)


def _variable(env: Mapping[str, str], name: str) -> str:
    """A proxy variable; the lower case one counts more, as in curl."""
    value = env.get(name)
    if value is None:
        value = env.get(name.upper(), "")
        if name == "http_proxy" and "REQUEST_METHOD" in env:
            # Under CGI, HTTP_PROXY comes from a client's "Proxy:" header ("httpoxy",
            # CVE-2016-5385): never trusted.
            value = ""
    return value.strip()


def proxy_for(url: URLTypes, env: Mapping[str, str] | None = None) -> str | None:
    """The proxy that the environment names for `url`, or None to go directly.

    Looks at http_proxy or https_proxy (by the scheme of `url`), then all_proxy, and at
    no_proxy; a value without scheme is an HTTP proxy.

    Args:
        url: where the request goes.
        env: variables, `os.environ` by default.
    """
    variables: Mapping[str, str] = os.environ if env is None else env
    target = parse_url(url)
    found = _variable(variables, f"{target.scheme}_proxy") or _variable(variables, "all_proxy")
    if not found:
        return None
    no_proxy = _variable(variables, "no_proxy")
    if no_proxy:
        port = target.port or DEFAULT_PORTS.get(target.scheme, 0)
        if no_proxy_matches(target.raw_host.decode("ascii"), port, no_proxy):
            return None
    return found if "://" in found else f"http://{found}"


def no_proxy_matches(host: str, port: int, no_proxy: str) -> bool:
    """Whether a NO_PROXY list covers `host` (without brackets) and `port`.

    Entries, separated by commas or blanks: ``*``; a domain, which covers what is below it
    too, with or without ``.`` or ``*.`` in front; an address; a network in CIDR form; each
    but the last with ``:port`` if only that port is meant.
    """
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for raw in no_proxy.replace(",", " ").split():
        entry = raw.lower()
        if entry == "*":
            return True
        if "/" in entry:
            if address is not None and _in_network(address, entry):
                return True
            continue
        name, wanted_port = _split_port(entry)
        if wanted_port is not None and wanted_port != port:
            continue
        if address is not None:
            try:
                if ipaddress.ip_address(name) == address:
                    return True
            except ValueError:
                pass
            continue
        name = name.removeprefix("*").strip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    """CIDR; an entry that is none covers nothing."""
    try:
        return address in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """``host:8080``, ``[::1]:8080`` and plain ``::1`` taken apart."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        return entry, None
    return name, int(port) if port.isdigit() else None
