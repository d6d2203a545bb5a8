"""`Cookies`: httpx's interface on the standard library's cookie jar (RFC 6265).

`http.cookiejar` decides which cookie a server may set and which a request gets; the two
small classes at the end show it our requests and responses in the form it knows.
"""

from __future__ import annotations

import email.message
import urllib.request
from collections.abc import Iterator, MutableMapping
from http.cookiejar import Cookie, CookieJar
from typing import TYPE_CHECKING, Union

from ._exceptions import CookieConflict

if TYPE_CHECKING:
    from ._models import Request, Response

__all__ = ["CookieTypes", "Cookies"]

CookieTypes = Union["Cookies", CookieJar, "dict[str, str]", "list[tuple[str, str]]"]


class Cookies(MutableMapping[str, str]):
    """Cookies, as in httpx.

    Args:
        cookies: a mapping or pairs (sent to every host), a `CookieJar`, or other Cookies.

    Attributes:
        jar: the cookie jar itself; shared if a `CookieJar` was given.
    """

    __slots__ = ("jar",)

    jar: CookieJar

    def __init__(self, cookies: CookieTypes | None = None) -> None:
        if isinstance(cookies, CookieJar):
            self.jar = cookies
            return
        self.jar = CookieJar()
        self.update(cookies)

    def extract_cookies(self, response: Response) -> None:
        """Takes over what the Set-Cookie headers of `response` say."""
        if "set-cookie" in response.headers:
            self.jar.extract_cookies(
                _ResponseView(response),  # type: ignore[arg-type]
                _RequestView(response.request),
            )

    def set_cookie_header(self, request: Request) -> None:
        """Puts the cookies that belong to the URL into the Cookie header of `request`."""
        if self:
            self.jar.add_cookie_header(_RequestView(request))

    def set(self, name: str, value: str, domain: str = "", path: str = "/") -> None:
        """Sets a cookie; without a domain it goes to every host."""
        self.jar.set_cookie(
            Cookie(
                version=0,
                name=name,
                value=value,
                port=None,
                port_specified=False,
                domain=domain,
                domain_specified=bool(domain),
                domain_initial_dot=domain.startswith("."),
                path=path,
                path_specified=bool(path),
                secure=False,
                expires=None,
                discard=True,
                comment=None,
                comment_url=None,
                rest={"HttpOnly": ""},
                rfc2109=False,
            )
        )

    def _matching(self, name: str, domain: str | None, path: str | None) -> Iterator[Cookie]:
        for cookie in self.jar:
            if cookie.name == name and domain in (None, cookie.domain):
                if path in (None, cookie.path):
                    yield cookie

    def get(  # type: ignore[override]
        self,
        name: str,
        default: str | None = None,
        domain: str | None = None,
        path: str | None = None,
    ) -> str | None:
        """The value of a cookie, or `default`.

        Raises:
            CookieConflict: several of that name; give domain or path.
        """
        found = list(self._matching(name, domain, path))
        if len(found) > 1:
            raise CookieConflict(f"Several cookies are named {name!r}: give domain= or path=")
        return found[0].value if found else default

    def delete(self, name: str, domain: str | None = None, path: str | None = None) -> None:
        """Deletes all cookies that match; none is fine."""
        if domain is not None and path is not None:
            try:
                self.jar.clear(domain, path, name)
            except KeyError:
                pass
            return
        for cookie in list(self._matching(name, domain, path)):
            self.jar.clear(cookie.domain, cookie.path, cookie.name)

    def clear(self, domain: str | None = None, path: str | None = None) -> None:
        """Deletes all cookies, or those of a domain, or of a path in a domain."""
        if domain is None:
            self.jar.clear()
        elif path is None:
            self.jar.clear(domain)
        else:
            self.jar.clear(domain, path)

    def update(self, cookies: CookieTypes | None = None) -> None:  # type: ignore[override]
        """Adds cookies to those here."""
        if cookies is None:
            return
        if isinstance(cookies, Cookies):
            cookies = cookies.jar
        if isinstance(cookies, CookieJar):
            for cookie in cookies:
                self.jar.set_cookie(cookie)
            return
        for name, value in cookies.items() if isinstance(cookies, dict) else cookies:
            self.set(name, value)

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __len__(self) -> int:
        return len(self.jar)

    def __iter__(self) -> Iterator[str]:
        return (cookie.name for cookie in self.jar)

    def __bool__(self) -> bool:
        # Asked for every request: must not walk the jar.
        return bool(self.jar._cookies)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        # Values are secrets: a session is a cookie.
        names = ", ".join(f"{cookie.name} for {cookie.domain or '*'}" for cookie in self.jar)
        return f"<Cookies[{names}]>"


class _RequestView(urllib.request.Request):
    """A request as `http.cookiejar` looks at one."""

    def __init__(self, request: Request) -> None:
        super().__init__(
            url=str(request.url.copy_with(fragment=None)),
            headers=dict(request.headers),
            method=request.method,
        )
        self._ours = request

    def add_unredirected_header(self, key: str, val: str) -> None:
        super().add_unredirected_header(key, val)
        self._ours.headers[key] = val


class _ResponseView:
    """A response as `http.cookiejar` looks at one."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def info(self) -> email.message.Message:
        info = email.message.Message()
        for key, value in self._response.headers.multi_items():
            # Message.__setitem__ appends.
            info[key] = value
        return info
