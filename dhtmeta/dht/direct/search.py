"""What a lookup makes of the items that nodes show: verified, newest first, liars passed by."""

from collections.abc import Iterator
from typing import Protocol

from dhtmeta._fast import ed25519
from dhtmeta.const import CLOSEST, QUERY_TRIES, UNREACHABLE_AFTER, WIDENING_ASKED
from dhtmeta.dht.carrier import GetOutcome
from dhtmeta.dht.direct.lookup import Candidate, Lookup, State
from dhtmeta.dht.direct.transactions import Asker
from dhtmeta.errors import InvalidItem
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.krpc.messages import Error, Response
from dhtmeta.values.item import SignedItem, better

Shown = tuple[int, bytes, bytes]  # seq, v, sig


class Network(Protocol):
    """What a search or a put needs of the core."""

    def get(self, asker: Asker, candidate: Candidate, target: bytes, seq: int | None) -> None:
        """Send a get query."""

    def find_node(self, asker: Asker, contact: Contact, target: bytes) -> None:
        """Send a find_node query."""

    def seeds(self, target: bytes, count: int) -> list[Contact]:
        """Return the nodes nearest to `target` that are remembered."""

    def silent(self, target: bytes, count: int, now: float) -> list[Contact]:
        """Return the nodes nearest to `target` that were silent lately."""

    def usable(self, contact: Contact, now: float, *, silent: bool = False) -> bool:
        """Whether this node may be asked; with `silent`, even if it did not answer lately."""

    def note_alive(self, contact: Contact) -> None:
        """Remember a node that answered."""

    def drop(self, contact: Contact) -> None:
        """Forget a node that goes by another id."""

    def note_silent(self, contact: Contact, now: float) -> None:
        """Remember a node that did not."""

    def cut_off_since(self, then: float, now: float) -> bool:
        """Whether our own network seems to have been down at some time after `then`."""

    def soon(self, search: "Search") -> None:
        """Have it go on once all that came in has been taken."""

    def found(self, search: "Search", item: SignedItem) -> None:
        """Hand over an item that is better than what was found before."""

    def end(self, search: "Search") -> None:
        """Hear that it is over."""


