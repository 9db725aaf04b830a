"""What a million looks an hour need: CPU a look, simulated and on sockets, and beside libtorrent.

The simulated network has 10,000,000 nodes, the keys are neighbours among 1,000,000, and of each
some copies have died. All rooms take part: ledger, codec, lookups, puts; what the simulator itself
needs is measured and left out, what sockets need is measured on loopback and added.
"""

import contextlib
import heapq
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import aiosqlite
import uvloop

from bench.direct.cpu import messages
from bench.direct.swarms import direct_beside, libtorrent_node, swarm_process
from bench.keeping.month import START, VALUE_BYTES
from bench.keeping.sockets import cpu_per_datagram
from bench.libtorrent_rules import DEAD, LOSS, NODES
from bench.load.bare import VALUE, WINDOW, Bare
from bench.report import Bar, Part, Row
from bench.scenario import Options
from dhtmeta._fast import ed25519
from dhtmeta.const import CLOSEST, SEED_BYTES
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.counts import Counts
from dhtmeta.engine.holders import packed_anew
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.planner import Planner
from dhtmeta.engine.republish import Republisher
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.testing.sim_carrier import sim_carrier
from dhtmeta.testing.sim_loop import in_real_time, sim_run
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

AN_HOUR, CORES = 1_000_000, 2
BUDGET = CORES * 3600 / AN_HOUR  # s of CPU a look may take
OF = 1_000_000  # keys of which ours are neighbours
ALIVE = 0.55  # of the copies, when it is looked at again: what simulated months show
SWARM, ON_SWARM, ROUNDS = 20, 500, 5
AGE = 40_000.0  # s since all of it was stored
NO_LIMIT = 1e9  # datagrams a second


@dataclass(frozen=True, slots=True)
class Cost:
    """What one look took, on average: seconds of CPU, seconds, datagrams, node-puts."""

    cpu: float
    seconds: float
    datagrams: float
    puts: float


def bulk(options: Options) -> Part:
    """Measure both."""
    simulated = sim_run(_simulated(300 if options.quick else 3000, options.seed))
    sockets = cpu_per_datagram(20_000)
    with swarm_process(SWARM) as bootstrap:
        ours, theirs = uvloop.run(_on_swarm(bootstrap, 2 if options.quick else ROUNDS))
    whole = simulated.cpu + simulated.datagrams * sockets
    return Part(_rows(simulated, sockets, whole) + _beside(ours, theirs))


def _rows(simulated: Cost, sockets: float, whole: float) -> list[Row]:
    added = f"{simulated.puts:.2f} node-puts, {simulated.datagrams:.1f} datagrams a look"
    cores = whole * AN_HOUR / 3600
    return [
        Row("bulk: CPU a look, simulated, 10,000,000 nodes", simulated.cpu * 1e6, "us", note=added),
        Row("bulk: CPU a datagram through the socket", sockets * 1e6, "us"),
        Row(
            "bulk: CPU a look, sockets included",
            whole * 1e6,
            "us",
            bar=Bar("<=", BUDGET * 1e6),
            note=f"1,000,000 looks an hour take {cores:.2f} cores of {CORES}",
        ),
        Row(
            "bulk: looks an hour of one process on one core",
            3600 / whole,
            bar=Bar(">=", AN_HOUR),
            note="one daemon is one process: the second core is left for libtorrent's thread",
        ),
    ]


def _beside(ours: list[Cost], theirs: list[Cost]) -> list[Row]:
    figures: list[tuple[str, Callable[[Cost], float]]] = [
        ("CPU", lambda one: one.cpu),
        ("datagrams", lambda one: one.datagrams),
        ("time", lambda one: one.seconds),
    ]
    rows = []
    for what, figure in figures:
        pairs = zip(map(figure, ours), map(figure, theirs), strict=True)
        ratios = sorted(one / other for one, other in pairs)
        rows.append(
            Row(
                f"bulk: {what} a look / of a bare libtorrent session's put, {SWARM} nodes",
                median(ratios),
                "x",
                ratios[0],
                ratios[-1],
                note=f"{median(map(figure, ours)):.3g} and {median(map(figure, theirs)):.3g}",
                better="lower",
            )
        )
    return rows


# simulated


def kept_items(count: int, seed: int) -> list[SignedItem]:
    """Return items whose targets are neighbours among OF."""
    identity, rng = Identity(Random(seed).randbytes(SEED_BYTES)), Random(seed + 1)
    salts = (b"%d" % i for i in range(OF))
    near = heapq.nsmallest(count, salts, key=lambda one: ed25519.target(identity.public_key, one))
    return [
        SignedItem.sign(identity, encode_value(rng.randbytes(VALUE_BYTES)), 1, salt)
        for salt in near
    ]


