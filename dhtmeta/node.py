"""The one place that assembles the rooms: a Node, for API, CLI and daemon alike."""

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from dhtmeta import config
from dhtmeta._fast.bencode import Value
from dhtmeta.config import CarrierName
from dhtmeta.const import (
    DUE_AHEAD,
    FIND_DEADLINE,
    FINISH_INTERVAL,
    LOOKUP_DEADLINE,
    PUT_DEADLINE,
    RELAY_WAIT,
    STALE_AFTER_INTERVALS,
)
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.station import Station
from dhtmeta.discovery.around import Around
from dhtmeta.discovery.company import Company
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.counts import Counts
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.planner import Planner
from dhtmeta.engine.publish import Published, Publisher
from dhtmeta.engine.renew import Renewer
from dhtmeta.engine.republish import Republisher
from dhtmeta.engine.resolve import Answer, Policy, Resolver, Source
from dhtmeta.errors import (
    CallerError,
    DeadlineExceeded,
    DhtmetaError,
    InvalidKey,
    KeyFileError,
    NetworkUnreachable,
    RemoteError,
)
from dhtmeta.store.due import Totals
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import KnownPeer, Store
from dhtmeta.store.tables import Origin
from dhtmeta.store.writer_lock import WriterLock
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import (
    PRIVATE_FILE,
    Identity,
    next_identity,
    open_identity,
    read_identity,
    take_over,
)
from dhtmeta.values.node_id import parse_public_key, peer_id
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.successor import successor_of, successor_value

if TYPE_CHECKING:  # QUIC takes 135 ms to import (FACTS)
    from dhtmeta.discovery.finder import Finder

log = logging.getLogger(__name__)

T = TypeVar("T")


