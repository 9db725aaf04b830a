"""The rooms that keep records alive, beside a simulated network and on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import aiosqlite

from dhtmeta.const import DUE_AHEAD, REPUBLISH_PACKETS
from dhtmeta.dht.carrier import KeepOutcome, TopUp
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.counts import Counts
from dhtmeta.engine.holders import packed_anew
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.planner import Planner
from dhtmeta.engine.publish import Publisher
from dhtmeta.engine.republish import Republisher, Resign
from dhtmeta.krpc.compact import Contact
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.testing.sim_carrier import US, SimulatedNode
from dhtmeta.testing.sim_loop import in_real_time
from dhtmeta.testing.sim_socket import SimSocket
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

START = 1_800_000_000.0  # Unix s at virtual time 0
OWNER = Identity(b"o" * 32)


class Clock:
    """Unix seconds that follow virtual time, until somebody sets the clock."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return START + self.ahead + asyncio.get_running_loop().time()


class Outage(SimulatedNode):
    """The node beside the carrier: it knows nobody while nothing comes through."""

    async def live_nodes(self) -> list[Contact]:
        return [] if self._net.loss == 1.0 else await super().live_nodes()


class Watched(DirectCarrier):
    """A carrier that says which targets were looked at, when; while `failing`, each look fails."""

    failing: Exception | None = None

    def __init__(self, net: SimNet) -> None:
        super().__init__(Outage(net, 1), SimSocket(net, US), seed=1)
        self.looks: list[tuple[float, bytes]] = []

    async def keep(self, item: SignedItem, top_up: TopUp, deadline: float) -> KeepOutcome:
        self.looks.append((asyncio.get_running_loop().time(), item.target))
        if self.failing is not None:
            raise self.failing
        return await super().keep(item, top_up, deadline)

    @property
    def targets(self) -> list[bytes]:
        return [target for _, target in self.looks]


@dataclass(slots=True)
class Rooms:
    net: SimNet
    carrier: Watched
    store: Store
    ledger: Ledger
    cache: RecordCache
    planner: Planner
    publisher: Publisher
    counts: Counts
    keeper: Keeper
    republisher: Republisher
    clock: Clock

    async def kept(
        self,
        item: SignedItem,
        holders: Sequence[int],
        *,
        age: float = 0.0,
        due: float = 0.0,
        **values: Any,
    ) -> SignedItem:
        """Have it stored on these nodes `age` s ago, and due in so many seconds."""
        now = self.clock()
        self.net.store(item, holders)
        nodes = [self.net.contact(one).node_id for one in holders]
        packed = packed_anew(nodes, now - age)
        await self.ledger.confirm(item, len(nodes), now + due, now - age, holders=packed, **values)
        return item

    async def many(self, count: int, **values: Any) -> list[SignedItem]:
        """Have so many items stored on the eight closest of each."""
        items = [signed(1, salt=b"%d" % n) for n in range(count)]
        return [await self.kept(one, self.net.closest(one.target), **values) for one in items]

    async def entry(self, item: SignedItem) -> LedgerEntry:
        """Return what the ledger says of it."""
        entry = await self.ledger.newest(item.target)
        assert entry is not None
        return entry

    async def due(self) -> list[bytes]:
        """Return the targets of what is due now."""
        page = await self.ledger.due(self.clock(), 1000)
        return [one.item.target for one in page.entries]


@contextlib.asynccontextmanager
async def rooms(
    net: SimNet,
    *,
    store: str = MEMORY,
    resign: "Resign | None" = None,
    packets: float = REPUBLISH_PACKETS,
    ahead: float = DUE_AHEAD,
) -> AsyncIterator[Rooms]:
    """Open all that a Node puts together to keep records alive."""
    clock, carrier = Clock(), Watched(net)
    await carrier.start()
    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"):
        opened = await Store.open(store, clock)
        ledger, cache, planner = Ledger(opened), RecordCache(opened, seed=1), Planner(Random(1))
        publisher = Publisher(cache, ledger, lambda: carrier, clock, planner)
        counts = Counts()
        keeper = Keeper(cache, ledger, lambda: carrier, planner, counts, clock)
        republisher = Republisher(
            ledger, keeper, resign or _not_ours, lambda: carrier, clock, packets, ahead
        )
        parts = (opened, ledger, cache, planner, publisher, counts, keeper, republisher, clock)
        try:
            yield Rooms(net, carrier, *parts)
        finally:
            await carrier.close()
            await opened.close()


@contextlib.asynccontextmanager
async def running(republisher: Republisher) -> AsyncIterator["asyncio.Task[None]"]:
    """Let it run until the end of the block."""
    task = asyncio.create_task(republisher.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _not_ours(entry: LedgerEntry) -> bool:
    return False


def small_net(nodes: int = 1000, **options: Any) -> SimNet:
    """Return a network in which every exchange takes 0.1 s, unless said otherwise."""
    given: dict[str, Any] = {"seed": 1, "round_trip": constant_round_trip(0.1)} | options
    return SimNet(nodes, **given)


def signed(seq: int, value: Any = b"hello", salt: bytes = b"") -> SignedItem:
    return SignedItem.sign(OWNER, encode_value(value), seq, salt)
