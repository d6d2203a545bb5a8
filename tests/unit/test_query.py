"""QueryParams: httpx's multi-dict."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from llmcurl._query import QueryParams

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

VALUES = [
    None, "", "a=1&b=2&a=3", "a=&b", "a=x+y%20z&%C3%BC=1", b"a=1", {"a": "1", "b": ["2", 3, None]}, {"a": True, "b": False, "c": 1.5},
    [("a", "1"), ("b", 2), ("a", None)], {1: 2}, (("a", "b"),),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_parameters_read_as_in_httpx(value: Any) -> None:
    ours, theirs = QueryParams(value), httpx.QueryParams(value)
    assert str(ours) == str(theirs)
    assert ours.multi_items() == theirs.multi_items()
    assert dict(ours) == dict(theirs) and list(ours.items()) == list(theirs.items())
    assert len(ours) == len(theirs) and bool(ours) == bool(theirs)
    assert (
        ours.get("a") == theirs.get("a")
        and ours.get("zz", 5) == 5
        and ours.get_list("a") == theirs.get_list("a")
    )


def test_changes_give_copies() -> None:
    first = QueryParams("a=1&b=2")
    assert str(first.set("a", 5)) == "a=5&b=2"
    assert str(first.add("a", 5)) == "a=1&a=5&b=2"
    assert str(first.remove("a")) == str(first.remove("a").remove("zz")) == "b=2"
    assert str(first.merge({"b": [7, 8], "c": 9})) == "a=1&b=7&b=8&c=9"
    assert str(first) == "a=1&b=2"


def test_equality_and_hash_go_together() -> None:
    first, second = QueryParams("a=1&b=2"), QueryParams("b=2&a=1")
    assert first == second and hash(first) == hash(second) and first != "a=1&b=2"


def test_keywords_work_and_mixing_does_not() -> None:
    assert str(QueryParams(a=1)) == "a=1"
    with pytest.raises(TypeError):
        QueryParams({"a": 1}, b=2)


@pytest.mark.parametrize("value", [{"a": {"b": 1}}, {"a": [[1]]}, {"a": b"x"}, 5, [1]])
def test_what_has_no_obvious_text_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        QueryParams(value)


def test_an_empty_list_is_no_parameter() -> None:
    assert not QueryParams({"a": []}) and QueryParams({"a": []}).get("a") is None
