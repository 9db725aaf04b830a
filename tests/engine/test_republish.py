"""The republisher: on virtual time its order, its patience and what it survives; on real swarms
who is signed anew, and what each carrier can keep.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.const import (
    CLOSEST,
    DUE_AHEAD,
    IDLE_POLL,
    KEPT_AT_ONCE,
    REPUBLISH_INTERVAL,
    RETRY_FIRST,
    RETRY_LAST,
    STORE_RETRY,
)
from dhtmeta.dht.carrier import KeepOutcome
from dhtmeta.engine import republish as module
from dhtmeta.engine.resolve import Policy
from dhtmeta.errors import (
    CallerError,
    DeadlineExceeded,
    KeyFileError,
    NetworkUnreachable,
    StoreError,
)
from dhtmeta.node import Node
from dhtmeta.store.due import DuePage
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.tables import NEVER
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.payload import payload
from dhtmeta.values.record import NodeRecord
from tests.conftest import Clock, make_node
from tests.engine.keeping import rooms, running, signed, small_net

HOUR, DAY = 3600.0, 86_400.0
MINE, NEWER = signed(5, b"mine"), signed(9, b"newer")


def now() -> float:
    return asyncio.get_running_loop().time()


@contextlib.contextmanager
def broken(path: Path) -> Iterator[None]:
    """Have every change of a row of the ledger fail, as on a full disk."""
    failing = "BEGIN SELECT RAISE(FAIL, 'no room'); END"
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute(f"CREATE TRIGGER full BEFORE UPDATE ON ledger {failing}")
        store.commit()
        yield
        store.execute("DROP TRIGGER full")
        store.commit()


# order and time


def test_neighbours_are_worked_in_order_whenever_they_were_due() -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            items = await room.many(30, due=-2)
            items += [await room.kept(signed(1, salt=b"old%d" % n), [], due=-n) for n in range(30)]
            assert await room.republisher.run_once() == 60
            assert room.carrier.targets == sorted(item.target for item in items)

    sim_run(main())


def test_what_is_not_due_is_left_alone() -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            await room.many(3, due=-1)
            await room.kept(MINE, [], due=DUE_AHEAD / 2)
            await room.kept(signed(1, salt=b"later"), [], due=HOUR)
            await room.ledger.confirm(signed(1, salt=b"never"), 8, NEVER, room.clock())
            assert await room.republisher.run_once() == 3
            assert MINE.target not in room.carrier.targets
            async with running(room.republisher):
                await asyncio.sleep(1)
                assert len(room.carrier.looks) == 4  # together with others it may be a bit early
                await asyncio.sleep(HOUR)
            assert len(set(room.carrier.targets)) == 5

    sim_run(main())


def test_every_record_of_many_pages_is_worked_on_once_and_noted() -> None:
    async def main() -> None:
        async with rooms(small_net(), packets=1e6) as room:
            items = await room.many(1030, due=-1)
            assert await room.republisher.run_once() == len(items)
            assert max(Counter(room.carrier.targets).values()) == 1
            assert await room.due() == []
            assert room.counts.looks_ok == len(items)

    sim_run(main())


def test_the_budget_of_packets_is_kept() -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net, packets=100.0) as room:
            await room.many(200, due=-1)
            before, start = net.traffic.sent, now()
            await room.republisher.run_once()
            assert (net.traffic.sent - before) / (now() - start) == pytest.approx(100, rel=0.15)

    sim_run(main())


def test_at_most_so_many_are_under_way_at_once() -> None:
    async def main() -> None:
        async with rooms(small_net(), packets=1e6) as room:
            await room.many(300, due=-1)
            await room.carrier.ready()
            async with running(room.republisher):
                await asyncio.sleep(0.05)  # before the first can have been answered
                assert len(room.carrier.looks) == KEPT_AT_ONCE

    sim_run(main())


def test_a_sweep_that_was_cut_short_leaves_nothing_to_be_done_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DUE_PAGE", 1)

    async def main() -> None:
        async with rooms(small_net()) as room:
            await room.many(3, due=-1)
            page, keep, pages = room.ledger.due, room.carrier.keep, 0

            async def failing(*wanted: Any) -> DuePage:
                nonlocal pages
                pages += 1
                if pages == 2:
                    raise StoreError("busy")
                return await page(*wanted)

            async def slow(*wanted: Any) -> KeepOutcome:
                await asyncio.sleep(0 if room.carrier.looks else 4 * STORE_RETRY)
                return await keep(*wanted)

            monkeypatch.setattr(room.ledger, "due", failing)
            monkeypatch.setattr(room.carrier, "keep", slow)
            async with running(room.republisher):
                await asyncio.sleep(60)
            assert pages > 4
            assert sorted(Counter(room.carrier.targets).values()) == [1, 1, 1]

    sim_run(main())


def test_for_days_all_is_looked_at_in_time_and_seldom() -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            items = await room.many(20)
            async with running(room.republisher):
                for _ in range(24):
                    await asyncio.sleep(HOUR)
                    late = await room.ledger.due(room.clock() - 60, 100)
                    assert late.entries == []
            looks = Counter(room.carrier.targets)
            assert set(looks) == {item.target for item in items}
            assert max(looks.values()) <= 8

    sim_run(main())


# failures


@pytest.mark.parametrize(
    "error",
    [DeadlineExceeded("too slow"), CallerError("not with this carrier"), ValueError("a bug")],
    ids=repr,
)
def test_what_fails_is_tried_again_ever_later_and_says_why(error: Exception) -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            room.carrier.failing = error
            await room.kept(MINE, room.net.closest(MINE.target), due=-1)
            before = await room.entry(MINE)
            async with running(room.republisher):
                await asyncio.sleep(6 * HOUR)
            waits = [then - one for (one, _), (then, _) in pairwise(room.carrier.looks)]
            slack = DUE_AHEAD / 2 + 2 * STORE_RETRY
            for n, wait in enumerate(waits):
                planned = min(RETRY_FIRST * 2**n, RETRY_LAST)
                assert planned <= wait <= planned + slack
            assert len(waits) > 7
            entry = await room.entry(MINE)
            assert entry.last_error == str(error)
            assert (entry.copies, entry.holders) == (before.copies, before.holders)
            assert entry.last_ok == before.last_ok
            assert room.counts.looks_failed == len(waits) + 1

    sim_run(main())


def test_what_went_well_once_is_tried_again_soon_when_it_fails_anew() -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            await room.kept(MINE, [], due=-1)
            async with running(room.republisher):
                room.carrier.failing = DeadlineExceeded("too slow")
                await asyncio.sleep(HOUR)
                room.carrier.failing = None
                await asyncio.sleep(2 * HOUR)
                assert (await room.entry(MINE)).last_error is None
                room.carrier.failing = DeadlineExceeded("too slow")
                room.carrier.looks.clear()
                await asyncio.sleep(6 * HOUR)
            (first, _), (again, _) = room.carrier.looks[:2]
            assert again - first < RETRY_FIRST + DUE_AHEAD

    sim_run(main())


@pytest.mark.parametrize("error", [NetworkUnreachable("gone"), StoreError("full")], ids=repr)
def test_what_is_not_the_records_fault_stays_due_and_is_no_loop(error: Exception) -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            room.carrier.failing = error
            await room.many(3, due=-1)
            async with running(room.republisher):
                await asyncio.sleep(600)
                assert len(room.carrier.looks) <= 3 * (600 / STORE_RETRY + 1)
                assert len(await room.due()) == 3
                room.carrier.failing = None
                await asyncio.sleep(10)
                assert await room.due() == []

    sim_run(main())


def test_one_that_fails_keeps_no_other_from_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            items = await room.many(20, due=-1)
            keep, bad = room.carrier.keep, items[7].target

            async def failing(item: SignedItem, *wanted: Any) -> KeepOutcome:
                if item.target == bad:
                    raise KeyError(bad)
                return await keep(item, *wanted)

            monkeypatch.setattr(room.carrier, "keep", failing)
            assert await room.republisher.run_once() == 20
            assert (room.counts.looks_ok, room.counts.looks_failed) == (19, 1)
            assert await room.due() == []

    sim_run(main())


def test_a_damaged_row_is_set_aside_and_told_of_while_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        async with rooms(small_net(), store=str(path)) as room:
            await room.many(5, due=-1)
            await room.kept(MINE, [], due=-9)
            with contextlib.closing(sqlite3.connect(path)) as store:
                store.execute("UPDATE ledger SET v = '1:x' WHERE seq = 5")
                store.commit()
            assert await room.republisher.run_once() == 5
            assert await room.republisher.run_once() == 0
            totals = await room.ledger.totals(room.clock(), room.clock())
            assert (totals.kept, totals.damaged) == (5, 1)

    with caplog.at_level(logging.ERROR):
        sim_run(main())
    assert f"the ledger row of target {MINE.target.hex()} is damaged" in caplog.text


# the store


def test_what_cannot_be_noted_is_not_done_twice_and_noted_when_it_can(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        async with rooms(small_net(), store=str(path)) as room:
            items = await room.many(10, due=-1)
            async with running(room.republisher):
                with broken(path):
                    await asyncio.sleep(600)
                    assert Counter(room.carrier.targets) == Counter(one.target for one in items)
                    assert len(await room.due()) == 10
                await asyncio.sleep(2 * IDLE_POLL)
                assert await room.due() == []
            assert len(room.carrier.looks) == 10

    sim_run(main())


def test_once_says_that_the_store_failed(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "store.db"
        async with rooms(small_net(), store=str(path)) as room:
            await room.many(3, due=-1)
            with broken(path), pytest.raises(StoreError, match="no room"):
                await room.republisher.run_once()
            assert await room.republisher.run_once() == 0  # it was done, and is now noted
            assert await room.due() == []

    sim_run(main())


def test_a_crash_in_the_middle_leaves_what_was_not_done_due() -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            items = await room.many(200, due=-1)
            async with running(room.republisher):
                await asyncio.sleep(5.0)
            done, due = set(room.carrier.targets), set(await room.due())
            assert 20 < len(done) < 180
            assert {item.target for item in items} - done <= due
            assert room.counts.looks_ok == 200 - len(due)  # what was done is noted
            room.carrier.looks.clear()
            await room.republisher.run_once()
            assert set(room.carrier.targets) == due

    sim_run(main())


# the network


def test_offline_it_waits_and_goes_on_within_half_a_minute() -> None:
    async def main() -> None:
        net = small_net(loss=1.0)
        async with rooms(net) as room:
            await room.many(5, due=-1)
            async with running(room.republisher):
                await asyncio.sleep(HOUR)
                assert room.carrier.looks == []
                net.loss = 0.0
                await asyncio.sleep(30)
                assert await room.due() == []
            assert room.counts.looks_failed == 0

    sim_run(main())


def test_a_network_that_goes_in_the_middle_is_waited_for() -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net) as room:
            await room.many(400, due=-1)
            async with running(room.republisher):
                await asyncio.sleep(10)
                before = len(room.carrier.looks)
                net.loss = 1.0
                await asyncio.sleep(HOUR)
                assert 10 < before < len(room.carrier.looks) <= before + 2 * KEPT_AT_ONCE
                waiting = set(await room.due())
                room.carrier.looks.clear()
                net.loss = 0.0
                await asyncio.sleep(30)
                assert room.carrier.targets[0] == min(waiting)  # not where it had come to
                await asyncio.sleep(HOUR)
                assert await room.due() == []
            assert room.counts.records_lost == 0
            assert room.counts.looks_ok == 400

    sim_run(main())


def test_once_without_a_network_says_so() -> None:
    async def main() -> None:
        async with rooms(small_net(loss=1.0)) as room:
            await room.many(1, due=-1)
            with pytest.raises(NetworkUnreachable):
                await room.republisher.run_once()
            assert len(await room.due()) == 1

    sim_run(main())


def test_a_look_that_the_network_cut_off_is_tried_again() -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net) as room:
            await room.carrier.ready()
            await room.kept(MINE, net.closest(MINE.target)[:4], due=-1)
            async with running(room.republisher):
                await asyncio.sleep(0.15)
                net.loss = 1.0
                await asyncio.sleep(20)
                net.loss = 0.0
                await asyncio.sleep(RETRY_FIRST + DUE_AHEAD)
                assert room.counts.looks_ok == 1
                assert room.counts.records_lost == 0
            assert len(room.carrier.looks) > 1

    sim_run(main())


# newer items, clocks


def test_a_newer_item_that_was_taken_over_is_itself_looked_at_soon() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(MINE.target)
        async with rooms(net) as room:
            await room.kept(MINE, closest, due=-1)
            net.store(NEWER, closest[:1])
            room.planner.max_loss = 1e-12
            async with running(room.republisher):
                await asyncio.sleep(60)
            assert set(net.holders(MINE.target).values()) == {NEWER}
            assert len(net.holders(MINE.target)) == CLOSEST
            assert (await room.entry(NEWER)).copies == CLOSEST
            assert len(room.carrier.looks) == 2

    sim_run(main())


@pytest.mark.parametrize("jump", [-30 * DAY, 30 * DAY, 300 * 365 * DAY])
def test_a_clock_that_jumps_is_lived_with(jump: float) -> None:
    async def main() -> None:
        async with rooms(small_net()) as room:
            items = await room.many(5)
            async with running(room.republisher):
                await asyncio.sleep(HOUR)
                room.clock.ahead = jump
                room.carrier.looks.clear()
                await room.ledger.make_due(room.clock(), float("inf"))  # as the daemon does
                await asyncio.sleep(2 * HOUR)
            assert sorted(room.carrier.targets) == sorted(item.target for item in items)
            assert room.counts.looks_failed == 0
            assert await room.due() == []

    sim_run(main())


# our own records


def test_what_is_signed_anew_is_not_looked_at_and_failing_waits_as_well() -> None:
    anew: list[float] = []

    async def resign(entry: LedgerEntry) -> bool:
        anew.append(now())
        if len(anew) <= 3:
            raise KeyFileError("others can read it")
        return True

    async def main() -> None:
        async with rooms(small_net(), resign=resign) as room:
            await room.kept(MINE, [], due=-1)
            async with running(room.republisher):
                await asyncio.sleep(RETRY_FIRST * 7 + 2 * DUE_AHEAD)
                assert (await room.entry(MINE)).last_error == "others can read it"
            assert room.carrier.looks == []

    sim_run(main())
    first, second, third = (then - one for one, then in pairwise(anew[:4]))
    assert RETRY_FIRST <= first < second < third


async def test_our_node_record_is_signed_anew_each_interval_and_plain_ones_are_kept(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with make_node(own_swarm, tmp_path, clock=clock, carrier="direct") as node:
        first = await node.publish(NodeRecord(topic="t"))
        plain = await node.publish({b"a": 1}, salt=b"plain")
        assert await node.republisher.run_once() == 0
        clock.now += REPUBLISH_INTERVAL
        assert await node.republisher.run_once() == 1
        answer = await node.query(node.identity.public_key, policy=Policy.FRESHEST)
        assert answer.seq == first.item.seq + 1
        assert answer.record is not None
        assert answer.record.timestamp == int(clock.now)
        assert (await node.totals()).due == 0
        clock.now += 2 * DAY
        assert await node.republisher.run_once() == 2
        kept = await node.query(node.identity.public_key, salt=b"plain", policy=Policy.FRESHEST)
        assert kept.item == plain.item
        assert (node.counts.looks_ok, node.counts.publishes_ok) == (1, 4)


async def test_after_the_clock_was_set_back_all_can_be_made_due(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with make_node(own_swarm, tmp_path, clock=clock, carrier="direct") as node:
        await node.publish(NodeRecord(topic="t"))
        await node.publish({b"a": 1}, salt=b"plain")
        clock.now -= 30 * DAY
        assert await node.republisher.run_once() == 0
        assert await node.due_at_once() == 2
        assert await node.republisher.run_once() == 2
        assert (node.counts.looks_ok, node.counts.looks_failed) == (1, 0)
        answer = await node.query(node.identity.public_key, policy=Policy.FRESHEST)
        assert answer.record is not None
        assert answer.record.timestamp == int(clock.now)


async def test_what_another_machine_published_under_our_key_is_kept_from_then_on(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with (
        make_node(own_swarm, tmp_path, clock=clock, carrier="direct") as node,
        make_node(
            own_swarm, tmp_path / "other", keys=tmp_path / "keys", clock=clock, carrier="direct"
        ) as other,
    ):
        await node.publish({b"a": 1})
        newer = await other.publish({b"a": 2}, seq=9)
        await node.due_at_once()
        assert await node.republisher.run_once() == 1
        assert node.counts.adopted == 1
        assert await node.is_stored(newer.item)
        assert (await node.publish({b"a": 3})).item.seq == 10


async def test_libtorrent_signs_ours_anew_and_says_that_it_cannot_keep_others(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    others = SignedItem.sign(Identity.generate(), encode_value({"a": 1}), 7)
    async with ledger(tmp_path, clock) as noted:
        await noted.confirm(others, 8, clock.now - 1, clock.now - HOUR)
    async with make_node(own_swarm, tmp_path, clock=clock, carrier="libtorrent") as node:
        first = await node.publish(NodeRecord(topic="t"))
        await node.publish(b"plain", salt=b"plain")
        clock.now += REPUBLISH_INTERVAL
        assert await node.republisher.run_once() == 3
        assert (node.counts.publishes_ok, node.counts.looks_failed) == (4, 1)
        answer = await node.query(node.identity.public_key, policy=Policy.FRESHEST)
        assert answer.seq > first.item.seq
        clock.now += RETRY_FIRST - 1
        assert await node.republisher.run_once() == 0  # not before it is its turn
    async with ledger(tmp_path, clock) as noted:
        entry = await noted.newest(others.target)
        assert entry is not None
        assert entry.last_error is not None
        assert "--carrier direct" in entry.last_error
        assert entry.item == others


async def test_a_node_record_that_a_crash_cut_off_is_signed_anew_within_an_interval(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with make_node(own_swarm, tmp_path, clock=clock, offline=True) as node:
        identity = node.identity
    v = payload(NodeRecord(topic="t"), identity.public_key, clock.now, only_strings=False)
    item = SignedItem.sign(identity, v, 3)
    async with ledger(tmp_path, clock) as noted:
        await noted.reserve(item)
    async with make_node(own_swarm, tmp_path, clock=clock, carrier="direct") as node:
        await finished(node, item)
        clock.now += REPUBLISH_INTERVAL
        assert await node.republisher.run_once() == 1
        answer = await node.query(identity.public_key, policy=Policy.FRESHEST)
        assert answer.seq == 4


async def finished(node: Node, item: SignedItem) -> None:
    """Wait until what an earlier process began is done."""
    async with asyncio.timeout(20):
        while not await node.is_stored(item):
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def ledger(directory: Path, clock: Clock) -> AsyncIterator[Ledger]:
    """Open the ledger of a node that is not running."""
    store = await Store.open(str(directory / "store.db"), clock)
    try:
        yield Ledger(store)
    finally:
        await store.close()
