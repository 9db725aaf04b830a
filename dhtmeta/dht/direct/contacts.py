"""Which nodes are remembered: those that answered, found again by closeness, oldest forgotten.

Nodes that stayed silent are remembered for a while, too: they are not asked again meanwhile, but
where a lookup would have to say that nobody holds the item.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from heapq import nsmallest
from itertools import islice

from dhtmeta.const import CONTACTS, DEAD_CONTACTS, DEAD_FOR
from dhtmeta.krpc.compact import Contact, Endpoint


class Contacts:
    """At most `capacity` nodes by id; iterating gives those that answered longest ago first."""

    def __init__(self, capacity: int = CONTACTS) -> None:
        self._capacity = capacity
        self._order: list[int] = []  # ids as numbers, sorted: what is near in XOR is a run here
        self._by_id: OrderedDict[int, Contact] = OrderedDict()
        self._dead: dict[Endpoint, tuple[float, Contact]] = {}  # silent since; longest ago first

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Contact]:
        return iter(list(self._by_id.values()))

    def latest(self, count: int) -> list[Endpoint]:
        """Return where the `count` nodes listen that answered last."""
        return [one.endpoint for one in islice(reversed(self._by_id.values()), count)]

    def add(self, contact: Contact) -> None:
        """Remember a node that answered just now; of two with one id the newer one."""
        self._dead.pop(contact.endpoint, None)
        number = int.from_bytes(contact.node_id, "big")
        if number in self._by_id:
            self._by_id.move_to_end(number)
        else:
            insort(self._order, number)
        self._by_id[number] = contact
        if len(self._by_id) > self._capacity:
            oldest, _ = self._by_id.popitem(last=False)
            del self._order[bisect_left(self._order, oldest)]

    def note_silent(self, contact: Contact, now: float) -> None:
        """Forget a node that did not answer, and remember that for DEAD_FOR seconds.

        Who is asked meanwhile and silent again counts from the first time: else a dead node would
        be asked for as long as there are lookups.
        """
        self.drop(contact)
        if self.is_dead(contact.endpoint, now):
            return
        self._dead.pop(contact.endpoint, None)
        self._dead[contact.endpoint] = now, contact
        if len(self._dead) > DEAD_CONTACTS:
            del self._dead[next(iter(self._dead))]

    def drop(self, contact: Contact) -> None:
        """Forget a node that is not what it was taken for."""
        number = int.from_bytes(contact.node_id, "big")
        if (held := self._by_id.get(number)) is not None and held.endpoint == contact.endpoint:
            del self._by_id[number]
            del self._order[bisect_left(self._order, number)]

    def forgive(self, since: float) -> None:
        """Believe of nobody any more that he fell silent after `since`: it may be our network."""
        while self._dead and next(reversed(self._dead.values()))[0] >= since:
            self._dead.popitem()

    def is_dead(self, endpoint: Endpoint, now: float) -> bool:
        """Whether a node there stayed silent within the last DEAD_FOR seconds."""
        silent = self._dead.get(endpoint)
        return silent is not None and now < silent[0] + DEAD_FOR

    def silent(self, target: bytes, count: int, now: float) -> list[Contact]:
        """Return the `count` dead ones nearest to `target` (20 bytes), nearest first."""
        wanted = int.from_bytes(target, "big")
        return nsmallest(
            count,
            (contact for since, contact in self._dead.values() if now < since + DEAD_FOR),
            key=lambda one: int.from_bytes(one.node_id, "big") ^ wanted,
        )

    def closest(self, target: bytes, count: int) -> list[Contact]:
        """Return the `count` remembered nodes nearest to `target` (20 bytes), nearest first."""
        wanted = int.from_bytes(target, "big")
        run = self._run(wanted, count)
        run.sort(key=lambda number: number ^ wanted)
        return [self._by_id[number] for number in run[:count]]

    def _run(self, wanted: int, count: int) -> list[int]:
        """Return the ids that share with `wanted` the longest prefix which `count` of them have.

        Ids with one prefix stand together, and those of the longest stand where `wanted` would.
        """
        order = self._order
        if len(order) <= count:
            return list(order)
        at = bisect_left(order, wanted)
        firsts = range(max(0, at - count), min(at, len(order) - count) + 1)
        bits = min(
            max(order[i] ^ wanted, order[i + count - 1] ^ wanted).bit_length() for i in firsts
        )
        low = wanted >> bits << bits
        start = bisect_left(order, low)
        return order[start : bisect_left(order, low + (1 << bits), start)]
