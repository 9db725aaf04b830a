"""The one place that assembles discovery: which parts there are, and who hears of what."""

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

from cachetools import LRUCache

from dhtmeta.const import KNOWN_PEERS, LAN_RETRY, RELAY_POLL, SETTLED
from dhtmeta.dht.address import parse_listen
from dhtmeta.discovery.acquaintance import Acquaintance
from dhtmeta.discovery.around import Around, exchange_of, record_of
from dhtmeta.discovery.attachment import Attachment
from dhtmeta.discovery.candidate import Candidate, Source
from dhtmeta.discovery.dialler import Dialler
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.gossip import Gossip
from dhtmeta.discovery.ladder import Ladder
from dhtmeta.discovery.lan import LanSource
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.neighbours import Neighbours
from dhtmeta.discovery.ourselves import Ourselves
from dhtmeta.discovery.registry import RegistrySource
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.discovery.relay_finder import RelayFinder
from dhtmeta.discovery.relay_watch import RelayWatch
from dhtmeta.discovery.sources import ContactSource, ExchangeSource, StoreSource
from dhtmeta.discovery.topic import RELAY_TOPIC, topic_hash
from dhtmeta.discovery.upkeep import Upkeep
from dhtmeta.engine.cache import Cached
from dhtmeta.errors import LocalError
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import KnownPeer
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import NodeRecord, record_in


