"""The hit rate: the trace is what it says, answers are counted rightly, a seed repeats."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

import pytest

from bench.hit_rate.dht import Lookups, TraceCarrier
from bench.hit_rate.parts import POLICIES, played
from bench.hit_rate.policies import Shipped
from bench.hit_rate.replay import Played, Player
from bench.hit_rate.trace import DAY, HOUR, Law, Peer, Trace, Version
from bench.simulated import Run
from dhtmeta.config import Settings
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.values.item import SignedItem

LOOKUPS = Lookups([Run(1.0, 30, 0, 1.0)], [Run(0.5, 10, 0, 1.0)])
CALM = Law(((1.0, 1e8),), asked_per_second=1e-9)


def short(law: Law = CALM, peers: int = 5, seconds: float = 1200.0, seed: int = 1) -> Trace:
    return Trace(peers, seed, law, seconds)


# the trace


def test_a_seed_makes_the_same_trace_and_another_seed_another_one() -> None:
    def told(seed: int) -> tuple[list[tuple[float, bytes]], list[Version]]:
        trace = short(Law(), seed=seed)
        asked = [(at, peer.identity.public_key) for at, peer in trace.queries()]
        return asked, [version for peer in trace.peers for version in peer.versions]

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_each_peer_is_looked_at_every_30_seconds_and_the_application_asks_some_far_more() -> None:
    law = Law(asked_per_second=5.0)
    trace = Trace(100, 1, law)
    queries = list(trace.queries())
    assert all(one <= other for (one, _), (other, _) in pairwise(queries))
    asked = sorted(Counter(peer.identity.public_key for _, peer in queries).values())
    looks = trace.end / law.look_every
    assert asked[0] >= looks
    assert asked[-1] - looks > 5 * (asked[50] - looks)
    assert len(queries) == pytest.approx(100 * looks + 5.0 * trace.end, rel=0.05)


def test_records_change_as_often_as_the_law_says() -> None:
    trace = Trace(400, 1, Law(), seconds=4 * HOUR, warm_up=0.0)
    changed = Counter(len(peer.versions) - 1 for peer in trace.peers)
    often = sorted(changed.elements())[-20:]  # one in 20
    assert fmean(often) == pytest.approx(4 * HOUR / 300, rel=0.15)
    quiet = 320 * 4 * HOUR / DAY + 60 * 4
    assert sum(changed.elements()) - sum(often) == pytest.approx(quiet, rel=0.2)


def test_a_record_that_is_signed_anew_says_the_same_with_a_new_seq() -> None:
    trace = short(replace(CALM, signed_anew=300.0), seconds=HOUR)
    for peer in trace.peers:
        assert len(peer.versions) > 10
        assert {version.content for version in peer.versions} == {0}
        assert all(0 < other.at - one.at < 301 for one, other in pairwise(peer.versions[1:]))
        first, last = (peer.item(number) for number in (0, len(peer.versions) - 1))
        assert first.seq < last.seq
        assert peer.outdated_for(first.seq, trace.end) == 0.0


def test_an_answer_is_out_of_date_from_when_its_content_was_replaced() -> None:
    peer = short().peers[0]
    peer.versions = [Version(-9.0, 0), Version(10.0, 0), Version(20.0, 1), Version(30.0, 2)]
    assert [peer.version(at) for at in (0.0, 10.0, 25.0, 99.0)] == [0, 1, 2, 3]
    ages = {(1, 15.0): 0.0, (1, 25.0): 5.0, (2, 50.0): 30.0, (3, 50.0): 20.0, (4, 50.0): 0.0}
    for (seq, at), age in ages.items():
        assert peer.outdated_for(seq, at) == age


# what is counted


class Scripted:
    """Gives the first version of everything, and waits where it is told to."""

    datagrams = 0

    def __init__(self, waits: Callable[[], Awaitable[None]] | None) -> None:
        self._waits = waits

    async def query(self, peer: Peer) -> SignedItem:
        if self._waits is not None:
            await self._waits()
        return peer.item(0)

    async def close(self) -> None:
        pass


def play(trace: Trace, waits: Callable[[], Awaitable[None]] | None) -> Played:
    async def main() -> Played:
        now = asyncio.get_running_loop().time
        return await Player(
            trace, Scripted(waits), lambda: (int(now()), 2 * int(now())), now
        ).play()

    return sim_run(main())


def test_who_gets_an_answer_at_once_has_not_waited() -> None:
    trace = short()
    found = play(trace, None)
    assert found.queries == sum(at >= trace.warm_up for at, _ in trace.queries())
    assert (found.waited, found.without_waiting, found.ages) == (0, 1.0, [])
    assert found.lookups == pytest.approx(trace.seconds, abs=31)  # one a second, warm-up left out
    assert found.datagrams == 2 * found.lookups


def test_who_waits_at_all_is_counted_however_short_that_is() -> None:
    found = play(short(), lambda: asyncio.sleep(0))
    assert (found.waited, found.without_waiting) == (found.queries, 0.0)


def test_an_error_of_a_query_is_not_swallowed() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        play(short(), fail)


def test_ages_are_of_answers_that_were_out_of_date_when_given() -> None:
    trace = short(peers=1)
    trace.peers[0].versions = [Version(-1.0, 0), Version(trace.end - 90.0, 1)]
    found = play(trace, None)
    late = [at for at, _ in trace.queries() if at >= trace.end - 90.0]
    assert found.ages == [pytest.approx(at - (trace.end - 90.0)) for at in late]
    assert found.worst == max(found.ages)
    assert found.out_of_date == len(late) / found.queries


# the policies


def lookups_of(name: str, trace: Trace) -> Played:
    return played(trace, name, LOOKUPS, 1)


def test_without_a_cache_everybody_waits_and_nothing_is_old() -> None:
    found = lookups_of("no cache", short())
    assert found.without_waiting == 0.0
    assert found.lookups == found.queries
    assert found.datagrams == 30 * found.lookups


def test_a_plain_lifetime_costs_a_lookup_every_five_minutes() -> None:
    trace = short(seconds=HOUR)
    found = lookups_of("plain TTL", trace)
    assert found.lookups == found.waited
    each = len(trace.peers) * trace.seconds
    assert each / 345 < found.lookups < each / 300 + len(trace.peers)


def test_dhtmeta_answers_at_once_with_fewer_lookups_than_a_plain_lifetime() -> None:
    trace = short(seconds=HOUR)
    ours, plain = (lookups_of(name, trace) for name in ("dhtmeta", "plain TTL"))
    assert ours.without_waiting == 1.0
    assert ours.lookups < 0.5 * plain.lookups


def test_what_peers_tell_is_not_looked_up_and_is_hardly_ever_old() -> None:
    trace = Trace(40, 1, Law(((1.0, 300.0),)), seconds=900.0)
    alone, told = (lookups_of(name, trace) for name in ("dhtmeta", "with hints"))
    assert told.lookups < alone.lookups
    assert told.out_of_date < 0.2 * alone.out_of_date
    assert told.datagrams > 30 * told.lookups  # hints count


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_gives_the_same_figures_twice(name: str) -> None:
    def figures() -> Sequence[object]:
        trace = Trace(20, 3, Law(), seconds=900.0)
        found = played(trace, name, LOOKUPS, 3)
        return found.queries, found.waited, found.lookups, found.datagrams, found.ages

    assert figures() == figures()


def test_the_policy_that_is_measured_is_the_one_that_ships() -> None:
    """With the settings that a node has where nobody says otherwise."""

    async def main() -> None:
        carrier = TraceCarrier(short(), LOOKUPS, 1)
        shipped, default = Shipped(carrier, 1), Settings().metadata_cache
        assert (shipped.cache._ttl, shipped.cache._stale_for, shipped.cache._learns) == (
            default.ttl_seconds,
            default.stale_seconds,
            default.learn,
        )
        await shipped.close()

    sim_run(main())
