"""dhtmeta as its daemon ships: the same engine, with the exchange that passes news on.

Ours is the real gossip, and so is that of its eight neighbours, over links in memory. How soon each
of these hears of a change in the rest of the network is drawn: a step takes as long as news is
gathered and one and a half round trips, and each tells four others.
"""

import asyncio
import random
from collections.abc import Callable
from math import ceil
from typing import cast

from bench.hit_rate.policies import Getter, Shipped, no_disk, unix
from bench.hit_rate.trace import TOPIC, Peer, Trace
from dhtmeta.const import (
    DISCOVERY_INTERVAL,
    EXCHANGE_PING,
    NEIGHBOURS,
    NEWS_DELAY,
    NEWS_FANOUT,
    SEED_BYTES,
)
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.gossip import Gossip
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.engine.cache import RecordCache
from dhtmeta.krpc import exchange as wire
from dhtmeta.store.store import Store
from dhtmeta.testing.simnet import default_round_trip
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity

LINKS = 2 * NEIGHBOURS  # those that a node dials, and as many that dial it
PACKET = (
    1150  # bytes of a message in one datagram, by which each is answered with an acknowledgement
)
PINGS = 4 * LINKS / EXCHANGE_PING  # datagrams a second: a ping and a pong, each acknowledged


class _House:
    """What a gossip needs of an exchange, without sockets."""

    def __init__(self, identity: Identity) -> None:
        self.identity = lambda: identity
        self.on_open: list[Callable[[Link], None]] = []
        self.on_close: list[Callable[[Link], None]] = []
        self._handlers: dict[type[wire.Message], Callable[[Link, wire.Message], None]] = {}

    def on(self, kind: type[wire.Message], handler: Callable[[Link, wire.Message], None]) -> None:
        """Have `handler` hear messages of one kind."""
        self._handlers[kind] = handler

    def topics(self) -> list[bytes]:
        """Return ours."""
        return [topic_hash(TOPIC)]

    def shun(self, link: Link, why: str) -> None:
        """Nobody lies here."""
        raise AssertionError(why)

    def hear(self, link: "_Link", message: wire.Message) -> None:
        """Take a message in."""
        self._handlers[type(message)](cast("Link", link), message)


class _Link:
    """One end of a connection: what is said at it is heard at `far`, half a round trip later."""

    is_open = True

    def __init__(self, house: _House, whose: Identity, round_trip: float) -> None:
        self.house, self.public_key = house, whose.public_key
        self.topics = frozenset([topic_hash(TOPIC)])
        self.far: _Link | None = None
        self.datagrams = 0
        self._delay = round_trip / 2

    def say(self, message: wire.Message) -> None:
        """Send it; where nobody is at the far end, it is only said."""
        if self.far is None:
            return
        self.datagrams += 2 * ceil(len(wire.encode(message)) / PACKET)
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay, self.far.house.hear, self.far, message)


class Neighbour:
    """A node whose news comes from elsewhere, as well as from us."""

    def __init__(
        self, identity: Identity, rng: random.Random, store: Store, cache: RecordCache
    ) -> None:
        self.identity, self.house, self.cache = identity, _House(identity), cache
        self.gossip = Gossip(
            cast("Exchange", self.house),
            self.cache,
            lambda: store.peers,
            lambda: None,
            unix,
            random.Random(rng.getrandbits(64)),
        )
        self.cache.on_news = self.gossip.tell

    def connect(self, other: "Neighbour", round_trip: float) -> list[_Link]:
        """Open a connection; returns both ends."""
        ends = [
            _Link(self.house, other.identity, round_trip),
            _Link(other.house, self.identity, round_trip),
        ]
        ends[0].far, ends[1].far = ends[1], ends[0]
        for end in ends:
            for opened in end.house.on_open:
                opened(cast("Link", end))
        return ends

    def connect_to_nobody(self, rng: random.Random) -> None:
        """Have one more to tell news to, so that it is not always us who is told."""
        stranger = Identity(rng.randbytes(SEED_BYTES))
        for opened in self.house.on_open:
            opened(cast("Link", _Link(self.house, stranger, 0.0)))


class ShippedWithHints(Shipped):
    """What a daemon does: it hears of changes from peers, and looks up what nobody told."""

    def __init__(self, carrier: Getter, trace: Trace, seed: int) -> None:
        super().__init__(carrier, seed)
        self._rng = rng = random.Random(f"{seed} hints")
        self._trace = trace
        us = Identity(rng.randbytes(SEED_BYTES))
        self._us = Neighbour(us, rng, self.store, self.cache)
        self._others = [self._neighbour() for _ in range(LINKS)]
        self._ends: list[_Link] = []
        for other in self._others:
            self._ends += self._us.connect(other, default_round_trip(rng))
        self._tasks = [asyncio.create_task(self._ask()), asyncio.create_task(self._world())]

    @property
    def datagrams(self) -> int:
        """What was said on our links, acknowledgements and pings included."""
        idle = PINGS * asyncio.get_running_loop().time()
        return sum(end.datagrams for end in self._ends) + int(idle)

    def _neighbour(self) -> Neighbour:
        """Return a node that knows everybody's record."""
        store, who = no_disk(), Identity(self._rng.randbytes(SEED_BYTES))
        cache = RecordCache(store, seed=self._rng.getrandbits(64))
        made = Neighbour(who, self._rng, store, cache)
        for peer in self._trace.peers:
            item = peer.item(peer.version(0.0))
            made.cache.learn(item.target, item, unix(), "exchange")
        for _ in range(LINKS - 1):
            made.connect_to_nobody(self._rng)
        return made

    async def _ask(self) -> None:
        """Ask for what we lack, as often as discovery does."""
        while True:
            await asyncio.sleep(DISCOVERY_INTERVAL)
            self._us.gossip.ask()

    async def _world(self) -> None:
        """Let each neighbour hear of each change from elsewhere."""
        loop = asyncio.get_running_loop()
        for at, number, peer in self._trace.changes():
            await asyncio.sleep(max(0.0, at - loop.time()))
            for other in self._others:
                item = peer.item(number)
                loop.call_later(self._delay(), self._heard, other, peer, item)

    def _heard(self, other: Neighbour, peer: Peer, item: SignedItem) -> None:
        other.cache.learn(item.target, item, unix(), "exchange")

    def _delay(self) -> float:
        """Draw how long news takes to a node (s): so many steps, each reaching more."""
        reached, steps, place = 1.0, 0, self._rng.uniform(1, len(self._trace.peers))
        while reached < place:
            reached *= 1 + NEWS_FANOUT
            steps += 1
        return steps * (NEWS_DELAY + 1.5 * default_round_trip(self._rng))

    async def close(self) -> None:
        """See `Policy`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in (self._us, *self._others):
            one.gossip.close()
        await super().close()
