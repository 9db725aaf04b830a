"""The DHT of a trace: what a lookup finds, how long it takes, and how many datagrams.

Lookups are not simulated one by one: each takes what one of several hundred did on the simulated
DHT of 10,000,000 nodes, where 15 % are dead and 5 % of the datagrams are lost.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from bench.direct.conditions import ask, network, new_identity, random, signed
from bench.hit_rate.trace import Trace
from bench.scenario import counted
from bench.simulated import Client, Run
from dhtmeta._fast import ed25519
from dhtmeta.const import CONTACTS, DIRECT_COPIES, READY_DEADLINE
from dhtmeta.dht.carrier import GetOutcome
from dhtmeta.values.item import SignedItem


@dataclass(frozen=True, slots=True)
class Lookups:
    """What lookups took: to the end, and those that end with the first item that is enough."""

    full: list[Run]
    early: list[Run]


def measured(count: int) -> Lookups:
    """Look `count` records up on the simulated DHT, both ways, with nodes remembered."""
    net, rng = network(), random("hit rate")
    runs: tuple[list[Run], list[Run]] = ([], [])
    remembered = [net.contact(net.random_live(rng)) for _ in range(CONTACTS)]
    for seed in counted("what lookups take", range(count), count):
        item = signed(rng, new_identity(rng), 1)
        net.store(item, net.closest(item.target, DIRECT_COPIES))
        ask(net, item.public_key, rng)
        for enough, kept in zip((None, 0), runs, strict=True):
            client = Client(net, seed)
            client.remember(remembered)
            kept.append(client.get(item.public_key, enough=enough)[1])
    return Lookups(*runs)


class TraceCarrier:
    """A carrier for whom the records of a trace are on the DHT, as `Carrier` has it."""

    signs_itself = False

    def __init__(self, trace: Trace, lookups: Lookups, seed: int) -> None:
        self._trace, self._lookups = trace, lookups
        self._random = Random(f"{seed} lookups")
        self.lookups = self.datagrams = 0

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """See `Carrier.ready`: always."""

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """Find what was on the DHT in the middle of the lookup."""
        run = self._random.choice(self._lookups.full if enough is None else self._lookups.early)
        self.lookups += 1
        self.datagrams += run.datagrams
        loop = asyncio.get_running_loop()
        peer = self._trace.by_target[ed25519.target(public_key, salt)]
        item = peer.item(peer.version(loop.time() + run.seconds / 2))
        await asyncio.sleep(run.seconds)
        on_item(item)
        return GetOutcome(item, converged=enough is None)
