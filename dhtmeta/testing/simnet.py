"""A DHT in memory: who is in it, who is dead, what gets lost, and when an answer arrives.

It has no clock, socket or loop: `ask` takes one datagram and a time, and returns what comes back
and when. Everything follows from the seed and the order of the calls. How nodes are named is in
sim_ids, what they know of each other in sim_table, what they answer in sim_node and sim_liars, who
dies when in sim_churn.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dhtmeta.const import (
    NODE_ID_BYTES,
    ROUND_TRIP_FLOOR,
    ROUND_TRIP_MEDIAN,
    ROUND_TRIP_SIGMA,
    SIM_BUCKET,
    SIM_CHURN_NODES,
)
from dhtmeta.errors import CallerError, MalformedMessage
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.krpc.messages import Query
from dhtmeta.testing.sim_churn import Lifetimes
from dhtmeta.testing.sim_ids import IdSpace, hashed, mix
from dhtmeta.testing.sim_liars import Liars, Lie
from dhtmeta.testing.sim_node import Nodes
from dhtmeta.testing.sim_table import Tables
from dhtmeta.values.item import SignedItem

RoundTrip = Callable[[random.Random], float]
"""Draws how long one exchange takes, in seconds."""

_LOG_MEDIAN = math.log(ROUND_TRIP_MEDIAN)


def default_round_trip(rng: random.Random) -> float:
    """Draw 20 ms + lognormal(median 120 ms, sigma 0.6), in seconds (FACTS, "Mainline")."""
    return ROUND_TRIP_FLOOR + rng.lognormvariate(_LOG_MEDIAN, ROUND_TRIP_SIGMA)


def constant_round_trip(seconds: float) -> RoundTrip:
    """Return a RoundTrip that is always the same, as on loopback."""
    return lambda rng: seconds


@dataclass(slots=True)
class Traffic:
    """Datagrams and bytes of UDP payload as the askers see them: a lost reply never came in."""

    sent: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    @property
    def datagrams(self) -> int:
        """Both directions together."""
        return self.sent + self.received

    @property
    def bytes(self) -> int:
        """Both directions together."""
        return self.sent_bytes + self.received_bytes


class SimNet:
    """`nodes` simulated DHT nodes. Nodes are named by their index, 0 … nodes - 1.

    `dead` is the share of what routing tables hold that never answers: without churn these nodes
    are always dead; with churn every slot has a live node, and such entries name the one before it.
    `now` is the latest time in seconds that the network was told; it never goes back.
    """

    def __init__(
        self,
        nodes: int,
        *,
        seed: int,
        dead: float = 0.0,
        loss: float = 0.0,
        round_trip: RoundTrip = default_round_trip,
        liars: Mapping[int, Lie] | Callable[[int], Lie | None] | None = None,
        churn: bool = False,
        survival_scale: float = 1.0,
    ) -> None:
        """Take up to 2^24 nodes, 20,000 with churn.

        `dead` and `loss` (of datagrams, drawn for each direction) are shares, 0 … 1; `liars` says
        who lies and how; with `churn`, nodes die `survival_scale` times as fast as FACTS.md has it.
        """
        if churn and nodes > SIM_CHURN_NODES:
            raise CallerError(f"with churn a network has at most {SIM_CHURN_NODES:,} nodes")
        self.now = 0.0
        self.traffic = Traffic()
        self.loss = loss
        self._lives = Lifetimes(seed, survival_scale) if churn else None
        self._round_trip = round_trip
        self._rng = random.Random(seed)  # noqa: S311 - a seeded draw is the point
        self._dead = 0 if churn else int(dead * 2**64)
        self._dead_key = mix(seed ^ 0xDEAD)
        self._liar_of = _liar_of(liars)
        self.ids = IdSpace(nodes, seed, self._generation if churn else None)
        self.tables = Tables(self.ids, seed, dead if churn else 0.0)
        self.nodes = Nodes(
            seed, self.ids.generation, self.contact, self.contacts_of, lambda: self.now
        )
        self._liars = Liars(seed, self.nodes.known, self._real)

    def advance(self, now: float) -> None:
        """Say that it is `now` seconds, so that those whose time has come die."""
        self.now = max(self.now, now)

    def ask(
        self, data: bytes, source: Endpoint, to: Endpoint, now: float
    ) -> list[tuple[float, bytes]]:
        """Send a datagram at `now`; return what comes back as (arrival time in seconds, bytes).

        Nothing does where a datagram was lost, nobody is there, or it was no query. What a put
        stores is there at once, before the datagram can have arrived.
        """
        self.advance(now)
        self.traffic.sent += 1
        self.traffic.sent_bytes += len(data)
        there, back = self._lost(), self._lost()
        trip = self._round_trip(self._rng)
        i = None if there else self.ids.at(to)
        reply = None if i is None or self.dead(i) else self._answer(i, data, source)
        if reply is None or back:
            return []
        self.traffic.received += 1
        self.traffic.received_bytes += len(reply)
        return [(now + trip, reply)]

    def dead(self, i: int) -> bool:
        """Whether node i never answers."""
        return self._dead != 0 and hashed(self._dead_key, i) < self._dead

    def live(self, i: int) -> bool:
        """Whether node i answers, unless it is a silent liar."""
        return not self.dead(i)

    def contact(self, i: int) -> Contact:
        """Return the id and the endpoint of the node with index i."""
        return self._contact(self.ids.number(i), i, self.ids.generation(i))

    def index(self, node_id: bytes) -> int:
        """Return the index whose 20-byte id this is or was, in whatever generation."""
        return self.ids.slot(int.from_bytes(node_id, "big"))

    def closest(self, target: bytes, count: int = SIM_BUCKET, *, live: bool = True) -> list[int]:
        """Return the `count` (live) nodes truly closest to 20 bytes `target`, nearest first."""
        number = int.from_bytes(target, "big")
        return self.ids.nearest(number, count, self.live if live else lambda i: True)

    def contacts_of(self, i: int, target: bytes, count: int = SIM_BUCKET) -> list[Contact]:
        """Return the `count` contacts nearest to `target` that node i knows, nearest first."""
        found = self.tables.closest(i, int.from_bytes(target, "big"), count)
        return [self._contact(*entry) for entry in found]

    def random_live(self, rng: random.Random) -> int:
        """Return the index of a random node that answers."""
        while self.dead(i := rng.randrange(self.ids.nodes)):
            pass
        return i

    def store(self, item: SignedItem, nodes: Iterable[int]) -> None:
        """Plant an item on these nodes, in place of what they hold at its target."""
        for i in nodes:
            self.nodes.store(i, item)

    def holders(self, target: bytes) -> dict[int, SignedItem]:
        """Return which nodes that are alive hold what at `target`, by index."""
        return {i: item for i, item in self.nodes.holders(target).items() if self.live(i)}

    def _answer(self, i: int, data: bytes, source: Endpoint) -> bytes | None:
        try:
            query = decode(data)
        except MalformedMessage:
            return None
        if not isinstance(query, Query):
            return None
        said = self.nodes.answer(i, query, source[0])
        kind = self._liar_of(i)
        if kind is not None:
            lie = self._liars.lie(kind, query, said)
            return None if lie is None else encode(lie)
        return encode(said)

    def _lost(self) -> bool:
        return self.loss > 0 and self._rng.random() < self.loss

    def _generation(self, i: int) -> int:
        return 0 if self._lives is None else self._lives.generation(i, self.now)

    def _contact(self, number: int, i: int, generation: int) -> Contact:
        return Contact(number.to_bytes(NODE_ID_BYTES, "big"), self.ids.endpoint(i, generation))

    def _real(self, target: bytes) -> list[Contact]:
        return [self.contact(i) for i in self.closest(target, live=False)]


def _liar_of(
    liars: Mapping[int, Lie] | Callable[[int], Lie | None] | None,
) -> Callable[[int], Lie | None]:
    if liars is None:
        return lambda i: None
    return liars.get if isinstance(liars, Mapping) else liars
