"""The core on a simulated DHT with a fake clock: each datagram in the order in which it arrives."""

import heapq
import itertools
from random import Random
from typing import Any

from dhtmeta.dht.direct.core import Core, Datagram, Ended, Event, Found
from dhtmeta.dht.direct.put import Put
from dhtmeta.dht.direct.search import Search
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

US: Endpoint = ("198.51.100.7", 4000)
OWNER = Identity(b"o" * 32)
OTHER_OWNER = Identity(b"t" * 32)


def signed(seq: int, value: Any = b"hello", salt: bytes = b"") -> SignedItem:
    """Return an item of OWNER's."""
    return SignedItem.sign(OWNER, encode_value(value), seq, salt)


TARGET = signed(1).target


def small_net(nodes: int = 1000, **options: Any) -> SimNet:
    """Return a network in which every exchange takes 0.1 s, unless said otherwise."""
    given: dict[str, Any] = {"seed": 1, "round_trip": constant_round_trip(0.1)} | options
    return SimNet(nodes, **given)


class Client:
    """A core that knows a few nodes of `net`, and everything that it sent and told."""

    def __init__(self, net: SimNet, seed: int = 1, knows: int = 8, **options: Any) -> None:
        self.net = net
        self.now = 0.0
        self.core = Core(Random(seed), **options)
        self.sent: list[tuple[float, Datagram]] = []
        self.told: list[Event] = []
        self._coming: list[tuple[float, int, bytes, Endpoint]] = []
        self._order = itertools.count()
        random = Random(seed)
        for _ in range(knows):
            self.core.note_alive(net.contact(net.random_live(random)))

    def get(self, salt: bytes = b"", **options: Any) -> Search:
        """Run a lookup of OWNER's item to its end."""
        search = self.core.look_up(OWNER.public_key, salt, self.now, **options)
        self.finish(search)
        return search

    def put(
        self, item: SignedItem, copies: int = 20, cas: int | None = None, closest: int = 20
    ) -> Put:
        """Look up and store an item."""
        search = self.get(item.salt, closest=closest)
        put = self.core.store(search, item, copies=copies, cas=cas)
        self.finish(put)
        return put

    def finish(self, operation: Search | Put) -> None:
        """Let time pass until an operation has ended."""
        self.turn()
        while not self.has_ended(operation):
            assert self.step(), "nothing will ever happen"
            self.turn()

    def rest(self) -> None:
        """Let time pass until there is nothing to wait for."""
        self.turn()
        while self.step():
            self.turn()

    def turn(self) -> None:
        """Send what is to be sent, and take what is told."""
        for data, to in self.core.datagrams_to_send(self.now):
            self.sent.append((self.now, (data, to)))
            for when, reply in self.net.ask(data, US, to, self.now):
                heapq.heappush(self._coming, (when, next(self._order), reply, to))
        while (event := self.core.next_event()) is not None:
            self.told.append(event)

    def step(self) -> bool:
        """Go on to the next datagram or timer; False where there is neither."""
        timer = self.core.next_timer()
        if self._coming and (timer is None or self._coming[0][0] <= timer):
            self.now, _, data, source = heapq.heappop(self._coming)
            self.core.receive_datagram(data, source, self.now)
        elif timer is not None:
            self.now = max(self.now, timer)
            self.core.handle_timer(self.now)
        else:
            return False
        return True

    def has_ended(self, operation: Search | Put) -> bool:
        """Whether the end of it was told."""
        return any(isinstance(one, Ended) and one.operation is operation for one in self.told)

    def found(self, search: Search) -> list[SignedItem]:
        """Return the items that were told of, in this order."""
        return [one.item for one in self.told if isinstance(one, Found) and one.search is search]


def contact(number: int, host: str | None = None, port: int = 1) -> Contact:
    """Return the node whose id is so far from TARGET in XOR, with an address of its own."""
    node_id = (int.from_bytes(TARGET, "big") ^ number).to_bytes(20, "big")
    mark = number if number < 2**24 else number >> 136
    return Contact(node_id, (host or f"11.{mark >> 16}.{mark >> 8 & 255}.{mark & 255}", port))
