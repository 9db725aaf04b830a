"""The one place that assembles the rooms: a Node, for API, CLI and daemon alike."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dhtmeta import config
from dhtmeta._fast.bencode import Value
from dhtmeta.const import LOOKUP_DEADLINE, PUT_DEADLINE
from dhtmeta.dht.address import all_local, any_address, parse_address
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.saved import Saved, read_saved, saved_path, write_saved
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.publish import Published, Publisher
from dhtmeta.engine.resolve import Answer, Policy, Resolver
from dhtmeta.errors import DhtmetaError, InvalidRecord, NetworkUnreachable, PortError
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.writer_lock import WriterLock
from dhtmeta.values.keys import PRIVATE_FILE, Identity, open_identity
from dhtmeta.values.node_id import parse_public_key
from dhtmeta.values.record import NodeRecord

log = logging.getLogger(__name__)


class Node:
    """A DHT node with its keys, store and cache: `async with Node(...) as node`.

    Everything not given comes from `settings` (configuration file and environment). `serve` is
    False for short visits: other nodes then do not count on us, unless we came before and put
    something. `offline` opens no socket. `state` is where node id and routing table are kept.
    """

    def __init__(
        self,
        *,
        keys: str | Path | None = None,
        store: str | None = None,
        state: str | Path | None = None,
        bootstrap: Sequence[str] | None = None,
        listen: str | None = None,
        serve: bool = True,
        offline: bool = False,
        settings: config.Settings | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Take paths, addresses ("HOST:PORT") and, for tests, a clock that gives Unix seconds."""
        self.settings = settings or config.load()
        self.clock = clock or _steady_clock()
        self._keys = Path(keys) if keys is not None else self.settings.keys
        self._store_url = store or self.settings.store_url
        self._bootstrap = (
            self.settings.dht.bootstrap_nodes if bootstrap is None else list(bootstrap)
        )
        self._listen = listen or self.settings.dht.listen or None
        self._serve = serve
        self._offline = offline
        self._identity: Identity | None = None
        self._carrier: LibtorrentCarrier | None = None
        self._opened = contextlib.AsyncExitStack()
        self._local = all_local([parse_address(one) for one in self._bootstrap])
        self._saved_path = saved_path(Path(state or config.data_home() / "dht"), self._bootstrap)
        self._writer_lock = WriterLock(self._keys / PRIVATE_FILE)
        self._keeps_state = False
        self._known_to_others = False

    @property
    def identity(self) -> Identity:
        """Our key pair; made on first use. KeyFileError if the files are not as they should be."""
        if self._identity is None:
            self._identity = open_identity(self._keys)
        return self._identity

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            self._store = await Store.open(self._store_url, self.clock)
            opened.push_async_callback(self._store.close)
            if not self._offline:
                await self._start_carrier()
                opened.push_async_callback(self._stop_carrier)
            self._assemble()
            opened.push_async_callback(self._resolver.close)
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
        """Start where others know us, if that port is free; else as somebody new."""
        saved = read_saved(self._saved_path)
        if self._listen is None and saved.port:
            known = any_address(self._local, saved.port)
            with contextlib.suppress(PortError):
                await self._open_carrier(known, saved.state, serve=True)
        if self._carrier is None:
            state = saved.state if self._listen or not saved.port else b""
            await self._open_carrier(self._listen, state, serve=self._serve)

    async def _open_carrier(self, listen: str | None, state: bytes, *, serve: bool) -> None:
        carrier = LibtorrentCarrier(self._bootstrap, listen, serve=serve, saved_state=state)
        await carrier.start()
        self._carrier = carrier
        self._known_to_others = serve
        self._keeps_state = bool(state) or not self._saved_path.exists()

    async def _stop_carrier(self) -> None:
        assert self._carrier is not None
        with contextlib.suppress(OSError):  # a slower next start, nothing worse
            if self._keeps_state and await self._carrier.live_nodes():
                known = self._carrier.session.endpoint[1] if self._known_to_others else 0
                write_saved(self._saved_path, Saved(self._carrier.saved_state(), known))
        await self._carrier.close()

    def _assemble(self) -> None:
        cached, found = self.settings.metadata_cache, self.settings.peer_discovery
        interval = self.settings.dht.metadata_republish_interval
        allow = self._local if found.allow_non_global is None else found.allow_non_global
        cache = RecordCache(
            self._store,
            seed=secrets.randbits(64),
            ttl=cached.ttl_seconds,
            stale_for=cached.stale_seconds,
            entries=cached.max_entries,
        )
        judge = Judge(republish_interval=interval, allow_non_global=allow)
        self._resolver = Resolver(cache, self._network, judge, self.clock)
        self._publisher = Publisher(cache, Ledger(self._store), self._network, self.clock, interval)

    def _network(self) -> Carrier:
        if self._carrier is None:
            raise NetworkUnreachable("this node was opened offline")
        return self._carrier

    @property
    def carrier(self) -> Carrier:
        """The carrier in use; NetworkUnreachable if the node was opened offline."""
        return self._network()

    @property
    def known_peers(self) -> Mapping[bytes, bytes]:
        """Peer id -> public key of everybody whose verified record was seen."""
        return self._store.peers

    @property
    def counters(self) -> dict[str, int]:
        """The cache's hits, misses, stale, evicted, expired and entries, and lookups started."""
        return self._resolver.cache.counters | {"lookups": self._resolver.lookups}

    async def publish(
        self,
        record: NodeRecord | Value,
        *,
        salt: bytes = b"",
        identity: Identity | None = None,
        deadline: float = PUT_DEADLINE,
    ) -> Published:
        """Publish under our identity, or another; raises what `Publisher.publish` does."""
        self._known_to_others = True  # nodes that take a put list its sender (FACTS)
        if identity is not None:
            return await self._publisher.publish(identity, record, salt, deadline)
        own = self.identity
        async with self._writer_lock.held(deadline):
            return await self._publisher.publish(own, record, salt, deadline)

    async def query(
        self,
        public_key: bytes | str,
        *,
        salt: bytes = b"",
        policy: Policy | str = Policy.CACHE_FIRST,
        deadline: float = LOOKUP_DEADLINE,
    ) -> Answer:
        """Return a verified answer for a public key (32 bytes or hex): see `Resolver.query`.

        Where the record leads over a relay whose key is known, that record is fetched, too.
        """
        key = parse_public_key(public_key) if isinstance(public_key, str) else public_key
        answer = await self._resolver.query(key, salt, Policy(policy), deadline)
        if answer.source != "memory":
            await self._note_peer(key, answer, Policy(policy), deadline)
        return answer

    async def _note_peer(self, key: bytes, answer: Answer, policy: Policy, deadline: float) -> None:
        try:
            record = answer.record
        except InvalidRecord:
            return
        if record is None or answer.item.salt:
            return
        self._store.keep_peer(key, record, "query", self.clock())
        relay_id = record.network_info.connected_relay
        relay = self._store.peers.get(bytes.fromhex(relay_id))
        if relay is not None and relay != key and self._resolver.relay_of(record) is None:
            with contextlib.suppress(DhtmetaError):  # the verdict will say that it is not known
                await self._resolver.query(relay, b"", policy, deadline)

    async def watch(
        self, public_key: bytes | str, *, salt: bytes = b"", interval: float
    ) -> AsyncIterator[Answer]:
        """Yield the newest answer, then each one with a higher seq; looks every `interval` seconds.

        A look that finds nothing or fails is passed over.
        """
        seen = -1
        while True:
            with contextlib.suppress(DhtmetaError):
                answer = await self.query(public_key, salt=salt, policy=Policy.FRESHEST)
                if answer.seq > seen:
                    seen = answer.seq
                    yield answer
            await asyncio.sleep(interval)


def _steady_clock() -> Callable[[], float]:
    """Return a clock of Unix seconds that does not jump when the system's clock is set."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
