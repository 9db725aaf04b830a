"""Who of the known peers can be reached, judged a few at a time so that nothing else has to wait.

Only what is in the cache is judged, without the network: a lookup for each would be a flood. Lists
judge the peers they show. Totals are of up to CENSUS_AT_ONCE peers whenever somebody asks; more
are counted behind that, begun anew after CENSUS_INTERVAL seconds, and until the first such count
has ended it is given as it grows.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from dhtmeta.const import CENSUS_AT_ONCE, CENSUS_INTERVAL, CENSUS_PAUSE, CENSUS_SLICE
from dhtmeta.daemon.roll import Roll
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.connectability import Verdict
from dhtmeta.node import Node

UNKNOWN = "unknown"  # the verdict on peers of whom no record is in the cache


@dataclass(slots=True)
class Count:
    """How many peers there are under each verdict, and how many lead over each relay."""

    verdicts: Counter[str] = field(default_factory=Counter)
    relays: Counter[str] = field(default_factory=Counter)  # by peer id, hex

    @property
    def connectable(self) -> int:
        """How many can be reached."""
        return self.verdicts[Verdict.DIRECT] + self.verdicts[Verdict.VIA_RELAY]

    def add(self, peer: Peer) -> None:
        """Count one peer."""
        self.verdicts[peer.verdict or UNKNOWN] += 1
        if peer.verdict is Verdict.VIA_RELAY:
            assert peer.record is not None  # it is what was judged
            self.relays[peer.record.network_info.connected_relay] += 1


class Census:
    """Judges what `node` knows of its peers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._roll = Roll(node)
        self._last = Count()
        self._counting: asyncio.Task[None] | None = None
        self._due = float("-inf")  # loop time

    async def count(self) -> Count:
        """Return the totals; of many peers those of the last minutes."""
        if len(self._node.known_peers) <= CENSUS_AT_ONCE:
            return await self._take(Count(), pause=0.0)
        if self._counting is None and asyncio.get_running_loop().time() >= self._due:
            self._counting = asyncio.create_task(self._take_behind())
        return self._last

    async def _take_behind(self) -> None:
        count = Count()
        if not self._last.verdicts:
            self._last = count
        try:
            self._last = await self._take(count, CENSUS_PAUSE)
        finally:
            self._due = asyncio.get_running_loop().time() + CENSUS_INTERVAL
            self._counting = None

    async def _take(self, count: Count, pause: float) -> Count:
        own = self._node.own_id
        for i, peer_id in enumerate(list(self._node.known_peers), 1):
            known = self._node.known_peers.get(peer_id)
            if known is not None and peer_id != own:
                count.add(self._node.peer(peer_id, known))
            if i % CENSUS_SLICE == 0:
                await asyncio.sleep(pause)
        return count

    async def close(self) -> None:
        """Stop counting."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def page(
        self, after: bytes, limit: int, topic: str | None = None
    ) -> tuple[list[Peer], str | None]:
        """Return the first `limit` known peers above the id `after`, and the last one's if more.

        Of many, a page may lack those who were met or forgotten lately. We ourselves are in none.
        """
        ids = await self._roll.above(after, limit + 1, topic)
        more = ids[limit - 1].hex() if len(ids) > limit else None
        peers = []
        for i, peer_id in enumerate(ids[:limit], 1):
            known = self._node.known_peers.get(peer_id)
            if known is not None:
                peers.append(self._node.peer(peer_id, known))
            if i % CENSUS_SLICE == 0:
                await asyncio.sleep(0)
        return peers, more
