"""The rules of the TTL cache, held by the compiled class and by its plain twin alike."""

import gc
import math
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dhtmeta._fast import ttl_cache as compiled
from tests.reference import ttl_cache as twin

if TYPE_CHECKING:
    Cache = compiled.TtlCache[Any]
    CacheClass = type[compiled.TtlCache[Any]]

DAY = 86400.0


class Value:
    """Something that can be watched by a weak reference."""


class Calls:
    """A value that calls something when it is released."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __del__(self) -> None:
        self.call()


@pytest.fixture(params=["compiled", "twin"])
def cache_class(request: pytest.FixtureRequest) -> "CacheClass":
    return compiled.TtlCache if request.param == "compiled" else twin.TtlCache  # type: ignore[return-value]


@pytest.fixture
def cache(cache_class: "CacheClass") -> "Cache":
    return cache_class(100, seed=1)


@pytest.fixture
def collected() -> Iterator[None]:
    gc.collect()
    yield
    gc.collect()


def key(number: int) -> bytes:
    return number.to_bytes(20, "big")


def held(cache: "Cache", now: float = 0.0) -> set[int]:
    return {int.from_bytes(each, "big") for each, _ in cache.items(now)}


def counts(cache: "Cache") -> tuple[int, int, int]:
    return cache.hits, cache.stale, cache.misses


# Lifetimes.


def test_a_value_is_fresh_then_stale_then_expired_to_the_edge(cache: "Cache") -> None:
    cache.put(key(1), "v", 100.0, 10.0, 5.0)
    before_stale, before_expired = math.nextafter(110.0, 0.0), math.nextafter(115.0, 0.0)
    assert cache.get(key(1), 100.0) == "v"
    assert cache.get(key(1), before_stale) == "v"
    assert counts(cache) == (2, 0, 0)
    assert cache.get(key(1), 110.0) is None
    assert cache.get(key(1), before_expired) is None
    assert counts(cache) == (2, 2, 0)
    assert cache.get(key(1), 115.0) is None
    assert counts(cache) == (2, 2, 1)
    assert cache.get_stale(key(1), 100.0) == "v"
    assert cache.get_stale(key(1), 110.0) == "v"
    assert cache.get_stale(key(1), before_expired) == "v"
    assert cache.get_stale(key(1), 115.0) is None
    assert counts(cache) == (2, 2, 1)


def test_without_stale_for_a_value_is_never_stale(cache: "Cache") -> None:
    cache.put(key(1), "v", 0.0, 1.0)
    assert cache.get(key(1), 1.0) is None
    assert cache.get_stale(key(1), 1.0) is None
    assert counts(cache) == (0, 0, 1)


def test_a_missing_key_is_a_miss(cache: "Cache") -> None:
    assert cache.get(key(1), 0.0) is None
    assert cache.get_stale(key(1), 0.0) is None
    assert cache.pop(key(1)) is None
    assert counts(cache) == (0, 0, 1)


@pytest.mark.parametrize("days", [30, 365, 36500])
def test_long_lifetimes_work(cache: "Cache", days: int) -> None:
    cache.put(key(1), "v", 1e9, days * DAY)
    assert cache.get(key(1), 1e9 + days * DAY - 1) == "v"
    assert cache.get(key(1), 1e9 + days * DAY) is None
    assert cache.sweep(1e9 + days * DAY - 1, 9) == 0
    assert cache.sweep(1e9 + days * DAY, 9) == 1


def test_a_put_replaces_value_and_lifetime(cache: "Cache") -> None:
    cache.put(key(1), "old", 0.0, 100.0, 100.0)
    cache.put(key(1), "new", 1.0, 2.0)
    assert len(cache) == 1
    assert cache.get(key(1), 2.9) == "new"
    assert cache.get_stale(key(1), 3.0) is None
    cache.put(key(1), "third", 1.0, 50.0)
    assert cache.sweep(50.0, 9) == 0
    assert cache.get(key(1), 50.0) == "third"


def test_a_clock_that_goes_back_harms_nothing(cache: "Cache") -> None:
    for number in range(50):
        cache.put(key(number), number, 1000.0 - 10 * number, 5.0)
    assert cache.get(key(49), 512.0) == 49
    assert cache.get(key(0), 512.0) == 0
    assert cache.sweep(-1e9, 100) == 0
    assert cache.sweep(1e9, 100) + cache.expired >= 50
    assert len(cache) == 0


def test_negative_times_are_times(cache: "Cache") -> None:
    cache.put(key(1), "v", -10.0, 4.0)
    assert cache.get(key(1), -6.5) == "v"
    assert cache.get(key(1), -6.0) is None


# What is refused.


@pytest.mark.parametrize("length", [0, 19, 21, 40])
def test_keys_of_other_lengths_are_refused(cache: "Cache", length: int) -> None:
    wrong = bytes(length)
    with pytest.raises(ValueError, match="20 bytes"):
        cache.get(wrong, 0.0)
    with pytest.raises(ValueError, match="20 bytes"):
        cache.get_stale(wrong, 0.0)
    with pytest.raises(ValueError, match="20 bytes"):
        cache.pop(wrong)
    with pytest.raises(ValueError, match="20 bytes"):
        cache.put(wrong, "v", 0.0, 1.0)
    assert counts(cache) == (0, 0, 0)


@pytest.mark.parametrize("wrong", ["k" * 20, bytearray(20), memoryview(bytes(20)), None, 1])
def test_keys_of_other_types_are_refused(cache: "Cache", wrong: Any) -> None:
    with pytest.raises(TypeError):
        cache.get(wrong, 0.0)
    with pytest.raises(TypeError):
        cache.get_stale(wrong, 0.0)
    with pytest.raises(TypeError):
        cache.pop(wrong)
    with pytest.raises(TypeError):
        cache.put(wrong, "v", 0.0, 1.0)


@pytest.mark.parametrize("fresh_for", [0.0, -1.0, math.inf, math.nan, 1e10])
def test_impossible_fresh_lifetimes_are_refused(cache: "Cache", fresh_for: float) -> None:
    with pytest.raises(ValueError, match="fresh_for"):
        cache.put(key(1), "v", 0.0, fresh_for)
    assert len(cache) == 0


@pytest.mark.parametrize("stale_for", [-1.0, math.inf, math.nan, 1e10])
def test_impossible_stale_lifetimes_are_refused(cache: "Cache", stale_for: float) -> None:
    with pytest.raises(ValueError, match="stale_for"):
        cache.put(key(1), "v", 0.0, 1.0, stale_for)
    assert len(cache) == 0


@pytest.mark.parametrize("now", [math.inf, -math.inf, math.nan])
def test_a_put_needs_a_finite_now(cache: "Cache", now: float) -> None:
    with pytest.raises(ValueError, match="now"):
        cache.put(key(1), "v", now, 1.0)


def test_nothing_is_fresh_at_no_time(cache: "Cache") -> None:
    cache.put(key(1), "v", 0.0, 1.0)
    assert cache.get(key(1), math.nan) is None
    assert cache.get_stale(key(1), math.nan) is None
    assert cache.items(math.nan) == []
    assert cache.sweep(math.nan, 9) == 0


def test_none_is_no_value(cache: "Cache") -> None:
    with pytest.raises(ValueError, match="None"):
        cache.put(key(1), None, 0.0, 1.0)


@pytest.mark.parametrize("capacity", [0, -1, 2**31 - 1, 2**64])
def test_impossible_capacities_are_refused(cache_class: "CacheClass", capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        cache_class(capacity, seed=1)


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_impossible_seeds_are_refused(cache_class: "CacheClass", seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        cache_class(1, seed=seed)


@pytest.mark.parametrize("wrong", [1.5, "1", None])
def test_capacity_and_seed_are_ints(cache_class: "CacheClass", wrong: Any) -> None:
    with pytest.raises(TypeError):
        cache_class(wrong, seed=1)
    with pytest.raises(TypeError):
        cache_class(1, seed=wrong)


def test_a_negative_limit_is_refused(cache: "Cache") -> None:
    with pytest.raises(ValueError, match="limit"):
        cache.sweep(0.0, -1)


def test_the_counters_are_read_only() -> None:
    cache: Any = compiled.TtlCache(1, seed=1)
    for name in ("hits", "misses", "stale", "evicted", "expired", "capacity"):
        with pytest.raises(AttributeError):
            setattr(cache, name, 7)


def test_the_class_can_be_subscripted_where_annotations_run() -> None:
    assert compiled.TtlCache[int].__origin__ is compiled.TtlCache  # type: ignore[attr-defined]


# Removal.


def test_pop_gives_the_value_even_when_expired(cache: "Cache") -> None:
    cache.put(key(1), "v", 0.0, 1.0)
    assert cache.pop(key(1)) == "v"
    assert cache.pop(key(1)) is None
    assert len(cache) == 0
    assert cache.get(key(1), 0.5) is None


def test_clear_leaves_the_counters_and_a_usable_cache(cache: "Cache") -> None:
    for number in range(100):
        cache.put(key(number), number, 0.0, 1.0)
    cache.get(key(1), 0.0)
    cache.clear()
    assert len(cache) == 0
    assert cache.hits == 1
    assert cache.items(0.0) == []
    for number in range(200):
        cache.put(key(number), number, 0.0, 1.0)
    assert held(cache) == set(range(100, 200))


def test_after_clear_the_oldest_goes_first_again(cache_class: "CacheClass") -> None:
    cache = cache_class(4, seed=1)
    for number in range(6):
        cache.put(key(number), number, 0.0, 1.0)
    cache.clear()
    for number in range(10, 15):
        cache.put(key(number), number, 0.0, 1.0)
    assert held(cache) == {11, 12, 13, 14}


def test_sweep_removes_the_expired_up_to_the_limit(cache: "Cache") -> None:
    for number in range(10):
        cache.put(key(number), number, 0.0, 10.0 - number)
    cache.put(key(99), "long", 0.0, 100.0)
    assert cache.sweep(0.5, 100) == 0
    assert cache.sweep(20.0, 0) == 0
    assert cache.sweep(20.0, 4) == 4
    assert held(cache) == {0, 1, 2, 3, 4, 5, 99}
    assert cache.sweep(20.0, 100) == 6
    assert held(cache) == {99}
    assert cache.expired == 10


def test_items_are_those_that_are_not_expired(cache: "Cache") -> None:
    cache.put(key(1), "fresh", 0.0, 10.0)
    cache.put(key(2), "stale", 0.0, 1.0, 9.0)
    cache.put(key(3), "gone", 0.0, 2.0)
    assert sorted(cache.items(5.0)) == [(key(1), "fresh"), (key(2), "stale")]
    assert len(cache) == 3


def test_each_put_removes_a_few_of_the_expired(cache: "Cache") -> None:
    for number in range(50):
        cache.put(key(number), number, 0.0, 1.0)
    cache.put(key(100), "v", 2.0, 1.0)
    assert len(cache) == 49
    assert cache.expired == 2


# Room.


def test_capacity_one(cache_class: "CacheClass") -> None:
    cache = cache_class(1, seed=1)
    for number in range(20):
        cache.put(key(number), number, 0.0, 10.0)
        assert cache.get(key(number), 1.0) == number
        assert len(cache) == 1
    assert cache.evicted == 19


def test_the_capacity_is_never_exceeded_and_always_reached(cache: "Cache") -> None:
    for number in range(1000):
        cache.put(key(number), number, 0.0, 10.0)
        assert len(cache) == min(number + 1, 100)
    assert cache.evicted == 900
    assert held(cache) == set(range(900, 1000))


@pytest.mark.parametrize("method", ["get", "get_stale"])
def test_what_is_used_stays(cache: "Cache", method: str) -> None:
    for number in range(1000):
        cache.put(key(number), number, 0.0, 10.0)
        for often in range(min(number + 1, 20)):
            assert getattr(cache, method)(key(often), 1.0) == often


def test_what_is_put_anew_stays(cache: "Cache") -> None:
    for number in range(1000):
        cache.put(key(number), number, 0.0, 10.0)
        cache.put(key(0), 0, 0.0, 10.0)
    assert cache.get(key(0), 1.0) == 0


def test_what_was_asked_for_in_vain_has_no_second_chance(cache_class: "CacheClass") -> None:
    cache = cache_class(3, seed=1)
    cache.put(key(0), 0, 0.0, 1.0, 100.0)
    cache.put(key(1), 1, 0.0, 10.0)
    cache.put(key(2), 2, 0.0, 10.0)
    assert cache.get(key(0), 5.0) is None
    cache.put(key(3), 3, 5.0, 10.0)
    assert held(cache, 5.0) == {1, 2, 3}


def test_a_second_chance_is_one_chance(cache_class: "CacheClass") -> None:
    cache = cache_class(4, seed=1)
    for number in range(4):
        cache.put(key(number), number, 0.0, 10.0)
        cache.get(key(number), 1.0)
    for number in range(4, 8):
        cache.put(key(number), number, 0.0, 10.0)
    assert held(cache) == {4, 5, 6, 7}


def test_expired_ones_go_before_live_ones(cache: "Cache") -> None:
    for number in range(99):
        cache.put(key(number), number, 0.0, 100.0)
    cache.put(key(99), "short", 0.0, 1.0)
    cache.get(key(99), 0.5)
    cache.put(key(100), "v", 1.0, 100.0)
    assert held(cache, 1.0) == {*range(99), 100}
    assert (cache.evicted, cache.expired) == (0, 1)


# Keys.


def test_keys_that_differ_at_the_end_or_the_start_only(cache_class: "CacheClass") -> None:
    cache = cache_class(4000, seed=3)
    keys = [bytes(16) + n.to_bytes(4, "big") for n in range(2000)]
    keys += [n.to_bytes(4, "big") + bytes(16) for n in range(1, 2000)]
    for each in keys:
        cache.put(each, each, 0.0, 1.0)
    assert [cache.get(each, 0.0) for each in keys] == keys
    for each in keys[::2]:
        assert cache.pop(each) == each
    assert [cache.get(each, 0.0) for each in keys[1::2]] == keys[1::2]
    assert not any(cache.get(each, 0.0) for each in keys[::2])


def test_keys_whose_hashes_collide() -> None:
    count = 300_000  # among so many, about ten pairs are equal in the 32 bits that the index keeps
    cache: Cache = compiled.TtlCache(count, seed=3)
    for number in range(count):
        cache.put(key(number), number, 0.0, 1.0)
    assert len(cache) == count
    assert all(cache.get(key(number), 0.0) == number for number in range(count))
    assert not any(cache.get(key(number), 0.0) for number in range(count, count + 1000))


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, 2**64, 2**128 - 1])
def test_the_answers_do_not_depend_on_the_seed(cache_class: "CacheClass", seed: int) -> None:
    cache = cache_class(64, seed=seed)
    for number in range(200):
        cache.put(key(number), number, 0.0, 10.0)
        cache.get(key(number // 2), 1.0)
    same = cache_class(64, seed=7)
    for number in range(200):
        same.put(key(number), number, 0.0, 10.0)
        same.get(key(number // 2), 1.0)
    assert cache.items(1.0) == same.items(1.0)


# References.


def test_references_come_back(cache_class: "CacheClass") -> None:
    cache = cache_class(2, seed=1)
    value = Value()
    before = sys.getrefcount(value)
    cache.put(key(1), value, 0.0, 1.0)
    assert sys.getrefcount(value) == before + 1
    assert cache.get(key(1), 0.0) is value
    assert cache.get_stale(key(1), 0.0) is value
    assert cache.items(0.0)[0][1] is value
    assert sys.getrefcount(value) == before + 1
    cache.put(key(1), value, 0.0, 1.0)
    assert sys.getrefcount(value) == before + 1
    cache.put(key(1), "other", 0.0, 1.0)
    assert sys.getrefcount(value) == before


@pytest.mark.parametrize("how", ["pop", "clear", "sweep", "put", "evict", "delete"])
def test_every_way_out_releases_the_value(
    cache_class: "CacheClass", how: str, collected: None
) -> None:
    cache = cache_class(1, seed=1)
    value = Value()
    watch = weakref.ref(value)
    cache.put(key(1), value, 0.0, 1.0)
    del value
    assert watch() is not None
    if how == "pop":
        cache.pop(key(1))
    elif how == "clear":
        cache.clear()
    elif how == "sweep":
        cache.sweep(1.0, 1)
    elif how == "put":
        cache.put(key(2), "v", 1.0, 1.0)
    elif how == "evict":
        cache.put(key(2), "v", 0.0, 1.0)
    else:
        del cache
    assert watch() is None


def test_a_refused_put_keeps_no_reference(cache: "Cache") -> None:
    value = Value()
    before = sys.getrefcount(value)
    with pytest.raises(ValueError, match="fresh_for"):
        cache.put(key(1), value, 0.0, -1.0)
    assert sys.getrefcount(value) == before


def test_a_cycle_through_the_cache_is_collected(cache_class: "CacheClass", collected: None) -> None:
    cache = cache_class(10, seed=1)
    value = Value()
    watch = weakref.ref(value)
    cache.put(key(1), (value, [cache]), 0.0, 1.0)
    cache.put(key(2), "no container", 0.0, 1.0)
    del cache, value
    assert watch() is not None
    gc.collect()
    assert watch() is None


def test_a_cycle_that_only_the_cache_can_break_is_collected(
    cache_class: "CacheClass", collected: None
) -> None:
    cache = cache_class(10, seed=1)
    outside = Value()  # what the cycle holds; a weak reference into the cycle would die too early
    before = sys.getrefcount(outside)
    cache.put(key(1), (cache, outside), 0.0, 1.0)  # a tuple cannot let go of what it holds
    del cache
    assert sys.getrefcount(outside) == before + 1
    gc.collect()
    assert sys.getrefcount(outside) == before


def test_a_collection_leaves_what_is_in_use(cache: "Cache", collected: None) -> None:
    for number in range(100):
        cache.put(key(number), [number, cache], 0.0, 1.0)
    gc.collect()
    assert [value[0] for _, value in sorted(cache.items(0.0))] == list(range(100))
    cache.clear()


def test_the_collector_sees_every_container_once() -> None:
    cache: Any = compiled.TtlCache(10, seed=1)
    values = [[number] for number in range(10)]
    cache.put(key(50), "gone", 0.0, 1.0)
    for number, value in enumerate(values):
        cache.put(key(number), value, 1.0, 1.0)
    seen = [each for each in gc.get_referents(cache) if isinstance(each, list)]
    assert sorted(seen) == values
    cache.put(key(60), "next", 2.0, 1.0)
    seen = [each for each in gc.get_referents(cache) if isinstance(each, list)]
    assert sorted(seen) == values[2:]


@pytest.mark.parametrize("how", ["pop", "clear", "sweep", "put", "evict"])
def test_a_value_may_use_the_cache_while_it_is_released(
    cache_class: "CacheClass", how: str
) -> None:
    cache = cache_class(4, seed=1)
    lengths: list[int] = []

    def call() -> None:
        lengths.append(len(cache))
        for number in range(20, 26):
            cache.put(key(number), number, 5.0, 10.0)
        cache.pop(key(21))
        cache.sweep(5.0, 1)
        cache.items(5.0)

    for number in range(4):
        cache.put(key(number), Calls(call), 0.0, 1.0)
    ways: dict[str, Callable[[], object]] = {
        "pop": lambda: cache.pop(key(1)),
        "clear": cache.clear,
        "sweep": lambda: cache.sweep(5.0, 3),
        "put": lambda: cache.put(key(9), "v", 5.0, 10.0),
        "evict": lambda: cache.put(key(9), "v", 0.0, 10.0),
    }
    ways[how]()
    assert len(lengths) == 4
    assert all(length <= 4 for length in lengths)
    cache.clear()
    assert len(cache) == 0
    for number in range(30):
        cache.put(key(number), number, 6.0, 1.0)
    assert held(cache, 6.0) == {26, 27, 28, 29}


def test_a_replaced_value_may_clear_the_cache(cache: "Cache") -> None:
    cache.put(key(1), Calls(cache.clear), 0.0, 1.0)
    cache.put(key(1), "new", 0.0, 1.0)
    assert len(cache) == 0
    cache.put(key(1), "newer", 0.0, 1.0)
    assert cache.get(key(1), 0.0) == "newer"


# The compiled cache, the twin and a model, step by step.


class Model:
    """Only what the contract says without regard to room: key -> (value, fresh_until, deadline)."""

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[int, float, float]] = {}

    def get(self, each: bytes, now: float) -> int | None:
        value, fresh_until, _ = self.held.get(each, (None, 0.0, 0.0))
        return value if now < fresh_until else None

    def get_stale(self, each: bytes, now: float) -> int | None:
        value, _, deadline = self.held.get(each, (None, 0.0, 0.0))
        return value if now < deadline else None


keys = st.one_of(st.integers(0, 11), st.integers(0, 40)).map(key)
lifetimes = st.sampled_from([0.5, 1.0, 2.0, 7.0, 60.0, 30 * DAY])
jumps = st.sampled_from([0.0, 0.5, 1.0, 3.0, 100.0, 40 * DAY, -1.0, -100.0])


class Together(RuleBasedStateMachine):
    @initialize(capacity=st.sampled_from([1, 2, 3, 8, 20]), seed=st.integers(0, 2**128 - 1))
    def make(self, capacity: int, seed: int) -> None:
        self.fast: Cache = compiled.TtlCache(capacity, seed=seed)
        self.plain: twin.TtlCache[Any] = twin.TtlCache(capacity, seed=seed)
        self.model = Model()
        self.now = 1000.0
        self.puts = self.gets = 0

    @rule(jump=jumps)
    def time_passes(self, jump: float) -> None:
        self.now += jump

    @rule(each=keys, fresh_for=lifetimes, stale_for=st.one_of(st.just(0.0), lifetimes))
    def put(self, each: bytes, fresh_for: float, stale_for: float) -> None:
        self.puts += 1
        for cache in (self.fast, self.plain):
            cache.put(each, self.puts, self.now, fresh_for, stale_for)
        fresh_until = self.now + fresh_for
        self.model.held[each] = (self.puts, fresh_until, fresh_until + stale_for)
        assert self.fast.get_stale(each, self.now) == self.puts
        assert self.plain.get_stale(each, self.now) == self.puts

    @rule(each=keys)
    def get(self, each: bytes) -> None:
        self.gets += 1
        answer = self.fast.get(each, self.now)
        assert answer == self.plain.get(each, self.now)
        assert answer in (None, self.model.get(each, self.now))

    @rule(each=keys)
    def get_stale(self, each: bytes) -> None:
        answer = self.fast.get_stale(each, self.now)
        assert answer == self.plain.get_stale(each, self.now)
        assert answer in (None, self.model.get_stale(each, self.now))

    @rule(each=keys)
    def pop(self, each: bytes) -> None:
        assert self.fast.pop(each) == self.plain.pop(each)
        self.model.held.pop(each, None)

    @rule(limit=st.integers(0, 5))
    def sweep(self, limit: int) -> None:
        assert self.fast.sweep(self.now, limit) == self.plain.sweep(self.now, limit)

    @precondition(lambda self: self.puts % 5 == 0)
    @rule()
    def clear(self) -> None:
        self.fast.clear()
        self.plain.clear()
        self.model.held.clear()

    @invariant()
    def equal(self) -> None:
        fast, plain = self.fast, self.plain
        assert len(fast) == len(plain) <= fast.capacity
        assert fast.items(self.now) == plain.items(self.now)
        assert counts(fast) == (plain.hits, plain.stale, plain.misses)
        assert (fast.evicted, fast.expired) == (plain.evicted, plain.expired)
        assert fast.hits + fast.stale + fast.misses == self.gets
        for each, value in fast.items(self.now):
            assert value == self.model.get_stale(each, self.now)


Together.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestTogether = Together.TestCase


@pytest.mark.parametrize("seed", range(25))
def test_long_runs_of_a_larger_cache_agree(seed: int) -> None:
    randomness = random.Random(seed)
    fast: Cache = compiled.TtlCache(60, seed=seed)
    plain: twin.TtlCache[Any] = twin.TtlCache(60, seed=seed)
    now = 0.0
    for step in range(800):
        now += randomness.choice([0.0, 0.01, 0.1, -0.05])
        each = key(randomness.randrange(120))
        choice = randomness.random()
        fresh_for, stale_for = randomness.choice([1.0, 5.0, 9.0]), randomness.choice([0.0, 3.0])
        if choice < 0.5:
            fast.put(each, step, now, fresh_for, stale_for)
            plain.put(each, step, now, fresh_for, stale_for)
        elif choice < 0.9:
            assert fast.get(each, now) == plain.get(each, now)
        else:
            assert fast.pop(each) == plain.pop(each)
        assert len(fast) == len(plain)
    assert fast.items(now) == plain.items(now)
    assert (fast.evicted, fast.expired) == (plain.evicted, plain.expired)
