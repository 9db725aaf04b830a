"""How a trace is played to a policy, and what is counted of its answers."""

import asyncio
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from functools import partial
from statistics import quantiles
from typing import Any

from bench.hit_rate.policies import Policy
from bench.hit_rate.trace import Peer, Trace
from dhtmeta.values.item import SignedItem

SAMPLE = 60.0  # s of the trace from one point of a curve to the next


@dataclass(slots=True)
class Played:
    """What came of a trace, without its warm-up; ages are of answers that were out of date (s)."""

    queries: int = 0
    waited: int = 0
    ages: list[float] = field(default_factory=list)
    lookups: int = 0
    datagrams: int = 0
    seconds: float = 0.0
    each: Counter[tuple[int, str]] = field(default_factory=Counter)  # by minute: what happened

    @property
    def without_waiting(self) -> float:
        """The share of queries that were answered at once."""
        return 1 - self.waited / self.queries

    @property
    def out_of_date(self) -> float:
        """The share of answers that were out of date when given."""
        return len(self.ages) / self.queries

    @property
    def worst(self) -> float:
        """For how long the worst answer had been out of date (s)."""
        return max(self.ages, default=0.0)

    @property
    def p99(self) -> float:
        """For how long an answer had been out of date that was better than 1 in 100 answers (s)."""
        ages = self.ages + [0.0] * (self.queries - len(self.ages))
        return quantiles(ages, n=100, method="inclusive")[98]

    def curve(self, what: str, per: str) -> list[float]:
        """Return so many of one thing for each of another, minute by minute."""
        minutes = range(int(self.seconds // SAMPLE))
        return [self.each[i, what] / max(1, self.each[i, per]) for i in minutes]


@types.coroutine
def _rest(
    query: Coroutine[Any, Any, SignedItem], waits_for: object
) -> Generator[Any, Any, SignedItem]:
    """Go on with a query that waits for something, so that one which need not is told from it."""
    while True:
        try:
            yield waits_for
        except BaseException as error:  # noqa: BLE001 - it is the query's, whatever it is
            step = partial(query.throw, error)
        else:
            step = partial(query.send, None)
        try:
            waits_for = step()
        except StopIteration as answered:
            item: SignedItem = answered.value
            return item


class Player:
    """Plays `trace` to `policy`; `traffic` says how many lookups and datagrams there were so far.

    `now` gives the time in the trace (s).
    """

    def __init__(
        self,
        trace: Trace,
        policy: Policy,
        traffic: Callable[[], tuple[int, int]],
        now: Callable[[], float],
    ) -> None:
        self.played = Played(seconds=trace.seconds)
        self._trace, self._policy, self._traffic, self._now = trace, policy, traffic, now
        self._running: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    async def play(self) -> Played:
        """Ask all queries in their time; raises what one of them did."""
        loop = asyncio.get_running_loop()
        before: tuple[int, int] | None = None
        for at, peer in self._trace.queries():
            if at > self._now():
                await asyncio.sleep(at - self._now())
            if before is None and at >= self._trace.warm_up:
                before = self._traffic()
            task = loop.create_task(self._ask(peer))
            self._running.add(task)
            task.add_done_callback(self._answered)
            if self._failed is not None:
                break
        if self._running:
            await asyncio.wait(self._running)
        if self._failed is not None:
            raise self._failed
        assert before is not None, "a trace is longer than its warm-up"
        lookups, datagrams = self._traffic()
        self.played.lookups, self.played.datagrams = lookups - before[0], datagrams - before[1]
        return self.played

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._failed = self._failed or task.exception()

    async def _ask(self, peer: Peer) -> None:
        asked = self._now()
        query = self._policy.query(peer)
        try:
            item, waited = await _rest(query, query.send(None)), True
        except StopIteration as answered:
            item, waited = answered.value, False
        if asked >= self._trace.warm_up:
            self._count(asked, peer.outdated_for(item.seq, self._now()), waited=waited)

    def _count(self, asked: float, age: float, *, waited: bool) -> None:
        played, minute = self.played, int((asked - self._trace.warm_up) // SAMPLE)
        played.queries += 1
        played.each[minute, "queries"] += 1
        if waited:
            played.waited += 1
            played.each[minute, "waited"] += 1
        if age > 0:
            played.ages.append(age)
            played.each[minute, "out of date"] += 1
