"""The calls under `/__mock__/`, by which a mock in another process is read and steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._config import MockConfig
from ._dialect import dumps, loads
from ._http import RequestHead
from ._plan import Plan
from ._replies import from_json

if TYPE_CHECKING:
    from ._server import MockLLM

_JSON = (("content-type", "application/json"),)


def control(mock: MockLLM, name: str, head: RequestHead, body: bytes) -> Plan:
    """The answer to a control call; a wrong one gets 400 or 404 and a sentence.

    GET stats, GET requests, GET attempts, GET config; POST script {"replies": [...]}, POST config {...}, POST reset.
    """
    try:
        value = _act(mock, head.method, name, loads(body) if body else {})
    except (ValueError, TypeError) as exc:
        return Plan(400, _JSON, [dumps({"error": str(exc)})])
    if value is None:
        return Plan(
            404, _JSON, [dumps({"error": f"the mock has no control call {head.method} {name}"})]
        )
    return Plan(200, _JSON, [dumps(value)])


def _act(mock: MockLLM, method: str, name: str, body: Any) -> Any:
    if method == "GET":
        if name == "stats":
            return {**mock.stats.as_dict(), "scripted": mock.scripted}
        if name == "requests":
            return {"requests": [request.as_dict() for request in mock.requests]}
        if name == "attempts":
            return mock.attempts
        if name == "config":
            return mock.config.to_json()
    elif method == "POST":
        if not isinstance(body, dict):
            raise ValueError("the body of a control call is a JSON object")
        if name == "script":
            replies = [from_json(item) for item in body.get("replies", ())]
            mock.script(*replies)
            return {"scripted": mock.scripted}
        if name == "config":
            mock.configure(**MockConfig.changes_from_json(body))
            return mock.config.to_json()
        if name == "reset":
            mock.reset()
            return {}
    return None