class Node:
    """A DHT node with its keys, store and cache: `async with Node(...) as node`.

    Everything not given comes from `settings` (configuration file and environment). `serve` is
    False for short visits: other nodes then do not count on us, unless we came before and put
    something. `offline` opens no socket. `state` is where node id and routing table are kept.
    `carrier` is "libtorrent" or "direct"; with the latter a node that serves also finishes what
    an earlier process began to publish.
    """

    def __init__(
        self,
        *,
        keys: str | Path | None = None,
        store: str | None = None,
        state: str | Path | None = None,
        bootstrap: Sequence[str] | None = None,
        listen: str | None = None,
        carrier: CarrierName | None = None,
        serve: bool = True,
        offline: bool = False,
        settings: config.Settings | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take paths, addresses ("HOST:PORT") and, for tests, a clock that gives Unix seconds."""
        self.settings = settings or config.load()
        self.clock = clock or time.time
        self._keys = Path(keys) if keys is not None else self.settings.keys
        self._store_url = store or self.settings.store_url
        self.listen = listen or self.settings.dht.listen or None
        self._station = Station(
            self.settings.dht.bootstrap_nodes if bootstrap is None else list(bootstrap),
            self.listen,
            carrier or self.settings.dht.carrier,
            Path(state or config.data_home() / "dht"),
            serve=serve,
        )
        self._serve = serve
        self._offline = offline
        self._identity: Identity | None = None
        self._former_ids: set[bytes] = set()  # peer ids of the keys we had before
        self._opened = contextlib.AsyncExitStack()
        self._writer_lock = WriterLock(self._keys / PRIVATE_FILE)
        self.counts = Counts()
        self.key_failure: str | None = None  # what is wrong with our key files

    @property
    def identity(self) -> Identity:
        """Our key pair; made on first use. KeyFileError if the files are not as they should be.

        Where another process rotated it, it is the new one from our next publish on.
        """
        if self._identity is None:
            self._identity = open_identity(self._keys)
        return self._identity

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            cleaned = self.settings.metadata_cache.cleanup_interval
            self._store = await Store.open(self._store_url, self.clock, cleanup_interval=cleaned)
            opened.push_async_callback(self._store.close)
            if not self._offline:
                opened.push_async_callback(self._station.close)
                await self._station.start()
            self._assemble()
            opened.push_async_callback(self._resolver.close)
            carrier = self._station.carrier
            if self._serve and carrier is not None and not carrier.signs_itself:
                opened.push_async_callback(_cancelled, asyncio.create_task(self._finish()))
            opened.push_async_callback(self._company.close)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    async def _finish(self) -> None:
        """Finish what an earlier process began to publish; whatever fails is only logged."""
        try:
            await self._publisher.finish_unfinished(self._is_to_finish)
        except DhtmetaError as error:
            log.warning("unfinished publishes wait for the next start: %s", error)
        except Exception:
            log.exception("unexpected, while unfinished publishes were finished")

    def _is_to_finish(self, item: SignedItem) -> bool:
        """Whether an unfinished item is still wanted: no successor of a key that is in force."""
        return item.public_key != self.public_key or successor_of(item) is None

    def _assemble(self) -> None:
        cached, found = self.settings.metadata_cache, self.settings.peer_discovery
        again, interval = self.settings.republish, self.settings.dht.metadata_republish_interval
        local = self._station.is_local
        allow = local if found.allow_non_global is None else found.allow_non_global
        cache = RecordCache(
            self._store,
            seed=secrets.randbits(64),
            ttl=cached.ttl_seconds,
            stale_for=cached.stale_seconds,
            learn=cached.learn,
            entries=cached.max_entries,
            signed_for=STALE_AFTER_INTERVALS * interval,
        )
        judge = Judge(republish_interval=interval, allow_non_global=allow)
        self._resolver = Resolver(cache, self._network, judge, self.clock)
        self._company = self._keeping_company(allow)
        network, clock = self._network, self.clock
        ledger = self._ledger = Ledger(self._store)
        ledger.on_reserved = self._company.published
        jitter = random.SystemRandom()
        self.planner = Planner(jitter, interval=interval, max_loss=again.max_loss)
        self._publisher = Publisher(cache, ledger, network, clock, self.planner)
        keeper = Keeper(cache, ledger, network, self.planner, self.counts, clock)
        self._keeper = keeper
        self._renewer = Renewer(
            self._publisher,
            ledger,
            keeper,
            network,
            lambda: self.public_key,
            self._writing,
            self._counted,
            clock,
        )
        self.republisher = Republisher(
            ledger,
            keeper,
            self._renewer.renew,
            network,
            clock,
            again.packets_per_second,
            min(DUE_AHEAD, interval / 12),
        )

    def _keeping_company(self, allow_non_global: bool) -> Company:
        station = self._station
        around = Around(
            settings=self.settings,
            identity=lambda: self.identity,
            store=self._store,
            resolver=self._resolver,
            carrier=self._network,
            dht_port=lambda: self.endpoint[1] if station.known_to_others else 0,
            outside=lambda: station.outside,
            clock=self.clock,
            allow_non_global=allow_non_global,
        )
        return Company(around, lambda: {self.own_id, *self._former_ids}, lambda: self.endpoint[0])

    def _network(self) -> Carrier:
        if self._station.carrier is None:
            raise NetworkUnreachable(
                "this node was opened offline" if self._offline else "this node is closed"
            )
        return self._station.carrier

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where we listen: (ip, UDP port); NetworkUnreachable if the node is offline or closed."""
        self._network()
        endpoint = self._station.endpoint
        assert endpoint is not None
        return endpoint

    @property
    def carrier(self) -> Carrier:
        """The carrier in use; NetworkUnreachable if the node was opened offline."""
        return self._network()

    @property
    def known_peers(self) -> Mapping[bytes, KnownPeer]:
        """Everybody whose verified record was seen, by peer id (20 bytes)."""
        return self._store.peers

    @property
    def counters(self) -> dict[str, int]:
        """The cache's counters and entries, and how many lookups started and are running."""
        resolver = self._resolver
        lookups = {"lookups": resolver.lookups, "running": resolver.running}
        return resolver.cache.counters | lookups

    async def publish(
        self,
        record: NodeRecord | Value,
        *,
        salt: bytes = b"",
        identity: Identity | None = None,
        seq: int | None = None,
        cas: int | None = None,
        deadline: float = PUT_DEADLINE,
    ) -> Published:
        """Publish under our identity, or another; raises what `Publisher.publish` does.

        `seq` and `cas` (BEP 44) need the direct carrier.
        """
        publish = self._publisher.publish
        if identity is not None:
            publishing = publish(identity, record, salt, deadline, seq=seq, cas=cas)
            return await self._counted(publishing)
        async with self._writing(deadline) as own:
            return await self._counted(publish(own, record, salt, deadline, seq=seq, cas=cas))

    @contextlib.asynccontextmanager
    async def _writing(self, deadline: float, *, alone: bool = False) -> AsyncIterator[Identity]:
        """Be the only process that publishes under our keys, those of now: they may be rotated.

        Who still publishes under the old ones would put a record over their successor's; so who
        rotates them is `alone` in this process, too.
        """
        _ = self.identity  # made on first use
        async with self._writer_lock.held(deadline, alone=alone):
            identity = read_identity(self._keys)
            if self._identity is not None and self._identity.public_key != identity.public_key:
                self._former_ids.add(self._identity.peer_id)
            self._identity = identity
            yield self._identity

    async def rotate(self, *, deadline: float = PUT_DEADLINE) -> Published:
        """Let a new key pair follow ours: returns the old key's record that says so, published.

        Once that is stored the new pair takes the place of the old one in our directory, and is
        `identity`. Where it fails the old one stays; the next try goes on with the same new one.
        Raises what `publish` does, and KeyFileError where there are no keys, or others by now.
        """
        asked = read_identity(self._keys)
        async with self._writing(deadline, alone=True) as own:
            if own.public_key != asked.public_key:
                raise KeyFileError(f"{self._keys} was rotated meanwhile, to {own.public_key.hex()}")
            record = successor_value(own.public_key, next_identity(self._keys))
            published = await self._counted(self._publisher.publish(own, record, b"", deadline))
            self._former_ids.add(own.peer_id)
            self._identity = take_over(self._keys)
        return published

    async def put(
        self,
        item: SignedItem,
        *,
        cas: int | None = None,
        deadline: float = PUT_DEADLINE,
        keep: bool = True,
        origin: Origin | str = Origin.LOCAL,
    ) -> Published:
        """Store an item that is signed already, whoever's it is, without the private key.

        `keep` says whether a daemon on this store keeps it alive from then on, `origin` for whom:
        "local" or "http". Needs the direct carrier; raises what `Publisher.put` does.
        """
        self._station.known_to_others = True
        putting = self._publisher.put(item, deadline, cas=cas, keep=keep, origin=Origin(origin))
        if origin == Origin.HTTP:
            return await putting  # no publish of ours: HTTP counts its answers itself
        return await self._counted(putting)

    async def _counted(self, publishing: Awaitable[T]) -> T:
        """Count how it ends, and remember that nodes that take a put list its sender (FACTS)."""
        self._station.known_to_others = True
        try:
            published = await publishing
        except CallerError:
            raise
        except DhtmetaError:
            self.counts.publishes_failed += 1
            raise
        self.counts.publishes_ok += published is not None
        if isinstance(published, Published):
            self._company.published(published.item)
        return published

    # who is out there

    async def open_discovery(
        self, topic: str | None = None, *, listen: str | None = None
    ) -> "Finder":
        """Start to take part in the exchange, to find the peers of `topic`; once for each node.

        Unset, the topic is that of the first call, or of [peer_discovery]. `listen` is "IP:PORT"
        (UDP); unset, any free port where the DHT listens, and this is only a visit: nobody is
        told that we are there.
        Raises PortError where the port cannot be had, CallerError for a second topic.
        """
        return await self._company.open(topic, listen)

    async def peers(
        self,
        topic: str | None = None,
        *,
        connectable: bool = False,
        deadline: float = FIND_DEADLINE,
    ) -> list[Peer]:
        """Return the peers of `topic` (unset: of [peer_discovery]), those met last first.

        With `connectable` only those a connection attempt makes sense with. The first call looks
        for them, for `deadline` seconds at most; from then on they are found behind what goes on.
        Offline it lists who is known. Raises CallerError where no topic is named at all.
        """
        return await self._company.found(topic, connectable=connectable, deadline=deadline)

    def watch_peers(self, topic: str | None = None) -> AsyncIterator[Peer]:
        """Yield each peer of `topic`, and again whenever it is judged otherwise, without end.

        That is, when its verdict or address has changed; a peer who says something new is judged
        at once, all others every PEERS_RELOOK seconds. Raises NetworkUnreachable if the node is
        offline or closed, CallerError as `peers` does.
        """
        return self._company.watched(topic)

    async def connect(self, address: str, topic: str | None = None) -> Peer:
        """Connect to the peer whose exchange is at "HOST:PORT" (UDP), and return who that is.

        It has told by then whom it knows of `topic` (unset: of [peer_discovery]). Its record is
        looked up on the DHT where it shows none, being of another topic. Raises CallerError for
        what is no address, NetworkUnreachable where nobody answers, NotProven for who does not
        prove its key.
        """
        return await self._company.connect(address, topic)

    def known(self, topic: str | None = None) -> Iterator[Peer]:
        """Yield the known peers (of `topic`, or all), met last first, as they are judged now.

        We ourselves are none of them, nor who we were before our keys were rotated.
        """
        return self._company.known(topic)

    def peer(self, peer_id: bytes, known: KnownPeer) -> Peer:
        """Return what is held of a known peer (20 bytes), judged now, without the network."""
        return self._company.peer(peer_id, known)

    # what is kept alive

    async def keep_alive(self) -> None:
        """Keep alive, until cancelled, what this store says is to be kept (DESIGN, "Republish")."""
        interval = self.planner.interval
        await asyncio.gather(
            self.republisher.run(), self._renewer.run(interval), self._finish_regularly()
        )

    async def _finish_regularly(self) -> None:
        """Finish what could not be stored when it was published."""
        while True:
            await asyncio.sleep(FINISH_INTERVAL)
            await self._finish()

    async def totals(self) -> Totals:
        """Return how many records are kept, due, late, damaged; late is one interval overdue."""
        now = self.clock()
        return await self._ledger.totals(now, now - self.planner.interval)

    async def is_stored(self, item: SignedItem) -> bool:
        """Whether these bytes were stored before and are kept, as this store has it."""
        entry = await self._ledger.newest(item.target)
        return entry is not None and entry.item == item and entry.is_kept

    async def due_at_once(self, looked_before: float = math.inf, due_after: float = 0.0) -> int:
        """Have what is kept be due now, and return how many records that is.

        That is, what had no good look since `looked_before`, and is due after `due_after` (Unix s).
        """
        now = self.clock()
        return await self._ledger.make_due(now, looked_before, max(now, due_after))

    async def clock_was_set(self) -> None:
        """Look at everything anew: due times, and how long copies live, are of another clock."""
        self._keeper.clock_set_at = self.clock()
        await self.due_at_once()

    @property
    def store_failure(self) -> str | None:
        """Why the store could not be written the last time, and what to do; None if it could."""
        return self._store.failure

    @property
    def public_key(self) -> bytes | None:
        """Our public key; None where there are no keys yet, or `key_failure` says what is wrong.

        Who only keeps others' records needs none.
        """
        self.key_failure = None
        if self._identity is None and (self._keys / PRIVATE_FILE).exists():
            try:
                self._identity = read_identity(self._keys)
            except KeyFileError as error:
                self.key_failure = str(error)
        return None if self._identity is None else self._identity.public_key

    @property
    def own_id(self) -> bytes | None:
        """Our peer id, 20 bytes; None as `public_key` is."""
        key = self.public_key
        return None if key is None else peer_id(key)

    async def query(
        self,
        public_key: bytes | str,
        *,
        salt: bytes = b"",
        policy: Policy | str = Policy.CACHE_FIRST,
        deadline: float = LOOKUP_DEADLINE,
        follow: bool = True,
    ) -> Answer:
        """Return a verified answer for a public key (32 bytes or hex): see `Resolver.query`.

        A key that was rotated is followed to its successor, by one step; `follow` False gives its
        own item. Where the record leads over a relay whose key is known, that is fetched, too.
        """
        key, policy = _key(public_key), _policy(policy)
        now = asyncio.get_running_loop().time
        end = now() + deadline
        answer = await self._resolver.query(key, salt, policy, deadline)
        if follow and (successor := answer.successor) is not None:
            left = max(0.0, end - now())
            answer = await self._resolver.follow(answer, successor, policy, left)
        await self._renew_relay(answer)
        return answer

    async def _renew_relay(self, answer: Answer) -> None:
        """Look up the relay that the record names, if we know its key but not its record.

        What came from memory does not wait for it; what is new waits a little.
        """
        relay_id = answer.missing_relay()
        relay = self._store.peers.get(relay_id) if relay_id and not self._offline else None
        if relay is not None:
            waits = answer.source is not Source.MEMORY
            await self._resolver.renew(relay.public_key, RELAY_WAIT if waits else 0.0)

    async def watch(
        self,
        public_key: bytes | str,
        *,
        salt: bytes = b"",
        interval: float,
        on_miss: Callable[[DhtmetaError], None] = lambda error: None,
    ) -> AsyncIterator[Answer]:
        """Yield the newest answer, then each one with a higher seq; looks every `interval` seconds.

        The first answer of a successor counts as newer, whatever its seq. A look that finds
        nothing, or no network, goes to `on_miss`.
        """
        key = _key(public_key)
        seen = (b"", -1)  # whose item was yielded last, and its seq
        while self._station.carrier is not None:
            try:
                answer = await self.query(key, salt=salt, policy=Policy.FRESHEST)
            except (RemoteError, NetworkUnreachable, DeadlineExceeded) as error:
                on_miss(error)
            else:
                author = answer.item.public_key
                if author != seen[0] or answer.seq > seen[1]:
                    seen = (author, answer.seq)
                    yield answer
            await asyncio.sleep(interval)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a background task, and return when it has ended."""
    task.cancel()
    await asyncio.wait([task])


def _key(public_key: bytes | str) -> bytes:
    if isinstance(public_key, str):
        return parse_public_key(public_key)
    try:
        return bytes(memoryview(public_key))
    except TypeError:
        raise InvalidKey(f"a public key is bytes or hex, not {public_key!r}") from None


def _policy(policy: Policy | str) -> Policy:
    try:
        return Policy(policy)
    except ValueError:
        raise CallerError(f"{policy!r} is no policy; known: {', '.join(Policy)}") from None
