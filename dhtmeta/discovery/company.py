"""The company a node keeps: who is listed, when they are looked for, and who is told of whom."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Container, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dhtmeta.const import LOOKUP_DEADLINE, PEERS_RELOOK, PEERS_SLICE
from dhtmeta.dht.address import format_address, parse_address, resolve
from dhtmeta.discovery.around import Around
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.connectability import Verdict
from dhtmeta.errors import (
    CallerError,
    DeadlineExceeded,
    InvalidRecord,
    LocalError,
    NetworkUnreachable,
    RemoteError,
)
from dhtmeta.store.store import KnownPeer
from dhtmeta.values.item import SignedItem

if TYPE_CHECKING:  # QUIC takes 135 ms to import (FACTS): see `open`
    from dhtmeta.discovery.finder import Finder


class Company:
    """The peers of one node, from its store and, once somebody asks, from a Finder of its own.

    `own_ids` are the peer ids that are us, `host` where the DHT listens: an exchange on a visit
    listens there, too.
    """

    def __init__(
        self,
        around: Around,
        own_ids: Callable[[], Container[bytes | None]],
        host: Callable[[], str],
    ) -> None:
        self._around, self._own_ids, self._host = around, own_ids, host
        self._finder: Finder | None = None
        self._finding = asyncio.Lock()
        self._is_visiting = False
        self._search: asyncio.Task[None] | None = None  # where nobody else runs the finder

    async def open(self, topic: str | None, listen: str | None) -> "Finder":
        """Start the finder, once; see `Node.open_discovery`."""
        async with self._finding:
            if self._finder is None:
                wanted = self._around.settings.peer_discovery.topic if topic is None else topic
                self._finder = await self._start(wanted, listen)
            elif topic and topic != self._finder.topic:
                looks_for = repr(self._finder.topic) if self._finder.topic else "no topic"
                raise CallerError(f"this node looks for {looks_for}: open another for {topic!r}")
        return self._finder

    async def _start(self, topic: str, listen: str | None) -> "Finder":
        from dhtmeta.discovery.finder import Finder

        around = replace(self._around, visiting=listen is None)
        where = listen or format_address((self._host(), 0))
        finder = Finder(around, where, topic, random.SystemRandom())
        await finder.start()
        self._is_visiting = around.visiting
        return finder

    async def close(self) -> None:
        """End the search, and tell those who are connected."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])
        if self._finder is not None:
            await self._finder.close()

    def published(self, item: SignedItem) -> None:
        """Have peers see our record as soon as it is on our disk, however long the DHT takes."""
        if self._finder is not None:
            self._finder.published(item)

    async def found(self, topic: str | None, *, connectable: bool, deadline: float) -> list[Peer]:
        """Look for peers, unless that goes on already, and list them; see `Node.peers`."""
        topic = self._topic(topic)
        if self._is_online:
            finder = await self._searching(topic)
            if not finder.is_settled:
                await finder.settled(deadline)
        return [peer for peer in self.known(topic) if not connectable or peer.connectable]

    async def watched(self, topic: str | None) -> AsyncIterator[Peer]:
        """Yield peers as what is known of them changes; see `Node.watch_peers`."""
        topic = self._topic(topic)
        finder = await self._searching(topic)
        news, told = asyncio.Event(), _Told()
        with finder.hearing(news.set):
            while self._is_online:
                news.clear()
                for i, peer in enumerate(self.known(topic), 1):
                    if told.is_news(peer):
                        yield peer
                    if i % PEERS_SLICE == 0:
                        await asyncio.sleep(0)
                told.forget_all_but(self._around.store.peers)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PEERS_RELOOK):
                        await news.wait()

    async def connect(self, address: str, topic: str | None) -> Peer:
        """Return who is at "HOST:PORT"; see `Node.connect`."""
        endpoint = parse_address(address)
        finder = await self.open(topic, None)
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
        around = self._around
        with contextlib.suppress(RemoteError, LocalError, DeadlineExceeded):
            if around.held(peer_id) is None:
                await around.resolver.query(public_key, deadline=LOOKUP_DEADLINE)
        now = around.clock()
        met = KnownPeer(public_key, source="exchange", first_seen=now, last_seen=now)
        return self.peer(peer_id, around.store.peers.get(peer_id, met))

    @property
    def _is_online(self) -> bool:
        try:
            self._around.carrier()
        except NetworkUnreachable:
            return False
        return True

    def _topic(self, topic: str | None) -> str:
        if topic is None:
            looks_for = self._finder.topic if self._finder is not None else ""
            topic = looks_for or self._around.settings.peer_discovery.topic
        if not topic:
            raise CallerError("whose peers? name a topic, or set [peer_discovery] topic")
        return topic

    async def _searching(self, topic: str) -> "Finder":
        """Return what finds peers; it goes on until the node is closed, anew if it has ended."""
        finder = await self.open(topic, None)
        if self._is_visiting and (self._search is None or self._search.done()):
            self._search = asyncio.create_task(finder.run())
        return finder

    def known(self, topic: str | None) -> Iterator[Peer]:
        """Yield the known peers (of `topic`, or all), met last first, as they are judged now."""
        peers, own = self._around.store.peers, self._own_ids()
        for one in reversed(list(peers)):
            known = peers.get(one)
            if known is not None and topic in (None, known.topic) and one not in own:
                yield self.peer(one, known)

    def peer(self, peer_id: bytes, known: KnownPeer) -> Peer:
        """Return what is held of a known peer (20 bytes), judged now, without the network."""
        held = self._around.held(peer_id)
        peer = Peer(known.public_key, known.topic, known.source, known.first_seen, known.last_seen)
        if held is None:
            return peer
        age = max(0.0, self._around.clock() - held.fetched_at)
        peer = replace(peer, seq=held.item.seq, age=age)
        with contextlib.suppress(InvalidRecord):
            verdict = self._around.resolver.judge(held)
            return replace(peer, record=held.record(), connectability=verdict)
        return peer


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
