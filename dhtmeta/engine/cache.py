"""What is remembered of other people's items: in memory, over what the store held at start.

Decides what counts as fresh, stale but usable, or gone (for how long: freshness.py), which seqs are
too old to believe (the floor), and for how long "not found" is believed. No clock: `now` is passed
in, in seconds.
"""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import structs

from dhtmeta._fast.ttl_cache import TtlCache
from dhtmeta.const import (
    CACHE_ENTRIES,
    CACHE_STALE_FOR,
    CACHE_TTL,
    DECODED,
    FLOOR_LIFETIME,
    KINDS,
    NEGATIVE_ENTRIES,
    NEGATIVE_TTL,
    SEQ_FLOOR_REFRESH,
    SEQ_FLOORS,
    SHORTEST_LIFETIME,
    SIGNED_FOR,
)
from dhtmeta.engine.freshness import Habit, first_look, lifetime, looked_again, renewed
from dhtmeta.errors import InvalidItem, InvalidRecord
from dhtmeta.store.store import Store
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import NodeRecord, record_value

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What those need of a NodeRecord who go through all of them: many share one."""

    topic: str
    serves_others: bool


_kind = lru_cache(KINDS)(Kind)


@dataclass(slots=True)
class Cached:
    """A verified item, when it was fetched (s), and whether the store or the DHT gave it."""

    item: SignedItem
    fetched_at: float
    from_store: bool
    fresh_until: float = 0.0  # s
    changes: float = 0.0  # its habit; two floats take less than a tuple of them
    watched: float = 0.0
    written_at: float = 0.0  # s, when the store was last given it
    asked_at: float = 0.0  # s, when somebody last asked for it
    kind: Kind | None = None  # None for what is no NodeRecord, or a broken one

    @property
    def habit(self) -> Habit:
        """How often it changed, as far as we saw."""
        return Habit(self.changes, self.watched)

    def record(self) -> NodeRecord | None:
        """Return the NodeRecord it holds, None for a plain value; may raise InvalidRecord."""
        found = _decoded(self.item)
        if isinstance(found, tuple):
            raise InvalidRecord(*found)
        return found

    def take_in(self) -> float | None:
        """Note its kind; return when it was signed (Unix s), None where it does not say."""
        found = _decoded(self.item)
        if not isinstance(found, NodeRecord):
            return None
        self.kind = _kind(found.topic, found.serves_others)
        return float(found.timestamp) or None


@lru_cache(DECODED)
def _decoded(item: SignedItem) -> NodeRecord | tuple[str, str] | None:
    """Return the NodeRecord, None for a plain value, or which field is wrong, and why."""
    value = record_value(item.value)
    if value is None:
        return None
    try:
        return NodeRecord.from_value(value, item.public_key)
    except InvalidRecord as error:
        return error.field, error.reason


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
        learn: bool = True,
        signed_for: float = SIGNED_FOR,
    ) -> None:
        """Take lifetimes in seconds; with `learn` the first is only where a record starts from.

        `signed_for` is how long a NodeRecord counts from its signing: then one is looked for anew.
        """
        self._store = store
        self._ttl: Final = ttl
        self._stale_for: Final = stale_for
        self._learns: Final = learn
        self._signed_for: Final = signed_for
        self._cache: TtlCache[Cached] = TtlCache(entries, seed=seed)
        self._missing: TtlCache[float] = TtlCache(NEGATIVE_ENTRIES, seed=seed)
        self._floors: TtlCache[int] = TtlCache(SEQ_FLOORS, seed=seed)  # fresh: not to be written
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
        self._hold(target, Cached(item, row.fetched_at, from_store=True), None)

    def _hold(self, target: bytes, cached: Cached, held: Cached | None, missed: int = 0) -> None:
        """Take it into memory, for as long as its habit makes it fresh.

        `held` is what was held before, None for a first look; `missed` the changes since.
        """
        now, ttl, signed = cached.fetched_at, self._ttl, cached.take_in()
        if held is None:
            habit = first_look(None if signed is None else now - signed, ttl)
        else:
            anew = held.item.seq < cached.item.seq and not _differs(held.item, cached.item)
            before = renewed(held.habit) if anew else held.habit
            habit = looked_again(before, now - held.fetched_at, missed, ttl)
            cached.asked_at = held.asked_at
        cached.changes, cached.watched = habit
        fresh_for = self._fresh_for(habit, None if signed is None else signed - now)
        cached.fresh_until = now + fresh_for
        self._cache.put(target, cached, now, fresh_for, self._stale_for)

    def _fresh_for(self, habit: Habit, signed: float | None) -> float:
        """Return for how many seconds it counts as fresh; `signed` is negative, s from now.

        Not beyond the time from which it is judged stale, unless that has come.
        """
        if not self._learns:
            return self._ttl
        counts_for = self._signed_for + signed if signed is not None else 0.0
        wanted = lifetime(habit, self._ttl)
        if 0 < counts_for < wanted:
            return max(counts_for, SHORTEST_LIFETIME * self._ttl)
        return wanted

    def learn(
        self,
        target: bytes,
        item: SignedItem,
        now: float,
        source: str = "query",
        *,
        first: bool = False,
    ) -> Cached | None:
        """Take a verified item in; returns what is now held, None if it is below the floor.

        Of two values with one seq the one held stays (DESIGN, "Query"), and it is reported.
        `source` says where it came from: what a lookup ("query") had to find out was missed so
        far, what others told was not, and that they tell the same again says nothing. `first`
        says that nothing was held when the lookup began.
        """
        if item.seq < self.floor(target):
            return None
        held = self.usable(target, now)
        if held is not None and held.item.seq > item.seq:
            return None
        if held is not None and held.item.seq == item.seq:
            if held.item.v != item.v:
                log.warning("two values under seq %d of target %s", item.seq, target.hex())
            if source != "query":
                return held
            item = held.item
        cached = Cached(item, now, from_store=False)
        self._hold(target, cached, None if first else held, _missed(held, item, source))
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
        self._store.keep_item(target, item, now, cached.fresh_until + self._stale_for)
        with contextlib.suppress(InvalidRecord):
            record = None if item.salt else cached.record()
            if record is not None:
                self._store.keep_peer(item.public_key, record, source, now)

    def floor(self, target: bytes) -> int:
        """Return the highest seq ever seen for `target`; what is below it is not believed."""
        known = self._floors.get_stale(target, 0.0)  # whatever its age
        return self._store.floors.get(target, 0) if known is None else known

    def raise_floor(self, target: bytes, seq: int, now: float) -> None:
        """Note a seq that was seen; the floor never falls."""
        known = self.floor(target)
        if seq > known or (seq == known and self._floors.get(target, now) is None):
            self._floors.put(target, seq, now, SEQ_FLOOR_REFRESH, FLOOR_LIFETIME)
            self._store.floors.pop(target, None)
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


def _missed(held: Cached | None, item: SignedItem, source: str) -> int:
    """Return how many changes there were that only a look has shown."""
    if held is None or source != "query" or not _differs(held.item, item):
        return 0
    return item.seq - held.item.seq


def _differs(one: SignedItem, other: SignedItem) -> bool:
    """Whether they say different things; a record that was only signed anew says the same."""
    if one.v == other.v:
        return False
    was, says = _decoded(one), _decoded(other)
    if isinstance(was, NodeRecord) and isinstance(says, NodeRecord):
        return structs.replace(was, timestamp=0) != structs.replace(says, timestamp=0)
    return True
