"""What goes into messages and logs holds no secrets."""

from __future__ import annotations

import pytest
from llmcurl._redact import mask_url, scrub_text

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "apikey", "API-KEY", "api%5Fkey", "token", "access_token", "accessToken", "X-Amz-Signature",
     "X-Amz-Credential", "sig", "client_secret", "password", "AWSAccessKeyId", "auth"],
)  # fmt: skip
def test_a_secret_looking_parameter_is_masked(name: str) -> None:
    assert mask_url(f"https://x/?a=1&{name}=hush&b=2") == f"https://x/?a=1&{name}=***&b=2"


@pytest.mark.parametrize(
    "name", ["model", "max_tokens", "keyword", "monkey", "author", "signal", "passage", "page"]
)
def test_a_harmless_parameter_is_shown(name: str) -> None:
    assert mask_url(f"https://x/?{name}=1") == f"https://x/?{name}=1"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://u:p@x/", "https://x/"),
        ("https://u@x/", "https://x/"),
        ("https://u:p@ss@x/a@b", "https://x/a@b"),
        ("https://x/#access_token=1", "https://x/"),
        ("https://x/?token", "https://x/?token"),
        ("//u:p@x/", "//x/"),
        ("not a url", "not a url"),
        ("", ""),
    ],
)
def test_credentials_and_fragment_are_dropped(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_credentials_inside_somebody_elses_text_are_dropped() -> None:
    assert scrub_text("no http://u:p@x:1 and http://q:r@y") == "no http://x:1 and http://y"
    assert scrub_text("mail me@x.example") == "mail me@x.example"
