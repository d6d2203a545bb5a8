"""Each failure as an exception that says what, whose and whether to wait."""

from __future__ import annotations

import pickle
import time
from email.utils import formatdate

import pytest
from common import KEY, PROVIDERS, make
from llmcurl import ConnectError, HTTPError, InvalidHeader, InvalidURL
from llmcurl.llm import (
    Anthropic,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    Gemini,
    LLMError,
    NotFoundError,
    Ollama,
    OpenAI,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from llmcurl.testing import Failure, Raw


@pytest.fixture(params=PROVIDERS)
async def llm(request, mock_llm):
    async with make(request.param, mock_llm) as llm:
        yield llm


@pytest.mark.parametrize(
    "failure, kind",
    [
        (Failure.unauthorized(), AuthenticationError),
        (Failure(status=403), PermissionDeniedError),
        (Failure(status=404), NotFoundError),
        (Failure.bad_request("no such field"), BadRequestError),
        (Failure(status=413), BadRequestError),
        (Failure.context_length(), ContextLengthError),
        (Failure.rate_limit(), RateLimitError),
        (Failure.overloaded(), OverloadedError),
        (Failure.overloaded(503), OverloadedError),
        (Failure.server_error(500), ServerError),
        (Failure.server_error(502), ServerError),
    ],
    ids=lambda value: getattr(value, "status", None) or getattr(value, "__name__", None),
)
async def test_the_class_says_what(llm, mock_llm, failure, kind):
    for call in ("chat", "stream"):
        mock_llm.script(failure)
        with pytest.raises(LLMError) as error:
            if call == "chat":
                await llm.chat("x")
            else:
                async with llm.stream("x"):
                    pass
        found = error.value
        assert type(found) is kind and isinstance(found, HTTPError)
        assert found.provider == llm.provider and found.status == failure.status
        assert found.message and found.message in str(found) and found.body
        assert found.request_id and found.request_id in str(found)
        assert found.partial is None


async def test_how_long_to_wait(llm, mock_llm):
    mock_llm.script(Failure.rate_limit(7.5), Failure.rate_limit(None))
    with pytest.raises(RateLimitError) as error:
        await llm.chat("x")
    assert error.value.retry_after == 7.5
    with pytest.raises(RateLimitError) as error:
        await llm.chat("x")
    assert error.value.retry_after is None


@pytest.mark.parametrize(
    "fields, seconds",
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "nonsense"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
async def test_the_forms_of_retry_after(mock_llm, fields, seconds):
    async with make("openai", mock_llm) as llm:
        mock_llm.script(Raw(b"{}", status=429, headers=fields))
        with pytest.raises(RateLimitError) as error:
            await llm.chat("x")
        assert error.value.retry_after == seconds


async def test_retry_after_as_a_date(mock_llm):
    async with make("openai", mock_llm) as llm:
        when = formatdate(time.time() + 60, usegmt=True)
        mock_llm.script(Raw(b"{}", status=503, headers={"retry-after": when}))
        with pytest.raises(OverloadedError) as error:
            await llm.chat("x")
        assert 50 < error.value.retry_after <= 60


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "no description was given"),
        (b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[]", "[]"),
        (b'[{"error": {"message": "in a list"}}]', "in a list"),
        (b'{"detail": "not here"}', "not here"),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]'),
        (b'{"error": "words only"}', "words only"),
        (b'{"error": {"message": null}}', "no description was given"),
        (b'{"error": 5}', '{"error": 5}'),
    ],
)
async def test_bodies_of_all_kinds(mock_llm, body, message):
    async with make("openai", mock_llm) as llm:
        mock_llm.script(Raw(body, status=502))
        with pytest.raises(ServerError) as error:
            await llm.chat("x")
        assert error.value.message == message


async def test_an_error_in_a_200(llm, mock_llm):
    body = b'{"error": {"message": "upstream is down", "code": 502}}'
    mock_llm.script(Raw(body))
    with pytest.raises(ServerError, match="upstream is down"):
        await llm.chat("x")


async def test_the_key_is_never_told(llm, mock_llm):
    body = b'{"error": {"message": "wrong key: %s"}}' % KEY.encode()
    mock_llm.script(Raw(body, status=401))
    with pytest.raises(AuthenticationError) as error:
        await llm.chat("x")
    told = repr(vars(error.value)) + str(error.value) + repr(error.value)
    assert KEY not in told and "wrong key: ***" in told


