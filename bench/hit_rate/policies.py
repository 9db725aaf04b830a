"""How those who ask keep what they heard: not at all, for 300 s, or as dhtmeta ships."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from cachetools import TTLCache

from bench.hit_rate.trace import EPOCH, Peer
from dhtmeta.const import CACHE_TTL, LOOKUP_DEADLINE
from dhtmeta.dht.carrier import Carrier, GetOutcome
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.resolve import Resolver
from dhtmeta.store.store import KnownPeer, Store
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import NodeRecord, format_endpoint

Clock = Callable[[], float]


class Getter(Protocol):
    """What a policy needs of a carrier."""

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


class Policy(Protocol):
    """Who answers queries, and what that takes beside lookups."""

    @property
    def datagrams(self) -> int:
        """Of peers' messages, both directions; lookups are the carrier's."""

    def query(self, peer: Peer) -> Coroutine[Any, Any, SignedItem]:
        """Return what is said of a peer."""

    async def close(self) -> None:
        """Stop what goes on behind."""


class NoCache:
    """Look up whatever is asked for; those who ask for one at once share a lookup."""

    def __init__(self, carrier: Getter) -> None:
        self._carrier = carrier
        self._flights: dict[bytes, asyncio.Task[SignedItem]] = {}

    @property
    def datagrams(self) -> int:
        """See `Policy`: it has no peers."""
        return 0

    async def query(self, peer: Peer) -> SignedItem:
        """See `Policy`."""
        key = peer.identity.public_key
        if key not in self._flights:
            flight = self._flights[key] = asyncio.create_task(self._get(key))
            flight.add_done_callback(lambda _: self._flights.pop(key))
        return await self._flights[key]

    async def _get(self, key: bytes) -> SignedItem:
        outcome = await self._carrier.get(key, b"", lambda item: None, LOOKUP_DEADLINE)
        assert outcome.item is not None, "each record is on the DHT"
        return outcome.item

    async def close(self) -> None:
        """See `Policy`."""


class PlainTtl(NoCache):
    """What networks of this kind do: a record is good for 300 s, and then it is looked up."""

    def __init__(self, carrier: Getter, entries: int, ttl: float = CACHE_TTL) -> None:
        super().__init__(carrier)
        clock = asyncio.get_running_loop().time
        self._held: TTLCache[bytes, SignedItem] = TTLCache(entries, ttl, timer=clock)

    async def query(self, peer: Peer) -> SignedItem:
        """See `Policy`."""
        key = peer.identity.public_key
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = await super().query(peer)
        return held


class Shipped:
    """The engine of dhtmeta as it is, with its default settings, and nothing told by peers."""

    def __init__(
        self, carrier: Getter, seed: int, ttl: float = CACHE_TTL, clock: Clock | None = None
    ) -> None:
        self.store = no_disk()
        self.cache = RecordCache(self.store, seed=seed, ttl=ttl, stale_for=ttl)
        self._resolver = Resolver(
            self.cache, lambda: cast("Carrier", carrier), Judge(), clock or unix
        )

    @property
    def datagrams(self) -> int:
        """See `Policy`: peers tell it nothing."""
        return 0

    async def query(self, peer: Peer) -> SignedItem:
        """See `Policy`."""
        return (await self._resolver.query(peer.identity.public_key)).item

    async def close(self) -> None:
        """See `Policy`."""
        await self._resolver.close()


def unix() -> float:
    """Return the Unix time (s) in a trace that is played in virtual time."""
    return EPOCH + asyncio.get_running_loop().time()


def no_disk(*, keeps_peers: bool = True) -> Store:
    """Return a store that keeps known peers in memory alone: what is on a disk decides nothing."""
    return cast("Store", _NoDisk(keeps_peers))


class _NoDisk:
    def __init__(self, keeps_peers: bool) -> None:
        self._keeps_peers = keeps_peers
        self.items: dict[bytes, object] = {}
        self.floors: dict[bytes, int] = {}
        self.peers: dict[bytes, KnownPeer] = {}

    def keep_item(self, *row: object) -> None:
        pass

    def keep_floor(self, *row: object) -> None:
        pass

    def drop_item(self, target: bytes) -> None:
        pass

    def keep_peer(self, public_key: bytes, record: NodeRecord, source: str, now: float) -> None:
        if self._keeps_peers:
            exchange = format_endpoint(record.exchange)
            known = KnownPeer(public_key, record.topic, False, exchange, source, now, now)
            self.peers[bytes.fromhex(record.peer_id)] = known
