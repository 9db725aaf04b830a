"""libtorrent's lookup rules on a SimNet: what simulated lookups of ours are to be compared with.

The rules are those of its traversal_algorithm.cpp and rpc_manager.cpp. Candidates are sorted by
distance, at most 100 of them. Whenever a node answers, is slow or fails, queries go out down that
list, to no more than the 8th that answered, as long as fewer than `branch` are in flight: 5, and
one more for each that has not answered after 1 s, until it answers or fails, which is after 15 s.
Done when 8 have answered and none nearer than the last of them is in flight, or nobody is.

What these rules are held to:
- libtorrent itself, on a copy of a real swarm of which some nodes died: direct/calibration.py.
- For lookups among 10,000,000 nodes, which nobody has measured, a quick model of the same rules
  that was made earlier (FACTS.md; `EXPECTED`): that is one model beside another.

Assumed, to meet the figures of that model:
- `dht_aggressive_lookups` off: all in flight count. With it on, libtorrent's default, only those
  before the 8th that answered do, which costs 1.7 times as many datagrams ("aggressive" below).
- The timers run to the millisecond; libtorrent looks at them up to once a second.
- Its rule of one candidate per /24 is left out: all simulated nodes are in one /8, where it would
  strike 256 times as often as on the Internet.
- Replies to queries in flight when the lookup is done are counted as well.

`python -m bench.libtorrent_rules` prints one JSON object: the figures beside that model's.
"""

import bisect
import enum
import heapq
import itertools
import json
import random
import sys
from dataclasses import dataclass, field, replace
from statistics import fmean, quantiles
from typing import Any, Protocol

from dhtmeta.const import NODE_ID_BYTES, SIM_BUCKET
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.krpc.messages import Get, Response
from dhtmeta.testing.simnet import SimNet

BRANCH = 5  # dht_search_branching
SHORT_TIMEOUT, FULL_TIMEOUT = 1.0, 15.0  # s, rpc_manager::tick
MAX_RESULTS = 100  # candidates kept
NODES, DEAD, LOSS = 10_000_000, 0.15, 0.05  # the conditions of FACTS.md, "Mainline"
EXPECTED = {"p50": 15.9, "datagrams": 44.5, "found": 0.88}  # by the model there, and in issue 3
EXPECTED_CALM = {"p50": 0.8, "datagrams": 51.0}  # by the same, nobody dead and nothing lost
WITHIN = 0.10  # of each figure, for the calibration to hold
HERE: Endpoint = ("198.51.100.1", 6881)  # where we are, as the nodes see it
LOOKUPS, SEED = 2000, 3


class Network(Protocol):
    """What a lookup is done in: a SimNet, or a copy of a real swarm."""

    def ask(
        self, data: bytes, source: Endpoint, to: Endpoint, now: float
    ) -> list[tuple[float, bytes]]:
        """See `SimNet.ask`."""
        ...


class Event(enum.Enum):
    """What can happen to a query."""

    REPLY = enum.auto()
    SLOW = enum.auto()
    FAILED = enum.auto()


