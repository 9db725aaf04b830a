"""When records are due: spread evenly, in the order of their targets, never later than planned."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import (
    CLOSEST,
    FIRST_LOOK,
    FIRST_SPREAD,
    LAST_LOOK,
    MAX_LOSS,
    REPUBLISH_INTERVAL,
    SWEEP,
)
from dhtmeta.engine.planner import Planner
from dhtmeta.engine.survival import plan

steady = settings(deadline=None)
NOW = 1_800_000_000.0
DAY = 86_400.0
KEYS = 4000


def targets(count: int = KEYS) -> list[bytes]:
    random = Random(1)
    return [random.randbytes(20) for _ in range(count)]


def most_in_a_slice(times: list[float], begin: float, length: float, slices: int) -> int:
    counts = [0] * slices
    for time in times:
        counts[int((time - begin) / length * slices)] += 1
    return max(counts)


@steady
@given(
    st.integers(0, 99),
    st.binary(min_size=20, max_size=20),
    st.floats(FIRST_LOOK, LAST_LOOK),
    st.floats(NOW, NOW + DAY),
)
def test_no_look_comes_later_than_planned_or_more_than_a_sweep_earlier(
    seed: int, target: bytes, seconds: float, now: float
) -> None:
    due = Planner(Random(seed)).next_look(target, seconds, now)
    assert now + seconds - SWEEP <= due <= now + seconds
    assert due >= now + min(0.9 * seconds, 3 * SWEEP)


def test_one_sweep_goes_through_the_id_space_in_order_and_evenly() -> None:
    planner = Planner(Random(1))
    due = {one: planner.next_look(one, DAY, NOW) for one in targets()}
    order = sorted(due, key=lambda one: due[one])
    begin = order.index(min(order))
    assert order[begin:] + order[:begin] == sorted(order)
    assert most_in_a_slice(list(due.values()), NOW + DAY - SWEEP, SWEEP, 20) < 1.3 * KEYS / 20


def test_a_record_keeps_its_place_in_the_sweep_whenever_it_is_looked_at() -> None:
    planner, one = Planner(Random(1)), targets()[0]
    places = {
        round(planner.next_look(one, seconds, NOW + late) % SWEEP, 3)
        for seconds in (5 * SWEEP, DAY, LAST_LOOK)
        for late in (0, 17, 4000)
    }
    assert len(places) == 1


def test_two_installations_do_not_look_at_the_same_moments() -> None:
    one, other = Planner(Random(1)), Planner(Random(2))
    apart = [abs(one.next_look(t, DAY, NOW) - other.next_look(t, DAY, NOW)) for t in targets(9)]
    assert min(apart) > 10


def test_what_is_stored_in_one_hour_is_not_due_in_one_hour() -> None:
    planner = Planner(Random(1))
    seconds = plan([0.0] * CLOSEST, 0, planner.mortality.law(), MAX_LOSS).seconds
    due = [planner.first_look(one, CLOSEST, NOW) for one in targets()]
    earliest = NOW + seconds * (1 - FIRST_SPREAD) - SWEEP
    assert earliest <= min(due)
    assert max(due) <= NOW + seconds
    assert most_in_a_slice(due, earliest, NOW + seconds - earliest, 10) < KEYS / 4


def test_the_fewer_took_it_the_sooner_it_is_looked_at() -> None:
    due = [Planner(Random(1)).first_look(bytes(20), copies, NOW) for copies in (0, 2, 5, 20)]
    assert due == sorted(due)
    assert due[0] <= NOW + FIRST_LOOK
    assert due[1] < due[2]


def test_what_is_signed_anew_is_so_within_each_interval_with_jitter() -> None:
    planner = Planner(Random(1), interval=1000.0)
    due = [planner.next_publish(NOW) - NOW for _ in range(100)]
    assert min(due) >= 950
    assert max(due) <= 1000
    assert max(due) - min(due) > 40
    assert Planner(Random(1)).next_publish(NOW) > NOW + 0.9 * REPUBLISH_INTERVAL


@pytest.mark.parametrize("stricter", [1e-4, 1e-9])
def test_what_may_be_lost_can_be_changed_while_it_runs(stricter: float) -> None:
    planner = Planner(Random(1))
    before = planner.top_up([0.0] * CLOSEST, 0)
    planner.max_loss = stricter
    assert planner.top_up([0.0] * CLOSEST, 0).seconds < before.seconds


def test_what_looks_taught_changes_the_plan() -> None:
    planner = Planner(Random(1))
    before = planner.top_up([0.0] * CLOSEST, 0)
    for _ in range(100):
        planner.mortality.learn([], [(0.0, 3600.0)])
    assert planner.top_up([0.0] * CLOSEST, 0).seconds < before.seconds
