"""Which node a lookup asks next, and when it is over: nothing about items, sockets or time.

Closest first. Far from the target a few queries at once are enough, since each answer makes all
farther nodes needless; among the closest, all have to be asked, so they are asked together. A
node that is slow no longer counts as asked, but is waited for while it is among the closest.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from heapq import nsmallest

from dhtmeta.const import (
    CLOSEST,
    FAR_IN_FLIGHT,
    MAX_CANDIDATES,
    MAX_FAR_IN_FLIGHT,
    MAX_OTHERS,
    MAX_QUERIED,
    NEAR_IN_FLIGHT,
    NODE_ID_BYTES,
    SETBACKS,
)
from dhtmeta.krpc.compact import Contact, Endpoint

ID_BITS = 8 * NODE_ID_BYTES


class State(Enum):
    """How far a candidate is: not asked yet, asked, late, asked again, and how that ended."""

    NEW = auto()
    ASKED = auto()
    SLOW = auto()
    LOST = auto()
    ANSWERED = auto()
    FAILED = auto()


WAITING = State.ASKED, State.SLOW, State.LOST


class Candidate:
    """A node that may be among the closest, and what it said; `distance` is XOR (BEP 5)."""

    __slots__ = ("contact", "distance", "others", "seq", "shadowed", "state", "token", "v")

    def __init__(self, contact: Contact, distance: int) -> None:
        self.contact = contact
        self.distance = distance
        self.state = State.NEW
        self.others: list[Contact] | None = None  # the same id at other addresses: somebody lies
        self.token: bytes | None = None
        self.seq: int | None = None  # of the verified item that it showed
        self.v: bytes | None = None
        self.shadowed = False  # something that is not the item hid it


class Lookup:
    """A search for the `closest` live nodes to `target` (20 bytes), starting from `seeds`."""

    def __init__(self, target: bytes, seeds: Iterable[Contact], closest: int = CLOSEST) -> None:
        self.target = target
        self.closest = closest
        self.queried = 0
        self._setbacks = 0  # nodes that were slow: the more, the less is left to one of them
        self._number = int.from_bytes(target, "big")
        self._order: list[int] = []  # distances of all that have not failed, sorted
        self._new: list[int] = []  # and of those not asked yet
        self._lost = 0  # how many are asked again
        self._candidates: dict[int, Candidate] = {}
        self._seen: set[Contact] = set()
        self._asked: set[Endpoint] = set()
        self._awaited: Candidate | None = None
        self.add(seeds)

    def add(self, contacts: Iterable[Contact]) -> None:
        """Take in nodes that somebody named."""
        number, candidates, seen = self._number, self._candidates, self._seen
        for contact in contacts:
            if contact in seen:
                continue
            seen.add(contact)
            distance = int.from_bytes(contact[0], "big") ^ number
            known = candidates.get(distance)
            if known is None:
                candidates[distance] = Candidate(contact, distance)
                insort(self._order, distance)
                insort(self._new, distance)
            elif known.contact[1] != contact[1]:
                self._add_other(known, contact)
        while len(self._new) > MAX_CANDIDATES:
            distance = self._new.pop()
            del candidates[distance], self._order[bisect_left(self._order, distance)]

    def _add_other(self, known: Candidate, contact: Contact) -> None:
        """Keep a second address of an id for when the first does not answer."""
        if known.state is State.FAILED and contact.endpoint not in self._asked:
            known.contact, known.state = contact, State.NEW
            insort(self._order, known.distance)
            insort(self._new, known.distance)
        elif known.state is not State.ANSWERED and len(known.others or ()) < MAX_OTHERS:
            known.others = [*(known.others or ()), contact]

    def next(self) -> Candidate | None:
        """Return the node to ask now; it counts as asked. None while there is none.

        In place of each that had to be asked again the next closest is asked already.
        """
        while self._wants_more() and self._has_room():
            candidate = self._candidates[self._new.pop(0)]
            if candidate.state is not State.NEW:
                continue  # it told its id when it was asked under another
            if candidate.contact.endpoint not in self._asked:
                self._asked.add(candidate.contact.endpoint)
                candidate.state = State.ASKED
                self.queried += 1
                return candidate
            self.fail(candidate)
        return None

    def _wants_more(self) -> bool:
        """Whether somebody who was not asked yet is among the closest."""
        new, order, window = self._new, self._order, self.closest + self._lost
        if not new or self.queried >= MAX_QUERIED:
            return False
        return len(order) <= window or new[0] < order[window]

    def _has_room(self) -> bool:
        """Whether one more may be in flight now."""
        closer = self._order[: bisect_left(self._order, self._new[0])]
        states = [self._candidates[distance].state for distance in closer]
        if len(states) - states.count(State.LOST) >= self.closest:
            return False
        limit = NEAR_IN_FLIGHT if State.ANSWERED in states else self._far()
        return states.count(State.ASKED) < limit

    def _far(self) -> int:
        """Return how many queries at once there are far from the target."""
        return min(MAX_FAR_IN_FLIGHT, FAR_IN_FLIGHT + self._setbacks // SETBACKS)

    def slow(self, candidate: Candidate) -> None:
        """Pass a node over: others are asked meanwhile, and more of them at once."""
        candidate.state = State.SLOW
        self._setbacks += 1

    def lose(self, candidate: Candidate) -> None:
        """Count on a node no longer, though it is asked again."""
        self._lost += 1
        candidate.state = State.LOST

    def answer(
        self, candidate: Candidate, node_id: bytes, contacts: Iterable[Contact]
    ) -> Candidate | None:
        """Take an answer; returns whose it is, None where it goes by somebody else's id.

        A node may have another id than was said of it: then its answer counts for that one.
        """
        if node_id != candidate.contact.node_id:
            there = Contact(node_id, candidate.contact.endpoint)
            self.fail(candidate)  # which may have it go on with another address
            found = self._true(there)
            if found is None:
                return None
            candidate = found
        self._lost -= candidate.state is State.LOST
        candidate.state = State.ANSWERED
        self.add(contacts)
        return candidate

    def _true(self, contact: Contact) -> Candidate | None:
        """Return the candidate for a node that told its id itself."""
        distance = int.from_bytes(contact.node_id, "big") ^ self._number
        known = self._candidates.get(distance)
        if known is None or known.state is State.FAILED:
            insort(self._order, distance)
            known = self._candidates[distance] = Candidate(contact, distance)
        return known if known.contact.endpoint == contact.endpoint else None

    def is_close(self, candidate: Candidate) -> bool:
        """Whether it is among the closest that have not failed."""
        return bisect_left(self._order, candidate.distance) < self.closest

    def skip(self, candidate: Candidate) -> None:
        """Give a node up that was not asked after all."""
        self.queried -= 1
        self.fail(candidate)

    def fail(self, candidate: Candidate) -> None:
        """Give a node up, or go on with another address that was named for its id."""
        if candidate.state is State.ANSWERED or candidate.state is State.FAILED:
            return
        self._lost -= candidate.state is State.LOST
        while candidate.others:
            candidate.contact = candidate.others.pop(0)
            if candidate.contact.endpoint not in self._asked:
                candidate.state = State.NEW
                insort(self._new, candidate.distance)
                return
        candidate.state = State.FAILED
        del self._order[bisect_left(self._order, candidate.distance)]

    def is_over(self, closest: int | None = None) -> bool:
        """Whether the closest have all answered, or nobody is left to ask.

        With a number: whether so many of them have, though more are looked for.
        """
        if closest is not None:
            return self._first_awaited(closest) is None
        awaited = self._awaited
        if awaited is None or awaited.state not in WAITING or not self.is_close(awaited):
            awaited = self._awaited = self._first_awaited(self.closest)
        return awaited is None

    def has_enough(self) -> bool:
        """Whether as many answered as are looked for."""
        return len(self._order) >= self.closest and self.is_over()

    def _first_awaited(self, closest: int) -> Candidate | None:
        """Return the nearest of the `closest` that has yet to answer or to fail."""
        given_up = self.queried >= MAX_QUERIED
        for distance in self._order[:closest]:
            candidate = self._candidates[distance]
            state = candidate.state
            if state in WAITING or (state is State.NEW and not given_up):
                return candidate
        return None

    def answered(self, count: int | None = None) -> Iterator[Candidate]:
        """Yield the nodes that answered, closest first, at most `count` of them."""
        for distance in list(self._order):
            candidate = self._candidates[distance]
            if candidate.state is State.ANSWERED:
                yield candidate
                if count is not None and (count := count - 1) <= 0:
                    return

    def beside(self) -> list[bytes]:
        """Return targets in the part of the id space that the 8th closest is in, and beyond.

        Each differs from ours in one bit: so the nodes nearest to it are our next closest.
        """
        found = [one.distance for one in self.answered(CLOSEST)]
        if not found:
            return []
        bits = found[-1].bit_length()
        flipped = (self._number ^ 1 << bit for bit in range(max(0, bits - 1), bits + 2))
        return [one.to_bytes(NODE_ID_BYTES, "big") for one in flipped if not one >> ID_BITS]

    def nearest_answered(self, target: bytes, count: int) -> list[Candidate]:
        """Return the nodes that answered and are nearest to another target (20 bytes)."""
        apart = int.from_bytes(target, "big") ^ self._number
        return nsmallest(count, self.answered(), key=lambda one: one.distance ^ apart)
