"""Authentication: how a request gets its Authorization header.

`Auth` is httpx's base class: `auth_flow` is a generator that yields requests and receives
responses, so a scheme may need several round trips. `BasicAuth` and `BearerAuth` need one
and have their header ready in `header_value`.
"""

from __future__ import annotations

import inspect
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Union

from ._exceptions import InvalidHeader

if TYPE_CHECKING:
    from ._models import Request, Response
    from ._urls import URL

__all__ = [
    "Auth",
    "AuthTypes",
    "BasicAuth",
    "BearerAuth",
    "FunctionAuth",
    "auth_from_url",
    "build_auth",
]

AuthTypes = Union[
    "tuple[str | bytes, str | bytes]",
    "Callable[[Request], Request]",
    "Callable[[Request], Awaitable[Request]]",
    "Auth",
]


class Auth:
    """Base of all schemes; override `auth_flow`, or `async_auth_flow` if it has to await.

    Attributes:
        requires_request_body: the flow looks at ``request.content``.
        requires_response_body: the flow looks at ``response.content``.
        header_value: the whole Authorization value if it is always the same, else None.
    """

    requires_request_body: bool = False
    requires_response_body: bool = False
    header_value: str | None = None

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        """Yields the request to send; ``response = yield request`` gives its answer."""
        yield request

    async def async_auth_flow(self, request: Request) -> AsyncGenerator[Request, Response]:
        """As `auth_flow`, for the client: reads bodies first if the scheme needs them."""
        if self.requires_request_body:
            await request.aread()
        flow = self.auth_flow(request)
        try:
            request = next(flow)
            while True:
                response = yield request
                if self.requires_response_body:
                    await response.aread()
                try:
                    request = flow.send(response)
                except StopIteration:
                    return
        finally:
            flow.close()


class _HeaderAuth(Auth):
    """A scheme that is one header."""

    header_value: str

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        request.headers["Authorization"] = self.header_value
        yield request

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.header_value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}('[secure]')"


class BasicAuth(_HeaderAuth):
    """RFC 7617: user name and password, as UTF-8.

    Raises:
        TypeError: neither str nor bytes. ValueError: a colon in the user name.
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        user, secret = _utf8(username, "username"), _utf8(password, "password")
        if b":" in user:
            raise ValueError("BasicAuth: the user name must not contain ':' (RFC 7617)")
        self.header_value = f"Basic {b64encode(user + b':' + secret).decode('ascii')}"


class BearerAuth(_HeaderAuth):
    """RFC 6750: ``Authorization: Bearer <token>``, what LLM APIs call the API key.

    Raises:
        TypeError: not a str. InvalidHeader: empty, or blanks or line breaks in it.
    """

    def __init__(self, token: str) -> None:
        if not isinstance(token, str):
            raise TypeError(f"BearerAuth: the token must be str, not {type(token).__name__}")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidHeader(
                "BearerAuth: the token is empty or has blanks, line breaks or characters "
                "that are not ASCII"
            )
        self.header_value = f"Bearer {token}"


class FunctionAuth(Auth):
    """A function, sync or async, that takes the request and returns it (or another)."""

    def __init__(self, func: Callable[[Request], Any]) -> None:
        self._func = func

    def auth_flow(self, request: Request) -> Generator[Request, Response, None]:
        result = self._func(request)
        if inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()  # else Python warns of a coroutine that was never awaited
            raise RuntimeError("this auth function is async: it needs async_auth_flow()")
        yield _request_of(result)

    async def async_auth_flow(self, request: Request) -> AsyncGenerator[Request, Response]:
        result = self._func(request)
        if inspect.isawaitable(result):
            result = await result
        yield _request_of(result)


def _request_of(result: Any) -> Request:
    """What the function returned, if it is a request."""
    from ._models import Request

    if not isinstance(result, Request):
        raise TypeError(f"the auth function must return the request, not {type(result).__name__}")
    return result


def _utf8(value: str | bytes, what: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"BasicAuth: {what} must be str or bytes, not {type(value).__name__}")


def build_auth(value: AuthTypes | None) -> Auth | None:
    """The `Auth` an argument means.

    Args:
        value: (user, password), an `Auth`, a function taking the request, or None.

    Raises:
        TypeError: anything else; for a str the text says what is probably meant.
    """
    if value is None or isinstance(value, Auth):
        return value
    if isinstance(value, tuple):
        if len(value) != 2:
            raise TypeError("auth= as a tuple must be (user, password)")
        return BasicAuth(*value)
    if isinstance(value, (str, bytes)):
        raise TypeError(
            "auth= must not be a string: use BearerAuth(token) for an API key, "
            "or (user, password) for Basic"
        )
    if callable(value):
        return FunctionAuth(value)
    raise TypeError(
        "auth= must be (user, password), an Auth or a function taking the request, "
        f"not {type(value).__name__}"
    )


def auth_from_url(url: URL) -> BasicAuth | None:
    """Basic auth from ``https://user:password@host/``, None if the URL has no such part."""
    if not url.userinfo:
        return None
    return BasicAuth(url.username, url.password)
