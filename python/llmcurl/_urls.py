"""`URL`: an immutable, parsed URL, as in httpx, and what the client asks about one.

Rules: RFC 3986 for the parts, the WHATWG URL standard's percent-encode sets for what is
escaped (only what may not stand there; existing ``%XX`` and dot segments stay), RFC 5891
for international names. Stricter than httpx where a lax reading lets two parsers see two
different hosts: backslash, ``%`` and blanks in the host are refused.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple, Union
from urllib.parse import quote, unquote, urlencode, urljoin

from ._exceptions import InvalidURL, UnsupportedProtocol
from ._query import QueryParams, QueryParamTypes
from ._redact import mask_query, mask_url

__all__ = [
    "URL",
    "QueryParamTypes",
    "QueryParams",
    "URLTypes",
    "check_url",
    "merge_params",
    "origin",
    "parse_url",
]

URLTypes = Union["URL", str]

#: libcurl takes up to 8 MB, servers rarely more than 8 kB; httpx's ceiling.
MAX_URL_LENGTH: Final = 65536

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def _safe(without: str) -> str:
    """All printable ASCII but blank and these, for quote()."""
    return "".join(char for char in _PRINTABLE if char not in without)


# WHATWG URL, "percent-encoded bytes": fragment, query, path and userinfo sets. A "%" is
# always left alone, so that %XX is never encoded twice.
_FRAGMENT_SAFE = _safe('"<>`')
_QUERY_SAFE = _safe('"#<>')
_PATH_SAFE = _safe('"#<>?`{}')
_USERINFO_SAFE = _safe('"#<>?`{}/;=@[\\]^|')
_USER_SAFE = _safe('"#<>?`{}/;=@[\\]^|:%')

# RFC 3986 appendix B.
_SPLIT = re.compile(
    r"(?:([a-zA-Z][a-zA-Z0-9+.\-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
# reg-name of RFC 3986 without percent-encoding.
_REG_NAME = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=]+")


class _Parts(NamedTuple):
    """A URL in pieces, all ASCII; host without the brackets of IPv6."""

    scheme: str
    userinfo: str
    host: str
    port: int | None
    path: str
    query: str | None
    fragment: str | None

    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def text(self) -> str:
        netloc = self.netloc()
        return "".join(
            (
                f"{self.scheme}:" if self.scheme else "",
                f"//{self.userinfo}@{netloc}" if self.userinfo else f"//{netloc}" if netloc else "",
                self.path,
                "" if self.query is None else f"?{self.query}",
                "" if self.fragment is None else f"#{self.fragment}",
            )
        )


def _refuse_text(text: str, what: str = "URL") -> None:
    """Refuses what may stand in no part of a URL.

    Raises:
        InvalidURL: control characters (CR, LF, NUL...) or more than 64 KiB.
    """
    if len(text) > MAX_URL_LENGTH:
        raise InvalidURL(f"{what} too long: {len(text)} characters, {MAX_URL_LENGTH} allowed")
    bad = _CONTROL.search(text)
    if bad is not None:
        raise InvalidURL(
            f"{what} has the control character {bad.group()!r} at position {bad.start()}"
        )


def _host(host: str) -> str:
    """The host as it goes to DNS: lower case, IDNA-encoded, IPv6 without brackets."""
    if host.startswith("["):
        address, zone_mark, zone = host[1:-1].partition("%25")
        try:
            if not host.endswith("]") or "%" in address or (zone_mark and not zone.isalnum()):
                raise ValueError
            ipaddress.IPv6Address(address)
        except ValueError:
            raise InvalidURL(f"Invalid IPv6 address in URL: {host!r}") from None
        return f"{address.lower()}{zone_mark}{zone}"
    if host.isascii():
        if not host:
            return ""
        if _IPV4.fullmatch(host):
            try:
                ipaddress.IPv4Address(host)
            except ValueError:
                raise InvalidURL(f"Invalid IPv4 address in URL: {host!r}") from None
            return host
        if _REG_NAME.fullmatch(host) is None:
            raise InvalidURL(f"Invalid host in URL: {host!r}")
        return host.lower()
    import idna  # its tables take milliseconds to load; most hosts are ASCII

    try:
        return idna.encode(host.lower()).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidURL(f"Invalid international host name in URL: {host!r} ({error})") from None


def _port(port: str | int | None, scheme: str) -> int | None:
    """The port, None if it is the scheme's default or not given."""
    if port is None or port == "":
        return None
    text = str(port)
    if isinstance(port, bool) or not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise InvalidURL(f"Invalid port in URL: {text[:20]!r}")
    number = int(text)
    if number > 65535:
        raise InvalidURL(f"Invalid port in URL: {number} is above 65535")
    return None if DEFAULT_PORTS.get(scheme) == number else number


