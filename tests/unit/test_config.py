"""Timeout and Limits: httpx's meanings, our defaults, bad values refused at once."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import httpx
import pytest
from llmcurl._config import DEFAULT_LIMITS, DEFAULT_TIMEOUT, UNSET, Limits, Timeout, build_timeout

# Values only: without native objects and descriptors there is nothing to leave behind.
pytestmark = pytest.mark.leaves_traces

FIELDS = ("connect", "read", "write", "pool")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((5,), {}),
        ((None,), {}),
        ((0.5,), {"connect": 60}),
        ((5.0,), {"read": None}),
        ((None,), {"pool": 1}),
        (((1, 2, None, 4),), {}),
        ((), {"connect": 1, "read": 2, "write": 3, "pool": 4}),
    ],
)
def test_a_timeout_means_what_it_means_in_httpx(args: Any, kwargs: Any) -> None:
    ours, theirs = Timeout(*args, **kwargs), httpx.Timeout(*args, **kwargs)
    assert [getattr(ours, name) for name in FIELDS] == [getattr(theirs, name) for name in FIELDS]
    assert ours.total is None


def test_the_defaults_are_made_for_llm_calls() -> None:
    assert (
        Timeout()
        == DEFAULT_TIMEOUT
        == Timeout(connect=10, read=600, write=600, pool=None, total=None)
    )
    assert Timeout(total=30).read == 600 and Timeout(total=30).total == 30


def test_one_number_does_not_set_the_total() -> None:
    assert Timeout(3).total is None
    assert Timeout(3, total=9).total == 9


@pytest.mark.parametrize("field", [*FIELDS, "total"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (math.nan, ValueError),
        (True, TypeError),
        ("5", TypeError),
        ([1], TypeError),
    ],
)
def test_a_value_that_is_no_time_names_its_field(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=field):
        Timeout(**{field: value})


@pytest.mark.parametrize("value", [-1, math.nan, True, "5", (1, 2)])
def test_a_bad_single_value_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="Timeout"):
        Timeout(value)


def test_milliseconds_are_rounded_up_and_zero_stands_for_none() -> None:
    assert Timeout(None).as_ms() == (0, 0, 0, 0, 0)
    assert Timeout(1.0001, connect=0.0001, read=0, pool=math.inf, total=2).as_ms() == (
        1,
        1,
        1001,
        0,
        2000,
    )
    assert Timeout(1e12).as_ms()[0] == 2**31 - 1
    assert Timeout(1).as_ms() is not None and Timeout(1).as_ms() == Timeout(1.0).as_ms()


@pytest.mark.parametrize("value", [Timeout(5, total=8), Limits(5, 3, None, 9), DEFAULT_LIMITS])
def test_values_can_be_compared_hashed_copied_and_pickled(value: Any) -> None:
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert again == value and hash(again) == hash(value) and repr(again) == repr(value)
    assert value != 5
    assert eval(repr(value)) == value


@pytest.mark.parametrize("value", [Timeout(5), Limits()])
def test_values_cannot_be_changed(value: Any) -> None:
    with pytest.raises(AttributeError):
        value.read = 5
    with pytest.raises(AttributeError):
        value.extra = 5
    with pytest.raises(AttributeError):
        del value.read


def test_build_timeout_takes_what_an_argument_may_be() -> None:
    timeout = Timeout(5)
    assert build_timeout(timeout) is timeout
    assert build_timeout(UNSET) is DEFAULT_TIMEOUT
    assert build_timeout(UNSET, timeout) is timeout
    assert build_timeout(5) == timeout and build_timeout(5.0) is build_timeout(5.0)
    assert build_timeout(None) == Timeout(None)
    assert build_timeout((1, 2, 3, 4)) == Timeout((1, 2, 3, 4))
    for bad in (True, "5", -1, {}):
        with pytest.raises((TypeError, ValueError)):
            build_timeout(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_connections", 0, ValueError),
        ("max_connections", 1.5, TypeError),
        ("max_connections", True, TypeError),
        ("max_keepalive_connections", -1, ValueError),
        ("keepalive_expiry", -1, ValueError),
        ("keepalive_expiry", "1", TypeError),
        ("max_in_flight", 0, ValueError),
    ],
)
def test_a_limit_that_is_none_names_its_field(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=field):
        Limits(**{field: value})


def test_the_limits_are_open_by_default_and_keep_alive_is_a_minute() -> None:
    assert DEFAULT_LIMITS == Limits(None, None, 60.0, None)
    assert Limits(max_keepalive_connections=0).max_keepalive_connections == 0
