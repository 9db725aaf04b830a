"""How an item is stored: the same bytes to each of the closest, then read back and counted.

A node accepts, rejects or stays silent. "OK" to a seq it holds already does not mean that it
took our value, and a refused one may be held all the same (FACTS), so only reading back counts.
"""

from typing import Protocol

from dhtmeta.const import QUERY_TRIES
from dhtmeta.dht.carrier import PutOutcome, Rejection
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.search import Search
from dhtmeta.errors import InvalidItem
from dhtmeta.krpc.messages import Error, Response
from dhtmeta.values.item import SignedItem, better

SEQ_REFUSED = 301, 302  # BEP 44: cas mismatch, seq less than current


class Storing(Protocol):
    """What a put needs of the core."""

    def put(self, asker: "Put", candidate: Candidate, item: SignedItem, cas: int | None) -> None:
        """Send a put query."""

    def read(self, asker: "ReadBack", candidate: Candidate, target: bytes, seq: int | None) -> None:
        """Send a get query for an item above `seq`."""

    def end(self, put: "Put") -> None:
        """Hear that it is over."""


class Put:
    """One item on its way to the nodes that a search found; `other` is what stands against it.

    `other` is a verified item with a higher seq, or with the same seq and another value.
    """

    def __init__(
        self,
        network: Storing,
        search: Search,
        item: SignedItem,
        copies: int,
        cas: int | None = None,
    ) -> None:
        self.item = item
        self.other: SignedItem | None = None
        self.ended = False
        self.finished = False
        self._network = network
        able = [one for one in search.lookup.answered() if one.token is not None]
        self._nodes, self._spare = able[:copies], able[copies:]
        self._cas = cas
        self._waiting = len(self._nodes)
        self._accepted: dict[Candidate, None] = {}  # in the order in which they answered
        self._rejected: dict[Candidate, int] = {}
        self._silent = 0
        self._read_back = ReadBack(self)

    def start(self) -> None:
        """Send it to every node."""
        for node in self._nodes:
            self._network.put(self, node, self.item, self._cas)
        if not self._nodes:
            self.end(finished=True)

    def end(self, *, finished: bool = False) -> None:
        """End it, finished or not."""
        if not self.ended:
            self.ended = self._read_back.ended = True
            self.finished = finished
            self._network.end(self)

    # what transactions tell

    def answered(self, subject: object, response: Response, now: float) -> None:
        """See `Asker`."""
        assert isinstance(subject, Candidate)
        self._accepted[subject] = None
        self._settled()

    def refused(self, subject: object, error: Error, now: float) -> None:
        """See `Asker`."""
        assert isinstance(subject, Candidate)
        self._rejected[subject] = error.code
        if error.code not in SEQ_REFUSED:
            self._go_on_with_another()
        self._settled()

    def _go_on_with_another(self) -> None:
        """Store on the next closest in place of one that stores nothing."""
        if self._spare:
            self._waiting += 1
            self._network.put(self, self._spare.pop(0), self.item, self._cas)

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`."""
        if tries < QUERY_TRIES:
            return True
        self._silent += 1
        self._go_on_with_another()
        self._settled()
        return False

    def _settled(self) -> None:
        """Read back once every node has had its say: those that may hold something now."""
        self._waiting -= 1
        if self._waiting or self.ended:
            return
        refused = [node for node, code in self._rejected.items() if code in SEQ_REFUSED]
        self._read_back.start([*self._accepted, *refused])

    def read(self, node: Candidate) -> None:
        """Ask a node what it holds now.

        With a seq below ours: else what others put without a signature could hide it (FACTS).
        """
        seq = self.item.seq - 1 if self.item.seq else None
        self._network.read(self._read_back, node, self.item.target, seq)

    def shown(self, node: Candidate, item: SignedItem) -> None:
        """Take what a node holds now."""
        node.seq, node.v = item.seq, item.v
        if (item.seq, item.v) == (self.item.seq, self.item.v):
            self._rejected.pop(node, None)
            self._accepted[node] = None
        elif (item.seq > self.item.seq or item.seq == self.item.seq) and better(self.other, item):
            self.other = item

    @property
    def outcome(self) -> PutOutcome:
        """What the nodes said, and how many hold it now."""
        refused = (Rejection(code, node.seq) for node, code in self._rejected.items())
        held = {one.contact.node_id for one in self._read_back.holders}
        closest = (one.contact.node_id for one in self._nodes if one.contact.node_id in held)
        return PutOutcome(
            self.item,
            len(self._accepted),
            tuple(refused),
            self._silent,
            len(held),
            tuple(closest),
        )


class ReadBack:
    """The gets that follow a put: `holders` lists the nodes that hold its very value."""

    def __init__(self, put: Put) -> None:
        self.holders: list[Candidate] = []
        self.ended = False
        self._put = put
        self._waiting = 0

    def start(self, nodes: list[Candidate]) -> None:
        """Ask them all."""
        self._waiting = len(nodes)
        for node in nodes:
            self._put.read(node)
        if not nodes:
            self._put.end(finished=True)

    def answered(self, subject: object, response: Response, now: float) -> None:
        """See `Asker`."""
        assert isinstance(subject, Candidate)
        mine, seq, v, sig = self._put.item, response.seq, response.v, response.sig
        if seq is not None and v is not None and sig is not None:
            if (seq, v, sig) == (mine.seq, mine.v, mine.sig):
                self._shown(subject, mine)
            elif seq >= mine.seq:
                self._judge(subject, seq, v, sig)
        self._settled()

    def _judge(self, node: Candidate, seq: int, v: bytes, sig: bytes) -> None:
        """Believe that another item is there only if it verifies."""
        mine = self._put.item
        try:
            item = SignedItem.verified(mine.target, mine.public_key, mine.salt, seq, v, sig)
        except InvalidItem:
            return
        self._shown(node, item)

    def _shown(self, node: Candidate, item: SignedItem) -> None:
        """Count it if it is our value, whoever signed it when."""
        if item.v == self._put.item.v and item.seq == self._put.item.seq:
            self.holders.append(node)
        self._put.shown(node, item)

    def refused(self, subject: object, error: Error, now: float) -> None:
        """See `Asker`."""
        self._settled()

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`."""
        if tries < QUERY_TRIES:
            return True
        self._settled()
        return False

    def _settled(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._put.end(finished=True)
