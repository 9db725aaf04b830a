"""The direct carrier: on virtual time what it promises about deadlines, conflicts and closing, on
real swarms that dead nodes do not matter and that the next start needs nobody's help.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dhtmeta.const import CLOSEST, DIRECT_COPIES
from dhtmeta.dht.carrier import Choose, Rejection
from dhtmeta.dht.direct import carrier as module
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidKey,
    InvalidSalt,
    NetworkUnreachable,
    NotStored,
    ValueTooLarge,
)
from dhtmeta.krpc import messages
from dhtmeta.krpc.codec import decode
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.testing.sim_carrier import SimulatedNode, sim_carrier
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.testing.sim_socket import SimSocket
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from tests.dht.conftest import silent_address
from tests.dht.direct.stage import OWNER, TARGET, US, contact, signed, small_net

WAIT = 20.0  # s: far above what anything here takes
KEY = OWNER.public_key
OLD, MINE, NEWER = signed(3, b"old"), signed(5, {"mine": 1}), signed(9, b"newer")
V = encode_value(b"v")

StartDirect = Callable[..., Awaitable[DirectCarrier]]


class Watched(SimSocket):
    """A simulated socket that keeps what is sent."""

    def __init__(self, net: SimNet) -> None:
        super().__init__(net, US)
        self.sent: list[tuple[bytes, Endpoint]] = []

    def send(self, datagrams: list[tuple[bytes, Endpoint]]) -> None:
        self.sent += datagrams
        super().send(datagrams)

    @property
    def puts(self) -> list[messages.Put]:
        """The put queries among it."""
        said = [decode(data) for data, _ in self.sent]
        return [one for one in said if isinstance(one, messages.Put)]


class Alone(SimulatedNode):
    """A node beside the carrier that knows nobody and finds nobody."""

    async def ready(self, deadline: float = 10.0) -> None:
        raise NetworkUnreachable("nobody answers")

    async def live_nodes(self) -> list[Contact]:
        return []


Opened = tuple[DirectCarrier, Watched]


@asynccontextmanager
async def opened(
    net: SimNet, *, alone: bool = False, contacts: Sequence[Contact] = ()
) -> AsyncIterator[Opened]:
    """Run a carrier on a simulated network."""
    udp, node = Watched(net), (Alone if alone else SimulatedNode)(net, 1)
    carrier = DirectCarrier(node, udp, seed=1, contacts=contacts)
    await carrier.start()
    yield carrier, udp
    await carrier.close()


def now() -> float:
    return asyncio.get_running_loop().time()


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


def always(item: SignedItem) -> Choose:
    """Return a choice that does not look at what is there."""

    async def choose(newest: SignedItem | None) -> SignedItem:
        return item

    return choose


def holders(net: SimNet) -> list[int]:
    return list(net.holders(TARGET))


# puts


def test_signed_bytes_are_put_as_they_are_without_their_key() -> None:
    async def main() -> None:
        net, shown = small_net(), list[SignedItem | None]()

        async def choose(newest: SignedItem | None) -> SignedItem:
            shown.append(newest)
            return MINE

        async with opened(net) as (carrier, udp):
            outcome = await carrier.put_item(KEY, b"", choose, WAIT, cas=4)
            seen: list[SignedItem] = []
            got = await carrier.get(KEY, b"", seen.append, WAIT)
        assert shown == [None]
        assert outcome.item is MINE
        assert (outcome.accepted, outcome.copies) == (DIRECT_COPIES, DIRECT_COPIES)
        assert set(net.holders(TARGET).values()) == {MINE}
        assert {(one.seq, one.v, one.sig, one.cas) for one in udp.puts} == {
            (5, MINE.v, MINE.sig, 4)
        }
        assert got.item == MINE
        assert seen == [MINE]
        assert got.holding == CLOSEST

    sim_run(main())


def test_it_chooses_by_the_newest_that_the_network_holds() -> None:
    async def main() -> None:
        net, shown = small_net(), list[SignedItem | None]()
        net.store(OLD, net.closest(TARGET, 20))
        net.store(signed(4), net.closest(TARGET)[:1])

        async def choose(newest: SignedItem | None) -> SignedItem:
            shown.append(newest)
            return MINE

        async with opened(net) as (carrier, _):
            await carrier.put_item(KEY, b"", choose, WAIT)
            assert (await carrier.put(OWNER, V, b"", WAIT)).item.seq == MINE.seq + 1
        assert shown == [signed(4)]

    sim_run(main())


def test_where_the_choice_fails_nothing_is_stored() -> None:
    async def main() -> None:
        net = small_net()

        async def choose(newest: SignedItem | None) -> SignedItem:
            raise KeyError("no")

        async with opened(net) as (carrier, udp):
            with pytest.raises(KeyError):
                await carrier.put_item(KEY, b"", choose, WAIT)
            assert udp.puts == []
            assert holders(net) == []
            await carrier.put_item(KEY, b"", always(MINE), WAIT)  # and the next may go on

    sim_run(main())


@pytest.mark.parametrize(
    ("other", "what"), [(NEWER, "a newer item"), (signed(5, b"x"), "another value")]
)
def test_what_stands_against_a_put_is_a_conflict_with_the_outcome(
    other: SignedItem, what: str
) -> None:
    async def main() -> None:
        net = small_net()
        net.store(other, net.closest(TARGET, 20)[2:6])
        async with opened(net) as (carrier, _):
            with pytest.raises(Conflict, match=what) as caught:
                await carrier.put_item(KEY, b"", always(MINE), WAIT)
        assert (caught.value.ledger_seq, caught.value.network_seq) == (MINE.seq, other.seq)
        outcome = caught.value.outcome
        assert outcome.copies == DIRECT_COPIES - 4
        assert outcome.rejected == (Rejection(302, 9),) * (4 if other is NEWER else 0)

    sim_run(main())


def test_where_nobody_accepts_the_codes_are_named() -> None:
    async def main() -> None:
        async def choose(newest: SignedItem | None) -> SignedItem:
            await asyncio.sleep(3600.0)  # the tokens run out
            return MINE

        async with opened(small_net()) as (carrier, _):
            with pytest.raises(NotStored, match="203"):
                await carrier.put_item(KEY, b"", choose, 2 * 3600.0)

    sim_run(main())


def test_puts_of_one_key_are_made_one_after_the_other() -> None:
    async def main() -> None:
        async with opened(small_net()) as (carrier, _):
            puts = [carrier.put(OWNER, encode_value(i), b"", WAIT) for i in range(5)]
            assert [one.item.seq for one in await asyncio.gather(*puts)] == [1, 2, 3, 4, 5]

    sim_run(main())


def test_puts_of_many_keys_are_made_at_once() -> None:
    async def main() -> None:
        async with opened(small_net()) as (carrier, _):
            owners = [Identity(bytes([i]) * 32) for i in range(50)]
            await carrier.put(OWNER, V, b"", WAIT)
            one = now()
            outcomes = await asyncio.gather(*(carrier.put(o, V, b"", WAIT) for o in owners))
            assert now() - one < 3 * one
        assert {outcome.copies for outcome in outcomes} == {DIRECT_COPIES}

    sim_run(main())


def test_bad_input_is_named_before_anything_is_sent() -> None:
    async def main() -> None:
        async with opened(small_net()) as (carrier, udp):
            with pytest.raises(InvalidKey, match="31"):
                await carrier.get(b"k" * 31, b"", ignore, WAIT)
            with pytest.raises(InvalidSalt, match="65"):
                await carrier.get(KEY, b"s" * 65, ignore, WAIT)
            with pytest.raises(InvalidSalt, match="65"):
                await carrier.put_item(KEY, b"s" * 65, always(MINE), WAIT)
            with pytest.raises(ValueTooLarge, match="1,001"):
                await carrier.put(OWNER, b"997:" + bytes(997), b"", WAIT)
            assert udp.sent == []

    sim_run(main())


# deadlines


def test_a_deadline_cuts_a_get_and_tells_what_was_found() -> None:
    async def main() -> None:
        net = small_net(round_trip=constant_round_trip(0.3), dead=0.3)
        net.store(MINE, range(1000))
        async with opened(net) as (carrier, udp):
            outcome = await carrier.get(KEY, b"", ignore, 0.7)
            assert now() == pytest.approx(0.7)
            assert not outcome.converged
            assert outcome.item == MINE
            before = len(udp.sent)
            await asyncio.sleep(10.0)
            assert len(udp.sent) == before

    sim_run(main())


def test_a_deadline_before_the_look_is_done_stores_nothing() -> None:
    async def main() -> None:
        net = small_net(round_trip=constant_round_trip(0.3))
        async with opened(net) as (carrier, _):
            with pytest.raises(DeadlineExceeded, match=r"0\.5 s"):
                await carrier.put_item(KEY, b"", always(MINE), 0.5)
            assert now() == pytest.approx(0.5)
            assert holders(net) == []

    sim_run(main())


def test_a_deadline_before_any_node_accepted_is_said() -> None:
    async def main() -> None:
        async def choose(newest: SignedItem | None) -> SignedItem:
            await asyncio.sleep(WAIT - 0.01 - now())
            return MINE

        async with opened(small_net()) as (carrier, _):
            with pytest.raises(DeadlineExceeded, match="not read back within 20 s"):
                await carrier.put_item(KEY, b"", choose, WAIT)
            assert now() == pytest.approx(WAIT)

    sim_run(main())


def test_one_that_waits_for_its_turn_has_its_deadline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPERATIONS_AT_ONCE", 1)

    async def main() -> None:
        net = small_net(round_trip=constant_round_trip(0.3))
        async with opened(net) as (carrier, _):
            await carrier.ready()
            first = asyncio.create_task(carrier.get(KEY, b"", ignore, WAIT))
            await asyncio.sleep(0.01)
            with pytest.raises(DeadlineExceeded, match="took all the time"):
                await carrier.get(KEY, b"other", ignore, 0.2)
            third = asyncio.create_task(carrier.get(KEY, b"other", ignore, WAIT))
            assert (await first).converged
            assert not third.done()
            assert (await third).converged

    sim_run(main())


def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPERATIONS", 3)

    async def main() -> None:
        async with opened(small_net()) as (carrier, _):
            for _ in range(2):  # those that ended make room
                gets = [carrier.get(KEY, b"%d" % i, ignore, WAIT) for i in range(5)]
                outcomes = await asyncio.gather(*gets, return_exceptions=True)
                refused = [one for one in outcomes if isinstance(one, DeadlineExceeded)]
                assert len(refused) == 2

    sim_run(main())


def test_one_that_is_cancelled_sends_no_more_and_leaves_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OPERATIONS_AT_ONCE", 1)

    async def main() -> None:
        async with opened(small_net()) as (carrier, udp):
            task = asyncio.create_task(carrier.get(KEY, b"", ignore, WAIT))
            await asyncio.sleep(0.15)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            before = len(udp.sent)
            await asyncio.sleep(10.0)
            assert len(udp.sent) == before > 0
            assert (await carrier.get(KEY, b"", ignore, WAIT)).converged

    sim_run(main())


def test_enough_returns_before_the_lookup_is_done() -> None:
    async def get(enough: int | None) -> tuple[bool, SignedItem | None, float]:
        net = small_net(100_000)
        net.store(MINE, net.closest(TARGET, 20))
        async with opened(net) as (carrier, _):
            outcome = await carrier.get(KEY, b"", ignore, WAIT, enough=enough)
            return outcome.converged, outcome.item, now()

    early, late, full = (sim_run(get(enough)) for enough in (MINE.seq, MINE.seq + 1, None))
    assert early[:2] == (False, MINE)
    assert early[2] < late[2]
    assert late == full == (True, MINE, full[2])


# starting, ending, and whom it asks


def test_nobody_to_ask_is_an_unreachable_network() -> None:
    async def main() -> None:
        async with opened(small_net(), alone=True) as (carrier, _):
            for work in (
                carrier.get(KEY, b"", ignore, WAIT),
                carrier.put_item(KEY, b"", always(MINE), WAIT),
            ):
                with pytest.raises(NetworkUnreachable):
                    await work

    sim_run(main())


def test_a_network_that_fell_silent_is_unreachable_and_found_again() -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net) as (carrier, _):
            assert (await carrier.get(KEY, b"", ignore, WAIT)).converged
            net.loss = 1.0
            with pytest.raises(NetworkUnreachable):
                await carrier.get(KEY, b"", ignore, WAIT)
            net.loss = 0.0
            assert (await carrier.get(KEY, b"", ignore, WAIT)).converged

    sim_run(main())


def test_contacts_of_the_last_time_are_all_that_a_start_needs() -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net) as (carrier, _):
            await carrier.put_item(KEY, b"", always(MINE), WAIT)
            saved = carrier.contacts()
        assert carrier.contacts() == []
        assert len(saved) >= DIRECT_COPIES
        async with opened(net, alone=True, contacts=saved) as (again, _):
            await again.ready()
            assert (await again.get(KEY, b"", ignore, WAIT)).item == MINE

    sim_run(main())


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1"),
        *("224.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "2606:4700::1111"),
    ],
)
def test_on_mainline_only_global_addresses_of_its_family_are_asked(host: str) -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net, contacts=[contact(1, host)]) as (carrier, udp):
            assert (await carrier.get(KEY, b"", ignore, WAIT)).converged
        assert udp.sent
        assert host not in {to[0] for _, to in udp.sent}

    sim_run(main())


def test_closing_ends_what_is_in_flight_at_once() -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net) as (carrier, udp):
            work: list[asyncio.Task[Any]] = [
                asyncio.create_task(carrier.get(KEY, b"%d" % i, ignore, WAIT)) for i in range(300)
            ]
            work.append(asyncio.create_task(carrier.put_item(KEY, b"", always(MINE), WAIT)))
            await asyncio.sleep(0.15)
            await carrier.close()
            before = len(udp.sent)
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            assert now() == pytest.approx(0.15)
            assert {type(one) for one in outcomes} == {NetworkUnreachable}
            with pytest.raises(NetworkUnreachable, match="closed"):
                await carrier.get(KEY, b"", ignore, WAIT)
            await asyncio.sleep(10.0)
            assert len(udp.sent) == before > 0
            assert holders(net) == []

    sim_run(main())


def test_closing_while_a_put_is_chosen_stores_nothing() -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net) as (carrier, _):

            async def choose(newest: SignedItem | None) -> SignedItem:
                await carrier.close()
                return MINE

            with pytest.raises(NetworkUnreachable, match="closed"):
                await carrier.put_item(KEY, b"", choose, WAIT)
        assert holders(net) == []

    sim_run(main())


# on real nodes


async def test_what_it_puts_a_libtorrent_node_reads(
    swarm: Swarm, start_direct: StartDirect, start: Callable[..., Awaitable[LibtorrentCarrier]]
) -> None:
    direct = await start_direct(swarm.addresses[:1])
    outcome = await direct.put_item(KEY, b"", always(MINE), WAIT)
    assert outcome.accepted == outcome.copies
    assert outcome.accepted > CLOSEST
    reader = await start(swarm.addresses[1:2])
    assert (await reader.get(KEY, b"", ignore, WAIT)).item == MINE
    with pytest.raises(Conflict) as caught:
        await direct.put_item(KEY, b"", always(OLD), WAIT)
    assert {one.code for one in caught.value.outcome.rejected} == {302}
    assert {one.seq for one in caught.value.outcome.rejected} == {MINE.seq}


async def test_a_dead_node_in_the_tables_keeps_nothing_from_converging(
    own_swarm: Swarm, start_direct: StartDirect
) -> None:
    carrier = await start_direct(own_swarm.addresses[:1])
    await carrier.ready()
    await own_swarm.sessions[5].close()
    put = await carrier.put_item(KEY, b"", always(MINE), WAIT)
    got = await carrier.get(KEY, b"", ignore, WAIT)
    assert put.copies == put.accepted >= CLOSEST
    assert got.converged
    assert got.item == MINE


async def test_with_contacts_it_works_beside_a_libtorrent_node_that_finds_nobody(
    swarm: Swarm, start_direct: StartDirect, start: Callable[..., Awaitable[LibtorrentCarrier]]
) -> None:
    carrier = await start_direct(swarm.addresses[:1])
    await carrier.put_item(KEY, b"", always(MINE), WAIT)
    lonely = await start([silent_address()])
    again = DirectCarrier(lonely, UdpSocket("127.0.0.1:0"), local=True, contacts=carrier.contacts())
    await again.start()
    try:
        assert (await again.get(KEY, b"", ignore, WAIT)).item == MINE
    finally:
        await again.close()


async def test_closing_with_work_in_flight_on_real_sockets(
    swarm: Swarm, start_direct: StartDirect
) -> None:
    carrier = await start_direct(swarm.addresses[:1])
    await carrier.ready()
    work = [asyncio.create_task(carrier.get(KEY, b"%d" % i, ignore, WAIT)) for i in range(100)]
    await asyncio.sleep(0)
    await carrier.close()
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert {type(one) for one in outcomes} == {NetworkUnreachable}


def test_what_nodes_say_they_took_but_do_not_hold_is_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SimNet, "store", lambda *given: None)
    monkeypatch.setattr("dhtmeta.testing.sim_node.Nodes.store", lambda *given: None)

    async def choose(newest: SignedItem | None) -> SignedItem:
        return MINE

    async def main() -> None:
        async with opened(small_net()) as (carrier, _):
            with pytest.raises(NotStored, match="none shows it"):
                await carrier.put_item(KEY, b"", choose, WAIT)

    sim_run(main())


async def test_a_timer_that_was_due_already_is_no_obstacle_to_the_next() -> None:
    carrier = await sim_carrier(SimNet(8, seed=1), seed=1)  # on uvloop, whose handles differ
    loop = asyncio.get_running_loop()
    try:
        for due in (loop.time() - 1, loop.time() - 2, loop.time() + 3600):
            carrier._set_timer(due)
    finally:
        await carrier.close()
