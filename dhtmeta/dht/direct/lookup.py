"""Which node a lookup asks next, and when it is over: nothing about items, sockets or time.

Closest first. Far from the target a few queries at once are enough, since each answer makes all
farther nodes needless; among the closest, all have to be asked, so they are asked together. A
node that is slow no longer counts as asked, but is waited for while it is among the closest.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import IntEnum, auto
from heapq import nsmallest

from dhtmeta.const import (
    CLOSEST,
    FAR_IN_FLIGHT,
    MAX_CANDIDATES,
    MAX_CLOSEST,
    MAX_FAR_IN_FLIGHT,
    MAX_HEARD,
    MAX_OTHERS,
    MAX_QUERIED,
    NEAR_IN_FLIGHT,
    NODE_ID_BYTES,
    SETBACKS,
)
from dhtmeta.krpc.compact import NODE6_BYTES, NODE_BYTES, Contact, Endpoint, unpack_contacts
from dhtmeta.krpc.messages import Response

ID_BITS = 8 * NODE_ID_BYTES


class State(IntEnum):
    """How far a candidate is: asked, late, asked again, and how that ended."""

    ASKED = auto()
    SLOW = auto()
    LOST = auto()
    ANSWERED = auto()
    FAILED = auto()


WAITING = State.ASKED, State.SLOW, State.LOST


class Candidate:
    """A node that was asked, and what it said; `distance` is XOR (BEP 5)."""

    __slots__ = ("contact", "distance", "seq", "shadowed", "state", "token", "v")

    def __init__(self, contact: Contact, distance: int) -> None:
        self.contact = contact
        self.distance = distance
        self.state = State.ASKED
        self.token: bytes | None = None
        self.seq: int | None = None  # of the verified item that it showed
        self.v: bytes | None = None
        self.shadowed = False  # something that is not the item hid it


class Lookup:
    """A search for the `closest` live nodes to `target` (20 bytes), starting from `seeds`."""

    def __init__(
        self,
        target: bytes,
        seeds: Iterable[Contact] = (),
        closest: int = CLOSEST,
        per_host: int | None = None,
    ) -> None:
        """Take how many nodes of one address may be asked that have not answered (None: any)."""
        self.target = target
        self.closest = closest
        self.queried = 0
        self._number = int.from_bytes(target, "big")
        self._order: list[int] = []  # distances of all that have not failed, sorted
        self._new: list[int] = []  # and of those not asked yet
        self._named: dict[int, Contact] = {}  # who these are
        self._others: dict[int, list[Contact]] = {}  # one id at other addresses: somebody lies
        self._candidates: dict[int, Candidate] = {}  # those that were asked
        self._setbacks = 0  # nodes that were slow: the more, the less is left to one of them
        self._lost = 0  # how many are asked again
        self._heard: set[bytes] = set()  # compact node info that was taken in
        self._asked: set[Endpoint] = set()
        self._per_host = per_host
        self._hosts: Counter[str] = Counter()  # asked there, and no answer yet
        self._awaited: Candidate | None = None
        self.add(seeds)

    def add(self, contacts: Iterable[Contact]) -> None:
        """Take in nodes that are remembered."""
        for contact in contacts:
            self._name(contact)
        self._trim()

    def hear(self, response: Response) -> None:
        """Take in the nodes that somebody named; neighbours name the same ones over and over."""
        heard = self._heard
        for nodes, size in ((response.nodes, NODE_BYTES), (response.nodes6, NODE6_BYTES)):
            for at in range(0, len(nodes), size):
                one = nodes[at : at + size]
                if one not in heard and len(heard) < MAX_HEARD:
                    heard.add(one)
                    for contact in unpack_contacts(one, size):
                        self._name(contact)
        self._trim()

    def _name(self, contact: Contact) -> None:
        distance = int.from_bytes(contact[0], "big") ^ self._number
        if distance in self._named or distance in self._candidates:
            self._name_again(distance, contact)
        else:
            self._named[distance] = contact
            insort(self._order, distance)
            insort(self._new, distance)

    def _name_again(self, distance: int, contact: Contact) -> None:
        """Keep another address of an id for when the first does not answer."""
        candidate = self._candidates.get(distance)
        known = self._named[distance] if candidate is None else candidate.contact
        if known.endpoint == contact.endpoint:
            return
        if candidate is not None and candidate.state is State.FAILED:
            if contact.endpoint not in self._asked:
                insort(self._order, distance)
                self._go_on_with(distance, contact)
        elif candidate is None or candidate.state is not State.ANSWERED:
            others = self._others.setdefault(distance, [])
            if contact not in others and len(others) < MAX_OTHERS:
                others.append(contact)

    def _go_on_with(self, distance: int, contact: Contact) -> None:
        self._candidates.pop(distance, None)
        self._named[distance] = contact
        insort(self._new, distance)

    def _trim(self) -> None:
        while len(self._new) > MAX_CANDIDATES:
            distance = self._new.pop()
            if self._named.pop(distance, None) is not None:
                del self._order[bisect_left(self._order, distance)]

    def next(self) -> Candidate | None:
        """Return the node to ask now; it counts as asked. None while there is none.

        In place of each that had to be asked again the next closest is asked already.
        """
        while self._wants_more(self.closest + self._lost) and self._has_room():
            distance = self._new.pop(0)
            contact = self._named.pop(distance)
            if self._may_ask(contact.endpoint):
                self._asked.add(contact.endpoint)
                self._hosts[contact.endpoint[0]] += 1
                self.queried += 1
                candidate = self._candidates[distance] = Candidate(contact, distance)
                return candidate
            self._replace(distance)
        return None

    def _may_ask(self, endpoint: Endpoint) -> bool:
        """Whether it was not asked yet, nor too much at its address: liars may aim us at one."""
        if endpoint in self._asked:
            return False
        return self._per_host is None or self._hosts[endpoint[0]] < self._per_host

    def _wants_more(self, window: int) -> bool:
        """Whether somebody who was not asked yet is among the `window` closest."""
        new, order = self._new, self._order
        while new and new[0] not in self._named:
            del new[0]  # it told its id when it was asked under another
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

    def answer(self, candidate: Candidate, response: Response) -> Candidate | None:
        """Take an answer; returns whose it is, None where it goes by somebody else's id.

        A node may have another id than was said of it: then its answer counts for that one.
        """
        if response.node_id != candidate.contact.node_id:
            self.fail(candidate)
            found = self._true(Contact(response.node_id, candidate.contact.endpoint))
            if found is None:
                return None
            candidate = found
        self._lost -= candidate.state is State.LOST
        self._hosts[candidate.contact.endpoint[0]] -= 1
        candidate.state = State.ANSWERED
        self.hear(response)
        return candidate

    def _true(self, contact: Contact) -> Candidate | None:
        """Return the candidate for a node that told its id itself."""
        distance = int.from_bytes(contact.node_id, "big") ^ self._number
        known = self._candidates.get(distance)
        if known is not None and known.state is not State.FAILED:
            return known if known.contact.endpoint == contact.endpoint else None
        named = self._named.get(distance)
        if named is None:
            insort(self._order, distance)
        elif named.endpoint != contact.endpoint:
            return None
        self._named.pop(distance, None)
        candidate = self._candidates[distance] = Candidate(contact, distance)
        return candidate

    def is_close(self, candidate: Candidate) -> bool:
        """Whether it is among the closest that have not failed."""
        return bisect_left(self._order, candidate.distance) < self.closest

    def distrust(self, candidate: Candidate) -> None:
        """Give up one that answered with a lie: somebody honest has to answer in its place."""
        if candidate.state is State.ANSWERED:
            candidate.state = State.FAILED
            self._replace(candidate.distance)

    def skip(self, candidate: Candidate) -> None:
        """Give a node up that was not asked after all."""
        self.queried -= 1
        self.fail(candidate)

    def again(self, candidate: Candidate) -> None:
        """Have one asked after all that was skipped."""
        distance, endpoint = candidate.distance, candidate.contact.endpoint
        if self._candidates.get(distance) is candidate and candidate.state is State.FAILED:
            self._asked.discard(endpoint)
            self._hosts[endpoint[0]] -= 1
            insort(self._order, distance)
            self._go_on_with(distance, candidate.contact)

    def fail(self, candidate: Candidate) -> None:
        """Give a node up, or go on with another address that was named for its id."""
        if candidate.state is State.ANSWERED or candidate.state is State.FAILED:
            return
        self._lost -= candidate.state is State.LOST
        candidate.state = State.FAILED
        self._replace(candidate.distance)

    def _replace(self, distance: int) -> None:
        others = self._others.get(distance, [])
        while others:
            contact = others.pop(0)
            if contact.endpoint not in self._asked:
                return self._go_on_with(distance, contact)
        del self._order[bisect_left(self._order, distance)]
        return None

    def is_over(self, closest: int | None = None) -> bool:
        """Whether the closest have all answered, or nobody is left to ask.

        With a number: whether so many of them have, though more are looked for.
        """
        awaited, count = self._awaited, closest or self.closest
        if closest is None and awaited is not None and self._keeps_waiting(awaited):
            return False
        self._awaited = self._first_awaited(count)
        return self._awaited is None and not self._wants_more(count)

    def _keeps_waiting(self, awaited: Candidate) -> bool:
        return awaited.state in WAITING and self.is_close(awaited)

    def _first_awaited(self, count: int) -> Candidate | None:
        """Return the nearest of the `count` closest that has yet to answer or to fail."""
        for distance in self._order[:count]:
            candidate = self._candidates.get(distance)
            if candidate is not None and candidate.state in WAITING:
                return candidate
        return None

    def look_further(self) -> None:
        """Look for one more where many are wanted, to store on: this one stores nothing."""
        if CLOSEST < self.closest < MAX_CLOSEST:
            self.closest += 1

    def has_enough(self) -> bool:
        """Whether as many answered as are looked for."""
        return len(self._order) >= self.closest and self.is_over()

    def answered(self, count: int | None = None) -> Iterator[Candidate]:
        """Yield the nodes that answered, closest first, at most `count` of them."""
        for distance in list(self._order):
            candidate = self._candidates.get(distance)
            if candidate is not None and candidate.state is State.ANSWERED:
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