async def test_pickled(mock_llm):
    async with make("openai", mock_llm) as llm:
        mock_llm.script(Failure.rate_limit(3))
        with pytest.raises(RateLimitError) as error:
            await llm.chat("x")
    copy = pickle.loads(pickle.dumps(error.value))
    assert type(copy) is RateLimitError and str(copy) == str(error.value)
    assert copy.retry_after == 3 and copy.status == 429


async def test_transport_errors_stay_what_they_are():
    async with OpenAI(base_url="http://127.0.0.1:1/v1", model="m") as llm:
        with pytest.raises(ConnectError):
            await llm.chat("x")
        with pytest.raises(ConnectError):
            async with llm.stream("x"):
                pass


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def clean(self, monkeypatch):
        import os

        for name in list(os.environ):
            if name.startswith(("OPENAI_", "AZURE_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "OLLAMA")):
                monkeypatch.delenv(name)

    @pytest.mark.parametrize("cls", [OpenAI, Anthropic, Gemini])
    def test_no_key(self, cls):
        with pytest.raises(AuthenticationError, match="API_KEY"):
            cls()
        cls(base_url="http://127.0.0.1:8000")  # a server of one's own needs none

    @pytest.mark.parametrize(
        "cls, key, base, field, value",
        [
            (OpenAI, "OPENAI_API_KEY", "OPENAI_BASE_URL", "Authorization", "Bearer k1"),
            (Anthropic, "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "Authorization", "Bearer k1"),
            (Gemini, "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "x-goog-api-key", "k1"),
            (Ollama, "OLLAMA_API_KEY", "OLLAMA_HOST", "Authorization", "Bearer k1"),
        ],
    )
    def test_key_and_base_url(self, monkeypatch, cls, key, base, field, value):
        monkeypatch.setenv(key, "k1")
        llm = cls()
        assert llm._headers[field] == value and llm.base_url.startswith("http")
        monkeypatch.setenv(base, "http://other:99/x/")
        assert cls().base_url == "http://other:99/x"
        assert cls(base_url="http://mine").base_url == "http://mine"

    def test_bearer_token_of_anthropic(self, monkeypatch):
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "t")
        assert Anthropic()._headers["Authorization"] == "Bearer t"
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        assert Anthropic()._headers["Authorization"] == "Bearer k"
        assert Anthropic(auth_token="u")._headers["Authorization"] == "Bearer u"
        assert Anthropic(version="2023-06-01")._headers["X-Api-Key"] == "k"

    @pytest.mark.parametrize(
        "host, url",
        [
            ("", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("gpu", "http://gpu:11434"),
            ("gpu:80", "http://gpu:80"),
            ("[::1]:80", "http://[::1]:80"),
            ("[::1]", "http://[::1]:11434"),
            ("https://gpu/", "https://gpu"),
        ],
    )
    def test_ollama_host(self, monkeypatch, host, url):
        monkeypatch.setenv("OLLAMA_HOST", host)
        assert Ollama().base_url == url

    async def test_azure(self, monkeypatch, mock_llm):
        with pytest.raises(ValueError, match="endpoint"):
            OpenAI(api_key="k", api_version="v")
        with pytest.raises(ValueError, match="version"):
            OpenAI(api_key="k", azure_endpoint="http://x")
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k2")
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", mock_llm.base_url)
        async with OpenAI(api_version="2024-10-21", model="my gpt") as llm:
            await llm.chat("x")
            await llm.embed("x")
        first, second = mock_llm.requests
        assert first.target == (
            "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"
        )
        assert "/my%20gpt/embeddings?" in second.target and first.headers["api-key"] == "k2"
        assert "authorization" not in first.headers


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"base_url": "ftp://x/v1"}, InvalidURL),
        ({"base_url": "x/v1"}, InvalidURL),
        ({"api_key": "two\nlines"}, InvalidHeader),
        ({"headers": {"a": "b\r\nc: d"}}, InvalidHeader),
        ({"client": 5}, TypeError),
        ({"timeout": "long"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"max_event_bytes": 0}, ValueError),
    ],
)
@pytest.mark.parametrize("cls", [OpenAI, Anthropic, Gemini, Ollama])
def test_arguments_that_cannot_be_are_refused_at_once(cls, wrong, error):
    with pytest.raises(error) as found:
        cls(**{"base_url": "http://127.0.0.1:1", **wrong})
    assert "lines" not in str(found.value)
