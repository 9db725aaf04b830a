"""How records of ours are signed anew: never over something newer, and whatever else is due.

Ours are renewed by themselves, and not only in the order of all that is due: behind a backlog of
others' records they would go stale.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from msgspec.structs import replace

from dhtmeta._fast import ed25519
from dhtmeta.const import LOOKUP_DEADLINE, OWN_POLL, PUT_DEADLINE, RETRY_FIRST
from dhtmeta.dht.carrier import Carrier
from dhtmeta.engine.look import Keeper
from dhtmeta.engine.publish import Published, Publisher
from dhtmeta.errors import DhtmetaError
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import record_in
from dhtmeta.values.wrapping import unwrap

log = logging.getLogger(__name__)

Writing = Callable[[float], AbstractAsyncContextManager[Identity]]
"""Waits so many seconds to be the only one who publishes under our keys, and gives them."""

Counted = Callable[[Awaitable[Published | None]], Awaitable[Published | None]]
"""Counts how a publish ends."""


class Renewer:
    """Publishes our own records anew. `own_key` is None where we have no keys that can be used."""

    def __init__(
        self,
        publisher: Publisher,
        ledger: Ledger,
        keeper: Keeper,
        carrier: Callable[[], Carrier],
        own_key: Callable[[], bytes | None],
        writing: Writing,
        counted: Counted,
        clock: Callable[[], float],
    ) -> None:
        self._publisher = publisher
        self._ledger = ledger
        self._keeper = keeper
        self._carrier = carrier
        self._own_key = own_key
        self._writing = writing
        self._counted = counted
        self._clock = clock

    async def run(self, interval: float) -> None:
        """Renew our NodeRecord when it is due, until cancelled; `interval` (s) is how often."""
        while True:
            try:
                await self._renew_ours()
            except DhtmetaError as error:
                log.warning("our record is tried again: %s", error)
                await asyncio.sleep(RETRY_FIRST)
            except Exception:
                log.exception("unexpected, while our record was signed anew")
            await asyncio.sleep(min(OWN_POLL, interval / 12))

    async def _renew_ours(self) -> None:
        key = self._own_key()
        entry = await self._ledger.newest(ed25519.target(key)) if key is not None else None
        if entry is not None and entry.is_kept and entry.next_due <= self._clock():
            await self.renew(entry)

    async def renew(self, entry: LedgerEntry) -> bool:
        """Publish a NodeRecord of ours anew; False where it is another's, or plain.

        A carrier that signs itself can do nothing else with plain values of ours. Where the
        network is above the ledger, that is taken over, and signed anew the next time.
        """
        item, key = entry.item, self._own_key()
        if key is None or item.public_key != key:
            return False
        record = record_in(item)
        if record is None and not self._carrier().signs_itself:
            return False
        if await self._is_overtaken(entry):
            return True
        value = unwrap(item.value) if record is None else replace(record, timestamp=0)
        async with self._writing(PUT_DEADLINE) as own:
            if item.public_key != own.public_key:
                return False  # rotated since we looked
            await self._counted(self._publisher.renew(own, value, item))
        return True

    async def _is_overtaken(self, entry: LedgerEntry) -> bool:
        """Take over what the network has above the ledger: the store may be an old backup."""
        item, get = entry.item, self._carrier().get
        outcome = await get(item.public_key, item.salt, lambda found: None, LOOKUP_DEADLINE)
        if outcome.item is None or outcome.item.seq <= item.seq:
            return False
        log.warning(
            "seq %d on the network is above the ledger's %d: it is taken over",
            outcome.item.seq,
            item.seq,
        )
        await self._keeper.adopt(entry, outcome.item)
        return True
