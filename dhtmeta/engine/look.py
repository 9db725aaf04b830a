"""One look at a kept record: who holds it still, who gets it now, what that teaches.

The very bytes are kept, never signed anew. Where their owner has published something newer, that
is kept from then on; another value under the same seq is reported, and ours is kept.
"""

import logging
from collections.abc import Callable

from dhtmeta.const import KEEP_DEADLINE, LAST_LOOK
from dhtmeta.dht.carrier import Carrier, KeepOutcome, Standing
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.counts import Counts
from dhtmeta.engine.holders import holder, pack_holders, unpack_holders
from dhtmeta.engine.planner import Planner
from dhtmeta.store.due import Looked
from dhtmeta.store.entry import LedgerEntry
from dhtmeta.store.ledger import Ledger
from dhtmeta.values.item import SignedItem

log = logging.getLogger(__name__)


class Keeper:
    """Looks at kept records. `clock` gives Unix seconds."""

    def __init__(
        self,
        cache: RecordCache,
        ledger: Ledger,
        carrier: Callable[[], Carrier],
        planner: Planner,
        counts: Counts,
        clock: Callable[[], float],
    ) -> None:
        self.counts = counts
        self.clock_set_at = 0.0  # Unix s of when the clock was last set by much; 0: never
        self._cache = cache
        self._ledger = ledger
        self._carrier = carrier
        self._planner = planner
        self._clock = clock

    async def look(self, entry: LedgerEntry) -> tuple[Looked | None, int]:
        """Look, top up and plan; returns what to note, and how many datagrams were sent.

        None where a newer item took the row over. Raises what `Carrier.keep` does, StoreError.
        """
        now, since = self._clock(), self._known(entry)

        def top_up(standing: Standing) -> int:
            ages = _ages(standing, since, now)
            return self._planner.top_up(ages, len(standing.lacking)).copies

        outcome = await self._carrier().keep(entry.item, top_up, KEEP_DEADLINE)
        self._learn(entry, since, outcome.standing, now)
        newer = outcome.standing.newer
        if newer is not None:
            await self.adopt(entry, newer)
            return None, outcome.sent
        return self._looked(entry.item, since, outcome, now), outcome.sent

    def _known(self, entry: LedgerEntry) -> dict[bytes, float]:
        """Return holder -> since when; what another clock noted counts from its change on."""
        since = unpack_holders(entry.holders)
        return {one: max(then, self.clock_set_at) for one, then in since.items()}

    def _looked(
        self, item: SignedItem, since: dict[bytes, float], outcome: KeepOutcome, now: float
    ) -> Looked:
        """Return what is there now and when it is due again."""
        standing, counts = outcome.standing, self.counts
        counts.topped_up += len(outcome.stored)
        held = {holder(one): since.get(holder(one), now) for one in standing.holding}
        held |= {holder(one): now for one in outcome.stored}
        seconds = self._planner.top_up([max(0.0, now - then) for then in held.values()], 0).seconds
        return Looked(
            target=item.target,
            seq=item.seq,
            copies=len(held),
            holders=pack_holders(held),
            next_due=self._planner.next_look(item.target, seconds, now),
            last_ok=now if held else None,
            last_error=None if held else "no node took it",
        )

    def _learn(
        self, entry: LedgerEntry, since: dict[bytes, float], standing: Standing, now: float
    ) -> None:
        """Count, and learn from each copy that was there at the last look how it fared."""
        counts, found = self.counts, {holder(one) for one in standing.holding}
        counts.looks_ok += 1
        counts.copies[len(found)] += 1
        counts.conflicts += bool(standing.conflicts)
        if standing.conflicts:
            log.warning(
                "another value under seq %d of target %s is on the DHT; ours is kept",
                entry.item.seq,
                entry.item.target.hex(),
            )
        counts.records_lost += entry.copies > 0 and not found and standing.newer is None
        seconds = now - (entry.last_ok or now)
        jumped = (entry.last_ok or now) < self.clock_set_at
        if standing.newer is None and not jumped and 0 < seconds <= 2 * LAST_LOOK:
            past = {one: (max(0.0, now - seconds - then), seconds) for one, then in since.items()}
            lived = [fate for one, fate in past.items() if one in found]
            died = [fate for one, fate in past.items() if one not in found]
            counts.copies_lost += len(died)
            self._planner.mortality.learn(lived, died)

    async def adopt(self, entry: LedgerEntry, newer: SignedItem) -> None:
        """Keep what the owner has published since, for whom the older was, and look at that now."""
        now = self._clock()
        seq, target = entry.item.seq, newer.target.hex()
        log.info("seq %d of target %s is kept in place of %d", newer.seq, target, seq)
        await self._ledger.confirm(newer, 0, now, now, origin=entry.origin)
        self._cache.raise_floor(newer.target, newer.seq, now)
        self.counts.adopted += 1


def _ages(standing: Standing, since: dict[bytes, float], now: float) -> list[float]:
    """Return how long each copy has been there, in seconds; of those not known yet no time."""
    return [max(0.0, now - since.get(holder(one), now)) for one in standing.holding]
