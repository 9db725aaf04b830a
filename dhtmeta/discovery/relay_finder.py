"""Where relays are looked for: those the operator names, known ones, their topic, registries."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Sequence

from dhtmeta.const import RELAY_GRACE, RELAY_TOPIC_WAIT
from dhtmeta.discovery.around import Around, exchange_of
from dhtmeta.discovery.candidate import Source
from dhtmeta.discovery.ourselves import Ourselves
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc.compact import Endpoint


class RelayFinder:
    """Finds relays; `sources` are asked in turn where no known one takes us."""

    def __init__(
        self,
        around: Around,
        ourselves: Ourselves,
        sources: Sequence[Source],
    ) -> None:
        self._around, self._ourselves, self._sources = around, ourselves, sources

    async def find(self) -> AsyncGenerator[Sequence[Endpoint], None]:
        """Yield where relays' exchanges are: (ip, UDP port), of one source after the other."""
        now = asyncio.get_running_loop().time
        yield [*self._ourselves.stated_relays, *self._known()]
        for source in self._sources:
            found: list[Endpoint] = []
            with contextlib.suppress(DhtmetaError, TimeoutError):
                async with asyncio.timeout(RELAY_TOPIC_WAIT) as waiting:
                    async for candidate in source.candidates():
                        if candidate.endpoint is not None:
                            found.append(candidate.endpoint)
                            waiting.reschedule(min(waiting.when() or 0.0, now() + RELAY_GRACE))
            yield found

    def _known(self) -> list[Endpoint]:
        """Return where known relays are, in the order that our topic gives them (rendezvous).

        So the peers of a topic choose among the same few, which all others then have to ask.
        """
        found = []
        for peer, known in self._around.store.peers.items():
            held = self._around.held(peer) if known.is_relay else None
            endpoint = exchange_of(held)
            if held is not None and endpoint is not None and self._around.is_direct(held):
                found.append((_rank(self._ourselves.topic, peer), endpoint))
        return [endpoint for _, endpoint in sorted(found)]


def _rank(topic: str, relay: bytes) -> bytes:
    return hashlib.sha1(topic_hash(topic) + relay, usedforsecurity=False).digest()
