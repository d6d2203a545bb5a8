"""`RequestOptions`: what a call of an `AsyncClient` takes besides its URL, for type checkers and
editors; `AsyncClient.request` tells what each means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from ._auth import AuthTypes
    from ._config import TimeoutTypes, Unset
    from ._content import RequestData, RequestFiles
    from ._cookies import CookieTypes
    from ._headers import HeaderTypes
    from ._urls import QueryParamTypes
    from .traffic import DeadlineTypes, Retry

__all__ = ["RequestOptions"]


class RequestOptions(TypedDict, total=False):
    """The keyword arguments of `AsyncClient.request`."""

    content: Any
    data: RequestData | None
    files: RequestFiles | None
    json: Any
    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    auth: AuthTypes | Unset | None
    follow_redirects: bool | Unset
    timeout: TimeoutTypes | Unset
    extensions: dict[str, Any] | None
    retry: Retry | Unset | None
    deadline: DeadlineTypes | Unset
    priority: int
    idempotency_key: str | bool | None
