"""Which path means what: chat in one of the four protocols, a plain lookup, or the mock's own control calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _anthropic, _gemini, _ollama, _openai
from ._config import MockConfig
from ._dialect import Dialect
from ._http import RequestHead

Lookup = Callable[[MockConfig, RequestHead, dict[str, Any]], bytes]

OPENAI = _openai.OpenAIDialect()
ANTHROPIC = _anthropic.AnthropicDialect()
GEMINI = _gemini.GeminiDialect()
OLLAMA = _ollama.OllamaDialect()

CONTROL_PREFIX = "/__mock__/"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What to do with a request. `lookup` None: chat. `needs_body`: the body must be a JSON object."""

    dialect: Dialect
    lookup: Lookup | None = None
    needs_body: bool = True
    control: str | None = None
    status: int = 200


def _get(dialect: Dialect, lookup: Lookup) -> Route:
    return Route(dialect, lookup, needs_body=False)


def _post(dialect: Dialect, lookup: Lookup) -> Route:
    return Route(dialect, lookup)


def _last(head: RequestHead) -> str:
    return head.path.rpartition("/models/")[2]


_CHAT = {
    "/chat/completions": Route(OPENAI),
    "/v1/messages": Route(ANTHROPIC),
    "/api/chat": Route(OLLAMA),
    "/api/generate": Route(OLLAMA),
}

_POSTS = {
    "/embeddings": _post(OPENAI, lambda c, h, b: _openai.embeddings(b, c.embedding_size)),
    "/messages/count_tokens": _post(ANTHROPIC, lambda c, h, b: _anthropic.count(b)),
    ":embedContent": _post(GEMINI, lambda c, h, b: _gemini.embed(b, c.embedding_size)),
    ":batchEmbedContents": _post(GEMINI, lambda c, h, b: _gemini.embed_batch(b, c.embedding_size)),
    ":countTokens": _post(GEMINI, lambda c, h, b: _gemini.count(b)),
    "/api/embed": _post(OLLAMA, lambda c, h, b: _ollama.embed(b, c.embedding_size)),
    "/api/embeddings": _post(OLLAMA, lambda c, h, b: _ollama.embed_one(b, c.embedding_size)),
}

_GEMINI_CHAT = Route(GEMINI)
_GEMINI_METHODS = (":generateContent", ":streamGenerateContent")

_GREETING = _get(OPENAI, lambda c, h, b: b'"llmcurl mock"')
_VERSION = _get(OLLAMA, lambda c, h, b: b'{"version":"0.9.0"}')
_TAGS = _get(OLLAMA, lambda c, h, b: _ollama.tags(c.models))
_MODELS = {
    "openai": _get(OPENAI, lambda c, h, b: _openai.models(c.models)),
    "anthropic": _get(ANTHROPIC, lambda c, h, b: _anthropic.models(c.models)),
    "gemini": _get(GEMINI, lambda c, h, b: _gemini.models(c.models)),
}
_MODEL = {
    "openai": _get(OPENAI, lambda c, h, b: _openai.model(_last(h))),
    "anthropic": _get(ANTHROPIC, lambda c, h, b: _anthropic.model(_last(h))),
    "gemini": _get(GEMINI, lambda c, h, b: _gemini.model(_last(h))),
}


def _family(head: RequestHead) -> str:
    """Whose client asks for the models: the path may be the same for three of them."""
    if head.path.startswith(("/v1beta/", "/v1alpha/")) or head.header("x-goog-api-key"):
        return "gemini"
    return "anthropic" if head.header("anthropic-version") else "openai"


def _error_dialect(head: RequestHead) -> Dialect:
    """In whose words an unknown path is refused."""
    if head.path.startswith("/api/"):
        return OLLAMA
    dialects: dict[str, Dialect] = {"gemini": GEMINI, "anthropic": ANTHROPIC, "openai": OPENAI}
    return dialects[_family(head)]


def find_route(head: RequestHead) -> Route:
    """The route of a request; one that answers 404 or 405 if there is none."""
    path = head.path
    if path.startswith(CONTROL_PREFIX):
        return Route(OPENAI, needs_body=head.method == "POST", control=path[len(CONTROL_PREFIX) :])
    route = _find_post(path)
    if head.method == "POST":
        if route is not None:
            return route
    elif head.method in ("GET", "HEAD"):
        found = _find_get(head)
        if found is not None:
            return found
    status = 404 if route is None else 405
    dialect = _error_dialect(head)
    message = f"{head.method} {path}: the mock has no such endpoint"
    return Route(
        dialect,
        lambda c, h, b: dialect.error(status, message, None, None),
        needs_body=False,
        status=status,
    )


def _find_post(path: str) -> Route | None:
    if path.endswith(_GEMINI_METHODS):
        return _GEMINI_CHAT
    for table in (_POSTS, _CHAT):
        for ending, route in table.items():
            if path.endswith(ending):
                # "/api/embeddings" ends like OpenAI's path too.
                return _POSTS["/api/embeddings"] if path == "/api/embeddings" else route
    return None


def _find_get(head: RequestHead) -> Route | None:
    path = head.path
    if path.endswith("/models"):
        return _MODELS[_family(head)]
    if "/models/" in path and ":" not in path:
        return _MODEL[_family(head)]
    return {"/api/tags": _TAGS, "/api/version": _VERSION, "/": _GREETING, "/health": _GREETING}.get(
        path
    )


def key_of(head: RequestHead) -> str | None:
    """The API key a request carries, in any of the four protocols' places."""
    bearer = head.header("authorization")
    if bearer is not None and bearer[:7].lower() == "bearer ":
        return bearer[7:].strip()
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        value = head.header(name)
        if value is not None:
            return value
    for pair in head.query.split("&"):
        name, _, value = pair.partition("=")
        if name == "key":
            return value
    return None
