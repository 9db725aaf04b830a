"""The survival law against what was measured, plans that hold what they promise, what is learnt."""

import math
from collections.abc import Sequence
from random import Random
from statistics import fmean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dhtmeta.const import (
    CLOSEST,
    FASTEST_DEATHS,
    FIRST_LOOK,
    LAST_LOOK,
    LOOK_DATAGRAMS,
    LOOK_SEES,
    MAX_LOSS,
    PLAN_SHARE,
    SLOWEST_DEATHS,
    SURVIVAL_SCALE,
    SURVIVAL_SHAPE,
    SURVIVAL_SHAPES,
    TOP_UP_DATAGRAMS,
)
from dhtmeta.engine.survival import Law, Mortality, Plan, plan

HOUR, DAY = 3600.0, 86_400.0
steady = settings(deadline=None)
ROUNDING = 1 + 1e-9
AGES = st.lists(st.floats(0, 30 * DAY), max_size=CLOSEST)
LACKING = st.integers(0, CLOSEST)
LAWS = st.builds(Law, st.floats(SLOWEST_DEATHS, FASTEST_DEATHS), st.sampled_from(SURVIVAL_SHAPES))
LOSSES = st.floats(1e-9, 0.5)


def loss(ages: Sequence[float], seconds: float, law: Law) -> float:
    """Return the chance that copies of these ages are all dead after so many seconds more."""
    return math.prod(1 - math.exp(-law.risk(age, seconds)) for age in ages)


def mean_loss(ages: list[float], seconds: float, law: Law) -> float:
    """Return the mean of that over the time until then, finely integrated."""
    steps = 64
    return fmean(loss(ages, seconds * (i + 0.5) / steps, law) for i in range(steps))


def cost(chosen: Plan) -> float:
    """Return the datagrams a second that a plan takes."""
    return (LOOK_DATAGRAMS + TOP_UP_DATAGRAMS * chosen.copies) / chosen.seconds


# the law


def test_as_many_copies_live_as_were_measured_on_mainline() -> None:
    assert 0.40 <= math.exp(-Law().risk(0, DAY)) <= 0.46
    assert 0.25 <= math.exp(-Law().risk(0, 2 * DAY)) <= 0.29
    assert math.exp(-Law().risk(0, 18 * HOUR)) == pytest.approx(0.5, abs=0.02)
    assert 1 - loss([0.0] * 20, 2 * DAY, Law()) == pytest.approx(0.9964, abs=0.0021)


def test_what_has_lived_for_long_lives_longer() -> None:
    risks = [Law().risk(age, DAY) for age in (0, HOUR, DAY, 10 * DAY)]
    assert risks == sorted(risks, reverse=True)
    assert risks[0] > 3 * risks[-1]


@steady
@given(LAWS, st.floats(0, 9 * DAY), st.floats(0, DAY), st.floats(0, DAY))
def test_risks_of_times_that_follow_each_other_add_up(
    law: Law, age: float, first: float, then: float
) -> None:
    in_two = law.risk(age, first) + law.risk(age + first, then)
    assert law.risk(age, first + then) == pytest.approx(in_two, abs=1e-9)


@steady
@given(st.floats(0.1, 9), st.floats(0, 9 * DAY), st.floats(0, DAY))
def test_a_speed_is_the_same_as_a_clock_that_runs_so_much_faster(
    speed: float, age: float, seconds: float
) -> None:
    faster = Law(speed).risk(age, seconds)
    assert faster == pytest.approx(Law().risk(speed * age, speed * seconds), abs=1e-9)


def test_what_a_jumping_clock_makes_negative_counts_as_nothing() -> None:
    assert Law().risk(-DAY, HOUR) == Law().risk(0, HOUR)
    assert Law().risk(DAY, -HOUR) == Law().risk(0, 0) == 0


# plans


@steady
@given(AGES, LACKING, LAWS, LOSSES)
def test_a_plan_never_risks_more_than_it_may_by_its_own_law(
    ages: list[float], lacking: int, law: Law, max_loss: float
) -> None:
    chosen = plan(ages, lacking, law, max_loss)
    assert 0 <= chosen.copies <= lacking
    assert FIRST_LOOK <= chosen.seconds <= LAST_LOOK * ROUNDING
    risked = mean_loss([*ages, *[0.0] * chosen.copies], chosen.seconds, law)
    assert risked <= max_loss * ROUNDING or chosen == Plan(lacking, FIRST_LOOK)


@steady
@given(AGES, LACKING, LAWS, LOSSES)
def test_where_nothing_is_safe_all_get_it_and_are_soon_looked_at(
    ages: list[float], lacking: int, law: Law, max_loss: float
) -> None:
    assume(mean_loss([*ages, *[0.0] * lacking], FIRST_LOOK, law) > max_loss * ROUNDING)
    assert plan(ages, lacking, law, max_loss) == Plan(lacking, FIRST_LOOK)


