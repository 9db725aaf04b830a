"""What is remembered, for how long, and what is never believed: on a clock that the test moves."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.const import CACHE_STALE_FOR, CACHE_TTL, NEGATIVE_TTL
from dhtmeta.engine.cache import Cached, Kind, RecordCache
from dhtmeta.store.store import MEMORY, Store, StoredItem
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord

NOW = 1_800_000_000.0
IDENTITY = Identity.generate()
TARGET = IDENTITY.peer_id


def signed(value: bytes, seq: int) -> SignedItem:
    return SignedItem.sign(IDENTITY, encode_value(value), seq)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Store]:
    opened = await Store.open(MEMORY, lambda: NOW)
    yield opened
    await opened.close()


@pytest.fixture
def cache(store: Store) -> RecordCache:
    return RecordCache(store, seed=1)


async def test_a_record_is_fresh_then_stale_then_gone(cache: RecordCache) -> None:
    item = signed(b"x", 1)
    cache.learn(TARGET, item, NOW)
    edges = [
        (NOW, True, True),
        (NOW + CACHE_TTL - 0.001, True, True),
        (NOW + CACHE_TTL, False, True),
        (NOW + CACHE_TTL + CACHE_STALE_FOR - 0.001, False, True),
        (NOW + CACHE_TTL + CACHE_STALE_FOR, False, False),
    ]
    for now, fresh, usable in edges:
        assert (cache.fresh(TARGET, now) is not None) is fresh
        assert (cache.usable(TARGET, now) is not None) is usable
    assert (cache.counters["hits"], cache.counters["stale"], cache.counters["misses"]) == (2, 2, 1)


async def test_it_never_goes_back_in_seq(cache: RecordCache) -> None:
    cache.learn(TARGET, signed(b"new", 9), NOW)
    assert cache.learn(TARGET, signed(b"old", 8), NOW) is None
    held = cache.fresh(TARGET, NOW)
    assert held is not None
    assert held.item.seq == 9
    far = NOW + 10 * CACHE_TTL
    assert cache.fresh(TARGET, far) is None
    assert cache.learn(TARGET, signed(b"old", 8), far) is None
    assert cache.floor(TARGET) == 9


async def test_of_two_values_with_one_seq_the_held_one_stays_and_it_is_reported(
    cache: RecordCache, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = signed(b"zzz", 3), signed(b"aaa", 3)
    cache.learn(TARGET, first, NOW)
    held = cache.learn(TARGET, second, NOW + 1)
    assert held is not None
    assert held.item == first
    assert "two values under seq 3" in caplog.text


async def test_not_found_is_believed_for_a_while(cache: RecordCache) -> None:
    cache.note_missing(TARGET, NOW)
    assert cache.missing_for(TARGET, NOW + 4) == 4
    assert cache.missing_for(TARGET, NOW + NEGATIVE_TTL) is None
    cache.note_missing(TARGET, NOW)
    cache.learn(TARGET, signed(b"x", 1), NOW)
    assert cache.missing_for(TARGET, NOW) is None


async def test_what_we_published_ourselves_replaces_what_was_held(cache: RecordCache) -> None:
    cache.learn(TARGET, signed(b"old", 1), NOW)
    cache.forget(TARGET)
    cache.raise_floor(TARGET, 2, NOW)
    assert cache.usable(TARGET, NOW) is None
    assert cache.learn(TARGET, signed(b"old", 1), NOW) is None


async def test_rows_of_the_store_are_verified_when_first_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    item = signed(b"stored", 2)
    first = await Store.open(str(path), lambda: NOW)
    RecordCache(first, seed=1).learn(TARGET, item, NOW)
    await first.close()
    second = await Store.open(str(path), lambda: NOW + 100)
    cache = RecordCache(second, seed=1)
    held = cache.fresh(TARGET, NOW + 100)
    await second.close()
    assert held is not None
    assert (held.item, held.fetched_at, held.from_store) == (item, NOW, True)
    assert cache.fresh(TARGET, NOW + CACHE_TTL) is None


async def test_a_damaged_row_is_dropped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "store.db"
    first = await Store.open(str(path), lambda: NOW)
    RecordCache(first, seed=1).learn(TARGET, signed(b"stored", 2), NOW)
    await first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("update metadata_cache set v = '6:forged'")
    connection.close()
    second = await Store.open(str(path), lambda: NOW)
    cache = RecordCache(second, seed=1)
    assert cache.fresh(TARGET, NOW) is None
    await second.close()
    third = await Store.open(str(path), lambda: NOW)
    await third.close()
    assert "damaged row" in caplog.text
    assert third.items == {}


async def test_a_stored_row_below_the_floor_is_not_believed(store: Store) -> None:
    old = signed(b"old", 1)
    store.items[TARGET] = _row(old)
    store.floors[TARGET] = 2
    assert RecordCache(store, seed=1).fresh(TARGET, NOW) is None


def _row(item: SignedItem) -> StoredItem:
    return StoredItem(item.public_key, item.salt, item.seq, item.v, item.sig, NOW)


async def test_an_unchanged_item_is_not_written_again_and_again(
    cache: RecordCache, store: Store
) -> None:
    item = signed(b"same", 1)
    for i in range(5):
        cache.learn(TARGET, item, NOW + i)
    await store.flush()
    async with store.begin() as connection:
        rows = await connection.exec_driver_sql("select fetched_at from metadata_cache")
        assert rows.scalars().all() == [NOW]
    cache.learn(TARGET, item, NOW + CACHE_TTL / 10)
    await store.flush()
    async with store.begin() as connection:
        rows = await connection.exec_driver_sql("select fetched_at from metadata_cache")
        assert rows.scalars().all() == [NOW + CACHE_TTL / 10]


def record(seq: int, timestamp: int, port: int = 1) -> SignedItem:
    info = NetworkInfo(node_type="public", public_ip="192.0.2.1", public_port=port)
    whole = NodeRecord(network_info=info).completed(IDENTITY.public_key, timestamp)
    return SignedItem.sign(IDENTITY, encode_value(whole.to_value()), seq)


def fresh_for(cached: Cached | None) -> float:
    assert cached is not None
    return cached.fresh_until - cached.fetched_at


async def test_a_change_that_only_a_look_showed_makes_the_next_look_come_sooner(
    cache: RecordCache,
) -> None:
    first = fresh_for(cache.learn(TARGET, signed(b"one", 1), NOW))
    same = fresh_for(cache.learn(TARGET, signed(b"one", 1), NOW + 300))
    changed = fresh_for(cache.learn(TARGET, signed(b"two", 2), NOW + 600))
    assert first == pytest.approx(CACHE_TTL)
    assert changed < first < same
    assert cache.fresh(TARGET, NOW + 600 + changed - 1) is not None
    assert cache.fresh(TARGET, NOW + 600 + changed) is None


async def test_a_change_that_others_told_us_of_was_not_missed(cache: RecordCache) -> None:
    cache.learn(TARGET, signed(b"one", 1), NOW)
    told = fresh_for(cache.learn(TARGET, signed(b"two", 2), NOW + 300, "exchange"))
    assert told > CACHE_TTL


async def test_a_record_that_was_only_signed_anew_has_not_changed(store: Store) -> None:
    lifetimes = []
    for second in (record(2, int(NOW)), record(2, int(NOW), port=2)):
        cache = RecordCache(store, seed=1)
        store.floors.clear()
        cache.learn(TARGET, record(1, int(NOW) - 3600), NOW)
        lifetimes.append(fresh_for(cache.learn(TARGET, second, NOW + 300)))
    assert lifetimes[0] > lifetimes[1]


async def test_an_old_record_is_looked_at_less_often_than_a_new_one(cache: RecordCache) -> None:
    other = Identity.generate()
    info = NetworkInfo(node_type="private")
    new = NodeRecord(network_info=info).completed(other.public_key, int(NOW))
    item = SignedItem.sign(other, encode_value(new.to_value()), 1)
    old = cache.learn(TARGET, record(1, int(NOW) - 86_400), NOW)
    assert fresh_for(old) > 2 * fresh_for(cache.learn(other.peer_id, item, NOW))


async def test_without_learning_every_record_has_the_lifetime_of_the_settings(
    store: Store,
) -> None:
    cache = RecordCache(store, seed=1, ttl=60.0, learn=False)
    assert fresh_for(cache.learn(TARGET, record(1, int(NOW) - 86_400), NOW)) == 60.0
    assert fresh_for(cache.learn(TARGET, record(2, int(NOW), port=2), NOW + 50)) == 60.0


async def test_who_was_renewed_once_is_taken_for_one_who_was_renewed_before(
    cache: RecordCache,
) -> None:
    cache.learn(TARGET, record(1, int(NOW) - 3600), NOW)
    anew = fresh_for(cache.learn(TARGET, record(2, int(NOW) + 100), NOW + 300))
    same = RecordCache(cache._store, seed=2)
    cache._store.floors.clear()
    same.learn(TARGET, record(1, int(NOW) - 3600), NOW)
    assert anew > fresh_for(same.learn(TARGET, record(1, int(NOW) - 3600), NOW + 300))


async def test_what_a_first_lookup_meets_on_its_way_is_no_change(cache: RecordCache) -> None:
    cache.learn(TARGET, signed(b"old", 1), NOW, first=True)
    found = cache.learn(TARGET, signed(b"new", 9), NOW + 1, first=True)
    assert fresh_for(found) == pytest.approx(CACHE_TTL)


async def test_a_seq_that_is_a_time_counts_as_one_change(cache: RecordCache) -> None:
    other = Identity.generate()
    lifetimes = []
    for identity, step in ((IDENTITY, 1), (other, 1_000_000)):
        for number in range(2):
            v = encode_value(b"v%d" % number)
            item = SignedItem.sign(identity, v, 1 + number * step)
            cached = cache.learn(item.target, item, NOW + 300 * number)
        lifetimes.append(fresh_for(cached))
    assert lifetimes[0] == lifetimes[1]


async def test_to_be_told_the_same_again_keeps_nothing_fresh(cache: RecordCache) -> None:
    first = cache.learn(TARGET, signed(b"x", 1), NOW)
    for source in ("exchange", "registry"):
        assert cache.learn(TARGET, signed(b"x", 1), NOW + 200, source) is first
    assert cache.fresh(TARGET, NOW + CACHE_TTL) is None


async def test_it_is_looked_for_anew_when_it_would_be_judged_stale(store: Store) -> None:
    cache = RecordCache(store, seed=1, signed_for=7200.0)
    held = cache.learn(TARGET, record(1, int(NOW) - 7000), NOW)
    assert fresh_for(held) == 200.0
    cache = RecordCache(store, seed=1, signed_for=7200.0)
    held = cache.learn(TARGET, record(1, int(NOW) - 8000), NOW)  # nothing to look for any more
    assert fresh_for(held) > CACHE_TTL


async def test_no_floor_falls_whatever_the_clock_does(cache: RecordCache) -> None:
    cache.learn(TARGET, signed(b"new", 9), 3600.0)  # a clock that has not been set
    for number in range(5):
        other = Identity.generate()
        item = SignedItem.sign(other, encode_value(number), 1)
        cache.learn(item.target, item, NOW + number)
    for now in (NOW, 100.0, NOW + 86_400 * 365):
        assert cache.floor(TARGET) == 9
        assert cache.learn(TARGET, signed(b"old", 8), now) is None


async def test_what_all_are_gone_through_for_is_there_without_decoding(
    cache: RecordCache,
) -> None:
    kept = cache.learn(TARGET, record(1, int(NOW)), NOW)
    assert kept is not None
    assert kept.kind == Kind("", serves_others=False)
    plain = Identity.generate()
    item = SignedItem.sign(plain, encode_value(b"x"), 1)
    other = cache.learn(item.target, item, NOW)
    assert other is not None
    assert other.kind is None
