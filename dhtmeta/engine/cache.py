"""What is remembered of other people's items: in memory, over what the store held at start.

Decides freshness (fresh, stale but usable, gone), which seqs are too old to believe (the floor),
and for how long "not found" is believed. No clock: `now` is passed in, in seconds.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import LRUCache

from dhtmeta._fast.ttl_cache import TtlCache
from dhtmeta.const import (
    CACHE_ENTRIES,
    CACHE_STALE_FOR,
    CACHE_TTL,
    NEGATIVE_ENTRIES,
    NEGATIVE_TTL,
    SEQ_FLOOR_REFRESH,
    SEQ_FLOORS,
)
from dhtmeta.errors import InvalidItem, InvalidRecord
from dhtmeta.store.store import Store
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import NodeRecord, record_value

log = logging.getLogger(__name__)

_NO_FLOOR = (0, float("-inf"))


@dataclass(slots=True)
class Cached:
    """A verified item, when it was fetched (s), and whether the store or the DHT gave it."""

    item: SignedItem
    fetched_at: float
    from_store: bool
    written_at: float = 0.0  # s, when the store was last given it
    _record: NodeRecord | None = None
    _broken: tuple[str, str] | None = None  # the field that is wrong, and why
    _decoded: bool = False

    def record(self) -> NodeRecord | None:
        """Return the NodeRecord it holds, None for a plain value; may raise InvalidRecord."""
        if not self._decoded:
            self._decode()
        if self._broken is not None:
            raise InvalidRecord(*self._broken)
        return self._record

    def _decode(self) -> None:
        self._decoded = True
        value = record_value(self.item.value)
        if value is None:
            return
        try:
            self._record = NodeRecord.from_value(value, self.item.public_key)
        except InvalidRecord as error:
            self._broken = error.field, error.reason


class RecordCache:
    """The memory cache, the seq floors and the missing keys. `seed` guards its hash tables."""

    def __init__(
        self,
        store: Store,
        *,
        seed: int,
        ttl: float = CACHE_TTL,
        stale_for: float = CACHE_STALE_FOR,
        entries: int = CACHE_ENTRIES,
    ) -> None:
        self._store = store
        self._ttl: Final = ttl
        self._stale_for: Final = stale_for
        self._cache: TtlCache[Cached] = TtlCache(entries, seed=seed)
        self._missing: TtlCache[float] = TtlCache(NEGATIVE_ENTRIES, seed=seed)
        self._floors: LRUCache[bytes, tuple[int, float]] = LRUCache(SEQ_FLOORS)  # seq, written at
        self._floors.update((target, (seq, 0.0)) for target, seq in store.floors.items())
        self.on_news: Callable[[Cached], None] = lambda cached: None
        """Called with each item that is newer than what was held, if anything was."""

    @property
    def counters(self) -> dict[str, int]:
        """Hits, misses, stale, evicted and expired since the start, and entries now."""
        names = ("hits", "misses", "stale", "evicted", "expired")
        return {name: getattr(self._cache, name) for name in names} | {"entries": len(self._cache)}

    def fresh(self, target: bytes, now: float) -> Cached | None:
        """Return what is held and fresh; counts a hit, a miss, or a stale one."""
        if self._store.items:
            self._promote(target, now)
        return self._cache.get(target, now)

    def usable(self, target: bytes, now: float) -> Cached | None:
        """Return what is held and not gone, fresh or stale; counts nothing."""
        if self._store.items:
            self._promote(target, now)
        return self._cache.get_stale(target, now)

    def _promote(self, target: bytes, now: float) -> None:
        """Verify a row of the store when it is first asked for, and take it into memory."""
        row = self._store.items.pop(target, None)
        if row is None or row.seq < self.floor(target) or row.fetched_at > now:
            return
        try:
            item = SignedItem.verified(target, *row[:5])
        except (InvalidItem, TypeError) as error:
            log.warning("dropped a damaged row of the store for target %s: %s", target.hex(), error)
            self._store.drop_item(target)
            return
        cached = Cached(item, row.fetched_at, from_store=True)
        self._cache.put(target, cached, row.fetched_at, self._ttl, self._stale_for)

    def learn(
        self, target: bytes, item: SignedItem, now: float, source: str = "query"
    ) -> Cached | None:
        """Take a verified item in; returns what is now held, None if it is below the floor.

        Of two values with one seq the one held stays (DESIGN, "Query"), and it is reported.
        `source` says where it came from, for the list of known peers.
        """
        if item.seq < self.floor(target):
            return None
        held = self.usable(target, now)
        if held is not None and held.item.seq > item.seq:
            return None
        if held is not None and held.item.seq == item.seq:
            if held.item.v != item.v:
                log.warning("two values under seq %d of target %s", item.seq, target.hex())
            item = held.item
        cached = Cached(item, now, from_store=False)
        self._cache.put(target, cached, now, self._ttl, self._stale_for)
        self._missing.pop(target)
        self._write(target, cached, held, source)
        self.raise_floor(target, item.seq, now)
        if held is None or held.item.seq < item.seq:
            self.on_news(cached)
        return cached

    def _write(self, target: bytes, cached: Cached, held: Cached | None, source: str) -> None:
        """Have the store keep it, unless it keeps the same with nearly the same lifetime."""
        item, now = cached.item, cached.fetched_at
        if held is not None and held.item is item and now < held.written_at + self._ttl / 10:
            cached.written_at = held.written_at
            return
        cached.written_at = now
        self._store.keep_item(target, item, now, now + self._ttl + self._stale_for)
        with contextlib.suppress(InvalidRecord):
            record = None if item.salt else cached.record()
            if record is not None:
                self._store.keep_peer(item.public_key, record, source, now)

    def floor(self, target: bytes) -> int:
        """Return the highest seq ever seen for `target`; what is below it is not believed."""
        return self._floors.get(target, _NO_FLOOR)[0]

    def raise_floor(self, target: bytes, seq: int, now: float) -> None:
        """Note a seq that was seen; the floor never falls."""
        known, written_at = self._floors.get(target, _NO_FLOOR)
        if seq > known or (seq == known and now >= written_at + SEQ_FLOOR_REFRESH):
            self._floors[target] = seq, now
            self._store.keep_floor(target, seq, now)

    def missing_for(self, target: bytes, now: float) -> float | None:
        """Return how many seconds ago nobody held `target`, None if that is not known."""
        since = self._missing.get(target, now)
        return None if since is None else now - since

    def note_missing(self, target: bytes, now: float) -> None:
        """Believe for 10 s that nobody holds `target`."""
        self._missing.put(target, now, now, NEGATIVE_TTL)

    def forget(self, target: bytes) -> None:
        """Drop what is held for `target`, since we just published something newer."""
        self._store.items.pop(target, None)
        self._store.drop_item(target)
        self._cache.pop(target)
        self._missing.pop(target)
