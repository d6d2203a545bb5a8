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
    seed             of the draws for `failure_rate`
    api_key          refuse requests without this key with 401; None takes any
    models           the names listed by the models endpoints
    embedding_size   floats per vector where the request does not say
    keep_requests    how many requests are remembered; keep_body: bytes of each body
    max_requests_per_connection   close a connection after so many answers, without announcing it
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

    def __post_init__(self) -> None:
        reply = as_outcome(self.reply)
        if not isinstance(reply, Reply):
            raise TypeError("the standing reply is a str or a Reply; a Failure goes into failure=")
        object.__setattr__(self, "reply", reply)
        object.__setattr__(self, "models", tuple(self.models) or DEFAULT_MODELS)
        for name in ("latency", "ttft", "token_interval"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")

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
