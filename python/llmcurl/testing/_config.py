"""Settings of a mock, in one value that also travels to a mock in another process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ._replies import Failure, Reply, as_outcome, from_json, to_json

DEFAULT_MODELS = ("mock-1", "mock-2")


@dataclass(frozen=True, slots=True)
class MockConfig:
    """How a mock behaves when nothing is scripted. Times are in seconds.

    latency          until a plain answer, or the head of a streamed one
    ttft             until the first event of a stream, never before `latency`
    token_interval   between two events of a stream
    reply            the standing answer: a text or a Reply
    echo             answer with the text of the last user message instead
    failure          given in place of the answer, to the part `failure_rate` of the requests (1: to all)
    seed             of all draws
    fail_first       `failure` is given to the first so many attempts of each request, instead of by `failure_rate`
    count_by         the request header that names a request, whose attempts are counted in `attempts`
    api_key          refuse requests without this key with 401; None takes any
    models           the names listed by the models endpoints
    embedding_size   floats per vector where the request does not say
    keep_requests    how many requests are remembered; keep_body: bytes of each body
    max_requests_per_connection   close a connection after so many answers, without announcing it

    Load, see `_traffic.py`:

    rpm, tpm         requests and tokens per `rate_window` for each API key; more get 429 with Retry-After, and all
                     answers the rate-limit headers of OpenAI or Anthropic. Embeddings count, look-ups do not.
    rate_window      seconds that `rpm` and `tpm` are meant for
    rate_burst       how much of a window's budget may be used at once: 1 the whole, 0.1 a tenth
    max_concurrent   requests at work at the same time; more get 429 without Retry-After
    workers          requests worked on at the same time; more wait in their order
    jitter           sigma of a lognormal factor on `latency` and `ttft`, median 1
    slow_rate        part of the requests whose `latency` and `ttft` are `slow_factor` times as long
    """

    latency: float = 0.0
    ttft: float = 0.0
    token_interval: float = 0.0
    reply: Reply = dataclasses.field(default_factory=Reply)
    echo: bool = False
    failure: Failure | None = None
    failure_rate: float = 1.0
    seed: int = 0
    api_key: str | None = None
    models: tuple[str, ...] = DEFAULT_MODELS
    embedding_size: int = 256
    keep_requests: int = 1000
    keep_body: int = 1 << 20
    max_requests_per_connection: int | None = None
    fail_first: int = 0
    count_by: str = "idempotency-key"
    rpm: int | None = None
    tpm: int | None = None
    rate_window: float = 60.0
    rate_burst: float = 1.0
    max_concurrent: int | None = None
    workers: int | None = None
    jitter: float = 0.0
    slow_rate: float = 0.0
    slow_factor: float = 10.0

    def __post_init__(self) -> None:
        reply = as_outcome(self.reply)
        if not isinstance(reply, Reply):
            raise TypeError("the standing reply is a str or a Reply; a Failure goes into failure=")
        object.__setattr__(self, "reply", reply)
        object.__setattr__(self, "models", tuple(self.models) or DEFAULT_MODELS)
        object.__setattr__(self, "count_by", self.count_by.lower())
        for name in ("latency", "ttft", "token_interval", "jitter", "slow_rate", "slow_factor"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in ("rpm", "tpm", "max_concurrent", "workers", "rate_window", "rate_burst"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive")
        if self.rpm is not None and self.rpm * self.rate_burst < 1:
            raise ValueError("rpm * rate_burst must be 1 at least: no request would pass")

    def changed(self, **changes: Any) -> MockConfig:
        """A copy with some settings replaced. TypeError for a name that is none."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["reply"] = to_json(self.reply)
        fields["failure"] = None if self.failure is None else to_json(self.failure)
        return fields

    @staticmethod
    def changes_from_json(fields: dict[str, Any]) -> dict[str, Any]:
        """Settings from their JSON form, any subset. ValueError for a wrong name or value."""
        known = {field.name for field in dataclasses.fields(MockConfig)}
        changes = dict(fields)
        for name in changes:
            if name not in known:
                raise ValueError(f"the mock has no setting {name!r}")
        if "reply" in changes:
            changes["reply"] = from_json(changes["reply"])
        if changes.get("failure") is not None:
            failure = from_json(changes["failure"])
            if not isinstance(failure, Failure):
                raise ValueError("failure must be a Failure")
            changes["failure"] = failure
        return changes