class Search:
    """One item's lookup: `best` is the newest that verified, `outcome` what to tell of it.

    It ends when the `closest` nodes have answered, or with the first item whose seq is not below
    `enough`. It has not converged where our own network seems to have been down meanwhile.
    `known` is an item of ours: what is older is passed by, another value under its seq does not
    replace it, and its very bytes are not verified again. `sent` counts datagrams.
    """

    def __init__(
        self,
        network: Network,
        public_key: bytes,
        salt: bytes,
        *,
        closest: int = CLOSEST,
        enough: int | None = None,
        known: SignedItem | None = None,
        per_host: int | None = None,
    ) -> None:
        self.public_key = public_key
        self.salt = salt
        self.target = ed25519.target(public_key, salt)
        self.lookup = Lookup(self.target, closest=closest, per_host=per_host)
        self.best = known
        self.sent = 0
        self.ended = False
        self.converged = False
        self._enough = enough
        self._known = known
        self._network = network
        self._shown: dict[Shown, SignedItem | None] = {}  # None: it did not verify
        if known is not None:
            self._shown[known.seq, known.v, known.sig] = known
        self._seeds: set[Endpoint] = set()  # remembered nodes that it was given
        self._skipped: list[Candidate] = []  # since they were silent lately
        self._asks_silent = False
        self._began = float("inf")
        self._asked_again: set[Candidate] = set()
        self._widening = Widening(self, wanted=closest > CLOSEST)
        self._heard = 0
        self._refused = 0
        self._conflicts = 0

    def go_on(self, now: float) -> None:
        """Ask whom the lookup wants to ask, or end it."""
        self._began = min(self._began, now)
        self._ask(now)
        while self.lookup.is_over():
            if not self._found_seeds() and not self._turns_to_silent(now):
                return self._finish(now)
            self._ask(now)
        if not self._widening.started and self.lookup.is_over(CLOSEST):
            self._widening.start(self._network)
        return None

    def _finish(self, now: float) -> None:
        """End it, unless some are still asked again, or those beside the target are."""
        if not self._widening.started:
            self._widening.start(self._network)
        if not self._asked_again and not self._widening.waiting:
            nobody = self.lookup.queried > 0 and not self._heard
            cut_off = nobody or self._network.cut_off_since(self._began, now)
            self.end(converged=not cut_off)

    def _ask(self, now: float) -> None:
        while not self.ended and (candidate := self.lookup.next()) is not None:
            if self._network.usable(candidate.contact, now, silent=self._asks_silent):
                self.sent += 1
                self._network.get(self, candidate, self.target, None)
            else:
                self._skipped.append(candidate)
                self.lookup.skip(candidate)

    def _found_seeds(self) -> bool:
        """Whether there are remembered nodes to go on with: more each time it has to be asked.

        The nearest may all be gone, or not be allowed to be asked.
        """
        if self.ended or (self._seeds and self.lookup.has_enough()):
            return False
        if not self._heard and self.lookup.queried >= UNREACHABLE_AFTER:
            return False
        wanted = max(2 * len(self._seeds), CLOSEST, self.lookup.closest)
        near = self._network.seeds(self.target, wanted)
        more = [one for one in near if one.endpoint not in self._seeds]
        self._seeds.update(one.endpoint for one in more)
        self.lookup.add(more)
        return bool(more)

    def _turns_to_silent(self, now: float) -> bool:
        """Whether to ask, once, those of the closest who were silent lately: nothing was found.

        They may only have been unlucky, and "not found" is for the closest to say.
        """
        if self.ended or self._asks_silent or self.best is not None:
            return False
        if not self._heard and self.lookup.queried >= UNREACHABLE_AFTER:
            return False
        self._asks_silent, too_few = True, not self.lookup.has_enough()
        for candidate in self._skipped:
            self.lookup.again(candidate)
        if too_few:  # else others have named them; of 10,000 the nearest take 5 ms to find
            self.lookup.add(self._network.silent(self.target, self.lookup.closest, now))
        return not self.lookup.is_over()

    def end(self, *, converged: bool = False) -> None:
        """End it, finished or not."""
        if not self.ended:
            self.ended, self.converged = True, converged
            self._network.end(self)

    # what transactions tell

    def answered(self, subject: object, response: Response, now: float) -> None:
        """See `Asker`."""
        assert isinstance(subject, Candidate)
        candidate: Candidate | None = subject
        if subject in self._asked_again:
            self._asked_again.remove(subject)
        else:
            self._heard += 1
            if response.node_id != subject.contact.node_id:
                self._network.drop(subject.contact)
            candidate = self.lookup.answer(subject, response)
        if candidate is not None:
            self._network.note_alive(candidate.contact)
            candidate.token = response.token or candidate.token
            if candidate.token is None:
                self.lookup.look_further()
            self._offer(candidate, response)
        self._network.soon(self)

    def refused(self, subject: object, error: Error, now: float) -> None:
        """See `Asker`: a node that does not know "get" is no help."""
        self._give_up(subject, now)

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`: somebody else is asked meanwhile."""
        assert isinstance(subject, Candidate)
        if subject.state is State.ASKED:
            self.lookup.slow(subject)
            self.go_on(now)

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`: again only if it may be one of the closest; of others there are enough."""
        assert isinstance(subject, Candidate)
        if tries >= QUERY_TRIES:
            self._network.note_silent(subject.contact, now)
        elif self.lookup.is_close(subject):
            if subject.state is not State.ANSWERED:
                self.lookup.lose(subject)
                self.go_on(now)
            self.sent += 1
            return True
        self._give_up(subject, now)
        return False

    def _give_up(self, subject: object, now: float) -> None:
        assert isinstance(subject, Candidate)
        self._asked_again.discard(subject)
        self.lookup.fail(subject)
        self.go_on(now)

    # items

    def _offer(self, candidate: Candidate, response: Response) -> None:
        """Judge what a node shows: verify before anything else is believed of it."""
        if response.v is None or self.ended:
            return None
        if response.k is None or response.sig is None or response.seq is None:
            return self._unshadow(candidate)
        if self.best is not None and response.seq < self.best.seq:
            return None  # older than what is proved: not worth a verification
        item = self._verified(response.k, (response.seq, response.v, response.sig))
        if item is None:
            self._refused += 1
            return self.lookup.distrust(candidate)
        candidate.seq, candidate.v = item.seq, item.v
        return self._take(item)

    def _verified(self, public_key: bytes, shown: Shown) -> SignedItem | None:
        """Verify what was shown, once for all nodes that show the same."""
        if public_key != self.public_key:
            return None
        if shown not in self._shown:
            seq, v, sig = shown
            try:
                item = SignedItem.verified(self.target, public_key, self.salt, seq, v, sig)
            except InvalidItem:
                self._shown[shown] = None
            else:
                self._shown[shown] = item
        return self._shown[shown]

    def _take(self, item: SignedItem) -> None:
        if self.best is not None and item.seq == self.best.seq and item.v != self.best.v:
            self._conflicts += 1
            if self.best is self._known:
                return
        if better(self.best, item):
            self.best = item
            self._network.found(self, item)
            if self._enough is not None and item.seq >= self._enough:
                self.end()

    def _unshadow(self, candidate: Candidate) -> None:
        """Ask again with seq: something without a signature hides the item from a plain get.

        libtorrent nodes store it so, and still show the real one to a get that carries a seq
        below it (FACTS, "Gets").
        """
        self._refused += 1
        if candidate.shadowed:
            return self.lookup.distrust(candidate)
        candidate.shadowed = True
        self._asked_again.add(candidate)
        self.sent += 1
        return self._network.get(self, candidate, self.target, 0)

    def holding(self, item: SignedItem) -> list[Candidate]:
        """Return those of the closest that showed this very value under its seq."""
        return [one for one in self._closest() if _holds(one, item)]

    def lacking(self, item: SignedItem) -> list[Candidate]:
        """Return those of the closest that showed nothing as new as `item` and store things."""
        return [
            one
            for one in self._closest()
            if one.token is not None and (one.seq is None or one.seq < item.seq)
        ]

    def _closest(self) -> Iterator[Candidate]:
        return self.lookup.answered(self.lookup.closest)

    @property
    def outcome(self) -> GetOutcome:
        """What there is to tell, now."""
        best, held = self.best, 0
        if best is not None:
            held = len([1 for one in self.lookup.answered() if _holds(one, best)])
        return GetOutcome(
            best,
            self.converged,
            self._refused,
            self._conflicts,
            self.lookup.queried,
            self._heard,
            held,
        )


def _holds(candidate: Candidate, item: SignedItem) -> bool:
    return candidate.seq == item.seq and candidate.v == item.v


class Widening:
    """The search for who stands around the closest: find_node for targets beside the true one.

    A node names the 8 nearest to a target, so who looks for more has to ask about others, too.
    """

    def __init__(self, search: Search, *, wanted: bool) -> None:
        self.waiting = 0
        self.started = not wanted
        self._search = search

    @property
    def ended(self) -> bool:
        """See `Asker`."""
        return self._search.ended

    def start(self, network: Network) -> None:
        """Ask about the part of the id space that the closest come from, and the next ones."""
        self.started = True
        if self.ended:
            return
        lookup = self._search.lookup
        for target in lookup.beside():
            for candidate in lookup.nearest_answered(target, WIDENING_ASKED):
                self.waiting += 1
                network.find_node(self, candidate.contact, target)

    def answered(self, subject: object, response: Response, now: float) -> None:
        """See `Asker`."""
        self._search.lookup.hear(response)
        self._settled(now)

    def refused(self, subject: object, error: Error, now: float) -> None:
        """See `Asker`."""
        self._settled(now)

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`: another was asked the same, so once is enough."""
        self._settled(now)
        return False

    def _settled(self, now: float) -> None:
        self.waiting -= 1
        self._search.go_on(now)
