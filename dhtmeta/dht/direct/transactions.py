"""Which answer belongs to which query, how long to wait for it, and when to ask once more.

A datagram that does not match an open query by address and transaction id changes nothing.
"""

import heapq
from collections import deque
from itertools import count
from random import Random
from typing import Protocol

from msgspec import structs

from dhtmeta.const import (
    IDS_DRAWN,
    LAST_DEVIATIONS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    ROUND_TRIP_DEVIATION,
    ROUND_TRIP_MEAN,
    ROUND_TRIP_PRIOR,
    ROUND_TRIPS,
    SLOW_DEVIATIONS,
    TIMEOUT_DEVIATIONS,
    TRANSACTION_BYTES,
    TRANSACTION_KEPT,
)
from dhtmeta.krpc.codec import encode
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.krpc.messages import Error, Query, Response


class Asker(Protocol):
    """Who sent a query and hears how it ended; `subject` is what it gave when it asked."""

    @property
    def ended(self) -> bool:
        """Whether it wants nothing more: it is told nothing, what it has not sent is dropped."""

    def answered(self, subject: object, response: Response, now: float) -> None:
        """Take an answer."""

    def refused(self, subject: object, error: Error, now: float) -> None:
        """Take an error that came instead."""

    def slow(self, subject: object, now: float) -> None:
        """Hear that most answers would be here by now."""

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        """Hear that so many tries stay without an answer; say whether to try again."""


class Transaction:
    """One query; each try has an id of its own, so that an answer tells how long it took."""

    __slots__ = (
        *("asker", "deadline", "endpoint", "query"),
        *("sent_at", "settled", "slow", "subject", "tries"),
    )

    def __init__(self, query: Query, endpoint: Endpoint, asker: Asker, subject: object) -> None:
        self.query = query
        self.endpoint = endpoint
        self.asker = asker
        self.subject = subject
        self.tries = 0
        self.slow = False
        self.settled = False  # answered, or given up
        self.sent_at = self.deadline = 0.0


class RoundTrip:
    """A smoothed round trip and its mean deviation, in seconds (RFC 6298's two averages).

    It starts from what was believed before, as if that had been seen `samples` times.
    """

    __slots__ = ("_weight", "deviation", "samples", "smoothed")

    def __init__(self, smoothed: float, deviation: float, samples: int, weight: float) -> None:
        self.smoothed = smoothed
        self.deviation = deviation
        self.samples = samples
        self._weight = weight  # of a new one, once there were many

    def add(self, sample: float) -> None:
        """Take one more; the first few count as in a plain mean."""
        self.samples = samples = self.samples + 1
        share = self._weight if self._weight * samples > 1 else 1 / samples
        off = sample - self.smoothed
        self.deviation += share * (abs(off) - self.deviation)
        self.smoothed += share * off


