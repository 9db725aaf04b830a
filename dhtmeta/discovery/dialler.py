"""Which addresses are dialled: at most so many a round, with a backoff for each that fails.

Somebody who is connected, or known to be there, is not asked again who they are.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from dhtmeta.const import (
    DIAL_RETRY,
    DIAL_RETRY_LAST,
    DIALS_A_ROUND,
    DIALS_AT_ONCE,
    DIALS_REMEMBERED,
    NEIGHBOURS,
)
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc.compact import Endpoint


@dataclass(slots=True)
class DialCounts:
    """How dials ended."""

    ok: int = 0
    failed: int = 0


class Dialler:
    """Dials candidates over `exchange`; `begin_round` gives as many attempts again.

    `need_not` says whether who is at an address is known.
    """

    def __init__(self, exchange: Exchange, need_not: Callable[[Endpoint], bool]) -> None:
        self.counts = DialCounts()
        self._exchange, self._need_not = exchange, need_not
        self._failed: LRUCache[Endpoint, tuple[float, float]] = LRUCache(DIALS_REMEMBERED)
        self._dialling: set[Endpoint] = set()
        self._left = DIALS_A_ROUND
        self._slots = asyncio.Semaphore(DIALS_AT_ONCE)

    def begin_round(self) -> None:
        """Allow DIALS_A_ROUND more attempts, one where enough are connected who can tell."""
        self._left = DIALS_A_ROUND if len(self._exchange.links) < NEIGHBOURS else 1

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._exchange.links)

    def forgive(self) -> None:
        """Forget which addresses failed: it was our own network."""
        self._failed.clear()

    def link_at(self, endpoint: Endpoint) -> Link | None:
        """Return the open connection with who is there, whoever dialled: all use one port."""
        return next((one for one in self._exchange.links if one.remote == endpoint), None)

    def may(self, endpoint: Endpoint, *, by_name: bool) -> bool:
        """Whether an address may be dialled now; `by_name` where it is for who is said to be there.

        Else it is to find out who is there, which may be known.
        """
        if not by_name and self._need_not(endpoint):
            return False
        again, _ = self._failed.get(endpoint, (0.0, 0.0))
        now = asyncio.get_running_loop().time()
        free = endpoint not in self._dialling
        possible = free and self._exchange.can_dial(endpoint) and not self.shuns(endpoint)
        return self._left > 0 and possible and now >= again and self.link_at(endpoint) is None

    def shuns(self, who: bytes | Endpoint) -> bool:
        """Whether a peer (id, 20 bytes), or who is at an address, is not to be met."""
        return self._exchange.shuns(who)

    async def dial(self, endpoint: Endpoint) -> Link:
        """Dial an address that may be; raises as `Exchange.dial`, and the address has to wait."""
        self._left -= 1
        self._dialling.add(endpoint)
        try:
            async with self._slots:
                link = await self._exchange.dial(endpoint)
        except DhtmetaError:
            self.counts.failed += 1
            _, waited = self._failed.get(endpoint, (0.0, 0.0))
            wait = min(max(2 * waited, DIAL_RETRY), DIAL_RETRY_LAST)
            self._failed[endpoint] = (asyncio.get_running_loop().time() + wait, wait)
            raise
        finally:
            self._dialling.discard(endpoint)
        self.counts.ok += 1
        self._failed.pop(endpoint, None)
        return link
