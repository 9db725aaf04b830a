"""The direct core on a simulated DHT, without a loop: one lookup or put at a time, counted."""

import heapq
import itertools
from dataclasses import dataclass
from random import Random

from dhtmeta.const import CLOSEST
from dhtmeta.dht.direct.core import Core, Ended
from dhtmeta.dht.direct.put import Put
from dhtmeta.dht.direct.search import Search
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem

US: Endpoint = ("192.0.2.1", 6881)


@dataclass(frozen=True, slots=True)
class Run:
    """One operation: how long it took (s), what it cost, and how much of the closest it found."""

    seconds: float
    datagrams: int
    bytes: int
    found: float


class Client:
    """A direct node on `net`, at time `now` (s)."""

    def __init__(self, net: SimNet, seed: int) -> None:
        self.net = net
        self.now = 0.0
        self.core = Core(Random(seed))
        self._coming: list[tuple[float, int, bytes, Endpoint]] = []
        self._order = itertools.count()

    def remember(self, contacts: list[Contact]) -> None:
        """Start from these."""
        for contact in contacts:
            self.core.note_alive(contact)

    def get(
        self,
        public_key: bytes,
        salt: bytes = b"",
        closest: int = CLOSEST,
        enough: int | None = None,
    ) -> tuple[Search, Run]:
        """Run a lookup to its end, or to the first item whose seq is not below `enough`."""
        before, start = self._traffic(), self.now
        search = self.core.look_up(public_key, salt, self.now, closest=closest, enough=enough)
        self.finish(search)
        return search, self._run(search, before, start)

    def put(self, item: SignedItem, copies: int) -> tuple[Put, Run]:
        """Look up and store an item."""
        before, start = self._traffic(), self.now
        search, _ = self.get(item.public_key, item.salt, copies)
        put = self.core.store(search, item, copies=copies, cas=None)
        self.finish(put)
        return put, self._run(search, before, start)

    def finish(self, operation: Search | Put) -> None:
        """Let time pass until an operation has ended."""
        while True:
            self._send()
            while (event := self.core.next_event()) is not None:
                if isinstance(event, Ended) and event.operation is operation:
                    return
            self._step()

    def _send(self) -> None:
        for data, to in self.core.datagrams_to_send(self.now):
            for when, reply in self.net.ask(data, US, to, self.now):
                heapq.heappush(self._coming, (when, next(self._order), reply, to))

    def _step(self) -> None:
        timer = self.core.next_timer()
        if self._coming and (timer is None or self._coming[0][0] <= timer):
            self.now, _, data, source = heapq.heappop(self._coming)
            self.core.receive_datagram(data, source, self.now)
        else:
            assert timer is not None, "nothing will ever happen"
            self.now = max(self.now, timer)
            self.core.handle_timer(self.now)

    def _traffic(self) -> tuple[int, int]:
        return self.net.traffic.datagrams, self.net.traffic.bytes

    def _run(self, search: Search, before: tuple[int, int], start: float) -> Run:
        datagrams, size = self._traffic()
        true = self.net.closest(search.target, CLOSEST)
        found = {one.contact.node_id for one in search.lookup.answered()}
        share = sum(self.net.contact(i).node_id in found for i in true) / len(true)
        return Run(self.now - start, datagrams - before[0], size - before[1], share)
