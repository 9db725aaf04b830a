"""One look at a kept record on a simulated network: what is stored, noted, learnt and adopted."""

import logging
from collections.abc import Sequence

import pytest

from dhtmeta.const import CLOSEST, FIRST_LOOK, LAST_LOOK
from dhtmeta.engine.holders import holder, unpack_holders
from dhtmeta.engine.survival import Plan
from dhtmeta.errors import StoreError
from dhtmeta.krpc import messages
from dhtmeta.krpc.codec import decode
from dhtmeta.store.due import Looked
from dhtmeta.store.tables import Origin, State
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.testing.sim_socket import SimSocket
from dhtmeta.values.item import SignedItem
from tests.engine.keeping import START, Rooms, rooms, signed, small_net

OLD, MINE, NEWER = signed(3, b"old"), signed(5, b"mine"), signed(9, b"newer")
OTHER = signed(5, b"a smaller value")
TARGET = MINE.target
HOUR, DAY = 3600.0, 86_400.0
EVERYBODY = 1e-12  # may be lost: so little that whoever lacks it gets it


async def looked(room: Rooms, item: SignedItem = MINE) -> Looked:
    """Look once; a newer item must not be there."""
    found, _ = await room.keeper.look(await room.entry(item))
    assert found is not None
    return found


def since(room: Rooms, found: Looked) -> dict[int, float]:
    """Return the nodes that are noted as holding it, and since when (s from the start)."""
    near = room.net.closest(found.target, 16)
    by_mark = {holder(room.net.contact(one).node_id): one for one in near}
    return {by_mark[one]: then - START for one, then in unpack_holders(found.holders).items()}


# what is stored


def test_only_those_that_lack_it_get_it_and_they_get_the_very_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    puts: list[tuple[messages.Put, int]] = []
    send = SimSocket.send

    def watched(self: SimSocket, datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        said = [(decode(data), net.ids.at(to)) for data, to in datagrams]
        puts.extend((one, at or 0) for one, at in said if isinstance(one, messages.Put))
        send(self, datagrams)

    monkeypatch.setattr(SimSocket, "send", watched)
    net = small_net()
    closest = net.closest(TARGET)

    async def main() -> None:
        async with rooms(net) as room:
            room.planner.max_loss = EVERYBODY
            await room.kept(MINE, closest[:3], age=HOUR)
            found = await looked(room)
            assert sorted(at for _, at in puts) == sorted(closest[3:])
            assert {(p.k, p.salt, p.seq, p.v, p.sig, p.cas) for p, _ in puts} == {
                (MINE.public_key, b"", 5, MINE.v, MINE.sig, None)
            }
            assert set(net.holders(TARGET)) == set(closest)
            assert found.copies == CLOSEST
            assert set(since(room, found)) == set(closest)
            assert (room.counts.topped_up, room.counts.looks_ok) == (5, 1)
            assert room.counts.copies == {3: 1}

    sim_run(main())


def test_where_enough_hold_it_nothing_is_stored_and_the_next_look_is_far() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            await room.kept(MINE, closest, age=HOUR)
            found = await looked(room)
            now = room.clock()
            assert found.next_due > now + 2 * HOUR
            assert found.last_ok == pytest.approx(now, abs=5)
            assert found.last_error is None
            assert (found.target, found.seq, found.copies) == (TARGET, 5, CLOSEST)
            assert room.counts.topped_up == 0
            assert list(net.holders(TARGET)) == sorted(closest)

    sim_run(main())


def test_the_older_the_copies_the_later_the_next_look() -> None:
    async def due_in(age: float) -> float:
        net = small_net()
        async with rooms(net) as room:
            await room.kept(MINE, net.closest(TARGET), age=age)
            return (await looked(room)).next_due - room.clock()

    fresh, old = sim_run(due_in(60.0)), sim_run(due_in(5 * DAY))
    assert fresh + 2 * HOUR < old <= LAST_LOOK


def test_what_nobody_holds_any_more_is_stored_again() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            await room.kept(MINE, closest, age=HOUR)
            for one in closest:
                del net.nodes.shelf(one).items[TARGET]
            found = await looked(room)
            assert set(net.holders(TARGET)) == set(since(room, found)) == set(closest)
            assert set(net.holders(TARGET).values()) == {MINE}
            assert (room.counts.records_lost, room.counts.copies_lost) == (1, CLOSEST)

    sim_run(main())


def test_what_nobody_takes_is_noted_as_such_and_looked_at_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        liars: dict[int, Lie] = {}
        net = small_net(liars=liars)
        async with rooms(net) as room:
            await room.kept(MINE, [], age=HOUR)
            planned = room.planner.top_up

            def hushed(ages: Sequence[float], lacking: int) -> Plan:
                liars.update(dict.fromkeys(range(1000), Lie.SILENCE))
                return planned(ages, lacking)

            monkeypatch.setattr(room.planner, "top_up", hushed)
            found = await looked(room)
            assert (found.copies, found.last_ok) == (0, None)
            assert found.last_error == "no node took it"
            assert found.next_due <= room.clock() + FIRST_LOOK

    sim_run(main())


# what is newer, other, or a lie


@pytest.mark.parametrize("origin", Origin)
def test_a_newer_item_of_its_owner_is_kept_from_then_on(origin: Origin) -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            await room.kept(MINE, closest, age=HOUR, due=-1, origin=origin)
            net.store(NEWER, closest[-1:])
            found, sent = await room.keeper.look(await room.entry(MINE))
            assert found is None
            assert sent >= CLOSEST
            entry = await room.entry(NEWER)
            assert (entry.item, entry.state, entry.origin) == (NEWER, State.STORED, origin)
            assert entry.next_due <= room.clock()
            assert room.cache.floor(TARGET) == NEWER.seq
            assert (room.counts.adopted, room.counts.topped_up) == (1, 0)
            assert net.holders(TARGET)[closest[0]] == MINE  # nothing was stored yet
            room.planner.max_loss = EVERYBODY
            await looked(room, NEWER)
            assert set(net.holders(TARGET).values()) == {NEWER}

    sim_run(main())


def test_what_was_published_here_meanwhile_is_not_undone() -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net) as room:
            await room.kept(MINE, net.closest(TARGET))
            before = await room.entry(MINE)
            newest = signed(10, b"newest")
            await room.ledger.confirm(newest, 8, room.clock() + DAY, room.clock())
            net.store(NEWER, net.closest(TARGET))
            assert (await room.keeper.look(before))[0] is None
            assert (await room.entry(MINE)).item == newest

    sim_run(main())


