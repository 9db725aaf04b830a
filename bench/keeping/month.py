"""A simulated month of the republisher: what stays retrievable, and what that costs.

The engine is the one that ships, on virtual time; nodes die by the survival law, and what is
retrievable is read from the simulator, never from what the policy believes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from statistics import fmean

import aiosqlite

from bench import libtorrent_rules
from bench.libtorrent_rules import DEAD, LOSS
from bench.simulated import Client
from dhtmeta.const import CLOSEST, REPUBLISH_PACKETS, SEED_BYTES
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.counts import Counts
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.planner import Planner
from dhtmeta.engine.publish import Publisher
from dhtmeta.engine.republish import Republisher
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.testing.sim_carrier import sim_carrier
from dhtmeta.testing.sim_loop import in_real_time, sim_run
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NODES = 20_000  # what a simulated network with churn can have
HOUR, DAY = 3600.0, 86_400.0
START = 1_800_000_000.0  # Unix s at virtual time 0
VALUE_BYTES = 600  # about a NodeRecord
STRANGERS = 20  # lookups a day by somebody who knows 8 nodes


@dataclass(frozen=True, slots=True)
class Scenario:
    """How many keys for how many days; copies die `speed` times as fast as the law has it.

    From `outage` (s, begin and end) the daemon does not run.
    """

    name: str
    keys: int
    days: float
    speed: float = 1.0
    outage: tuple[float, float] | None = None
    seed: int = 7


@dataclass(slots=True)
class Month:
    """What came of it: shares of the keys for each hour, and the traffic of the daemon alone.

    `found`: one of the 8 closest live nodes holds it, so that every lookup that converges finds
    it; `anywhere`: some live node does; `strangers`: lookups of some that did find theirs.
    """

    found: list[float] = field(default_factory=list)
    anywhere: list[float] = field(default_factory=list)
    strangers: list[bool] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)
    published: int = 0
    datagrams: int = 0
    counts: Counts = field(default_factory=Counts)
    key_days: float = 0.0
    in_ledger: int = 0  # records that the ledger keeps at the end

    @property
    def retrievable(self) -> float:
        """The mean share over all hours."""
        return fmean(self.found)

    @property
    def node_puts(self) -> float:
        """Node-puts a key and hour, without the first publication."""
        return self.counts.topped_up / (24 * self.key_days)

    @property
    def looks_a_day(self) -> float:
        """Looks a key and day."""
        return self.counts.looks_ok / self.key_days

    @property
    def datagrams_a_day(self) -> float:
        """Datagrams a key and day, both ways, without the first publication."""
        return self.datagrams / self.key_days


def clock() -> float:
    """Return Unix seconds of the virtual time."""
    return START + asyncio.get_running_loop().time()


class Daemon:
    """The rooms that keep records alive, as a Node puts them together."""

    def __init__(self, store: Store, carrier: DirectCarrier, counts: Counts, seed: int) -> None:
        self.planner = Planner(Random(seed))
        self._ledger = Ledger(store)
        cache = RecordCache(store, seed=seed)
        self.publisher = Publisher(cache, self._ledger, lambda: carrier, clock, self.planner)
        keeper = Keeper(cache, self._ledger, lambda: carrier, self.planner, counts, clock)
        self.republisher = Republisher(
            self._ledger, keeper, _not_ours, lambda: carrier, clock, REPUBLISH_PACKETS
        )


async def _not_ours(entry: LedgerEntry) -> bool:
    return False


def items(scenario: Scenario) -> list[SignedItem]:
    """Return signed items under keys of their own."""
    rng = Random(scenario.seed)
    return [
        SignedItem.sign(
            Identity(rng.randbytes(SEED_BYTES)), encode_value(rng.randbytes(VALUE_BYTES)), 1
        )
        for _ in range(scenario.keys)
    ]


def run(scenario: Scenario) -> Month:
    """Let it all happen."""
    return sim_run(_month(scenario))


async def _month(scenario: Scenario) -> Month:
    net = SimNet(
        NODES, seed=scenario.seed, dead=DEAD, loss=LOSS, churn=True, survival_scale=scenario.speed
    )
    month, kept = Month(), items(scenario)
    async with _opened() as store:
        await _publish(net, store, kept, month)
        month.datagrams = -net.traffic.datagrams
        start = asyncio.get_running_loop().time()
        watching = asyncio.create_task(_watch(net, kept, scenario, month, start))
        for begin, end in _uptimes(scenario):
            await _run_daemon(
                net, store, month, scenario.seed + int(begin), start + begin, start + end
            )
        await watching
        month.in_ledger = (await Ledger(store).totals(clock(), clock())).kept
    month.datagrams += net.traffic.datagrams
    month.key_days = scenario.keys * scenario.days
    return month


@contextlib.asynccontextmanager
async def _opened() -> AsyncIterator[Store]:
    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"):
        store = await Store.open(MEMORY, clock, cleanup_interval=DAY)
        try:
            yield store
        finally:
            await store.close()


async def _publish(net: SimNet, store: Store, kept: list[SignedItem], month: Month) -> None:
    """Put everything once, as `dhtmeta put` does."""
    carrier = await sim_carrier(net, seed=1)
    daemon = Daemon(store, carrier, month.counts, 1)
    slots = asyncio.Semaphore(64)

    async def put(item: SignedItem) -> int:
        async with slots:
            return (await daemon.publisher.put(item)).copies or 0

    copies = await asyncio.gather(*map(put, kept))
    month.published = sum(copies)
    await carrier.close()


def _uptimes(scenario: Scenario) -> list[tuple[float, float]]:
    end = scenario.days * DAY
    if scenario.outage is None:
        return [(0.0, end)]
    return [(0.0, scenario.outage[0]), (scenario.outage[1], end)]


async def _run_daemon(
    net: SimNet, store: Store, month: Month, seed: int, begin: float, end: float
) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begin - loop.time())
    carrier = await sim_carrier(net, seed=seed)
    daemon = Daemon(store, carrier, month.counts, seed)
    running = asyncio.create_task(daemon.republisher.run())
    while loop.time() < end:
        await asyncio.sleep(min(HOUR, end - loop.time()))
        month.speeds.append(daemon.planner.mortality.law().speed)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await carrier.close()


async def _watch(
    net: SimNet, kept: list[SignedItem], scenario: Scenario, month: Month, start: float
) -> None:
    """Read each hour from the simulator who can be found; ask as a stranger now and then."""
    loop, rng = asyncio.get_running_loop(), Random(scenario.seed)
    for hour in range(int(scenario.days * 24)):
        await asyncio.sleep(start + (hour + 1) * HOUR - loop.time())
        net.advance(loop.time())
        month.found.append(fmean(_is_found(net, item) for item in kept))
        month.anywhere.append(fmean(bool(_holders(net, item)) for item in kept))
        if hour % 24 == 12:
            before = net.traffic.datagrams
            month.strangers += [_ask(net, rng.choice(kept), rng) for _ in range(STRANGERS)]
            month.datagrams -= net.traffic.datagrams - before


def _holders(net: SimNet, item: SignedItem) -> set[int]:
    held = net.holders(item.target)
    return {i for i, one in held.items() if one.seq >= item.seq}


def _is_found(net: SimNet, item: SignedItem) -> bool:
    holders = _holders(net, item)
    return bool(holders) and not holders.isdisjoint(net.closest(item.target, CLOSEST))


def _ask(net: SimNet, item: SignedItem, rng: Random) -> bool:
    """Look it up from a cold start, as somebody else would."""
    client = Client(net, rng.getrandbits(32))
    client.now = net.now
    client.remember(net.contacts_of(net.random_live(rng), item.target))
    search, _ = client.get(item.public_key, item.salt)
    return search.best is not None


def hourly_baseline(keys: int, hours: int, seed: int = 7) -> float:
    """Return datagrams a key and day of republishing hourly to the 8 closest, with our lookups.

    Each is a lookup of the 8 closest by a session that remembers nodes, and 8 puts with their
    answers; nothing is read back.
    """
    net = SimNet(NODES, seed=seed, dead=DEAD, loss=LOSS, churn=True)
    kept = items(Scenario("baseline", keys, 0, seed=seed))
    client = Client(net, seed)
    client.remember([net.contact(net.random_live(Random(seed))) for _ in range(CLOSEST)])
    spent = 0
    for hour in range(hours):
        client.now = max(client.now, hour * HOUR)
        for item in kept:
            _, cost = client.get(item.public_key, item.salt)
            spent += cost.datagrams + 2 * CLOSEST
    return 24 * spent / (keys * hours)


def hourly_libtorrent(keys: int, seed: int = 7) -> float:
    """Return the same by libtorrent's rules, which start each lookup from a routing table."""
    net = SimNet(NODES, seed=seed, dead=DEAD, loss=LOSS, churn=True)
    rng, spent = Random(seed), 0
    for item in items(Scenario("baseline", keys, 0, seed=seed)):
        start = net.contacts_of(net.random_live(rng), item.target)
        spent += libtorrent_rules.measure(net, item.target, start).datagrams + 2 * CLOSEST
    return 24 * spent / keys
