"""With whom we stay connected: some known peers, any of them, and all relays that matter to us.

News comes over these connections, and others' requests. A few more known peers are dialled in each
round to see whether they are still there, and let go.
"""

import asyncio
import random
from collections.abc import Callable

from dhtmeta.const import CHECKS_A_ROUND, LINGER, NEIGHBOURS
from dhtmeta.discovery.around import Around, exchange_of
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link


class Neighbours:
    """Chooses whom to dial, and which connections to let go; `session` is the one to our relay."""

    def __init__(
        self,
        around: Around,
        exchange: Exchange,
        session: Callable[[], Link | None],
        rng: random.Random,
    ) -> None:
        self._around, self._exchange, self._session, self._rng = around, exchange, session, rng
        self._checked_at = asyncio.get_running_loop().time()

    def missing(self) -> list[Candidate]:
        """Return known peers to connect to: neighbours that are missing, and some to be checked."""
        linked = {link.peer_id for link in self._exchange.links}
        enough = len(linked) >= 2 * NEIGHBOURS
        wanted = self._checks() + (0 if enough else max(0, NEIGHBOURS - len(self._dialled())))
        peers = list(self._around.store.peers)
        found: list[Candidate] = []
        for peer in self._rng.sample(peers, min(len(peers), 20 * wanted)):
            if len(found) < wanted and peer not in linked and peer != self._around.own_id:
                held = self._around.held(peer)
                endpoint = exchange_of(held)
                if held is not None and endpoint is not None:
                    found.append(Candidate("exchange", held.item.public_key, endpoint))
        return found

    def _checks(self) -> int:
        """Return how many known peers are to be dialled just to see whether they are there."""
        now = asyncio.get_running_loop().time()
        if now < self._checked_at + self._around.settings.peer_discovery.discovery_interval:
            return 0
        self._checked_at = now
        return CHECKS_A_ROUND

    def _dialled(self) -> list[Link]:
        return [one for one in self._exchange.links if one.outbound]

    async def trim(self) -> None:
        """Let connections go that nobody needs any more, until cancelled."""
        while True:
            await asyncio.sleep(LINGER)
            now = asyncio.get_running_loop().time()
            for link in self._spare()[NEIGHBOURS:]:
                if now - link.opened_at > LINGER:
                    link.hang_up()

    def _spare(self) -> list[Link]:
        """Return the connections that we dialled and no relay is at the end of, oldest first."""
        relays, session = self._around.resolver.evidence.relays, self._session()
        spare = [one for one in self._dialled() if one.peer_id not in relays and one is not session]
        return sorted(spare, key=lambda one: one.opened_at)
