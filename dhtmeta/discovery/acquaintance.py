"""How a candidate becomes a known peer: dialled where it can be, else looked up by its key.

Only a verified record makes one, whether its owner shows it on a connection, another peer passes it
on, or the DHT has it. What nobody can show is looked up a few times a minute, and all lookups have
a cap: there may be liars. Which dials in vain count against a peer is decided here, too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine

from cachetools import LRUCache

from dhtmeta.const import (
    HEAR_WAIT,
    LOOKUP_DEADLINE,
    MET_LOOKUPS,
    MET_WAITING,
    SILENT_PEERS,
    UNSHOWN,
)
from dhtmeta.discovery.around import Around, exchange_of, record_of
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.dialler import Dialler
from dhtmeta.discovery.link import Link
from dhtmeta.engine.cache import Cached
from dhtmeta.errors import DhtmetaError, NetworkUnreachable, NotProven
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.node_id import peer_id
from dhtmeta.values.record import EXCHANGE_PROTOCOL, NodeRecord, format_endpoint

log = logging.getLogger(__name__)

NEAR = ("lan", "contact")  # sources that nobody far away can speak through


class Acquaintance:
    """Meets candidates. `on_news` is to be told of each item that is new here."""

    def __init__(self, around: Around, dialler: Dialler) -> None:
        self._around, self._dialler = around, dialler
        self._tasks: set[asyncio.Task[object]] = set()
        self._waiting: set[asyncio.Event] = set()
        self._answered: LRUCache[bytes, bool] = LRUCache(SILENT_PEERS)  # whom we dialled, by id
        self._lookups = asyncio.Semaphore(MET_LOOKUPS)
        self._looked_for = 0  # lookups under way or waiting
        self._unshown = float(UNSHOWN)
        self._unshown_at = asyncio.get_running_loop().time()

    async def meet(self, candidate: Candidate) -> bool:
        """Find out who a candidate is; True if that is somebody new."""
        known = len(self._around.store.peers)
        try:
            endpoint, key = candidate.endpoint, candidate.public_key
            if key is not None and peer_id(key) == self._around.own_id:
                return False
            if endpoint is not None and not self._is_usable(candidate.source, endpoint):
                endpoint = None
            if endpoint is not None and self._dialler.may(endpoint, by_name=key is not None):
                await self._dial(key, endpoint)
            elif key is not None:
                await self._look_up(key)
        except DhtmetaError as error:
            log.debug("candidate of %s: %s", candidate.source, error)
        return len(self._around.store.peers) > known

    def _is_usable(self, source: str, endpoint: Endpoint) -> bool:
        """Whether to dial there: who is on our LAN, or known by hand, may have any address."""
        return source in NEAR or self._around.may_dial(endpoint)

    async def _dial(self, key: bytes | None, endpoint: Endpoint) -> None:
        """Have who is there say who they are; it counts against who should be, and is not."""
        try:
            link = await self._dialler.dial(endpoint)
        except DhtmetaError:
            if key is not None and self._should_answer(peer_id(key)):
                self._missed(peer_id(key), endpoint)
            raise
        if key is not None and link.public_key != key:
            self._missed(peer_id(key), endpoint)
            raise NotProven(f"at {format_endpoint(endpoint)} is another than was said")
        await self.hear(link)

    def _should_answer(self, peer: bytes) -> bool:
        """Whether a peer is known to have an exchange, and we would meet it.

        A public port that no protocol explains may be that of its application.
        """
        record = record_of(self._around.held(peer))
        if record is None or self._dialler.shuns(peer):
            return False
        return _names_exchange(record) or (
            not record.network_info.protocols and peer in self._answered
        )

    def _missed(self, peer: bytes, endpoint: Endpoint) -> None:
        """Count a dial in vain against whose record says to be there."""
        held = self._around.held(peer)
        others_answer = self._dialler.connected > 0  # else it may be our own network
        if held is not None and exchange_of(held) == endpoint and others_answer:
            self._around.resolver.evidence.missed(held.item.target, held.item.seq)

    async def hear(self, link: Link) -> Cached | None:
        """Return the record of who is at the other end, waiting a moment for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAR_WAIT):
                while (held := self._around.held(link.peer_id)) is None:
                    await self.news()
                return held
        return None

    async def news(self) -> None:
        """Return when something new is here."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)

    def on_news(self, cached: Cached) -> None:
        """Tell all who wait for news."""
        for event in self._waiting:
            event.set()

    async def _look_up(self, key: bytes) -> None:
        """Look a key up once it is its turn; where too many wait, it has to be named again."""
        if self._looked_for >= MET_LOOKUPS + MET_WAITING:
            return
        self._looked_for += 1
        try:
            async with self._lookups:
                if self._around.held(peer_id(key)) is None:
                    await self._around.resolver.query(key, deadline=LOOKUP_DEADLINE)
        finally:
            self._looked_for -= 1

    def opened(self, link: Link) -> None:
        """Note who answered, and tell the DHT: so one comes together where all routers are dead.

        The first one to answer shows that our network is there again: what failed is forgotten.
        """
        if self._dialler.connected <= 1:
            self._dialler.forgive()
            self._around.resolver.evidence.forgive()
        self._around.resolver.evidence.reached(link.peer_id)
        if link.outbound:
            self._answered[link.peer_id] = True
        if link.dht_port:
            with contextlib.suppress(NetworkUnreachable):
                self._around.carrier().add_nodes([(link.remote[0], link.dht_port)])

    def unshown(self, link: Link, key: bytes) -> None:
        """Look a hint up that nobody could show an item for, if that may be done now."""
        now = asyncio.get_running_loop().time()
        gained = (now - self._unshown_at) * UNSHOWN / 60
        self._unshown, self._unshown_at = min(float(UNSHOWN), self._unshown + gained), now
        if self._unshown >= 1:
            self._unshown -= 1
            self._later(self.meet(Candidate("exchange", key)))

    def _later(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _names_exchange(record: NodeRecord) -> bool:
    return any(one.name == EXCHANGE_PROTOCOL for one in record.network_info.protocols)
