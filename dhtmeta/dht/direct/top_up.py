"""How a kept item is put on nodes that lack it: the very same bytes, once more, nothing read back.

These nodes have just shown that they hold nothing newer; the next look is what reads back.
"""

from collections.abc import Sequence
from typing import Protocol

from dhtmeta.const import QUERY_TRIES
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.transactions import Asker
from dhtmeta.krpc.messages import Error, Response
from dhtmeta.values.item import SignedItem


class Storing(Protocol):
    """What a top-up needs of the core."""

    def put(self, asker: Asker, candidate: Candidate, item: SignedItem, cas: int | None) -> None:
        """Send a put query."""

    def end(self, top_up: "TopUp") -> None:
        """Hear that it is over."""


class TopUp:
    """One item on its way to `nodes`; `stored` lists those that took it, `sent` counts datagrams.

    In place of each that does not take it, the next of `spare` is asked.
    """

    def __init__(
        self,
        network: Storing,
        item: SignedItem,
        nodes: Sequence[Candidate],
        spare: Sequence[Candidate] = (),
    ) -> None:
        self.stored: list[Candidate] = []
        self.rejected: list[int] = []  # KRPC codes
        self.silent = 0
        self.sent = 0
        self.ended = False
        self._network = network
        self._item = item
        self._nodes = nodes
        self._spare = list(spare)
        self._waiting = 0

    def start(self) -> None:
        """Send it to every node."""
        for node in self._nodes:
            self._put(node)
        if not self._nodes:
            self.end()

    def _put(self, node: Candidate) -> None:
        self._waiting += 1
        self.sent += 1
        self._network.put(self, node, self._item, None)

    def end(self) -> None:
        """End it, finished or not."""
        if not self.ended:
            self.ended = True
            self._network.end(self)

    def answered(self, subject: object, response: Response, now: float) -> None:
        """See `Asker`."""
        assert isinstance(subject, Candidate)
        self.stored.append(subject)
        self._settled()

    def refused(self, subject: object, error: Error, now: float) -> None:
        """See `Asker`."""
        self.rejected.append(error.code)
        self._go_on_with_another()
        self._settled()

    def slow(self, subject: object, now: float) -> None:
        """See `Asker`."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """See `Asker`."""
        if tries < QUERY_TRIES:
            self.sent += 1
            return True
        self.silent += 1
        self._go_on_with_another()
        self._settled()
        return False

    def _go_on_with_another(self) -> None:
        if self._spare:
            self._put(self._spare.pop(0))

    def _settled(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self.end()
