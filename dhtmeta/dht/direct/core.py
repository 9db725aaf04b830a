"""The direct node without its socket: datagrams in and out, a timer, events; no IO and no clock.

Five verbs drive it, each with `now` (s, monotonic): `receive_datagram`, `datagrams_to_send`,
`next_timer`, `handle_timer`, `next_event`. Lookups and puts are begun with `look_up` and `store`.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from dhtmeta.const import (
    CLOSEST,
    DIRECT_COPIES,
    DOUBT,
    NODE_ID_BYTES,
    OUTAGE,
    QUERY_TRIES,
    ROUND_TRIP_DEVIATION,
    ROUND_TRIP_MEAN,
)
from dhtmeta.dht.direct.answers import Allowance, Answers
from dhtmeta.dht.direct.contacts import Contacts
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.put import Put, ReadBack
from dhtmeta.dht.direct.search import Search
from dhtmeta.dht.direct.top_up import TopUp
from dhtmeta.dht.direct.transactions import Asker, Transaction, Transactions
from dhtmeta.errors import MalformedMessage
from dhtmeta.krpc import codec, messages
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.values.item import SignedItem

Datagram = tuple[bytes, Endpoint]


@dataclass(frozen=True, slots=True)
class Found:
    """A search found an item that is better than all before."""

    search: Search
    item: SignedItem


@dataclass(frozen=True, slots=True)
class Ended:
    """An operation is over; itself says how."""

    operation: "Operation"


Operation: TypeAlias = Search | Put | TopUp
Event: TypeAlias = Found | Ended


@dataclass(slots=True)
class Traffic:
    """Datagrams and bytes since the start, and what came in that was of no use."""

    datagrams_in: int = 0
    datagrams_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    malformed: int = 0
    unsolicited: int = 0


class Core:
    """Lookups, puts and answers of one node. `random` makes ids; seeded, all is repeatable."""

    def __init__(
        self,
        random: Random,
        *,
        node_id: bytes | None = None,
        also_us: Collection[bytes] = (),
        may_ask: Callable[[Endpoint], bool] = lambda endpoint: True,
        sends_per_second: int | None = None,
        limit_answers: bool = True,
        per_host: int | None = None,
        round_trip: tuple[float, float] = (ROUND_TRIP_MEAN, ROUND_TRIP_DEVIATION),
    ) -> None:
        """Take whom we may send queries to, and how many of them a second (None: any number).

        `limit_answers` says whether others get few answers a second (`Answers`), `round_trip`
        what to believe before the first answer: mean and mean deviation in s.
        `per_host` is how many nodes of one address a lookup asks that have not answered (None:
        any). `also_us` are ids of nodes that end with us: what they hold is no copy.
        """
        self.node_id = node_id or random.randbytes(NODE_ID_BYTES)
        self._us = {self.node_id, *also_us}
        self.contacts = Contacts()
        self.traffic = Traffic()
        self.heard_at = float("-inf")  # when somebody answered last
        self._unheard: float | None = None  # when the first query after that and a pause went out
        self._asked_at = float("-inf")  # when the last one did
        self._outage_at = float("-inf")  # when the last time that nobody answered ended
        self._transactions = Transactions(random, *round_trip)
        self._answers = Answers(self.node_id, self.contacts, limited=limit_answers)
        self._may_ask = may_ask
        self._per_host = per_host
        self._allowance = Allowance(sends_per_second) if sends_per_second else None
        self._queries: deque[Transaction] = deque()  # to be sent
        self._waiting: OrderedDict[Search, None] = OrderedDict()  # to go on, once each
        self._replies: deque[Datagram] = deque()
        self._events: deque[Event] = deque()

    # the five verbs

    def receive_datagram(self, data: bytes, source: Endpoint, now: float) -> None:
        """Take what came in; whatever is not understood or not asked for changes nothing."""
        self.traffic.datagrams_in += 1
        self.traffic.bytes_in += len(data)
        try:
            message = codec.decode(data)
        except MalformedMessage:
            self.traffic.malformed += 1
            return None
        if isinstance(message, messages.Query):
            return self._answer(message, len(data), source, now)
        transaction = self._transactions.close(message.t, source, now)
        if transaction is None:
            self.traffic.unsolicited += 1
            return None
        self._hear(now)
        if not transaction.asker.ended:
            if isinstance(message, messages.Response):
                transaction.asker.answered(transaction.subject, message, now)
            else:
                transaction.asker.refused(transaction.subject, message, now)
        return None

    def _hear(self, now: float) -> None:
        """Note that the network is there; who was silent while it may not have been is forgiven."""
        if self._unheard is not None:
            if now > self._unheard + DOUBT:
                self.contacts.forgive(self.heard_at)
            if now > self._unheard + OUTAGE:
                self._outage_at = now
        self.heard_at, self._unheard = now, None

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """Return what is to go out now, in this order; call it after all that came in."""
        while self._waiting:
            search, _ = self._waiting.popitem(last=False)
            search.go_on(now)
        ready: list[Datagram] = list(self._replies)
        self._replies.clear()
        queries, allowance = self._queries, self._allowance
        while queries:
            if queries[0].asker.ended:
                queries.popleft()
                continue
            if allowance is not None and not allowance.take(now):
                break
            transaction = queries.popleft()
            data = self._transactions.send(transaction, now)
            if self._unheard is None or now > self._asked_at + DOUBT:
                self._unheard = now
            self._asked_at = now
            ready.append((data, transaction.endpoint))
        self.traffic.datagrams_out += len(ready)
        self.traffic.bytes_out += sum(len(data) for data, _ in ready)
        return ready

    def next_timer(self) -> float | None:
        """Return when `handle_timer` is to be called; None if there is nothing to wait for."""
        due = self._transactions.next_timer()
        if self._queries and self._allowance is not None:
            allowed = self._allowance.next
            return allowed if due is None else min(due, allowed)
        return due

    def handle_timer(self, now: float) -> None:
        """Ask again, or give up, whom we waited for long enough."""
        self._queries.extend(self._transactions.expire(now))

    def next_event(self) -> Event | None:
        """Return what happened, oldest first, None if there is nothing more."""
        return self._events.popleft() if self._events else None

    # what to do

    def look_up(
        self,
        public_key: bytes,
        salt: bytes,
        now: float,
        *,
        closest: int = CLOSEST,
        enough: int | None = None,
        known: SignedItem | None = None,
    ) -> Search:
        """Begin a lookup; it may end at once where no node is known."""
        search = Search(
            self,
            public_key,
            salt,
            closest=closest,
            enough=enough,
            known=known,
            per_host=self._per_host,
        )
        search.go_on(now)
        return search

    def store(
        self, search: Search, item: SignedItem, *, copies: int = DIRECT_COPIES, cas: int | None
    ) -> Put:
        """Store an item on the nodes that a search of its key found."""
        put = Put(self, search, item, copies, cas)
        put.start()
        return put

    def top_up(self, search: Search, item: SignedItem, copies: int) -> TopUp:
        """Store an item on `copies` of the closest nodes that a search showed to lack it."""
        lacking = search.lacking(item)
        top_up = TopUp(self, item, lacking[:copies], lacking[copies:])
        top_up.start()
        return top_up

    def cancel(self, operation: Operation) -> None:
        """End it now; it tells how far it came."""
        operation.end()

    def greet(self, endpoints: Iterable[Endpoint]) -> None:
        """Ask nodes whose ids are not known yet who they are; those that answer are remembered."""
        for endpoint in filter(self._may_ask, endpoints):
            self.find_node(_Greeting(self, endpoint), Contact(b"", endpoint), self.node_id)

    # what searches and puts ask of it

    def get(self, asker: Asker, candidate: Candidate, target: bytes, seq: int | None) -> None:
        """Send a get query."""
        query = messages.Get(
            t=b"",
            node_id=self.node_id,
            read_only=True,
            target=target,
            seq=seq,
        )
        self._ask(asker, candidate, candidate.contact.endpoint, query)

    def find_node(self, asker: Asker, contact: Contact, target: bytes) -> None:
        """Send a find_node query."""
        query = messages.FindNode(t=b"", node_id=self.node_id, read_only=True, target=target)
        self._ask(asker, contact, contact.endpoint, query)

    def read(self, asker: ReadBack, candidate: Candidate, target: bytes, seq: int | None) -> None:
        """Send a get query for what was just put."""
        self.get(asker, candidate, target, seq)

    def put(self, asker: Asker, candidate: Candidate, item: SignedItem, cas: int | None) -> None:
        """Send a put query."""
        assert candidate.token is not None
        query = messages.Put(
            t=b"",
            node_id=self.node_id,
            read_only=True,
            token=candidate.token,
            k=item.public_key,
            salt=item.salt,
            seq=item.seq,
            v=item.v,
            sig=item.sig,
            cas=cas,
        )
        self._ask(asker, candidate, candidate.contact.endpoint, query)

    def _ask(
        self, asker: Asker, subject: object, endpoint: Endpoint, query: messages.Query
    ) -> None:
        self._queries.append(Transaction(query, endpoint, asker, subject))

    def seeds(self, target: bytes, count: int) -> list[Contact]:
        """Return the nodes nearest to `target` that are remembered."""
        return self.contacts.closest(target, count)

    def silent(self, target: bytes, count: int, now: float) -> list[Contact]:
        """Return the nodes nearest to `target` that were silent lately."""
        return self.contacts.silent(target, count, now)

    def usable(self, contact: Contact, now: float, *, silent: bool = False) -> bool:
        """Whether a node may be asked: not us, not out of bounds, and not silent lately.

        With `silent`, whether it was does not matter.
        """
        endpoint = contact.endpoint
        return (
            contact.node_id not in self._us
            and (silent or not self.contacts.is_dead(endpoint, now))
            and self._may_ask(endpoint)
        )

    def note_alive(self, contact: Contact) -> None:
        """Remember a node that answered."""
        self.contacts.add(contact)

    def drop(self, contact: Contact) -> None:
        """Forget a node that goes by another id."""
        self.contacts.drop(contact)

    def note_silent(self, contact: Contact, now: float) -> None:
        """Remember a node that did not."""
        self.contacts.note_silent(contact, now)

    def cut_off_since(self, then: float, now: float) -> bool:
        """Whether our own network seems to have been down at some time after `then`."""
        waits = self._unheard is not None and now > self._unheard + OUTAGE
        return waits or self._outage_at >= then + DOUBT

    def soon(self, search: Search) -> None:
        """Have it go on when all that came in has been taken: one look for many answers."""
        self._waiting[search] = None

    def found(self, search: Search, item: SignedItem) -> None:
        """Tell of an item."""
        self._events.append(Found(search, item))

    def end(self, operation: Operation) -> None:
        """Tell that it is over."""
        self._events.append(Ended(operation))

    def _answer(self, query: messages.Query, size: int, source: Endpoint, now: float) -> None:
        answer = self._answers.answer(query, size, source, now)
        if answer is not None:
            self._replies.append((codec.encode(answer), source))


class _Greeting:
    """One node that was asked who it is."""

    ended = False

    def __init__(self, core: Core, endpoint: Endpoint) -> None:
        self._core = core
        self._endpoint = endpoint

    def answered(self, subject: object, response: messages.Response, now: float) -> None:
        """See `Asker`."""
        self._core.note_alive(Contact(response.node_id, self._endpoint))

    def refused(self, subject: object, error: messages.Error, now: float) -> None:
        """See `Asker`."""

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`."""
        return tries < QUERY_TRIES
