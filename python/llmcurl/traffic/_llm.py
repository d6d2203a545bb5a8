"""LLM calls under control: what `LLM.chat` and `LLM.embed` run instead of one plain POST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from .._config import TimeoutTypes, Unset
from .._content import encode_json
from .._urls import URL
from ..llm._http import Milliseconds, post
from ._control import Control, conduct, control_of, new_record
from ._deadline import DeadlineTypes
from ._http import KEY_HEADER, check_priority, mint_key
from ._record import Attempt, CallRecord
from ._retry import Retry

if TYPE_CHECKING:
    from .._models import Response
    from ..llm._base import LLM
    from ._watch import StreamTimeout

__all__ = ["Job", "call_llm"]

T = TypeVar("T")


class Job:
    """The request of an LLM call: what all its attempts send."""

    __slots__ = ("body", "content", "fields", "key", "kind", "llm", "model", "priority", "timeout",
                 "url")  # fmt: skip

    def __init__(
        self,
        llm: LLM,
        kind: str,
        path: str,
        body: dict[str, Any],
        headers: Mapping[str, str] | None,
        timeout: TimeoutTypes | Unset,
        priority: int,
        key: str | bool | None,
    ) -> None:
        self.llm = llm
        self.kind = kind
        self.url = llm._base + path
        self.body = body
        self.content = encode_json(body)
        self.fields = llm._fields(headers)
        self.key = mint_key(key)
        if self.key:
            self.fields = {**self.fields, KEY_HEADER: self.key}
        self.timeout = llm._timeout if isinstance(timeout, Unset) else timeout
        self.priority = check_priority(priority)
        self.model = str(body.get("model") or "")

    def control(
        self,
        retry: Retry | Unset | None,
        deadline: DeadlineTypes | Unset,
        stream_timeout: StreamTimeout | Unset | None,
    ) -> Control:
        """The settings of this call."""
        llm = self.llm
        return control_of(llm._control, llm._client._control, retry, deadline, stream_timeout)

    def record(self, control: Control) -> CallRecord:
        """The record of a call that starts now."""
        return new_record(
            control,
            kind=self.kind,
            method="POST",
            url=_shown(self.url),
            provider=self.llm.provider,
            model=self.model,
            body=self.body,
            size=len(self.content),
            priority=self.priority,
            idempotency_key=self.key,
            streamed=self.kind == "stream",
        )

    async def send(
        self, attempt: Attempt, limit: Callable[[Milliseconds], Milliseconds], stream: bool
    ) -> Response:
        """One attempt's transfer."""
        response = await post(
            self.llm._client, self.url, self.fields, self.content, self.timeout, limit, stream
        )
        attempt.answer(response)
        return response


@lru_cache(maxsize=256)
def _shown(url: str) -> str:
    """Without secrets. Clients use the same few."""
    return URL(url).masked


def _same(times: Milliseconds) -> Milliseconds:
    return times


async def call_llm(
    job: Job,
    retry: Retry | Unset | None,
    deadline: DeadlineTypes | Unset,
    read: Callable[[Response], T],
) -> T:
    """Carries out a call that is not streamed. `read` makes its result of an answer, or raises
    the error that the answer means."""
    call = job.record(job.control(retry, deadline, None))
    limit = _same if call.deadline is None else call.deadline.limit
    wants_usage = call.control.limit is not None or bool(call.control.observers)

    async def once(attempt: Attempt) -> T:
        result = read(await job.send(attempt, limit, False))
        if wants_usage:
            call.usage = getattr(result, "usage", None)
        return result

    result = await conduct(call, once)
    # a Reply or Embeddings; a batch takes the answer as it is
    response: Response | None = getattr(result, "response", None)
    if response is not None:
        response._attach(attempts=tuple(call.attempts))
    return result
