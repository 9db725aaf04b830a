"""For how long a record is believed: what is learnt of it, from what, and within which bounds."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta.const import (
    CACHE_TTL,
    CHANGES_AT_ONCE,
    LONGEST_LIFETIME,
    SHORTEST_LIFETIME,
    WATCHED_FOR,
)
from dhtmeta.engine.freshness import Habit, first_look, lifetime, looked_again

TTL = CACHE_TTL
HOUR = 3600.0


def watched(every: float, seed: int = 1, seconds: float = 8 * HOUR) -> Habit:
    """Look, whenever it is no longer fresh, at what changes by chance every so many seconds."""
    rng = Random(seed)
    habit, at, change = first_look(None, TTL), 0.0, rng.expovariate(1 / every)
    while at < seconds:
        passed, changes = lifetime(habit, TTL), 0
        at += passed
        while change < at:
            changes, change = changes + 1, change + rng.expovariate(1 / every)
        habit = looked_again(habit, passed, changes, TTL)
    return habit


def test_of_whom_nothing_is_known_the_lifetime_is_the_usual_one() -> None:
    assert lifetime(first_look(None, TTL), TTL) == pytest.approx(TTL)


def test_who_changes_more_often_is_looked_at_more_often() -> None:
    lifetimes = [lifetime(watched(every), TTL) for every in (60, 300, HOUR, 24 * HOUR)]
    assert all(one < other for one, other in pairwise(lifetimes))
    assert lifetimes[0] < TTL / 3
    assert lifetimes[-1] > 3 * TTL


def test_the_rate_is_learnt_and_the_lifetime_goes_with_its_root() -> None:
    ratios = []
    for seed in range(20):
        often, seldom = (lifetime(watched(every, seed), TTL) for every in (600.0, 2400.0))
        ratios.append(seldom / often)
    assert 1.7 < sorted(ratios)[10] < 2.3  # the root of 4


def test_who_was_signed_long_ago_starts_with_a_longer_life_than_who_was_signed_just_now() -> None:
    new, old = (lifetime(first_look(age, TTL), TTL) for age in (0.0, 24 * HOUR))
    assert new < TTL < old


def test_a_signing_in_the_future_counts_as_one_just_now() -> None:
    assert first_look(-100.0, TTL) == first_look(0.0, TTL)


def test_habits_may_change() -> None:
    habit = watched(24 * HOUR)
    before = lifetime(habit, TTL)
    for _ in range(4):
        habit = looked_again(habit, TTL, 1, TTL)
    assert lifetime(habit, TTL) < before / 1.5


def test_a_jump_in_seq_is_not_taken_for_so_many_changes() -> None:
    one, some, too_many, far = (
        looked_again(Habit(0.0, 0.0), TTL, changes, TTL).changes
        for changes in (1, CHANGES_AT_ONCE, CHANGES_AT_ONCE + 1, 2**62)
    )
    assert (one, some, too_many, far) == (1, CHANGES_AT_ONCE, 1, 1)


@given(
    st.lists(st.tuples(st.floats(0, 1e9, allow_nan=False), st.integers(0, 2**63 - 1)), max_size=30),
    st.one_of(st.none(), st.floats(-1e10, 1e10)),
    st.floats(1.0, 1e6),
)
def test_whatever_is_seen_the_lifetime_stays_within_its_bounds(
    looks: list[tuple[float, int]], age: float | None, ttl: float
) -> None:
    habit = first_look(age, ttl)
    for passed, changes in looks:
        habit = looked_again(habit, passed, changes, ttl)
        assert 0 <= habit.watched <= WATCHED_FOR * ttl * (1 + 1e-9)
    assert SHORTEST_LIFETIME * ttl <= lifetime(habit, ttl) <= LONGEST_LIFETIME * ttl
