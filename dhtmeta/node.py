"""The one place that assembles the rooms: a Node, for API, CLI and daemon alike."""

import asyncio
import contextlib
import hashlib
import logging
import math
import random
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Container,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self, TypeVar

from dhtmeta import config
from dhtmeta._fast.bencode import Value
from dhtmeta.config import CarrierName
from dhtmeta.const import (
    CARRIERS,
    DUE_AHEAD,
    FIND_DEADLINE,
    FINISH_INTERVAL,
    LOOKUP_DEADLINE,
    PEERS_RELOOK,
    PEERS_SLICE,
    PUT_DEADLINE,
    RELAY_WAIT,
    STALE_AFTER_INTERVALS,
)
from dhtmeta.dht.address import any_address, any_local, format_address, parse_address, resolve
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.saved import Saved, claim, read_saved, saved_path, write_saved
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge, Verdict
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
    InvalidRecord,
    KeyFileError,
    LocalError,
    NetworkUnreachable,
    PortError,
    RemoteError,
)
from dhtmeta.krpc.compact import Contact
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

if TYPE_CHECKING:  # QUIC takes 135 ms to import (FACTS): see `open_discovery`
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
        self._bootstrap = (
            self.settings.dht.bootstrap_nodes if bootstrap is None else list(bootstrap)
        )
        self.listen = listen or self.settings.dht.listen or None
        self._carrier_name = _carrier_name(carrier or self.settings.dht.carrier)
        self._serve = serve
        self._offline = offline
        self._identity: Identity | None = None
        self._libtorrent: LibtorrentCarrier | None = None  # the node, whatever the carrier
        self._carrier: Carrier | None = None
        self._opened = contextlib.AsyncExitStack()
        self._local = any_local([parse_address(one) for one in self._bootstrap])
        self._saved_path = saved_path(Path(state or config.data_home() / "dht"), self._bootstrap)
        self._writer_lock = WriterLock(self._keys / PRIVATE_FILE)
        self._claim: IO[bytes] | None = None
        self._known_to_others = False
        self._finder: Finder | None = None
        self._former_ids: set[bytes] = set()  # peer ids of the keys we had before
        self._finding = asyncio.Lock()
        self._search: asyncio.Task[None] | None = None  # where nobody else runs the finder
        self._is_visiting = False
        self._allow_non_global = False
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
                opened.push_async_callback(self._stop_carrier)
                await self._start_carrier()
            self._assemble()
            opened.push_async_callback(self._resolver.close)
            if self._serve and self._carrier is not None and not self._carrier.signs_itself:
                opened.push_async_callback(_cancelled, asyncio.create_task(self._finish()))
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opened.aclose()

    async def _start_carrier(self) -> None:
        """Start where others know us, if that is free and nobody else is us now."""
        self._claim = claim(self._saved_path)
        saved = read_saved(self._saved_path) if self._claim else Saved()
        if self.listen is None and saved.port:
            with contextlib.suppress(PortError):
                known = any_address(self._local, saved.port)
                return await self._open_carrier(known, saved, serve=True)
            saved = Saved(contacts=saved.contacts)
        return await self._open_carrier(self.listen, saved, serve=self._serve)

    async def _open_carrier(self, listen: str | None, saved: Saved, *, serve: bool) -> None:
        """Start the libtorrent node and, where that is the carrier, our own lookups beside it."""
        node = LibtorrentCarrier(self._bootstrap, listen, serve=serve, saved_state=saved.state)
        await node.start()
        try:
            direct = self._carrier_name == "direct"
            self._carrier = await self._beside(node, saved.contacts) if direct else node
        except BaseException:
            await node.close()
            raise
        self._libtorrent = node
        self._known_to_others = serve

    async def _beside(self, node: LibtorrentCarrier, contacts: Sequence[Contact]) -> Carrier:
        """Start our own lookups one port above `node`, or on any free one if that is taken.

        Nodes that take a put list its sender (FACTS). libtorrent comes back under its id and port,
        and so this does, whose own follow from them.
        """
        host, port = node.session.endpoint
        ids = node.session.node_ids()

        def beside(port: int) -> DirectCarrier:
            socket = UdpSocket(format_address((host, port)))
            return DirectCarrier(
                node,
                socket,
                contacts=contacts,
                node_id=_node_id_beside(ids),
                also_us=ids,
                local=self._local,
            )

        carrier = beside(port + 1 if port < 65535 else 0)
        try:
            await carrier.start()
        except PortError:  # somebody has it
            carrier = beside(0)
            await carrier.start()
        return carrier

    async def _stop_carrier(self) -> None:
        carrier, self._carrier = self._carrier, None
        if carrier is None or self._libtorrent is None:
            if self._claim is not None:
                self._claim.close()
            return
        try:
            if self._claim is not None and await carrier.live_nodes():
                port = self._libtorrent.session.endpoint[1] if self._known_to_others else 0
                contacts = carrier.contacts() if isinstance(carrier, DirectCarrier) else ()
                saved = Saved(carrier.saved_state(), port, tuple(contacts))
                write_saved(self._saved_path, saved)
        except OSError as error:
            log.warning("the next start will be slower: %s", error)
        finally:
            if self._claim is not None:
                self._claim.close()
            await carrier.close()

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
        allow = self._local if found.allow_non_global is None else found.allow_non_global
        self._allow_non_global = allow
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
        network, clock = self._network, self.clock
        ledger = self._ledger = Ledger(self._store)
        ledger.on_reserved = self._show
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

    def _network(self) -> Carrier:
        if self._carrier is None:
            raise NetworkUnreachable(
                "this node was opened offline" if self._offline else "this node is closed"
            )
        return self._carrier

    @property
    def endpoint(self) -> tuple[str, int]:
        """Where we listen: (ip, UDP port); NetworkUnreachable if the node is offline or closed."""
        self._network()
        assert self._libtorrent is not None
        return self._libtorrent.session.endpoint

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
        self._known_to_others = True
        putting = self._publisher.put(item, deadline, cas=cas, keep=keep, origin=Origin(origin))
        if origin == Origin.HTTP:
            return await putting  # no publish of ours: HTTP counts its answers itself
        return await self._counted(putting)

    async def _counted(self, publishing: Awaitable[T]) -> T:
        """Count how it ends, and remember that nodes that take a put list its sender (FACTS)."""
        self._known_to_others = True
        try:
            published = await publishing
        except CallerError:
            raise
        except DhtmetaError:
            self.counts.publishes_failed += 1
            raise
        self.counts.publishes_ok += published is not None
        if isinstance(published, Published):
            self._show(published.item)
        return published

    def _show(self, item: SignedItem) -> None:
        """Have peers see our record as soon as it is on our disk, however long the DHT takes."""
        if self._finder is not None:
            self._finder.published(item)

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
        async with self._finding:
            if self._finder is None:
                wanted = self.settings.peer_discovery.topic if topic is None else topic
                self._finder = await self._start_finder(wanted, listen)
            elif topic and topic != self._finder.topic:
                looks_for = repr(self._finder.topic) if self._finder.topic else "no topic"
                raise CallerError(f"this node looks for {looks_for}: open another for {topic!r}")
        return self._finder

    async def _start_finder(self, topic: str, listen: str | None) -> "Finder":
        from dhtmeta.discovery.around import Around
        from dhtmeta.discovery.finder import Finder

        around = Around(
            settings=self.settings,
            identity=lambda: self.identity,
            store=self._store,
            resolver=self._resolver,
            carrier=self._network,
            dht_port=lambda: self.endpoint[1] if self._known_to_others else 0,
            outside=lambda: self._libtorrent.outside if self._libtorrent is not None else None,
            clock=self.clock,
            allow_non_global=self._allow_non_global,
            visiting=listen is None,
        )
        finder = Finder(
            around, listen or f"{_host(self.endpoint[0])}:0", topic, random.SystemRandom()
        )
        await finder.start()
        self._opened.push_async_callback(finder.close)
        self._is_visiting = listen is None
        return finder

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
        topic = self._topic(topic)
        if self._carrier is not None:
            finder = await self._searching(topic)
            if not finder.is_settled:
                await finder.settled(deadline)
        return [peer for peer in self.known(topic) if not connectable or peer.connectable]

    async def watch_peers(self, topic: str | None = None) -> AsyncIterator[Peer]:
        """Yield each peer of `topic`, and again whenever it is judged otherwise, without end.

        That is, when its verdict or address has changed; a peer who says something new is judged
        at once, all others every PEERS_RELOOK seconds. Raises NetworkUnreachable if the node is
        offline or closed, CallerError as `peers` does.
        """
        topic = self._topic(topic)
        finder = await self._searching(topic)
        news, told = asyncio.Event(), _Told()
        with finder.hearing(news.set):
            while self._carrier is not None:
                news.clear()
                for i, peer in enumerate(self.known(topic), 1):
                    if told.is_news(peer):
                        yield peer
                    if i % PEERS_SLICE == 0:
                        await asyncio.sleep(0)
                told.forget_all_but(self._store.peers)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PEERS_RELOOK):
                        await news.wait()

    async def connect(self, address: str, topic: str | None = None) -> Peer:
        """Connect to the peer whose exchange is at "HOST:PORT" (UDP), and return who that is.

        It has told by then whom it knows of `topic` (unset: of [peer_discovery]). Its record is
        looked up on the DHT where it shows none, being of another topic. Raises CallerError for
        what is no address, NetworkUnreachable where nobody answers, NotProven for who does not
        prove its key.
        """
        endpoint = parse_address(address)
        finder = await self.open_discovery(topic)
        found = (await resolve([endpoint], finder.exchange.family)).get(endpoint)
        if found is None:
            raise NetworkUnreachable(f"{endpoint[0]} cannot be resolved: give its IP address")
        try:
            link = await finder.connect(found)
            for _ in range(2):  # what it told has come by the first answer, what we asked by then
                await link.measure()
        except DeadlineExceeded as error:
            raise NetworkUnreachable(
                f"nobody answers at {address}, UDP: is that where its exchange listens?"
            ) from error
        return await self._met(link.public_key, link.peer_id)

    async def _met(self, public_key: bytes, peer_id: bytes) -> Peer:
        """Return what is known of somebody who is connected, looking up what is not."""
        with contextlib.suppress(RemoteError, LocalError, DeadlineExceeded):
            if self._resolver.cache.usable(peer_id, self.clock()) is None:
                await self._resolver.query(public_key, deadline=LOOKUP_DEADLINE)
        now = self.clock()
        met = KnownPeer(public_key, source="exchange", first_seen=now, last_seen=now)
        return self.peer(peer_id, self._store.peers.get(peer_id, met))

    def _topic(self, topic: str | None) -> str:
        if topic is None:
            looks_for = self._finder.topic if self._finder is not None else ""
            topic = looks_for or self.settings.peer_discovery.topic
        if not topic:
            raise CallerError("whose peers? name a topic, or set [peer_discovery] topic")
        return topic

    async def _searching(self, topic: str) -> "Finder":
        """Return what finds peers; it goes on until the node is closed, anew if it has ended."""
        finder = await self.open_discovery(topic)
        if self._is_visiting and (self._search is None or self._search.done()):
            self._search = asyncio.create_task(finder.run())
            self._opened.push_async_callback(_cancelled, self._search)
        return finder

    def known(self, topic: str | None = None) -> Iterator[Peer]:
        """Yield the known peers (of `topic`, or all), met last first, as they are judged now.

        We ourselves are none of them, nor who we were before our keys were rotated.
        """
        own = {self.own_id, *self._former_ids}
        for one in reversed(list(self._store.peers)):
            known = self._store.peers.get(one)
            if known is not None and topic in (None, known.topic) and one not in own:
                yield self.peer(one, known)

    def peer(self, peer_id: bytes, known: KnownPeer) -> Peer:
        """Return what is held of a known peer (20 bytes), judged now, without the network."""
        now = self.clock()
        held = self._resolver.cache.usable(peer_id, now)
        peer = Peer(known.public_key, known.topic, known.source, known.first_seen, known.last_seen)
        if held is None:
            return peer
        peer = replace(peer, seq=held.item.seq, age=max(0.0, now - held.fetched_at))
        with contextlib.suppress(InvalidRecord):
            verdict = self._resolver.judge(held)
            return replace(peer, record=held.record(), connectability=verdict)
        return peer

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
        while self._carrier is not None:
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


class _Told:
    """Which peers were told of, and what."""

    def __init__(self) -> None:
        self._told: dict[bytes, tuple[Verdict | None, str]] = {}

    def is_news(self, peer: Peer) -> bool:
        """Whether there is something to tell of a peer; it counts as told."""
        now = (peer.verdict, peer.address)
        before = self._told.get(peer.peer_id)
        self._told[peer.peer_id] = now
        return before != now

    def forget_all_but(self, known: Container[bytes]) -> None:
        """Forget those who are not known any more."""
        for gone in [one for one in self._told if one not in known]:
            del self._told[gone]


async def _cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a background task, and return when it has ended."""
    task.cancel()
    await asyncio.wait([task])


def _node_id_beside(node_ids: list[bytes]) -> bytes | None:
    """Return an id that follows from libtorrent's, but is another; None if it has none."""
    if not node_ids:
        return None
    return hashlib.sha1(b"direct" + node_ids[0], usedforsecurity=False).digest()


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _carrier_name(name: str) -> str:
    if name not in CARRIERS:
        raise CallerError(f"{name!r} is no carrier; known: {', '.join(CARRIERS)}")
    return name


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
