"""The same policies on a real swarm in real time, and how far that differs from virtual time.

Ten times as fast: records change, are asked for, and expire in a tenth of their time, so a few
minutes show what else takes half an hour. What lookups take on this swarm is measured first, and
is what virtual time has for them.
"""

import asyncio
from collections.abc import Callable
from random import Random
from time import monotonic

import uvloop

from bench.direct.swarms import direct_beside, libtorrent_node, swarm_process
from bench.hit_rate.dht import Lookups, TraceCarrier
from bench.hit_rate.policies import Clock, Getter, PlainTtl, Policy, Shipped, unix
from bench.hit_rate.replay import Played, Player
from bench.hit_rate.trace import DAY, EPOCH, HOUR, Law, Trace
from bench.report import Bar, Part, Row
from bench.scenario import Options, counted
from bench.simulated import Run
from dhtmeta.const import CACHE_TTL, READY_DEADLINE
from dhtmeta.dht.carrier import GetOutcome
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.testing.sim_loop import sim_run
from dhtmeta.values.item import SignedItem

NODES, PEERS, MINUTES, WINDOW, WAIT = 20, 50, 3, 32, 30.0
FASTER = 10
LAW = Law(
    ((0.80, DAY / FASTER), (0.15, HOUR / FASTER), (0.05, 300.0 / FASTER)),
    look_every=30.0 / FASTER,
    asked_per_second=2.0 * FASTER,
)
TTL = CACHE_TTL / FASTER
KINDS = ("dhtmeta", "plain TTL")
SAMPLES = 200  # lookups, of which virtual time takes them
WITHIN = 0.2  # virtual figures of real ones: a busy machine is late, and chance has its part


class Counted:
    """A carrier whose lookups are counted."""

    signs_itself = False

    def __init__(self, carrier: DirectCarrier) -> None:
        self._carrier = carrier
        self.lookups = 0

    @property
    def datagrams(self) -> int:
        """Those of both directions so far."""
        traffic = self._carrier.core.traffic
        return traffic.datagrams_in + traffic.datagrams_out

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """See `Carrier.ready`."""
        await self._carrier.ready(deadline)

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """See `Carrier.get`."""
        self.lookups += 1
        return await self._carrier.get(public_key, salt, on_item, deadline, enough=enough)


def real(options: Options) -> Part:
    """Play a trace to dhtmeta and to the plain TTL, both really and in virtual time."""
    peers, minutes = options.value("peers", PEERS, 20), options.value("minutes", MINUTES, 1)
    trace = Trace(peers, options.seed, LAW, 60.0 * minutes, warm_up=TTL)
    with swarm_process(NODES) as bootstrap:
        really, lookups = uvloop.run(_on_swarm(bootstrap, trace, options.seed))
    virtually = {name: _in_virtual_time(trace, lookups, name, options.seed) for name in KINDS}
    part, note = Part(), f"{minutes} minutes, {peers} peers, {NODES} nodes, {FASTER} times as fast"
    for name in KINDS:
        part.add(*_rows(name, really[name], virtually[name], note))
    return part


def _policy(name: str, carrier: Getter, peers: int, seed: int, clock: Clock) -> Policy:
    if name == "plain TTL":
        return PlainTtl(carrier, 4 * peers, TTL)
    return Shipped(carrier, seed, TTL, clock)


async def _on_swarm(
    bootstrap: list[str], trace: Trace, seed: int
) -> tuple[dict[str, Played], Lookups]:
    """Store the records, measure lookups, then play the trace to both, each with its carrier."""
    async with libtorrent_node(bootstrap, WINDOW) as node, direct_beside(node) as publisher:
        for peer in counted("storing", trace.peers, len(trace.peers)):
            await _store(publisher, peer.item(peer.version(0.0)))
        async with direct_beside(node) as one, direct_beside(node) as other:
            lookups = await _lookups(Counted(one), trace, seed)
            start = monotonic()
            publishing = asyncio.create_task(_publish(publisher, trace, start))
            plays = (
                _play(trace, name, Counted(carrier), start, seed)
                for name, carrier in zip(KINDS, (one, other), strict=True)
            )
            runs = await asyncio.gather(*plays)
            await publishing
    return dict(zip(KINDS, runs, strict=True)), lookups


async def _store(carrier: DirectCarrier, item: SignedItem) -> None:
    async def choose(found: SignedItem | None) -> SignedItem:
        return item

    outcome = await carrier.put_item(item.public_key, b"", choose, WAIT)
    assert outcome.accepted, "nodes of the swarm take it"


async def _lookups(carrier: Counted, trace: Trace, seed: int) -> Lookups:
    """Return what lookups take on this swarm, now that its nodes are known."""
    rng = Random(f"{seed} samples")
    runs: tuple[list[Run], list[Run]] = ([], [])
    for _ in range(SAMPLES):
        for enough, kept in zip((None, 0), runs, strict=True):
            key = rng.choice(trace.peers).identity.public_key
            before, start = carrier.datagrams, monotonic()
            outcome = await carrier.get(key, b"", lambda item: None, WAIT, enough=enough)
            assert outcome.item is not None
            kept.append(Run(monotonic() - start, carrier.datagrams - before, 0, 1.0))
    return Lookups(*runs)


async def _publish(carrier: DirectCarrier, trace: Trace, start: float) -> None:
    """Store each new version in its time."""
    for at, number, peer in trace.changes():
        await asyncio.sleep(max(0.0, start + at - monotonic()))
        await _store(carrier, peer.item(number))


async def _play(trace: Trace, name: str, carrier: Counted, start: float, seed: int) -> Played:
    def now() -> float:
        return monotonic() - start

    policy = _policy(name, carrier, len(trace.peers), seed, lambda: EPOCH + now())
    try:
        player = Player(trace, policy, lambda: (carrier.lookups, carrier.datagrams), now)
        return await player.play()
    finally:
        await policy.close()


def _in_virtual_time(trace: Trace, lookups: Lookups, name: str, seed: int) -> Played:
    async def play() -> Played:
        carrier = TraceCarrier(trace, lookups, seed)
        policy = _policy(name, carrier, len(trace.peers), seed, unix)
        now = asyncio.get_running_loop().time
        try:
            player = Player(trace, policy, lambda: (carrier.lookups, carrier.datagrams), now)
            return await player.play()
        finally:
            await policy.close()

    return sim_run(play())


def _rows(name: str, really: Played, virtually: Played, note: str) -> list[Row]:
    """Return each figure as it really was, and what virtual time has for it over that."""
    figures: list[tuple[str, Callable[[Played], float]]] = [
        ("answered without waiting", lambda run: run.without_waiting),
        ("lookups a second", lambda run: run.lookups / run.seconds),
        ("datagrams a second", lambda run: run.datagrams / run.seconds),
        ("share of answers out of date", lambda run: run.out_of_date),
    ]
    rows = []
    for what, figure in figures:
        real, virtual = figure(really), figure(virtually)
        rows.append(Row(f"real swarm, {name}: {what}", real, note=note))
        ratio = virtual / real if real else None
        bar = Bar("~", 1.0, WITHIN)
        title = f"calibration: {name}: {what}, virtual / real"
        rows.append(Row(title, ratio, "x", bar=bar, note=f"{virtual:.4g} and {real:.4g}"))
    return rows
