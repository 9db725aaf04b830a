"""Keeping through the direct carrier, on virtual time: what it tells, when it stores nothing."""

import asyncio

import pytest

from dhtmeta.const import CLOSEST
from dhtmeta.dht.carrier import Standing
from dhtmeta.errors import DeadlineExceeded, NetworkUnreachable
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from tests.dht.direct.stage import OWNER, TARGET, signed, small_net
from tests.dht.direct.test_carrier import MINE, NEWER, WAIT, V, opened

OTHER = signed(5, b"other")


def everywhere(standing: Standing) -> int:
    """Say that all that lack it are to have it."""
    return len(standing.lacking)


def never(standing: Standing) -> int:
    raise AssertionError("nobody has to ask how many")


def ids(net: SimNet, nodes: list[int]) -> tuple[bytes, ...]:
    return tuple(net.contact(one).node_id for one in nodes)


def test_it_tells_who_holds_it_who_lacks_it_and_who_took_it() -> None:
    async def main() -> None:
        net, seen = small_net(), list[Standing]()
        closest = net.closest(TARGET)
        net.store(MINE, closest[:3])

        def two(standing: Standing) -> int:
            seen.append(standing)
            return 2

        async with opened(net) as (carrier, udp):
            outcome = await carrier.keep(MINE, two, WAIT)
            assert seen == [outcome.standing]
            assert outcome.standing == Standing(
                ids(net, closest[:3]), ids(net, closest[3:]), None, 0
            )
            assert set(outcome.stored) == set(ids(net, closest[3:5]))
            assert (outcome.rejected, outcome.silent) == ((), 0)
            assert {one.sig for one in udp.puts} == {MINE.sig}
            assert set(net.holders(TARGET)) == set(closest[:5])
            before = len(udp.sent)  # nobody has to be greeted any more
            again = await carrier.keep(MINE, everywhere, WAIT)
            assert again.sent == len(udp.sent) - before
        assert again.standing.holding == ids(net, closest[:5])
        assert len(net.holders(TARGET)) == CLOSEST

    sim_run(main())


def test_where_a_newer_item_is_shown_nothing_is_stored() -> None:
    async def main() -> None:
        net = small_net()
        net.store(NEWER, net.closest(TARGET)[-1:])
        async with opened(net) as (carrier, udp):
            outcome = await carrier.keep(MINE, never, WAIT)
            assert udp.puts == []
        assert outcome.standing.newer == NEWER
        assert outcome.stored == ()

    sim_run(main())


def test_another_value_under_its_seq_is_told_of_and_left_alone() -> None:
    async def main() -> None:
        net = small_net()
        closest = net.closest(TARGET)
        net.store(OTHER, closest[:2])
        async with opened(net) as (carrier, _):
            outcome = await carrier.keep(MINE, everywhere, WAIT)
        assert outcome.standing.conflicts == 2
        assert outcome.standing.newer is None
        assert set(outcome.stored) == set(ids(net, closest[2:]))

    sim_run(main())


@pytest.mark.parametrize("kind", Lie)
def test_two_liars_of_the_closest_change_nothing(kind: Lie) -> None:
    async def main() -> None:
        liars: dict[int, Lie] = {}
        net = small_net(liars=liars)
        closest = net.closest(TARGET)
        net.store(MINE, closest[2:6])
        liars.update(dict.fromkeys(closest[:2], kind))
        async with opened(net) as (carrier, _):
            outcome = await carrier.keep(MINE, everywhere, WAIT)
        standing = outcome.standing
        assert (standing.newer, standing.conflicts) == (None, 0)
        assert set(standing.holding) == set(ids(net, closest[2:6]))
        assert set(ids(net, closest[6:])) <= set(outcome.stored)
        assert set(net.holders(TARGET).values()) == {MINE}

    sim_run(main())


def test_a_look_that_is_not_done_in_time_stores_nothing() -> None:
    async def main() -> None:
        net = small_net(round_trip=constant_round_trip(0.3))
        async with opened(net) as (carrier, udp):
            with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
                await carrier.keep(MINE, never, 0.5)
            assert asyncio.get_running_loop().time() == pytest.approx(0.5)
            assert udp.puts == []

    sim_run(main())


def test_a_look_during_which_the_network_was_gone_stores_nothing() -> None:
    async def main() -> None:
        net = small_net()
        async with opened(net) as (carrier, udp):
            await carrier.ready()
            looking = asyncio.create_task(carrier.keep(MINE, never, WAIT))
            await asyncio.sleep(0.15)
            net.loss = 1.0
            await asyncio.sleep(0)
            with pytest.raises(DeadlineExceeded, match="did not converge"):
                await looking
            assert udp.puts == []

    sim_run(main())


def test_puts_that_are_not_done_in_time_are_told_of_as_far_as_they_came() -> None:
    async def main() -> None:
        liars: dict[int, Lie] = {}
        net = small_net(liars=liars)
        closest = net.closest(TARGET)

        def silencing(standing: Standing) -> int:
            liars.update(dict.fromkeys(closest[:2], Lie.SILENCE))
            return 4

        async with opened(net) as (carrier, _):
            await carrier.ready()
            outcome = await carrier.keep(MINE, silencing, 0.6)
        assert set(outcome.stored) == set(ids(net, closest[2:4]))

    sim_run(main())


def test_without_a_network_it_says_so() -> None:
    async def main() -> None:
        async with opened(small_net(loss=1.0)) as (carrier, _):
            with pytest.raises(NetworkUnreachable):
                await carrier.keep(MINE, never, 1.0)

    sim_run(main())


def test_it_waits_for_a_put_of_the_same_key_and_sees_it() -> None:
    async def main() -> None:
        async with opened(small_net()) as (carrier, _):
            await carrier.ready()
            put = asyncio.create_task(carrier.put(OWNER, V, b"", WAIT))
            await asyncio.sleep(0)
            kept = await carrier.keep(signed(0), never, WAIT)
            assert put.done()
            assert kept.standing.newer == put.result().item

    sim_run(main())


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("after", [0.05, 0.15, 0.25])
def test_one_that_is_cancelled_or_closed_sends_no_more(after: float, close: bool) -> None:
    async def main() -> None:
        async with opened(small_net()) as (carrier, udp):
            await carrier.ready()
            looking = asyncio.create_task(carrier.keep(MINE, everywhere, WAIT))
            await asyncio.sleep(after)
            if close:
                await carrier.close()
            else:
                looking.cancel()
            with pytest.raises(NetworkUnreachable if close else asyncio.CancelledError):
                await looking
            before = len(udp.sent)
            await asyncio.sleep(60.0)
            assert len(udp.sent) == before

    sim_run(main())
