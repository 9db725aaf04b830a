"""The one place that assembles discovery: who is met, who is kept as a neighbour, who is listed.

A candidate becomes a known peer by a verified record alone, whether its owner shows it on a
connection, another peer passes it on, or the DHT has it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from dhtmeta.config import Settings
from dhtmeta.const import (
    CHECKS_A_ROUND,
    HEAR_WAIT,
    LAN_RETRY,
    LINGER,
    LOOKUP_DEADLINE,
    NEIGHBOURS,
    RELAY_CANDIDATES,
    RELAY_PATIENCE,
    RELAY_POLL,
    SETTLE_POLL,
    SETTLED,
    TOPIC_WAIT,
    UNSHOWN,
)
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.mapping import Outside
from dhtmeta.discovery.attachment import Attachment
from dhtmeta.discovery.candidate import Candidate, Source
from dhtmeta.discovery.dialler import Dialler
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.gossip import Gossip
from dhtmeta.discovery.ladder import Ladder
from dhtmeta.discovery.lan import LanSource
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.reachability import Reachability, described
from dhtmeta.discovery.registry import Presence, RegistrySource
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.discovery.relay_watch import RelayWatch
from dhtmeta.discovery.sources import ExchangeSource, StoreSource
from dhtmeta.discovery.topic import RELAY_TOPIC, TopicSource, topic_hash
from dhtmeta.discovery.upkeep import Upkeep
from dhtmeta.engine.cache import Cached
from dhtmeta.engine.connectability import Verdict
from dhtmeta.engine.resolve import Resolver
from dhtmeta.errors import DhtmetaError, InvalidRecord, LocalError, NetworkUnreachable, NotProven
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import KnownPeer, Store
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import peer_id
from dhtmeta.values.record import NetworkInfo, NodeRecord, format_endpoint, split_endpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Around:
    """What discovery needs of the node it is a part of.

    `dht_port` is that of our DHT node (0: none that others should use), `outside` what gateways
    say. `visiting` is for a short visit: we are not announced, and are no relay.
    """

    settings: Settings
    identity: Callable[[], Identity]
    store: Store
    resolver: Resolver
    carrier: Callable[[], Carrier]
    dht_port: Callable[[], int]
    outside: Callable[[], Outside | None]
    clock: Callable[[], float]
    allow_non_global: bool
    visiting: bool = False


class Finder:
    """Finds the peers of `topic`; `start` it, then `run` it, or go `round` as often as you like.

    `on_change` hears when what `described` says of us has changed.
    """

    def __init__(self, around: Around, listen: str, topic: str, rng: random.Random) -> None:
        self.topic = topic
        self.is_settled = False  # whether `settled` has returned before
        self.own: SignedItem | None = None  # our record as it is published
        self.on_change: Callable[[], None] = lambda: None
        self.on_found: list[Callable[[Cached], None]] = []
        self.stated_type = ""  # node_type, where the operator's record says it
        self.stated_relays: list[Endpoint] = []
        self._around, self._rng = around, rng
        settings, store, resolver = around.settings, around.store, around.resolver
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._began = self._unshown_at = loop.time()
        self._unshown = float(UNSHOWN)
        self._tasks: set[asyncio.Task[object]] = set()
        self.exchange = Exchange(listen, around.identity, self._topics, around.dht_port)
        self.gossip = Gossip(
            self.exchange,
            resolver.cache,
            lambda: store.peers,
            lambda: self.own,
            around.clock,
            rng,
            settings.peer_discovery.max_known_peers_to_share,
        )
        self.desk = RelayDesk(self.exchange, self._relay_address, settings.relay.max_sessions)
        self.reachability = Reachability(
            self.exchange, around.outside, allow_non_global=around.allow_non_global
        )
        self.attachment = Attachment(self.exchange, self._relays, rng)
        self.watch = RelayWatch(
            self.exchange, resolver.evidence, self._held, lambda: self._own_id, around.clock
        )
        self.dialler = Dialler(self.exchange, self._own_endpoints)
        ttl = settings.metadata_cache.ttl_seconds
        self.upkeep = Upkeep(store, resolver, self._concerns, ttl, around.clock)
        self.lan: LanSource | None = None
        self._topic = self._topic_source(topic)
        self._relay_topic = self._topic_source(RELAY_TOPIC)
        urls = settings.registry.urls
        self.registry = RegistrySource(urls, topic, self._presence, heard=self._take_in)
        self._relay_registry = RegistrySource(urls, relays=True, heard=self._take_in)
        interval = settings.peer_discovery.discovery_interval
        self.ladder = Ladder(self._sources(), self._meet, self._is_alone, interval, rng)
        self._wire_up()

    def _topic_source(self, topic: str) -> TopicSource:
        allow = self._around.allow_non_global
        return TopicSource(
            self._around.carrier, topic_hash(topic), self._own_endpoints, allow_non_global=allow
        )

    def _sources(self) -> list[Source]:
        """Return the ladder, the cheapest and least central first."""
        store = StoreSource(
            self._around.store.peers, self._concerns, lambda peer: self._held(peer) is not None
        )
        exchange = ExchangeSource(self.exchange, self.gossip, self._dialable)
        return [store, _Lan(self), _OfTopic(self), exchange, self.registry]

    def _wire_up(self) -> None:
        """Say who hears of what."""
        self.exchange.on(wire.Probe, self._on_probe)
        self.exchange.on_open.append(self._on_open)
        self.gossip.on_unshown = self._on_unshown
        self.reachability.on_change = self._changed
        self.attachment.on_change = self._changed
        self._around.resolver.cache.on_news = self._on_news

    async def start(self) -> None:
        """Be there for others; PortError where the port cannot be had."""
        await self.exchange.start()

    async def close(self) -> None:
        """Stop: peers are told that connections end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.gossip.close()
        if self.lan is not None:
            await self.lan.close()
        await self.desk.close()
        await self.reachability.close()
        await self.exchange.close()

    async def run(self) -> None:
        """Find peers, and be found, until cancelled."""
        work: list[Coroutine[None, None, None]] = [
            self._go_round(),
            self.reachability.run(),
            self.watch.run(),
            self.upkeep.run(),
            self._announce(),
        ]
        if self._around.settings.relay.use:
            work.append(self._attach())
        if self._around.settings.peer_discovery.lan:
            work.append(self._listen_to_lan())
        await asyncio.gather(*work)

    async def _go_round(self) -> None:
        trimming = asyncio.create_task(self._trim())
        try:
            await self.ladder.run()
        finally:
            trimming.cancel()

    async def round(self) -> int:
        """Ask every source that is due; returns how many new peers were found."""
        self.dialler.begin_round()
        return await self.ladder.round()

    # what we are

    @property
    def _own_id(self) -> bytes:
        return self._around.identity().peer_id

    def _topics(self) -> list[bytes]:
        return [topic_hash(self.topic)] if self.topic else []

    def _own_endpoints(self) -> set[Endpoint]:
        reach = self.reachability.reach
        return {one for one in (self.exchange.endpoint, reach.public, reach.own) if one}

    def _relay_address(self) -> str | None:
        """Return where others reach us as a relay, None where we are none."""
        public = self.reachability.reach.public
        serves = self._around.settings.relay.serve and not self._around.visiting
        return format_endpoint(public) if serves and public is not None else None

    def described(self, record: NodeRecord) -> NodeRecord | None:
        """Return our record with what was found out about how we are reached.

        None while that is not known yet, or while we are private and may still find a relay.
        """
        serving = self._relay_address() is not None
        capacity = self._around.settings.relay.max_sessions if serving else 0
        self._note_stated(record)
        info = described(
            record.network_info, self.reachability.reach, self.attachment.session, capacity
        )
        if not info.node_type or self._waits_for_relay(info):
            return None
        return replace(record, network_info=info, topic=record.topic or self.topic)

    def _note_stated(self, record: NodeRecord) -> None:
        """Keep in mind what the operator says, which stands above what was found out."""
        base = record.network_info
        self.stated_type = base.node_type
        self.stated_relays = [split_endpoint(one) for one in base.relay_endpoints]

    def _waits_for_relay(self, info: NetworkInfo) -> bool:
        now = asyncio.get_running_loop().time()
        patient = now < self._began + RELAY_PATIENCE and self._around.settings.relay.use
        return info.node_type == "private" and not info.using_relay and patient

    async def settled(self, deadline: float) -> None:
        """Return once nobody new was found for a while, after `deadline` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while not self.ladder.rounds:
                    await asyncio.sleep(SETTLE_POLL)
                while await self._hears_more():
                    pass
        self.is_settled = True

    async def _hears_more(self) -> bool:
        """Whether there is news within SETTLED seconds."""
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED):
                await self._news.wait()
                return True
        return False

    def published(self, item: SignedItem) -> None:
        """Take our own record as it is published now: peers are shown it."""
        if item.public_key == self._around.identity().public_key and not item.salt:
            self.own = item
            self.gossip.show_own()

    def _changed(self) -> None:
        self.on_change()

    # who is met

    async def connect(self, endpoint: Endpoint) -> Link:
        """Connect to a peer at (ip, UDP port); raises as `Exchange.dial`."""
        return self.dialler.link_at(endpoint) or await self.exchange.dial(endpoint)

    async def _meet(self, candidate: Candidate) -> bool:
        """Find out who a candidate is; True if that is somebody new."""
        known = len(self._around.store.peers)
        try:
            if candidate.endpoint is not None and self.dialler.may(candidate.endpoint):
                await self._dial(candidate, candidate.endpoint)
            elif candidate.public_key is not None:
                await self._look_up(candidate.public_key)
        except DhtmetaError as error:
            log.debug("candidate of %s: %s", candidate.source, error)
        return len(self._around.store.peers) > known

    async def _dial(self, candidate: Candidate, endpoint: Endpoint) -> None:
        evidence, key = self._around.resolver.evidence, candidate.public_key
        try:
            link = await self.dialler.dial(endpoint)
            if key is not None and link.public_key != key:
                raise NotProven(f"at {format_endpoint(endpoint)} is another than was said")
        except DhtmetaError:
            held = None if key is None else self._held(peer_id(key))
            if held is not None and _exchange_of(held) == endpoint:
                evidence.missed(held.item.target, held.item.seq)
            raise
        await self._hear(link)

    async def _hear(self, link: Link) -> None:
        """Wait a moment for the record of who answered."""
        end = asyncio.get_running_loop().time() + HEAR_WAIT
        while self._held(link.peer_id) is None and asyncio.get_running_loop().time() < end:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end - asyncio.get_running_loop().time()):
                    await self._news.wait()

    async def _look_up(self, key: bytes) -> None:
        if key != self._around.identity().public_key and self._held(peer_id(key)) is None:
            await self._around.resolver.query(key, deadline=LOOKUP_DEADLINE)

    def _on_open(self, link: Link) -> None:
        self._around.resolver.evidence.reached(link.peer_id)
        if link.dht_port:  # so a DHT comes together where all routers are dead
            with contextlib.suppress(NetworkUnreachable):
                self._around.carrier().add_nodes([(link.remote[0], link.dht_port)])

    def _on_unshown(self, link: Link, key: bytes) -> None:
        """Look a hint up that nobody could show an item for: a few a minute, there may be liars."""
        now = asyncio.get_running_loop().time()
        self._unshown = min(float(UNSHOWN), self._unshown + (now - self._unshown_at) * UNSHOWN / 60)
        self._unshown_at = now
        if self._unshown >= 1:
            self._unshown -= 1
            self._later(self._meet(Candidate("exchange", key)))

    def _later(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_news(self, cached: Cached) -> None:
        """Hear of each item that is new here, wherever it came from."""
        self.gossip.tell(cached)
        self.watch.note(cached)
        self._news.set()
        for hear in self.on_found:
            hear(cached)

    def _on_probe(self, link: Link, probe: wire.Probe) -> None:
        if probe.p == self._own_id:
            self.attachment.on_probe(link, probe)
        else:
            self.desk.on_probe(link, probe)

    # who is known

    def _concerns(self, known: KnownPeer) -> bool:
        return known.is_relay or (known.topic == self.topic != "")

    def _held(self, peer: bytes) -> Cached | None:
        return self._around.resolver.cache.usable(peer, self._around.clock())

    def _is_alone(self) -> bool:
        """Whether nobody of our topic is known by a record, and nobody is connected."""
        peers = self._around.store.peers.items()
        return not self.exchange.links and not any(
            known.topic == self.topic and self._held(peer) is not None for peer, known in peers
        )

    def _dialable(self) -> list[Candidate]:
        """Return known peers to connect to: neighbours that are missing, and some to be checked."""
        linked = {link.peer_id for link in self.exchange.links}
        wanted = max(0, NEIGHBOURS - len(self._neighbours())) + CHECKS_A_ROUND
        peers = list(self._around.store.peers)
        found = []
        for peer in self._rng.sample(peers, min(len(peers), 20 * wanted)):
            held = None if peer in linked or peer == self._own_id else self._held(peer)
            endpoint = held and _exchange_of(held)
            if held is not None and endpoint:
                found.append(Candidate("exchange", held.item.public_key, endpoint))
            if len(found) >= wanted:
                break
        return found

    def _neighbours(self) -> list[Link]:
        return [one for one in self.exchange.links if one.outbound]

    async def _trim(self) -> None:
        """Let connections go that nobody needs any more."""
        while True:
            await asyncio.sleep(LINGER)
            self.dialler.begin_round()
            needed = self._needed()
            spare = sorted(
                (one for one in self._neighbours() if one not in needed),
                key=lambda one: one.opened_at,
            )
            now = asyncio.get_running_loop().time()
            for link in spare[NEIGHBOURS:]:
                if now - link.opened_at > LINGER:
                    link.hang_up()

    def _needed(self) -> set[Link]:
        session = self.attachment.session
        relays = self._around.resolver.evidence.relays
        needed = {one for one in self.exchange.links if one.peer_id in relays}
        return needed | ({session.link} if session else set())

    # relays

    async def _attach(self) -> None:
        """Be attached to a relay while we are private."""
        attaching: asyncio.Task[None] | None = None
        try:
            while True:
                private = self._is_private()
                if private and attaching is None:
                    attaching = asyncio.create_task(self.attachment.run())
                elif not private and attaching is not None:
                    attaching.cancel()
                    attaching = None
                await asyncio.sleep(RELAY_POLL)
        finally:
            if attaching is not None:
                attaching.cancel()

    def _is_private(self) -> bool:
        base = self.stated_type or self.reachability.reach.node_type
        return base == "private" and not self._around.visiting

    async def _relays(self) -> Sequence[Endpoint]:
        """Return where relays are: known ones, those of the relay topic, registries last."""
        found = [*self.stated_relays, *self._known_relays()]
        sources: list[Source] = [self._relay_topic, self._relay_registry]
        for source in sources:
            if len(found) >= RELAY_CANDIDATES // 2:
                break
            with contextlib.suppress(DhtmetaError, TimeoutError):
                async with asyncio.timeout(TOPIC_WAIT + 1):
                    async for candidate in source.candidates():
                        found += [candidate.endpoint] if candidate.endpoint else []
        return list(dict.fromkeys(found))

    def _known_relays(self) -> list[Endpoint]:
        """Return where known relays are, in any order: not all shall choose the same."""
        found = []
        for peer, known in self._around.store.peers.items():
            held = self._held(peer) if known.is_relay else None
            endpoint = held and _exchange_of(held)
            if held is not None and endpoint and self._leads_there(held):
                found.append(endpoint)
        self._rng.shuffle(found)
        return found

    def _leads_there(self, held: Cached) -> bool:
        verdict = self._around.resolver.judge(held)
        return verdict is not None and verdict.verdict is Verdict.DIRECT

    # being found

    async def _announce(self) -> None:
        """Announce us on our topic while others can reach us, and as a relay while we are one."""
        announcing: dict[tuple[TopicSource, int], asyncio.Task[None]] = {}
        try:
            while True:
                wanted = set(self._to_announce())
                for key in announcing.keys() - wanted:
                    announcing.pop(key).cancel()
                for source, port in wanted - announcing.keys():
                    task = asyncio.create_task(source.announce(port))
                    announcing[source, port] = task
                await asyncio.sleep(RELAY_POLL)
        finally:
            for task in announcing.values():
                task.cancel()

    def _to_announce(self) -> list[tuple[TopicSource, int]]:
        public = self.reachability.reach.public
        if public is None or self.stated_type == "private" or self._around.visiting:
            return []
        ours = [(self._topic, public[1])] if self.topic else []
        return ours + ([(self._relay_topic, public[1])] if self._relay_address() else [])

    def _presence(self) -> Presence | None:
        """Return what a registry is told of us: nothing before our record is published."""
        if self.own is None or self._around.visiting:
            return None
        public = self.reachability.reach.public
        return Presence(
            identity=self._around.identity(),
            port=public[1] if public else None,
            is_relay=self._relay_address() is not None,
            item=self.own,
        )

    def _take_in(self, item: SignedItem) -> None:
        """Take in a verified item that a registry handed over."""
        self.gossip.take(item, "registry")

    async def _listen_to_lan(self) -> None:
        """Meet those on our LAN as they come; where there is no mDNS, try again later."""
        identity, endpoint = self._around.identity(), self.exchange.endpoint
        while True:
            lan = LanSource(identity.public_key, self.topic, endpoint)
            try:
                await lan.start()
                break
            except LocalError as error:
                log.info("%s", error)
                await asyncio.sleep(LAN_RETRY)
        self.lan = lan
        while True:
            await lan.heard.wait()
            lan.heard.clear()
            self.ladder.wake()

    async def retopic(self, topic: str) -> None:
        """Be of another topic from now on."""
        if topic == self.topic:
            return
        self.topic = topic
        self._topic = self._topic_source(topic)
        self.registry.retopic(topic)
        if self.lan is not None:
            await self.lan.update(topic=topic)
        self.ladder.wake()


class _Lan:
    """The LAN's source, while there is one."""

    name = "lan"

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    async def candidates(self) -> AsyncIterator[Candidate]:
        if self._finder.lan is not None:
            async for candidate in self._finder.lan.candidates():
                yield candidate


class _OfTopic:
    """The DHT's source for the topic that we are of now."""

    name = "topic"

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    async def candidates(self) -> AsyncIterator[Candidate]:
        if self._finder.topic:
            async for candidate in self._finder._topic.candidates():
                yield candidate


def _exchange_of(cached: Cached) -> Endpoint | None:
    try:
        record = cached.record()
    except InvalidRecord:
        return None
    return None if record is None else record.exchange