@steady
@given(AGES, LACKING, LAWS, LOSSES)
def test_no_copy_fewer_would_do_until_then(
    ages: list[float], lacking: int, law: Law, max_loss: float
) -> None:
    chosen = plan(ages, lacking, law, max_loss)
    assume(chosen.copies and chosen != Plan(lacking, FIRST_LOOK))
    fewer = [*ages, *[0.0] * (chosen.copies - 1)]
    assert loss(fewer, chosen.seconds, law) * ROUNDING > PLAN_SHARE * max_loss


@steady
@given(AGES, LACKING, LAWS, LOSSES)
def test_what_is_easier_is_never_dearer(
    ages: list[float], lacking: int, law: Law, max_loss: float
) -> None:
    chosen = plan(ages, lacking, law, max_loss)
    assume(chosen.copies < lacking or chosen.seconds > FIRST_LOOK)
    for easier in (
        plan([*ages, 0.0], lacking, law, max_loss),
        plan([age + DAY for age in ages], lacking, law, max_loss),
        plan(ages, lacking + 1, law, max_loss),
        plan(ages, lacking, Law(law.speed / 2, law.shape), max_loss),
        plan(ages, lacking, law, 2 * max_loss),
    ):
        assert cost(easier) <= cost(chosen) * ROUNDING


def test_a_full_house_by_the_law_of_the_facts_is_left_alone_for_hours() -> None:
    full = plan([0.0] * CLOSEST, 0, Law(), MAX_LOSS)
    assert full.copies == 0
    assert 6 * HOUR < full.seconds < DAY
    nobody = plan([], CLOSEST, Law(), MAX_LOSS)
    assert nobody.copies == CLOSEST
    assert nobody.seconds == full.seconds


# what is learnt

Fate = tuple[float, float]


def looks(random: Random, speed: float, count: int, apart: float = 6 * HOUR) -> Mortality:
    """Return what is believed after so many looks at 8 copies that die at a speed."""
    mortality = Mortality()
    see(mortality, random, speed, count, apart)
    return mortality


def see(mortality: Mortality, random: Random, speed: float, count: int, apart: float) -> None:
    ages = [0.0] * CLOSEST
    for _ in range(count):
        fates = [(age, apart) for age in ages]
        alive = [random.random() < math.exp(-Law(speed).risk(*fate)) for fate in fates]
        seen = [one and random.random() < LOOK_SEES for one in alive]
        lived = [fate for fate, one in zip(fates, seen, strict=True) if one]
        died = [fate for fate, one in zip(fates, seen, strict=True) if not one]
        mortality.learn(lived, died)
        ages = [age + apart if one else 0.0 for age, one in zip(ages, seen, strict=True)]


def test_before_the_first_look_much_is_feared() -> None:
    law = Mortality().law()
    assert law.shape == SURVIVAL_SHAPE
    assert 2 < law.speed < 3.5


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0, 10.0])
def test_a_speed_is_learnt_from_those_who_died(speed: float) -> None:
    law = looks(Random(1), speed, 1500, 6 * HOUR / speed).law()
    assert speed / 1.5 < law.speed < speed * 1.5
    assert law.shape == pytest.approx(SURVIVAL_SHAPE, abs=0.11)


def test_a_few_looks_are_enough_to_be_careful() -> None:
    before = Mortality().law().speed
    assert looks(Random(1), 10.0, 5).law().speed > 1.5 * before


def test_what_was_learnt_fades_when_times_get_better() -> None:
    random = Random(1)
    mortality = looks(random, 10.0, 3000, HOUR)
    assert mortality.law().speed > 8
    see(mortality, random, 1.0, 3000, 6 * HOUR)
    assert mortality.law().speed < 2  # 2.8, if nothing faded


def test_if_all_die_or_all_live_it_ends_at_the_bounds() -> None:
    dying, living = Mortality(), Mortality()
    for _ in range(300):
        dying.learn([], [(0.0, 60.0)] * CLOSEST)
        living.learn([(0.0, 4 * DAY)] * CLOSEST, [])
    assert dying.law().speed == pytest.approx(FASTEST_DEATHS)
    assert living.law().speed == pytest.approx(SLOWEST_DEATHS)


ODD = st.sampled_from([0.0, 1e-300, 1.0, DAY, 1e300, -1.0, -1e300])
FATES = st.lists(st.tuples(ODD, ODD), max_size=CLOSEST)


@steady
@given(st.lists(st.tuples(FATES, FATES), max_size=5))
def test_nothing_odd_makes_it_raise_or_leave_the_bounds(
    seen: list[tuple[list[Fate], list[Fate]]],
) -> None:
    mortality = Mortality()
    for lived, died in seen:
        mortality.learn(lived, died)
    law = mortality.law()
    assert SLOWEST_DEATHS <= law.speed <= FASTEST_DEATHS * ROUNDING
    assert law.shape in SURVIVAL_SHAPES


@steady
@given(st.lists(ODD, max_size=CLOSEST), LACKING, LAWS)
def test_ages_of_a_jumping_clock_are_planned_for(ages: list[float], lacking: int, law: Law) -> None:
    assert plan(ages, lacking, law, MAX_LOSS).seconds >= FIRST_LOOK


def test_the_scale_is_the_time_after_which_one_in_e_is_alive() -> None:
    assert Law().risk(0, SURVIVAL_SCALE) == pytest.approx(1)
