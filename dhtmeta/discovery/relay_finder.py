"""Where relays are looked for: those the operator names, known ones, their topic, registries."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Sequence

from dhtmeta.const import RELAY_CANDIDATES, TOPIC_WAIT
from dhtmeta.discovery.around import Around, exchange_of
from dhtmeta.discovery.candidate import Source
from dhtmeta.discovery.ourselves import Ourselves
from dhtmeta.errors import DhtmetaError
from dhtmeta.krpc.compact import Endpoint


class RelayFinder:
    """Finds relays; `sources` are asked in turn where no known one takes us."""

    def __init__(
        self,
        around: Around,
        ourselves: Ourselves,
        sources: Sequence[Source],
        rng: random.Random,
    ) -> None:
        self._around, self._ourselves, self._sources, self._rng = around, ourselves, sources, rng

    async def find(self) -> AsyncGenerator[Sequence[Endpoint], None]:
        """Yield where relays' exchanges are: (ip, UDP port), of one source after the other."""
        yield [*self._ourselves.stated_relays, *self._known()]
        for source in self._sources:
            found: list[Endpoint] = []
            with contextlib.suppress(DhtmetaError, TimeoutError):
                async with asyncio.timeout(TOPIC_WAIT + 1):
                    async for candidate in source.candidates():
                        found += [candidate.endpoint] if candidate.endpoint else []
                        if len(found) >= RELAY_CANDIDATES:
                            break
            yield found

    def _known(self) -> list[Endpoint]:
        """Return where known relays are, in any order: not all shall choose the same."""
        found = []
        for peer, known in self._around.store.peers.items():
            held = self._around.held(peer) if known.is_relay else None
            endpoint = exchange_of(held)
            if held is not None and endpoint is not None and self._around.is_direct(held):
                found.append(endpoint)
        self._rng.shuffle(found)
        return found
