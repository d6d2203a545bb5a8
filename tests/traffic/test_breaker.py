"""The circuit breaker's states and numbers, on a clock of our own."""

from __future__ import annotations

import pytest
from llmcurl.traffic import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def breaker(clock: Clock, **numbers) -> Breaker:
    return Breaker(
        **{"failures": 3, "rate": 0.5, "window": 10, "cooldown": 5, "clock": clock, **numbers}
    )


def fail(one: Breaker, times: int) -> None:
    for _ in range(times):
        one.failed(one.enter())


def succeed(one: Breaker, times: int) -> None:
    for _ in range(times):
        one.succeeded(one.enter())


def test_opens_after_enough_failures_and_refuses(clock):
    one = breaker(clock)
    fail(one, 2)
    assert one.state == "closed"
    fail(one, 1)
    assert one.state == "open" and one.enter() is None and not one.ready
    stats = one.stats()
    assert (stats.opened, stats.refused, stats.retry_in) == (1, 1, 5.0)


def test_a_failure_among_many_successes_does_not_open_it(clock):
    one = breaker(clock)
    succeed(one, 10)
    fail(one, 9)
    assert one.state == "closed" and one.stats().failures == 9
    fail(one, 1)
    assert one.state == "open"


def test_what_is_older_than_the_window_does_not_count(clock):
    one = breaker(clock)
    fail(one, 2)
    clock.now += 12
    fail(one, 2)
    assert one.state == "closed" and one.stats().calls == 2


def test_half_open_lets_one_try_and_closes_when_it_succeeds(clock):
    one = breaker(clock)
    fail(one, 3)
    clock.now += 5
    assert one.state == "half-open" and one.ready
    ticket = one.enter()
    assert one.enter() is None and not one.ready
    one.succeeded(ticket)
    assert one.state == "closed" and one.stats().failures == 0


def test_half_open_opens_again_when_the_try_fails(clock):
    one = breaker(clock, probes=2)
    fail(one, 3)
    clock.now += 5
    first, second = one.enter(), one.enter()
    one.failed(first)
    assert one.state == "open" and one.stats().opened == 2
    one.succeeded(second)  # began before: says nothing about the new state
    assert one.state == "open"


def test_a_try_that_the_caller_gave_up_lets_another_one_try(clock):
    one = breaker(clock)
    fail(one, 3)
    clock.now += 5
    one.dropped(one.enter())
    assert one.ready


def test_calls_from_before_it_opened_do_not_open_it_again(clock):
    one = breaker(clock)
    old = [one.enter() for _ in range(10)]
    fail(one, 3)
    for ticket in old:
        one.failed(ticket)
    assert one.stats().opened == 1 and one.stats().calls == 0


def test_stays_open_as_long_as_the_provider_asks(clock):
    one = breaker(clock, failures=1)
    one.failed(one.enter(), 60.0)
    clock.now += 59
    assert one.state == "open"
    clock.now += 1
    assert one.state == "half-open"


def test_fresh_has_the_numbers_and_not_the_state(clock):
    one = breaker(clock)
    fail(one, 3)
    other = one.fresh("b")
    assert other.state == "closed" and (other.failures, other.cooldown, other.name) == (3, 5, "b")


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"probes": 0}, {"rate": 1.5}, {"window": 0}, {"cooldown": -1}]
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError):
        Breaker(**wrong)