class TimedNet(SimNet):
    """The network of the direct bench; `spent` is the CPU (s) that simulating it takes."""

    def __init__(self, seed: int) -> None:
        super().__init__(NODES, seed=seed, dead=DEAD, loss=LOSS)
        self.spent = 0.0

    def ask(
        self, data: bytes, source: Endpoint, to: Endpoint, now: float
    ) -> list[tuple[float, bytes]]:
        """See `SimNet.ask`."""
        start = time.thread_time()
        said = super().ask(data, source, to, now)
        self.spent += time.thread_time() - start
        return said


async def _simulated(count: int, seed: int) -> Cost:
    net, rng = TimedNet(seed + 2), Random(seed + 2)
    kept = kept_items(count, seed)
    carrier = await sim_carrier(net, seed=seed)
    async with _ledger(kept, net, rng) as store:
        republisher, counts = _republisher(store, carrier, START + AGE)
        before, traffic = _cpu() - net.spent, net.traffic.datagrams
        assert await republisher.run_once() == count
        cpu = _cpu() - net.spent - before
    await carrier.close()
    assert counts.looks_ok >= 0.98 * count, counts
    datagrams = (net.traffic.datagrams - traffic) / count
    return Cost(cpu / count, 0.0, datagrams, counts.topped_up / count)


@contextlib.asynccontextmanager
async def _ledger(kept: list[SignedItem], net: SimNet | None, rng: Random) -> AsyncIterator[Store]:
    """Write the rows of kept records to a real file, and plant the copies that are still there."""
    with (
        tempfile.TemporaryDirectory() as directory,
        in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"),
    ):
        store = await Store.open(str(Path(directory) / "store.db"), lambda: START + AGE)
        ledger = Ledger(store)
        for item in kept:
            holders = b""
            if net is not None:
                closest = net.closest(item.target, CLOSEST)
                holders = packed_anew([net.contact(i).node_id for i in closest], START)
                net.store(item, [i for i in closest if rng.random() < ALIVE])
            await ledger.confirm(item, CLOSEST, START + AGE, START, holders=holders)
        yield store
        await store.close()


def _republisher(store: Store, carrier: DirectCarrier, now: float) -> tuple[Republisher, Counts]:
    counts, planner = Counts(), Planner(Random(1))
    cache, ledger = RecordCache(store, seed=1), Ledger(store)
    keeper = Keeper(cache, ledger, lambda: carrier, planner, counts, lambda: now)
    return (
        Republisher(ledger, keeper, _not_ours, lambda: carrier, lambda: now, NO_LIMIT),
        counts,
    )


async def _not_ours(entry: LedgerEntry) -> bool:
    return False


# on a real swarm


async def _on_swarm(bootstrap: list[str], rounds: int) -> tuple[list[Cost], list[Cost]]:
    """Look at the same keys, and have a bare session put them, turn about."""
    bare, identities = Bare(bootstrap), [Identity.generate() for _ in range(ON_SWARM)]
    assert len(bare.put(identities)) == ON_SWARM
    ours, theirs = [], []
    async with libtorrent_node(bootstrap, WINDOW) as node, direct_beside(node) as direct:
        for turn in range(rounds):
            theirs.append(_put(bare, identities))
            same = [SignedItem.sign(one, encode_value(VALUE), 2 + turn) for one in identities]
            ours.append(await _look(direct, same))
    return ours, theirs


def _put(bare: Bare, identities: list[Identity]) -> Cost:
    before, cpu, start = messages(bare.session), _cpu(), time.monotonic()
    accepted = bare.put(identities)
    assert len(accepted) == len(identities)
    count = len(identities)
    return Cost(
        (_cpu() - cpu) / count,
        (time.monotonic() - start) / count,
        (messages(bare.session) - before) / count,
        sum(accepted.values()) / count,
    )


async def _look(carrier: DirectCarrier, kept: list[SignedItem]) -> Cost:
    """Look at what the session has just put: all copies are there, so none is added."""
    traffic, count = carrier.core.traffic, len(kept)
    async with _ledger(kept, None, Random(1)) as store:
        republisher, counts = _republisher(store, carrier, START + AGE)
        sent, cpu, start = traffic.datagrams_in + traffic.datagrams_out, _cpu(), time.monotonic()
        assert await republisher.run_once() == count
        spent, seconds = _cpu() - cpu, time.monotonic() - start
    datagrams = traffic.datagrams_in + traffic.datagrams_out - sent
    return Cost(spent / count, seconds / count, datagrams / count, counts.topped_up / count)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
