"""When known peers' records are looked up again, and when a peer is forgotten.

Those of our topic, and relays, whenever their record is no longer fresh; all others once a day. Who
is not found is forgotten only if nobody has seen a record for a day: an outage loses nobody.
"""

import asyncio
import logging
from collections.abc import Callable
from itertools import islice

from cachetools import TTLCache

from dhtmeta.const import (
    KNOWN_FOR,
    KNOWN_PEERS,
    LOOKUP_DEADLINE,
    UPKEEP,
    UPKEEP_AT_ONCE,
    UPKEEP_RETRY,
    UPKEEP_SLICE,
)
from dhtmeta.engine.resolve import Answer, Policy, Resolver
from dhtmeta.errors import DhtmetaError, InvalidRecord, NotFound
from dhtmeta.store.store import KnownPeer, Store

log = logging.getLogger(__name__)


class Upkeep:
    """Keeps what is known of peers current; `concerns` says who is of our topic. Unix s."""

    def __init__(
        self,
        store: Store,
        resolver: Resolver,
        concerns: Callable[[KnownPeer], bool],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._resolver, self._concerns = store, resolver, concerns
        self._clock = clock
        self._tried: TTLCache[bytes, bool] = TTLCache(KNOWN_PEERS, UPKEEP_RETRY)
        self._running: set[asyncio.Task[None]] = set()
        self._round: list[bytes] = []
        self.forgotten = 0

    async def run(self) -> None:
        """Look up what is due, a few at a time, until cancelled."""
        try:
            while True:
                await asyncio.sleep(UPKEEP)
                self._look()
        finally:
            for task in self._running:
                task.cancel()

    def _look(self) -> None:
        if not self._round:
            self._round = list(self._store.peers)
        slice_ = list(islice(reversed(self._round), UPKEEP_SLICE))
        for peer_id in slice_:
            if len(self._running) >= UPKEEP_AT_ONCE:
                return
            self._round.pop()
            known = self._store.peers.get(peer_id)
            if known is not None and self._is_due(peer_id, known):
                self._tried[peer_id] = True
                task = asyncio.get_running_loop().create_task(self._renew(peer_id, known))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _is_due(self, peer_id: bytes, known: KnownPeer) -> bool:
        now = self._clock()
        if peer_id in self._tried:
            return False
        if not self._concerns(known):
            return now - known.last_seen > KNOWN_FOR
        held = self._resolver.cache.usable(peer_id, now)
        return held is None or now >= held.fresh_until

    async def _renew(self, peer_id: bytes, known: KnownPeer) -> None:
        try:
            answer = await self._resolver.query(
                known.public_key, policy=Policy.FRESHEST, deadline=LOOKUP_DEADLINE
            )
            if not _has_record(answer):  # its key was rotated, or has another use now
                self._forget_old(peer_id, known)
        except NotFound:
            self._forget_old(peer_id, known)
        except DhtmetaError as error:
            log.debug("peer %s is looked up later: %s", peer_id.hex(), error)
        except Exception:
            log.exception("unexpected, while a known peer was looked up")

    def _forget_old(self, peer_id: bytes, known: KnownPeer) -> None:
        if self._clock() - known.last_seen > KNOWN_FOR:
            self.forgotten += 1
            self._store.drop_peer(peer_id)


def _has_record(answer: Answer) -> bool:
    try:
        return answer.record is not None
    except InvalidRecord:
        return False