def _authority(authority: str, scheme: str) -> tuple[str, str, int | None]:
    """(userinfo, host, port) of what stands after ``//``."""
    userinfo, at, rest = authority.rpartition("@")
    if "\\" in authority:
        # Browsers read it as "/", RFC 3986 does not: the host would depend on the reader.
        raise InvalidURL("URL has a backslash before its path")
    if rest.startswith("["):
        host, bracket, port = rest.rpartition("]")
        host += bracket
        if port and not port.startswith(":"):
            raise InvalidURL(f"Invalid port in URL: {port[:20]!r}")
        port = port[1:]
    else:
        host, _, port = rest.partition(":")
    return (
        quote(userinfo, safe=_USERINFO_SAFE) if at else "",
        _host(host),
        _port(port, scheme),
    )


def _checked(parts: _Parts) -> _Parts:
    """The rules that need several parts (RFC 3986 3.3)."""
    has_authority = bool(parts.host or parts.userinfo or parts.port is not None)
    path = parts.path
    if parts.scheme in ("http", "https") and not parts.host:
        raise InvalidURL(f"URL has no host: {mask_url(parts.text())!r}")
    if has_authority:
        if not parts.host:
            raise InvalidURL("URL has no host")
        if path and not path.startswith("/"):
            raise InvalidURL("With a host, the path of a URL must start with '/'")
    elif path.startswith("//"):
        raise InvalidURL("Without a host, the path of a URL must not start with '//'")
    elif not parts.scheme and path.startswith(":"):
        raise InvalidURL("A relative URL must not start with ':'")
    return parts


def _parse(text: str) -> _Parts:
    """Takes a whole URL, absolute or relative, to pieces.

    Raises:
        InvalidURL: see the module.
    """
    _refuse_text(text)
    if text[:1] == " ":
        raise InvalidURL("URL starts with a blank")
    match = _SPLIT.fullmatch(text)
    if match is None:  # cannot happen: the last group takes everything
        raise InvalidURL("URL is malformed")
    scheme, authority, path, query, fragment = match.groups()
    scheme = scheme.lower() if scheme else ""
    userinfo, host, port = _authority(authority, scheme) if authority else ("", "", None)
    return _checked(
        _Parts(
            scheme,
            userinfo,
            host,
            port,
            quote(path, safe=_PATH_SAFE),
            None if query is None else quote(query, safe=_QUERY_SAFE),
            None if fragment is None else quote(fragment, safe=_FRAGMENT_SAFE),
        )
    )


# Programs call few endpoints many times. Small: entries may hold keys in their query.
_parse_cached = lru_cache(maxsize=128)(_parse)


def _bytes_or_str(value: Any) -> Any:
    """httpx takes netloc, query, raw_path and userinfo as bytes; str is fine too."""
    return value.decode("ascii") if isinstance(value, bytes) else value


