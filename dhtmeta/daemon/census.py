"""Who of the known peers can be reached, judged a few at a time so that nothing else has to wait.

Only what is in the cache is judged, without the network: a lookup for each would be a flood. Lists
judge the peers they show. Totals are of up to CENSUS_AT_ONCE peers whenever somebody asks; more
are counted behind that, begun anew after CENSUS_INTERVAL seconds, and until the first such count
has ended it is given as it grows.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dhtmeta.const import CENSUS_AT_ONCE, CENSUS_INTERVAL, CENSUS_PAUSE, CENSUS_SLICE
from dhtmeta.daemon.roll import Roll
from dhtmeta.engine.cache import Cached
from dhtmeta.engine.connectability import Connectability, Verdict
from dhtmeta.errors import InvalidRecord
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

    def add(self, held: Cached | None, verdict: Connectability | None) -> None:
        """Count one peer."""
        self.verdicts[str(verdict.verdict) if verdict else UNKNOWN] += 1
        if held is not None and verdict is not None and verdict.verdict is Verdict.VIA_RELAY:
            record = held.record()
            assert record is not None  # a plain value has no verdict
            self.relays[record.network_info.connected_relay] += 1


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
        for i, peer in enumerate(list(self._node.known_peers), 1):
            count.add(*self._judged(peer))
            if i % CENSUS_SLICE == 0:
                await asyncio.sleep(pause)
        return count

    async def close(self) -> None:
        """Stop counting."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def page(self, after: bytes, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return the first `limit` known peers above the id `after`, and the last one's if more.

        Of many, a page may lack those who were met or forgotten lately.
        """
        peers = await self._roll.above(after, limit + 1)
        more = peers[limit - 1].hex() if len(peers) > limit else None
        entries = []
        for i, peer in enumerate(peers[:limit], 1):
            if peer in self._node.known_peers:
                entries.append(self._entry(peer))
            if i % CENSUS_SLICE == 0:
                await asyncio.sleep(0)
        return entries, more

    def _entry(self, peer: bytes) -> dict[str, Any]:
        held, verdict = self._judged(peer)
        known = self._node.known_peers.get(peer)
        key = known.public_key if known else held and held.item.public_key
        return {
            "peer_id": peer.hex(),
            "public_key": key and key.hex(),
            "seq": held and held.item.seq,
            "age": held and max(0.0, round(self._node.clock() - held.fetched_at, 3)),
            "verdict": verdict and str(verdict.verdict),
            "reason": verdict and verdict.reason,
            "address": (verdict and verdict.address) or None,
        }

    def _judged(self, peer: bytes) -> tuple[Cached | None, Connectability | None]:
        """Return what is held of a peer, whose id is its target, and the verdict on it."""
        resolver = self._node._resolver
        held = resolver.cache.usable(peer, self._node.clock())
        with contextlib.suppress(InvalidRecord):
            return held, None if held is None else resolver.judge(held)
        return held, None
