"""What is in a simulated node's routing table, worked out when asked: sizes are libtorrent's.

Bucket b has the nodes that share exactly b leading bits with the node's own id: up to 128, 64, 32
and 16 in the first four, 8 in each deeper one. Where there are more, which ones is random, but
fixed by seed, node and bucket. libtorrent prefers a spread of ids in each bucket
(routing_table.cpp, replace_node_impl), which would save lookups 2 to 4 % of their datagrams; the
model behind the figures of FACTS.md had none.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dhtmeta.const import SIM_BUCKET, SIM_BUCKETS
from dhtmeta.testing.sim_ids import ID_BITS, IdSpace, hashed, mix

_DRAW_BITS = 32


class Entry(NamedTuple):
    """What a table says of a node: its id, its slot, and who of that slot's generations it is."""

    number: int
    slot: int
    generation: int


class Tables:
    """The routing tables of all nodes of an IdSpace."""

    def __init__(self, ids: IdSpace, seed: int, stale: float = 0.0) -> None:
        """Let a share `stale` of the entries name the node that lived in the slot before."""
        self._ids = ids
        self._key = mix(seed ^ 0x7AB)
        self._stale = int(stale * 2**64)

    def closest(self, i: int, target: int, count: int = SIM_BUCKET) -> list[Entry]:
        """Return the `count` entries of node i's table nearest to an id, nearest first.

        As libtorrent has it: the bucket that the target falls in, deeper ones, then shallower
        ones; of the last one that is needed only the nearest.
        """
        found: list[Entry] = []
        for bits, nodes in self._walk(i, target):
            held = [self._entry(i, one) for one in self._held(i, bits, nodes)]
            held.sort(key=lambda entry: entry.number ^ target)
            found += held[: count - len(found)]
            if len(found) == count:
                break
        found.sort(key=lambda entry: entry.number ^ target)
        return found

    def bucket(self, i: int, bits: int) -> list[Entry]:
        """Return all of bucket `bits` of node i's table."""
        sibling = self._ids.number(i) ^ 1 << (ID_BITS - 1 - bits)
        nodes = self._ids.within(sibling, bits + 1)
        return [self._entry(i, one) for one in self._held(i, bits, nodes)]

    def _walk(self, i: int, target: int) -> Iterator[tuple[int, range]]:
        """Yield buckets and who could be in them, in the order in which libtorrent looks."""
        own = self._ids.number(i)
        shared = min(ID_BITS - (own ^ target).bit_length(), ID_BITS - 1)
        ours = self._ids.within(own, shared)
        yield from self._deeper(own, shared, ours)
        yield from self._shallower(own, shared, ours)

    def _deeper(self, own: int, bits: int, ours: range) -> Iterator[tuple[int, range]]:
        low, high = ours.start, ours.stop
        while high - low > 1:
            shift = ID_BITS - 1 - bits
            middle = self._ids.first((own >> shift | 1) << shift)
            if own >> shift & 1:
                yield bits, range(low, middle)
                low = middle
            else:
                yield bits, range(middle, high)
                high = middle
            bits += 1

    def _shallower(self, own: int, shared: int, ours: range) -> Iterator[tuple[int, range]]:
        low, high = ours.start, ours.stop
        for bits in range(shared - 1, -1, -1):
            shift = ID_BITS - 1 - bits
            prefix = own >> shift
            if prefix & 1:
                start = self._ids.first(prefix - 1 << shift)
                yield bits, range(start, low)
                low = start
            else:
                stop = self._ids.first(prefix + 2 << shift)
                yield bits, range(high, stop)
                high = stop

    def _held(self, i: int, bits: int, nodes: range) -> Iterable[int]:
        """Return those of `nodes` that are in bucket `bits` of node i (sampled as Floyd has it)."""
        limit = _limit(bits)
        if len(nodes) <= limit:
            return nodes
        chosen: dict[int, None] = {}
        last = len(nodes) - limit
        for draw in self._draws(i, bits, limit):
            one = draw * (last + 1) >> _DRAW_BITS
            chosen[nodes[last if nodes[one] in chosen else one]] = None
            last += 1
        return chosen

    def _draws(self, i: int, bits: int, count: int) -> tuple[int, ...]:
        """Return the random words that belong to bucket `bits` of node i."""
        name = struct.pack("<QQQB", self._key, i, self._ids.generation(i), bits)
        return struct.unpack(f"<{count}I", hashlib.shake_128(name).digest(4 * count))

    def _entry(self, owner: int, i: int) -> Entry:
        generation = self._ids.generation(i)
        if self._stale:
            key = hashed(self._key, owner, self._ids.generation(owner))
            generation -= hashed(key, i, generation) < self._stale
        return Entry(self._ids.number(i, generation), i, generation)


def _limit(bits: int) -> int:
    return SIM_BUCKETS[bits] if bits < len(SIM_BUCKETS) else SIM_BUCKET