def test_another_value_under_our_seq_is_reported_and_ours_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            room.planner.max_loss = EVERYBODY
            await room.kept(MINE, closest[2:4])
            net.store(OTHER, closest[:2])
            found = await looked(room)
            assert set(since(room, found)) == set(closest[2:])
            assert (room.counts.conflicts, room.counts.adopted) == (1, 0)
            assert (await room.entry(MINE)).item == MINE
            held = net.holders(TARGET)
            assert [held[one] for one in closest] == [OTHER] * 2 + [MINE] * 6

    with caplog.at_level(logging.WARNING):
        sim_run(main())
    assert "another value under seq 5" in caplog.text
    assert TARGET.hex() in caplog.text


@pytest.mark.parametrize("kind", Lie)
def test_liars_change_neither_what_is_kept_nor_what_is_believed(kind: Lie) -> None:
    async def main() -> None:
        liars: dict[int, Lie] = {}
        net = small_net(liars=liars)
        closest = net.closest(TARGET)
        liars.update(dict.fromkeys(closest[:3], kind))
        async with rooms(net) as room:
            room.planner.max_loss = EVERYBODY
            await room.kept(MINE, closest[3:5])
            found = await looked(room)
            assert set(closest[3:]) <= set(since(room, found))
            assert (await room.entry(MINE)).item == MINE
            assert (room.counts.adopted, room.counts.conflicts) == (0, 0)
            assert room.cache.floor(TARGET) == 0
            assert room.counts.records_lost == 0
            assert set(net.holders(TARGET).values()) == {MINE}

    sim_run(main())


# what is learnt


def test_a_copy_is_as_old_as_it_was_seen_first() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            room.planner.max_loss = EVERYBODY
            await room.kept(MINE, closest[:3], age=DAY)
            first = await looked(room)
            assert {one: since(room, first)[one] for one in closest[:3]} == dict.fromkeys(
                closest[:3], -DAY
            )
            await room.ledger.note([first])
            room.clock.ahead = 7 * HOUR
            again = await looked(room)
            assert since(room, again) == since(room, first)

    sim_run(main())


def test_who_held_it_and_does_no_more_is_counted_and_feared() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            before = room.planner.mortality.law().speed
            for n in range(10):
                item = signed(5, b"mine", b"%d" % n)
                near = net.closest(item.target)
                await room.kept(item, near, age=HOUR)
                for one in near[:6]:
                    del net.nodes.shelf(one).items[item.target]
                await looked(room, item)
            assert room.counts.copies_lost == 60
            assert room.counts.copies == {2: 10}
            assert room.planner.mortality.law().speed > 2 * before
            assert len(closest) == CLOSEST

    sim_run(main())


@pytest.mark.parametrize("age", [-DAY, 0.0, 3 * LAST_LOOK])
def test_a_clock_that_jumped_teaches_nothing_and_breaks_nothing(age: float) -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net) as room:
            before = room.planner.mortality.law()
            await room.kept(MINE, net.closest(TARGET), age=age)
            for one in net.closest(TARGET)[:4]:
                del net.nodes.shelf(one).items[TARGET]
            found = await looked(room)
            assert room.clock() < found.next_due <= room.clock() + LAST_LOOK
            assert room.planner.mortality.law() == before
            assert room.counts.copies_lost == 0

    sim_run(main())


def test_a_damaged_column_of_holders_is_only_forgotten() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        async with rooms(net) as room:
            now = room.clock()
            net.store(MINE, closest)
            await room.ledger.confirm(MINE, 8, now, now - HOUR, holders=b"no holders")
            found = await looked(room)
            assert set(since(room, found)) == set(closest)
            assert room.counts.copies_lost == 0

    sim_run(main())


def test_a_store_that_fails_while_a_newer_item_is_taken_over_leaves_the_row_due() -> None:
    async def main() -> None:
        net = small_net()
        async with rooms(net) as room:
            await room.kept(MINE, net.closest(TARGET), due=-1)
            entry = await room.entry(MINE)
            net.store(NEWER, net.closest(TARGET))
            await room.store.engine.dispose()
            await room.store.close()
            with pytest.raises(StoreError):
                await room.keeper.look(entry)
            assert room.counts.adopted == 0

    sim_run(main())