class Finder:
    """Finds the peers of a topic, and has them find us: `start` it, then `run` it.

    `on_change` hears when what `described` says of us has changed; `on_found` of each item that is
    new here, wherever it came from.
    """

    def __init__(self, around: Around, listen: str, topic: str, rng: random.Random) -> None:
        self.is_settled = False  # whether `settled` has returned before
        self.on_change: Callable[[], None] = lambda: None
        self.on_found: list[Callable[[Cached], None]] = []
        self.lan: LanSource | None = None
        self._at: LRUCache[Endpoint, bytes] = LRUCache(KNOWN_PEERS)  # who is where: peer ids
        self._around, self._rng = around, rng
        self.exchange = Exchange(listen, around.identity, self._topics, around.dht_port)
        self.ourselves = Ourselves(around, self.exchange, topic)
        self.reachability = self.ourselves.reachability
        self.gossip = self._gossip()
        self._assemble_relays(around)
        self.dialler = Dialler(self.exchange, self._need_not_dial)
        self.acquaintance = Acquaintance(around, self.dialler)
        self._neighbours = Neighbours(around, self.exchange, self._session_link, rng)
        self.upkeep = Upkeep(around.store, around.resolver, self._concerns, around.clock)
        self.registry = RegistrySource(
            around.settings.registry.urls,
            topic,
            self.ourselves.presence,
            heard=self._take_in,
            local_ip=_own_ip(listen),
        )
        interval = around.settings.peer_discovery.discovery_interval
        self.ladder = Ladder(self._sources(), self.acquaintance.meet, self._is_alone, interval, rng)
        self._topic, self._key = topic, around.identity().public_key
        self._wire_up()

    def _gossip(self) -> Gossip:
        return Gossip(
            self.exchange,
            self._around.resolver.cache,
            lambda: self._around.store.peers,
            lambda: self.ourselves.own,
            self._around.clock,
            self._rng,
            self._around.settings.peer_discovery.max_known_peers_to_share,
        )

    def _assemble_relays(self, around: Around) -> None:
        capacity, urls = around.settings.relay.max_sessions, around.settings.registry.urls
        self.desk = RelayDesk(self.exchange, self.ourselves.relay_address, capacity)
        self.relay_registry = RegistrySource(urls, relays=True, heard=self._take_in)
        sources: list[Source] = [self.ourselves.topic_source(RELAY_TOPIC), self.relay_registry]
        finder = RelayFinder(around, self.ourselves, sources)
        self.attachment = Attachment(self.exchange, finder.find, self._rng)
        if around.settings.relay.use and not around.visiting:
            self.ourselves.attachment = self.attachment
        self.watch = RelayWatch(
            self.exchange,
            self.desk,
            around.resolver.evidence,
            lambda: around.store.peers,
            around.held,
            lambda: around.own_id,
            around.may_dial,
            around.clock,
            self._rng,
        )

    def _sources(self) -> list[Source]:
        """Return the ladder, the cheapest and least central first."""
        store = StoreSource(
            self._around.store.peers,
            self._concerns,
            lambda peer: self._around.held(peer) is not None,
        )
        exchange = ExchangeSource(self.gossip, self._neighbours.missing)
        contacts = ContactSource(
            self._around.settings.peer_discovery.contacts, self.exchange.family
        )
        last = [self.registry] if self._around.settings.registry.urls else []
        return [contacts, store, _Lan(self), _OfTopic(self.ourselves), exchange, *last]

    def _wire_up(self) -> None:
        """Say who hears of what."""
        self.exchange.on(wire.Probe, self._on_probe)
        self.exchange.on_open.append(self.acquaintance.opened)
        self.gossip.on_unshown = self.acquaintance.unshown
        self.reachability.on_change = self.attachment.on_change = self._changed
        self.reachability.on_move = lambda: self.ladder.wake("exchange")
        self.ourselves.turn.on_change = self._changed
        self.ladder.on_round = self.dialler.begin_round
        self._around.resolver.cache.on_news = self._on_news

    # its life

    async def start(self) -> None:
        """Be there for others; PortError where the port cannot be had."""
        await self.exchange.start()

    async def run(self) -> None:
        """Find peers, and be found, until cancelled."""
        work: list[Coroutine[None, None, None]] = [
            self.ladder.run(),
            self._neighbours.trim(),
            self.reachability.run(),
            self.watch.run(),
            self.upkeep.run(),
            self.ourselves.announce(),
            self._follow_us(),
        ]
        if self.ourselves.attachment is not None:
            work.append(self._stay_attached())
        if self._around.settings.peer_discovery.lan:
            work.append(self._listen_to_lan())
        if self.ourselves.turn.port and not self._around.visiting:
            work.append(self.ourselves.turn.run())
        async with asyncio.TaskGroup() as together:  # one that fails ends all
            for part in work:
                together.create_task(part)

    async def close(self) -> None:
        """Stop: peers are told that connections end."""
        await self.acquaintance.close()
        self.gossip.close()
        if self.lan is not None:
            await self.lan.close()
        await self.desk.close()
        await self.reachability.close()
        await self.exchange.close()

    async def settled(self, deadline: float) -> None:
        """Return once nobody new was found for a while, after `deadline` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                heard = False
                while await self._hears_more() or not (heard or self.ladder.rounds):
                    heard = heard or bool(self._around.store.peers)
        self.is_settled = True

    async def _hears_more(self) -> bool:
        """Whether there is news within SETTLED seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED):
                await self.acquaintance.news()
                return True
        return False

    async def _stay_attached(self) -> None:
        """Be attached to a relay while we are private."""
        attaching: asyncio.Task[None] | None = None
        try:
            while True:
                if self.ourselves.is_private and (attaching is None or attaching.done()):
                    attaching = asyncio.create_task(self.attachment.run())
                elif not self.ourselves.is_private and attaching is not None:
                    attaching.cancel()
                    attaching = None
                await asyncio.sleep(RELAY_POLL)
        finally:
            if attaching is not None:
                attaching.cancel()

    async def _listen_to_lan(self) -> None:
        """Meet those on our LAN as they come; where there is no mDNS, try again later."""
        lan = await self._started_lan()
        while True:
            await lan.heard.wait()
            lan.heard.clear()
            self.ladder.wake("lan")

    async def _started_lan(self) -> LanSource:
        key, endpoint = self._around.identity().public_key, self.exchange.endpoint
        while True:
            lan = LanSource(key, self.topic, endpoint, tells=not self._around.visiting)
            try:
                await lan.start()
            except LocalError as error:
                self.ladder.problems["lan"] = str(error)
                await asyncio.sleep(LAN_RETRY)
            else:
                self.ladder.problems.pop("lan", None)
                self.lan = lan
                return lan

    async def _follow_us(self) -> None:
        """Be of another topic as soon as our record names it, and of another key once rotated.

        Connections are made anew: they were opened with the old ones.
        """
        while True:
            await asyncio.sleep(RELAY_POLL)
            key = self._around.identity().public_key
            if (self.topic, key) != (self._topic, self._key):
                self._topic, self._key = self.topic, key
                self.registry.retopic(self.topic)
                if self.lan is not None:
                    await self.lan.update(topic=self.topic, public_key=key)
                for link in list(self.exchange.links):
                    link.hang_up()
                self.ladder.wake("topic")
                self.ladder.wake("exchange")

    # us

    @property
    def topic(self) -> str:
        """Whose peers are found, "" for nobody's."""
        return self.ourselves.topic

    def _topics(self) -> list[bytes]:
        return [topic_hash(self.topic)] if self.topic else []

    def described(self, record: NodeRecord) -> NodeRecord | None:
        """See `Ourselves.described`."""
        return self.ourselves.described(record)

    def published(self, item: SignedItem) -> None:
        """Take an item that is published now: if it is our own record, peers are shown it."""
        own, ours = self.ourselves.own, self._around.identity().public_key
        newer = own is None or own.public_key != ours or item.seq > own.seq
        if item.public_key == ours and not item.salt and newer:
            self.ourselves.own = item
            self._around.resolver.own = record_in(item)
            self.gossip.show_own()

    def _changed(self) -> None:
        self.on_change()

    def _session_link(self) -> Link | None:
        session = self.attachment.session
        return None if session is None else session.link

    # others

    async def connect(self, endpoint: Endpoint) -> Link:
        """Connect to a peer at (ip, UDP port); raises as `Exchange.dial`."""
        link = self.dialler.link_at(endpoint) or await self.exchange.dial(endpoint)
        await self.acquaintance.hear(link)
        return link

    def _on_news(self, cached: Cached) -> None:
        self.gossip.tell(cached)
        self.watch.note(cached)
        self.acquaintance.on_news(cached)
        self.ladder.go_on("exchange")
        if (endpoint := exchange_of(cached)) is not None:
            self._at[endpoint] = cached.item.target
        record = record_of(cached)
        if record is not None and record.network_info.is_relay:
            self.attachment.heard()
        for hear in self.on_found:
            hear(cached)

    @contextlib.contextmanager
    def hearing(self, tell: Callable[[], None]) -> Iterator[None]:
        """Tell of each item that is new here, while this is open."""

        def hear(_: Cached) -> None:
            tell()

        self.on_found.append(hear)
        try:
            yield
        finally:
            self.on_found.remove(hear)

    def _take_in(self, item: SignedItem) -> None:
        self.gossip.take(item, "registry")

    def _on_probe(self, link: Link, probe: wire.Probe) -> None:
        if probe.p == self._around.own_id:
            self.attachment.on_probe(link, probe)
        else:
            self.desk.on_probe(link, probe)

    def _concerns(self, known: KnownPeer) -> bool:
        """Whether a known peer is of our topic, or a relay."""
        return known.is_relay or (known.topic == self.topic != "")

    def _need_not_dial(self, endpoint: Endpoint) -> bool:
        """Whether we are there ourselves, or who is there is known."""
        peer = self._at.get(endpoint)
        known = peer is not None and exchange_of(self._around.held(peer)) == endpoint
        return known or endpoint in self.ourselves.endpoints

    def _is_alone(self) -> bool:
        """Whether nobody of our topic is known by a record, and nobody is connected."""
        return not self.exchange.links and not any(
            known.topic == self.topic and self._around.held(peer) is not None
            for peer, known in self._around.store.peers.items()
            if peer != self._around.own_id
        )


def _own_ip(listen: str) -> str:
    """Return the address that others are to see us at, "" where that is any of ours."""
    host, _ = parse_listen(listen)
    return "" if ipaddress.ip_address(host).is_unspecified else host


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

    def __init__(self, ourselves: Ourselves) -> None:
        self._ourselves = ourselves

    async def candidates(self) -> AsyncIterator[Candidate]:
        if self._ourselves.topic:
            source = self._ourselves.topic_source(self._ourselves.topic)
            async for candidate in source.candidates():
                yield candidate
