"""In which order known peers are listed, found out a slice at a time so that nobody has to wait.

Few are sorted whenever they are listed. Many are sorted anew after CENSUS_INTERVAL seconds, by
whoever asks first: a peer that is new comes into the list a little later.
"""

import asyncio
import heapq
from bisect import bisect_right

from dhtmeta.const import CENSUS_AT_ONCE, CENSUS_INTERVAL
from dhtmeta.node import Node


class Roll:
    """The ids of those whom `node` knows, in order."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ids: list[bytes] = []
        self._due = float("-inf")  # loop time
        self._turn = asyncio.Lock()

    async def above(self, peer: bytes, count: int, topic: str | None = None) -> list[bytes]:
        """Return the first `count` ids above `peer`, of all or of a topic, but never our own."""
        ids = await self._order()
        known, own, found = self._node.known_peers, self._node.own_id, []
        for i in range(bisect_right(ids, peer), len(ids)):
            one = known.get(ids[i])
            if one is not None and topic in (None, one.topic) and ids[i] != own:
                found.append(ids[i])
                if len(found) == count:
                    break
            if i % CENSUS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def _order(self) -> list[bytes]:
        if len(self._node.known_peers) <= CENSUS_AT_ONCE:
            return sorted(self._node.known_peers)
        now = asyncio.get_running_loop().time
        async with self._turn:
            if now() >= self._due:
                self._ids = await _in_order(list(self._node.known_peers))
                self._due = now() + CENSUS_INTERVAL
            return self._ids


async def _in_order(ids: list[bytes]) -> list[bytes]:
    """Sort, and let others have their turn meanwhile."""
    runs, order = [], []
    for start in range(0, len(ids), CENSUS_AT_ONCE):
        runs.append(sorted(ids[start : start + CENSUS_AT_ONCE]))
        await asyncio.sleep(0)
    for i, peer in enumerate(heapq.merge(*runs), 1):
        order.append(peer)
        if i % CENSUS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return order
