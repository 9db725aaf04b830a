"""Where relays are looked for: those the operator names, known ones, their topic, registries.

Registries are the last resort: they are asked only where no relay is known, and seldom.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Sequence

from dhtmeta.const import RELAY_GRACE, RELAY_TOPIC_WAIT, SOURCE_BACKOFF, SOURCE_DEADLINE
from dhtmeta.discovery.around import Around, exchange_of
from dhtmeta.discovery.candidate import Source
from dhtmeta.discovery.ladder import LAST_RESORT
from dhtmeta.discovery.ourselves import Ourselves
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc.compact import Endpoint

log = logging.getLogger(__name__)


class RelayFinder:
    """Finds relays; `sources` are asked in turn where no known one takes us."""

    def __init__(
        self,
        around: Around,
        ourselves: Ourselves,
        sources: Sequence[Source],
    ) -> None:
        self._around, self._ourselves, self._sources = around, ourselves, sources
        self._interval = around.settings.peer_discovery.discovery_interval
        self._wait = 0.0  # s between two times that a registry is asked
        self._again = 0.0  # loop time of the next

    async def find(self) -> AsyncGenerator[Sequence[Endpoint], None]:
        """Yield where relays' exchanges are: (ip, UDP port), of one source after the other."""
        known = self._known()
        yield [*self._ourselves.stated_relays, *known]
        for source in self._sources:
            if source.name != LAST_RESORT:
                yield await self._named(source, RELAY_TOPIC_WAIT)
            elif not known and asyncio.get_running_loop().time() >= self._again:
                yield await self._registered(source)

    async def _registered(self, registry: Source) -> list[Endpoint]:
        """Ask registries, less and less often while they name nobody."""
        found = await self._named(registry, SOURCE_DEADLINE)
        longest = SOURCE_BACKOFF * self._interval
        self._wait = self._interval if found else min(max(2 * self._wait, self._interval), longest)
        self._again = asyncio.get_running_loop().time() + self._wait
        return found

    async def _named(self, source: Source, deadline: float) -> list[Endpoint]:
        """Return whom a source names that a stranger may; `deadline` in seconds."""
        now, found = asyncio.get_running_loop().time, list[Endpoint]()
        try:
            async with asyncio.timeout(deadline) as waiting:
                async for candidate in source.candidates():
                    if candidate.endpoint is not None and self._around.may_dial(candidate.endpoint):
                        found.append(candidate.endpoint)
                        waiting.reschedule(min(waiting.when() or 0.0, now() + RELAY_GRACE))
        except (DhtmetaError, TimeoutError) as error:
            log.debug("relays of source %s: %s", source.name, error)
        except Exception:
            log.exception("unexpected, while source %s was asked for relays", source.name)
        return found

    def _known(self) -> list[Endpoint]:
        """Return where known relays are, in the order that our topic gives them (rendezvous).

        So the peers of a topic choose among the same few, which all others then have to ask.
        """
        found = []
        for peer, known in self._around.store.peers.items():
            held = self._around.held(peer) if known.is_relay else None
            endpoint = exchange_of(held)
            if held is None or endpoint is None or not self._around.may_dial(endpoint):
                continue
            if self._around.is_direct(held):
                found.append((_rank(self._ourselves.topic, peer), endpoint))
        return [endpoint for _, endpoint in sorted(found)]


def _rank(topic: str, relay: bytes) -> bytes:
    return hashlib.sha1(topic_hash(topic) + relay, usedforsecurity=False).digest()