def _changed(parts: _Parts, changes: dict[str, Any]) -> _Parts:
    """`parts` with components replaced, each checked so that none can spill into another.

    Raises:
        InvalidURL: a component that cannot be one. TypeError: an unknown component.
    """
    new: dict[str, Any] = {}
    scheme = changes.pop("scheme", parts.scheme) or ""
    if scheme and not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.\-]*", scheme):
        raise InvalidURL(f"Invalid URL scheme {scheme!r}")
    new["scheme"] = scheme = scheme.lower()
    port: Any = parts.port
    for name, value in changes.items():
        value = _bytes_or_str(value)
        if isinstance(value, str):
            _refuse_text(value, f"URL component {name!r}")
        if name == "params":
            query = str(QueryParams(value)) if value else None
            new["query"] = quote(query, safe=_QUERY_SAFE) if query else None
        elif name == "username" or name == "password":
            user, _, secret = new.get("userinfo", parts.userinfo).partition(":")
            encoded = quote(value or "", safe=_USER_SAFE)
            user, secret = (encoded, secret) if name == "username" else (user, encoded)
            new["userinfo"] = f"{user}:{secret}" if secret else user
        elif name == "userinfo":
            new["userinfo"] = quote(value or "", safe=_USERINFO_SAFE)
        elif name == "host":
            value = value or ""
            new["host"] = _host(f"[{value}]" if ":" in value and value[0] != "[" else value)
        elif name == "port":
            port = value
        elif name == "netloc":
            if "@" in (value or "") or "/" in (value or ""):
                raise InvalidURL("URL component 'netloc' must be host or host:port")
            _, new["host"], port = _authority(value or "", scheme)
        elif name == "path":
            new["path"] = quote(value or "", safe=_PATH_SAFE)
        elif name == "raw_path":
            path, mark, query = (value or "").partition("?")
            new["path"] = quote(path, safe=_PATH_SAFE)
            new["query"] = quote(query, safe=_QUERY_SAFE) if mark else None
        elif name == "query":
            new["query"] = None if value is None else quote(value, safe=_QUERY_SAFE)
        elif name == "fragment":
            # Unlike httpx, "" means none: nobody wants a lone "#" at the end.
            new["fragment"] = quote(value, safe=_FRAGMENT_SAFE) if value else None
        else:
            raise TypeError(f"{name!r} is not a component of a URL")
    new["port"] = _port(port, scheme)
    return _checked(parts._replace(**new))