class Transactions:
    """The open queries by transaction id, and how long each node takes to answer."""

    def __init__(
        self,
        random: Random,
        mean: float = ROUND_TRIP_MEAN,
        deviation: float = ROUND_TRIP_DEVIATION,
    ) -> None:
        """Take what to believe of round trips before the first answer, in seconds."""
        self._random = random
        self._ids: list[bytes] = []
        self._open: dict[bytes, tuple[Transaction, float]] = {}  # by id; when that was sent
        self._sent: deque[tuple[float, bytes]] = deque()  # the same ids, oldest first
        self._due: list[tuple[float, int, Transaction]] = []  # a heap; some are settled
        self._order = count()
        self._all = RoundTrip(mean, deviation, ROUND_TRIP_PRIOR, 1 / 64)
        self._nodes: dict[Endpoint, RoundTrip] = {}

    def __len__(self) -> int:
        return len(self._open)

    def send(self, transaction: Transaction, now: float) -> bytes:
        """Return the datagram of a query that goes out now, for the first time or again."""
        while (t := self._random_id()) in self._open:
            pass
        self._open[t] = transaction, now
        self._sent.append((now, t))
        transaction.tries += 1
        transaction.sent_at = now
        deviations = LAST_DEVIATIONS if transaction.slow else SLOW_DEVIATIONS
        self._wait(transaction, now + self.timeout(transaction.endpoint, deviations))
        return encode(structs.replace(transaction.query, t=t))

    def _random_id(self) -> bytes:
        """Return an id that nobody can guess; randomness is cheaper by the hundred."""
        if not self._ids:
            raw, size = self._random.randbytes(IDS_DRAWN * TRANSACTION_BYTES), TRANSACTION_BYTES
            self._ids = [raw[at : at + size] for at in range(0, len(raw), size)]
        return self._ids.pop()

    def _wait(self, transaction: Transaction, deadline: float) -> None:
        transaction.deadline = deadline
        heapq.heappush(self._due, (deadline, next(self._order), transaction))

    def close(self, t: bytes, source: Endpoint, now: float) -> Transaction | None:
        """Return the query that an answer from `source` belongs to, None if there is none.

        Late answers, and those to a second try, are of no use but to learn the round trip.
        """
        transaction, sent_at = self._open.get(t, (None, now))
        if transaction is None or transaction.endpoint != source:
            return None
        del self._open[t]
        if now > sent_at + TRANSACTION_KEPT:
            return None  # the timer had no reason to clear it away
        self._learn(source, now - sent_at)
        if transaction.settled:
            return None
        transaction.settled = True
        return transaction

    def _learn(self, endpoint: Endpoint, took: float) -> None:
        everybody, node = self._all, self._nodes.get(endpoint)
        everybody.add(took)
        if node is not None:
            node.add(took)
            return
        smoothed, deviation = everybody.smoothed, everybody.deviation
        self._nodes[endpoint] = RoundTrip(smoothed, deviation, ROUND_TRIP_PRIOR, 1 / 8)
        self._nodes[endpoint].add(took)
        if len(self._nodes) > ROUND_TRIPS:
            del self._nodes[next(iter(self._nodes))]  # the one known longest

    def timeout(self, endpoint: Endpoint, deviations: float) -> float:
        """Return the mean round trip to a node and so many mean deviations more, in seconds.

        What is known of a node starts from what is known of all of them, since one fast answer
        does not promise another.
        """
        known = self._nodes.get(endpoint, self._all)
        wanted = known.smoothed + deviations * known.deviation
        return MIN_TIMEOUT if wanted < MIN_TIMEOUT else min(wanted, MAX_TIMEOUT)

    def next_timer(self) -> float | None:
        """Return when `expire` has something to do next; None if nothing is waited for."""
        while self._due:
            deadline, _, transaction = self._due[0]
            if not transaction.settled:
                return deadline
            heapq.heappop(self._due)
        return None

    def expire(self, now: float) -> list[Transaction]:
        """Return the queries to send again now; askers are told which are slow, or lost."""
        while self._sent and self._sent[0][0] < now - TRANSACTION_KEPT:
            self._open.pop(self._sent.popleft()[1], None)
        again: list[Transaction] = []
        while (deadline := self.next_timer()) is not None and deadline <= now:
            _, _, transaction = heapq.heappop(self._due)
            if self._overdue(transaction, now):
                again.append(transaction)
        return again

    def _overdue(self, transaction: Transaction, now: float) -> bool:
        """Tell the asker how late it is; returns whether to send again."""
        asker, subject = transaction.asker, transaction.subject
        if asker.ended:
            transaction.settled = True
        elif not transaction.slow:
            transaction.slow = True
            patience = self.timeout(transaction.endpoint, TIMEOUT_DEVIATIONS)
            self._wait(transaction, transaction.sent_at + patience)
            asker.slow(subject, now)
        elif asker.unheard(subject, transaction.tries, now):
            return True
        else:
            transaction.settled = True
        return False
