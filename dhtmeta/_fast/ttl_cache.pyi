"""A bounded in-memory map from 20-byte keys (targets) to values that go stale and then expire."""

from types import GenericAlias
from typing import Generic, TypeVar, final

V = TypeVar("V")

@final
class TtlCache(Generic[V]):
    """At most `capacity` values, each fresh for a while, stale for a while, then expired.

    Times are seconds on any one clock; nothing here reads a clock. An entry put at `now` is fresh
    while `now < put_time + fresh_for`, stale for a further `stale_for`, then expired. An expired
    entry is never given out, and is held until a put, a sweep or an eviction removes it. A `now`
    below an earlier one is answered by the same rule.

    When full, a put removes the entry the CLOCK hand comes to first that was not used since the
    hand last passed it; used means given out by get or get_stale, or put anew. Before that every
    put removes up to two expired entries, so an expired one goes before a live one.

    Keys are exactly 20 `bytes`; every method that takes one raises TypeError for another type
    and ValueError for another length. A value's `__del__` may call the cache. Nothing is promised
    to threads beyond what holding the GIL gives.
    """

    @classmethod
    def __class_getitem__(cls, item: object, /) -> GenericAlias: ...
    def __init__(self, capacity: int, *, seed: int) -> None:
        """Make an empty cache that never allocates again.

        capacity: entries, 1 to 2**31 - 2. Address space is reserved for all of them, 69 bytes
        each; memory is used as they fill up.
        seed: 0 to 2**128 - 1, best random and secret: with it, nobody can choose keys that collide.
        Raises ValueError outside these, TypeError for other types, MemoryError.
        """

    @property
    def capacity(self) -> int:
        """The most entries that are held."""

    @property
    def hits(self) -> int:
        """Calls of get that found a fresh value."""

    @property
    def misses(self) -> int:
        """Calls of get that found nothing, or an expired entry."""

    @property
    def stale(self) -> int:
        """Calls of get that found an entry past its freshness, but not expired."""

    @property
    def evicted(self) -> int:
        """Entries removed to make room, whatever their age."""

    @property
    def expired(self) -> int:
        """Expired entries removed by put and sweep."""

    def __len__(self) -> int:
        """Return the entries held, including expired ones that are not yet removed."""

    def get(self, key: bytes, now: float) -> V | None:
        """Return the value while it is fresh, else None; counts one of hits, stale, misses."""

    def get_stale(self, key: bytes, now: float) -> V | None:
        """Return the value while it is fresh or stale, else None; counts nothing."""

    def put(
        self, key: bytes, value: V, now: float, fresh_for: float, stale_for: float = 0.0
    ) -> None:
        """Hold a value, in place of an old one of the key.

        fresh_for: above 0 and at most 3.2e9 s (100 years); stale_for: 0 to 3.2e9 s.
        Raises ValueError for other lifetimes, a `now` that is not finite, and a value of None.
        """

    def pop(self, key: bytes) -> V | None:
        """Remove an entry and return its value, be it expired or not; None if there is none."""

    def clear(self) -> None:
        """Remove all entries; the counters stay. Takes time in proportion to the entries."""

    def items(self, now: float) -> list[tuple[bytes, V]]:
        """Return (key, value) of every entry that is not expired, in no promised order."""

    def sweep(self, now: float, limit: int) -> int:
        """Remove up to `limit` expired entries, those first that expired first.

        Returns how many; fewer than `limit` means that none is left. Raises ValueError for a
        negative limit.
        """