class URL:
    """A URL, absolute or relative, as in httpx.

    ``str(url)`` is the real text, password included; ``repr(url)`` and `masked` hide it.

    Args:
        url: the text, or another URL.
        components: parts to replace: scheme, username, password, userinfo, host, port,
            netloc, path, query, raw_path, fragment, params.

    Raises:
        InvalidURL: it cannot be a URL; the text says why.
        TypeError: not a str or URL, or an unknown component.
    """

    __slots__ = ("_parts", "_text")

    _parts: _Parts
    _text: str

    def __init__(self, url: URLTypes = "", **components: Any) -> None:
        if isinstance(url, URL):
            parts = url._parts
        elif isinstance(url, str):
            parts = _parse_cached(url)
        else:
            raise TypeError(f"url must be str or URL, not {type(url).__name__}")
        if components:
            parts = _changed(parts, components)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_text", parts.text())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("URL is immutable; use copy_with()")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("URL is immutable; use copy_with()")

    @property
    def scheme(self) -> str:
        """Lower case, "" if relative."""
        return self._parts.scheme

    @property
    def raw_scheme(self) -> bytes:
        """`scheme` as bytes."""
        return self._parts.scheme.encode("ascii")

    @property
    def userinfo(self) -> bytes:
        """``user:password``, percent-encoded."""
        return self._parts.userinfo.encode("ascii")

    @property
    def username(self) -> str:
        """The user name, decoded."""
        return unquote(self._parts.userinfo.partition(":")[0])

    @property
    def password(self) -> str:
        """The password, decoded."""
        return unquote(self._parts.userinfo.partition(":")[2])

    @property
    def host(self) -> str:
        """The host for people: lower case, IDNA decoded, IPv6 without brackets."""
        host = self._parts.host
        if "xn--" in host:
            import idna

            try:
                return idna.decode(host)
            except idna.IDNAError:
                return host
        return host

    @property
    def raw_host(self) -> bytes:
        """The host for DNS: ASCII, IPv6 without brackets."""
        return self._parts.host.encode("ascii")

    @property
    def port(self) -> int | None:
        """None if not given or the scheme's default."""
        return self._parts.port

    @property
    def netloc(self) -> bytes:
        """``host`` or ``host:port``, what a Host header holds (RFC 9110 7.2)."""
        return self._parts.netloc().encode("ascii")

    @property
    def path(self) -> str:
        """The path, decoded; "/" if empty."""
        return unquote(self._parts.path or "/")

    @property
    def query(self) -> bytes:
        """What stands after "?", b"" if nothing."""
        return (self._parts.query or "").encode("ascii")

    @property
    def params(self) -> QueryParams:
        """The query, parsed."""
        return QueryParams(self._parts.query or "")

    @property
    def raw_path(self) -> bytes:
        """Path and query as they go into the request line."""
        path = self._parts.path or "/"
        if self._parts.query is not None:
            path = f"{path}?{self._parts.query}"
        return path.encode("ascii")

    @property
    def fragment(self) -> str:
        """What stands after "#", decoded."""
        return unquote(self._parts.fragment or "")

    @property
    def is_absolute_url(self) -> bool:
        """Has scheme and host."""
        return bool(self._parts.scheme and self._parts.host)

    @property
    def is_relative_url(self) -> bool:
        """Lacks scheme or host."""
        return not self.is_absolute_url

    @property
    def masked(self) -> str:
        """For messages and logs: no credentials, no fragment, secret-looking query values
        as ``***``."""
        return mask_url(self._text)

    def copy_with(self, **components: Any) -> URL:
        """A copy with parts replaced, see the class."""
        return URL(self, **components)

    def copy_set_param(self, key: str, value: Any = None) -> URL:
        """A copy in which the query has `key` once, with this value."""
        return self.copy_merge_params({key: value})

    def copy_add_param(self, key: str, value: Any = None) -> URL:
        """A copy with one more parameter."""
        return self._with_pairs(lambda _: True, QueryParams([(key, value)]))

    def copy_remove_param(self, key: str) -> URL:
        """A copy without `key` in the query."""
        return self._with_pairs(lambda name: name != key, QueryParams())

    def copy_merge_params(self, params: QueryParamTypes | None) -> URL:
        """A copy in which the names of `params` replace those of the query; what else
        stands in the query keeps its exact text."""
        new = QueryParams(params)
        return self._with_pairs(lambda name: name not in new, new)

    def _with_pairs(self, keep: Any, new: QueryParams) -> URL:
        """The query filtered by decoded name, with `new` at its end."""
        from urllib.parse import unquote_plus

        old = self._parts.query or ""
        kept = [
            pair for pair in old.split("&") if pair and keep(unquote_plus(pair.partition("=")[0]))
        ]
        if new:
            kept.append(urlencode(new.multi_items()))
        return URL(self, query="&".join(kept) if kept else None)

    def join(self, url: URLTypes) -> URL:
        """`url` as seen from here (RFC 3986 5.2): how a redirect's Location is resolved."""
        return URL(urljoin(self._text, str(URL(url))))

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, URL):
            return self._text == other._text
        if isinstance(other, str):
            try:
                return self._text == URL(other)._text
            except InvalidURL:
                return False
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        return URL, (self._text,)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        parts = self._parts
        if parts.userinfo:
            user, colon, _ = parts.userinfo.partition(":")
            parts = parts._replace(userinfo=f"{user}:[secure]" if colon else "[secure]")
        if parts.query:
            parts = parts._replace(query=mask_query(parts.query))
        return f"URL({parts.text()!r})"


def parse_url(url: URLTypes) -> URL:
    """A URL as it is, or the text parsed; raises as `URL`."""
    return url if isinstance(url, URL) else URL(url)


def check_url(url: URL) -> URL:
    """The URL, if a request can go there.

    Raises:
        UnsupportedProtocol: no scheme, or neither http nor https.
        InvalidURL: no host.
    """
    scheme = url._parts.scheme
    if scheme not in ("http", "https"):
        if not scheme:
            raise UnsupportedProtocol(
                f"URL lacks 'http://' or 'https://' in front: {url.masked!r}", url=url.masked
            )
        raise UnsupportedProtocol(
            f"URL scheme {scheme!r} is not http or https: {url.masked!r}", url=url.masked
        )
    if not url._parts.host:
        raise InvalidURL(f"URL has no host: {url.masked!r}")
    return url


def origin(url: URLTypes) -> tuple[str, str, int]:
    """(scheme, host for DNS, port with the default filled in): RFC 6454.

    Raises:
        UnsupportedProtocol, InvalidURL: as `check_url`.
    """
    parts = check_url(parse_url(url))._parts
    port = parts.port if parts.port is not None else DEFAULT_PORTS[parts.scheme]
    return parts.scheme, parts.host, port


def merge_params(url: URL, params: QueryParamTypes | None) -> URL:
    """The URL with `params` put into its query; itself if there are none."""
    return url.copy_merge_params(params) if params else url