@dataclass(slots=True)
class Candidate:
    """A node that a lookup knows of, and how far its query has come."""

    distance: int
    contact: Contact
    queried: bool = False
    slow: bool = False  # past the short timeout: one more may be in flight in its place
    alive: bool = False
    failed: bool = False
    dropped: bool = False  # it is no longer among the 100, so what comes of it counts for nothing

    @property
    def in_flight(self) -> bool:
        """Whether it may still answer."""
        return self.queried and not (self.alive or self.failed)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one lookup cost and found: seconds, datagrams of both directions, bytes, 0 … 1."""

    duration: float
    datagrams: int
    bytes: int
    found: float


@dataclass(slots=True)
class Lookup:
    """One get of `target` that starts at `now` seconds."""

    net: Network
    target: bytes
    now: float
    aggressive: bool = False
    branch: int = BRANCH
    flying: int = 0
    results: list[Candidate] = field(default_factory=list)
    events: list[tuple[float, int, Event, Candidate, bytes]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    answered: set[bytes] = field(default_factory=set)

    def run(self, start: list[Contact]) -> None:
        """Look up from these contacts, until `now` is when it is done."""
        for contact in start:
            self._add(contact)
        done = self._ask_more()
        while not done:
            self.now, _, event, candidate, data = heapq.heappop(self.events)
            if candidate.in_flight and not candidate.dropped:
                self._handle(event, candidate, data)
                done = self._ask_more()

    def _handle(self, event: Event, candidate: Candidate, data: bytes) -> None:
        if event is Event.REPLY:
            self._reply(candidate, data)
        elif event is Event.SLOW:
            candidate.slow = True
            self.branch += 1
        else:
            candidate.failed = True
            self._landed(candidate)

    def _reply(self, candidate: Candidate, data: bytes) -> None:
        message = decode(data)
        assert isinstance(message, Response)
        for contact in message.contacts:
            self._add(contact)
        candidate.alive = True
        self.answered.add(message.node_id)
        self._landed(candidate)

    def _landed(self, candidate: Candidate) -> None:
        self.flying -= 1
        self.branch -= candidate.slow

    def _add(self, contact: Contact) -> None:
        distance = int.from_bytes(contact.node_id, "big") ^ int.from_bytes(self.target, "big")
        at = bisect.bisect_left(self.results, distance, key=lambda one: one.distance)
        if at < len(self.results) and self.results[at].distance == distance:
            return
        self.results.insert(at, Candidate(distance, contact))
        for one in self.results[MAX_RESULTS:]:
            one.dropped = True
            if one.in_flight:
                self._landed(one)
        del self.results[MAX_RESULTS:]

    def _ask_more(self) -> bool:
        """Send what may be sent; return whether the lookup is done."""
        wanted, outstanding = SIM_BUCKET, 0
        for one in self.results:
            if not wanted or (outstanding if self.aggressive else self.flying) >= self.branch:
                break
            if one.alive:
                wanted -= 1
            elif one.in_flight:
                outstanding += 1
            elif not one.queried:
                self._send(one)
                outstanding += 1
        return not (wanted or outstanding) or not self.flying

    def _send(self, candidate: Candidate) -> None:
        candidate.queried = True
        self.flying += 1
        tid = (next(self.order) % 2**16).to_bytes(2, "big")
        query = encode(Get(t=tid, node_id=bytes(NODE_ID_BYTES), target=self.target))
        for arrival, data in self.net.ask(query, HERE, candidate.contact.endpoint, self.now):
            self._later(arrival, Event.REPLY, candidate, data)
        self._later(self.now + SHORT_TIMEOUT, Event.SLOW, candidate)
        self._later(self.now + FULL_TIMEOUT, Event.FAILED, candidate)

    def _later(self, when: float, event: Event, candidate: Candidate, data: bytes = b"") -> None:
        heapq.heappush(self.events, (when, next(self.order), event, candidate, data))


def measure(
    net: SimNet, target: bytes, start: list[Contact], *, aggressive: bool = False
) -> Measured:
    """Look `target` up once, from the contacts given."""
    before, begun = replace(net.traffic), net.now
    lookup = Lookup(net, target, begun, aggressive)
    lookup.run(start)
    closest = {net.contact(i).node_id for i in net.closest(target)}
    return Measured(
        duration=lookup.now - begun,
        datagrams=net.traffic.datagrams - before.datagrams,
        bytes=net.traffic.bytes - before.bytes,
        found=len(closest & lookup.answered) / len(closest),
    )


def calibrate(
    lookups: int,
    seed: int,
    *,
    dead: float = DEAD,
    loss: float = LOSS,
    aggressive: bool = False,
) -> dict[str, float]:
    """Look random targets up, each from the 8 nearest that one random node knows.

    Returns p50, p95 and p99 in seconds, and means per lookup of datagrams, bytes and found.
    """
    rng = random.Random(seed)
    net = SimNet(NODES, seed=seed, dead=dead, loss=loss)
    runs: list[Measured] = []
    for _ in range(lookups):
        target = rng.randbytes(NODE_ID_BYTES)
        start = net.contacts_of(net.random_live(rng), target)
        runs.append(measure(net, target, start, aggressive=aggressive))
    cuts = quantiles([run.duration for run in runs], n=100, method="inclusive")
    return {
        "p50": cuts[49],
        "p95": cuts[94],
        "p99": cuts[98],
        "datagrams": fmean(run.datagrams for run in runs),
        "bytes": fmean(run.bytes for run in runs),
        "found": fmean(run.found for run in runs),
    }


def beside(measured: dict[str, float], expected: dict[str, float]) -> dict[str, Any]:
    """Return the figures with what was expected, and whether each is within 10 % of it."""
    holds = all(abs(measured[name] / one - 1) <= WITHIN for name, one in expected.items())
    return {"measured": measured, "expected": expected, "holds": holds}


def main(lookups: int = LOOKUPS) -> None:
    """Print the figures; with a number on the command line, of that many lookups."""
    calm = calibrate(lookups, SEED, dead=0.0, loss=0.0)
    said = {
        "lookups": lookups,
        "mainline": beside(calibrate(lookups, SEED), EXPECTED),
        "calm": beside(calm, EXPECTED_CALM),
        "aggressive": calibrate(lookups, SEED, aggressive=True),
    }
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
