"""The plain twin of dhtmeta._fast.ttl_cache: the same answers, counters and victims, but no speed.

Equal by rule: everything that a caller can see, also the order of expiry (deadline, then slot) and
of eviction (CLOCK over the slots, which are given out in order and reused last in, first out). Only
costs differ: here expiry looks at every slot, and the seed is checked but hashes nothing.
"""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")

KEY_SIZE = 20
EXPIRE_PER_PUT = 2
CAPACITY_MAX = 2**31 - 2
LIFETIME_MAX = 3.2e9


@dataclass
class Entry(Generic[V]):
    key: bytes
    value: V
    fresh_until: float
    deadline: float
    used: bool = False


def check_int(number: object) -> None:
    if not isinstance(number, int):
        raise TypeError("capacity and seed must be int")


def check_key(key: bytes) -> None:
    if type(key) is not bytes:
        raise TypeError("a key is bytes")
    if len(key) != KEY_SIZE:
        raise ValueError(f"a key has {KEY_SIZE} bytes, not {len(key)}")


def check_times(now: float, fresh_for: float, stale_for: float) -> None:
    if not math.isfinite(now):
        raise ValueError("now must be finite")
    if not 0.0 < fresh_for <= LIFETIME_MAX:
        raise ValueError("fresh_for is out of range")
    if not 0.0 <= stale_for <= LIFETIME_MAX:
        raise ValueError("stale_for is out of range")


class TtlCache(Generic[V]):
    def __init__(self, capacity: int, *, seed: int) -> None:
        check_int(capacity)
        check_int(seed)
        if not 1 <= capacity <= CAPACITY_MAX:
            raise ValueError("capacity is out of range")
        if not 0 <= seed < 2**128:
            raise ValueError("seed is out of range")
        self.capacity = capacity
        self.hits = self.misses = self.stale = self.evicted = self.expired = 0
        self._slots: list[Entry[V] | None] = []
        self._free: list[int] = []
        self._slot_of: dict[bytes, int] = {}
        self._hand = 0

    def __len__(self) -> int:
        return len(self._slot_of)

    def get(self, key: bytes, now: float) -> V | None:
        entry = self._find(key)
        if entry is not None and now < entry.fresh_until:
            self.hits += 1
            entry.used = True
            return entry.value
        if entry is not None and now < entry.deadline:
            self.stale += 1
        else:
            self.misses += 1
        return None

    def get_stale(self, key: bytes, now: float) -> V | None:
        entry = self._find(key)
        if entry is None or not now < entry.deadline:
            return None
        entry.used = True
        return entry.value

    def put(
        self, key: bytes, value: V, now: float, fresh_for: float, stale_for: float = 0.0
    ) -> None:
        check_key(key)
        check_times(now, fresh_for, stale_for)
        if value is None:
            raise ValueError("value must not be None, which means absent")
        self.sweep(now, EXPIRE_PER_PUT)
        dropped: Entry[V] | None = None  # released at the end, since that can run any code
        entry = Entry(key, value, now + fresh_for, now + fresh_for + stale_for)
        slot = self._slot_of.get(key)
        if slot is not None:
            dropped = self._slots[slot]
            entry.used = True
        else:
            if len(self) == self.capacity:
                dropped = self._detach(self._turn_hand())
                self.evicted += 1
            slot = self._take_slot()
            self._slot_of[key] = slot
        self._slots[slot] = entry
        del dropped

    def pop(self, key: bytes) -> V | None:
        entry = self._find(key)
        return None if entry is None else self._detach(self._slot_of[key]).value

    def clear(self) -> None:
        for slot in [slot for _, slot in self._due()][::-1]:
            if self._slots[slot] is not None:
                self._detach(slot)
        if not self._slot_of:
            self._slots.clear()
            self._free.clear()
            self._hand = 0

    def items(self, now: float) -> list[tuple[bytes, V]]:
        return [(held.key, held.value) for held in self._slots if held and now < held.deadline]

    def sweep(self, now: float, limit: int) -> int:
        if limit < 0:
            raise ValueError("limit must not be negative")
        for removed in range(limit):
            deadline, slot = min(self._due(), default=(math.inf, 0))
            if not deadline <= now or not self._slot_of:
                return removed
            self.expired += 1
            self._detach(slot)
        return limit

    def _find(self, key: bytes) -> Entry[V] | None:
        check_key(key)
        slot = self._slot_of.get(key)
        return None if slot is None else self._slots[slot]

    def _due(self) -> list[tuple[float, int]]:
        return [(held.deadline, slot) for slot, held in enumerate(self._slots) if held]

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._slots.append(None)
        return len(self._slots) - 1

    def _detach(self, slot: int) -> Entry[V]:
        entry = self._slots[slot]
        assert entry is not None
        self._slots[slot] = None
        del self._slot_of[entry.key]
        self._free.append(slot)
        return entry

    def _turn_hand(self) -> int:
        while True:
            slot = self._hand
            self._hand = (slot + 1) % self.capacity
            held = self._slots[slot]
            assert held is not None
            if not held.used:
                return slot
            held.used = False
