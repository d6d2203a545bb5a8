"""Takes secrets out of text that people will read: error messages, logs, reprs.

Nothing here is used to build a request; the real URL and headers go their own way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

__all__ = ["SECRET_HEADERS", "mask_query", "mask_url", "scrub_text", "secrets_of"]

#: Header names (lower case) whose values never appear in a repr.
SECRET_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
    }
)

# A parameter is secret if one word of its name is one of these: "api_key", "X-Amz-Signature",
# "accessToken". "max_tokens" is not: its word is "tokens".
_SECRET_WORDS = frozenset(
    {
        "key", "apikey", "token", "signature", "sig", "secret", "password", "passwd", "pwd",
        "pass", "credential", "credentials", "auth", "authorization", "jwt", "bearer",
        "accesskeyid", "accesstoken", "authtoken", "sessionid", "sid",
    }
)  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")


def _is_secret(name: str) -> bool:
    """Whether a query parameter of this (still encoded) name is likely to hold a secret."""
    plain = unquote_plus(name)
    if plain.lower() in _SECRET_WORDS:
        return True
    return any(word.lower() in _SECRET_WORDS for word in _WORD.findall(plain))


def _mask_pair(pair: str) -> str:
    """``api_key=abc`` becomes ``api_key=***``; anything harmless stays as it is."""
    name, equals, value = pair.partition("=")
    return f"{name}=***" if equals and value and _is_secret(name) else pair


def mask_url(url: str) -> str:
    """The URL without user name and password, secret-looking query values as ``***``.

    The fragment is dropped: it is never sent, and OAuth puts tokens there. Never raises,
    whatever the text is.
    """
    url = url.partition("#")[0]
    base, mark, query = url.partition("?")
    base = _USERINFO.sub("", base, count=1)
    return f"{base}?{mask_query(query)}" if mark else base


def mask_query(query: str) -> str:
    """An encoded query with secret-looking values as ``***``."""
    return "&".join(map(_mask_pair, query.split("&")))


def secrets_of(headers: Mapping[str, str]) -> list[str]:
    """The secrets in request headers, with and without the scheme before them ("Bearer")."""
    found = []
    for name in SECRET_HEADERS:
        if value := headers.get(name):
            found += [value, value.partition(" ")[2]]
    return [secret for secret in found if len(secret) > 3]


def scrub_text(text: str) -> str:
    """Someone else's message (libcurl's) without the ``user:password@`` of URLs in it."""
    return _USERINFO.sub("", text) if "@" in text else text
