"""Who announced a topic on the DHT: what hash stands for it, whom to believe, when to renew."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final

from dhtmeta.const import (
    ANNOUNCE_FIRST,
    ANNOUNCE_INTERVAL,
    ANNOUNCE_RETRY,
    TOPIC_AGAIN,
    TOPIC_WAIT,
)
from dhtmeta.dht.carrier import Carrier
from dhtmeta.discovery.candidate import Candidate, may_be_dialled
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc.compact import Endpoint

log = logging.getLogger(__name__)

RELAY_TOPIC: Final = "dhtmeta relay"
"""The topic that relays announce beside their own."""


def topic_hash(text: str) -> bytes:
    """Return the 20-byte infohash of a topic: SHA1 of its UTF-8."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).digest()


class TopicSource:
    """Those who announced `info_hash` (20 bytes) on the DHT, but never ourselves.

    `own` gives the endpoints we are seen at. `wait` (s) is how long each round gathers, `renew`
    (s) how often our own announce is made again.
    """

    name = "topic"

    def __init__(
        self,
        carrier: Callable[[], Carrier],
        info_hash: bytes,
        own: Callable[[], Collection[Endpoint]],
        *,
        allow_non_global: bool = False,
        wait: float = TOPIC_WAIT,
        renew: float = ANNOUNCE_INTERVAL,
    ) -> None:
        self._carrier = carrier
        self._info_hash = info_hash
        self._own = own
        self._allow_non_global = allow_non_global
        self._wait = wait
        self._renew = renew

    async def candidates(self) -> AsyncIterator[Candidate]:
        """Yield each peer as a node tells of it; raises NetworkUnreachable where none answers."""
        told: asyncio.Queue[Endpoint | None] = asyncio.Queue()
        asking = asyncio.create_task(self._gather(told.put_nowait))
        asking.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (peer := await told.get()) is not None:
                yield Candidate(self.name, endpoint=peer)
            await asking
        finally:
            asking.cancel()

    async def _gather(self, tell: Callable[[Endpoint], None]) -> None:
        """Tell of peers for `wait` seconds; look again while there are none: they may just come."""
        carrier, found = self._carrier(), set[Endpoint]()

        def hear(peer: Endpoint) -> None:
            if self._worth_asking(peer):
                found.add(peer)
                tell(peer)

        await carrier.ready()
        listening = asyncio.create_task(carrier.get_peers(self._info_hash, self._wait, hear))
        try:
            for pause in TOPIC_AGAIN:
                await asyncio.wait([listening], timeout=pause)
                if found or listening.done():
                    break
                await carrier.get_peers(self._info_hash, 0.0)
            await listening
        finally:
            listening.cancel()

    async def announce(self, port: int) -> None:
        """Announce our UDP port, again and again, until this is cancelled.

        Soon once more at first: of a table that has just begun to fill, others are closest.
        Only for who can be reached there: a node takes the address from the datagram.
        """
        pause = ANNOUNCE_FIRST
        while True:
            try:
                await self._carrier().announce(self._info_hash, port)
            except DhtmetaError as error:
                log.debug("not announced: %s", error)
                pause = min(pause, ANNOUNCE_RETRY)
            await asyncio.sleep(min(pause, self._renew))
            pause = min(2 * pause, self._renew)

    def _worth_asking(self, peer: Endpoint) -> bool:
        usable = may_be_dialled(peer, allow_non_global=self._allow_non_global)
        return usable and peer not in self._own()
