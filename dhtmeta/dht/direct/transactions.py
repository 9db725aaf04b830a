"""Which answer belongs to which query, how long to wait for it, and when to ask once more.

A datagram that does not match an open query by address and transaction id changes nothing.
"""

import heapq
from random import Random
from typing import Protocol

from cachetools import LRUCache

from dhtmeta.const import (
    FIRST_TIMEOUT,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    QUERY_TRIES,
    ROUND_TRIP_DEVIATIONS,
    ROUND_TRIP_PRIOR,
    ROUND_TRIPS,
    TRANSACTION_BYTES,
)
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.krpc.messages import Error, Response


class Asker(Protocol):
    """Who sent a query and hears how it ended; `subject` is what it gave when it asked."""

    ended: bool
    """Whether it wants nothing more: it is told nothing, and what it has not sent is dropped."""

    def answered(self, subject: object, response: Response, now: float) -> None:
        """Take an answer."""

    def refused(self, subject: object, error: Error, now: float) -> None:
        """Take an error that came instead."""

    def slow(self, subject: object, now: float) -> None:
        """Hear that it was asked once more: the first query, or its answer, took too long."""

    def failed(self, subject: object, now: float) -> None:
        """Hear that it stays silent."""


class Transaction:
    """One open query: the same bytes go out at each try, so an answer to any of them counts."""

    __slots__ = ("asker", "data", "deadline", "endpoint", "sent_at", "subject", "t", "tries")

    def __init__(
        self, t: bytes, data: bytes, endpoint: Endpoint, asker: Asker, subject: object
    ) -> None:
        self.t = t
        self.data = data
        self.endpoint = endpoint
        self.asker = asker
        self.subject = subject
        self.tries = 0
        self.sent_at = self.deadline = 0.0


class RoundTrip:
    """A smoothed round trip and its mean deviation, in seconds (RFC 6298's two averages)."""

    __slots__ = ("deviation", "samples", "smoothed")

    def __init__(self) -> None:
        self.smoothed = self.deviation = 0.0
        self.samples = 0

    def add(self, sample: float, weight: float) -> None:
        """Take one more; the first few count as in a plain mean, later ones by `weight`."""
        self.samples += 1
        share = max(weight, 1 / self.samples)
        off = abs(sample - self.smoothed) if self.samples > 1 else sample / 2
        self.deviation += share * (off - self.deviation)
        self.smoothed += share * (sample - self.smoothed)


class Transactions:
    """The open queries by transaction id, and how long each node takes to answer."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._open: dict[bytes, Transaction] = {}
        self._due: list[tuple[float, bytes]] = []  # a heap of deadlines, with some long gone
        self._all = RoundTrip()
        self._nodes: LRUCache[Endpoint, RoundTrip] = LRUCache(ROUND_TRIPS)

    def __len__(self) -> int:
        return len(self._open)

    def new_id(self) -> bytes:
        """Return a transaction id that is not in use: random, so that nobody can guess it."""
        while (t := self._random.randbytes(TRANSACTION_BYTES)) in self._open:
            pass
        return t

    def sent(self, transaction: Transaction, now: float) -> None:
        """Wait for the answer to a query that goes out now, for the first time or again."""
        transaction.tries += 1
        transaction.sent_at = now
        transaction.deadline = now + self.timeout(transaction.endpoint)
        self._open[transaction.t] = transaction
        heapq.heappush(self._due, (transaction.deadline, transaction.t))

    def close(self, t: bytes, source: Endpoint, now: float) -> Transaction | None:
        """Return the query that an answer from `source` belongs to, and learn its round trip."""
        transaction = self._open.get(t)
        if transaction is None or transaction.endpoint != source:
            return None
        del self._open[t]
        if transaction.tries == 1:  # of several it is not known which one was answered (Karn)
            self._learn(source, now - transaction.sent_at)
        return transaction

    def _learn(self, endpoint: Endpoint, took: float) -> None:
        self._all.add(took, 1 / 64)
        node = self._nodes.get(endpoint)
        if node is None:
            node = self._nodes[endpoint] = RoundTrip()
        node.add(took, 1 / 8)

    def timeout(self, endpoint: Endpoint) -> float:
        """Return how many seconds an answer of this node may take before it is asked again.

        What is known of the node is weighed against what is known of all of them, since one
        fast answer does not promise another.
        """
        everybody, node = self._all, self._nodes.get(endpoint)
        if not everybody.samples:
            return FIRST_TIMEOUT
        smoothed, deviation = everybody.smoothed, everybody.deviation
        if node is not None:
            known = node.samples / (node.samples + ROUND_TRIP_PRIOR)
            smoothed += known * (node.smoothed - smoothed)
            deviation += known * (node.deviation - deviation)
        wanted = smoothed + ROUND_TRIP_DEVIATIONS * deviation
        return min(MAX_TIMEOUT, max(MIN_TIMEOUT, wanted))

    def next_timer(self) -> float | None:
        """Return when `expire` has something to do next; None if nothing is open."""
        while self._due:
            deadline, t = self._due[0]
            transaction = self._open.get(t)
            if transaction is not None and transaction.deadline == deadline:
                return deadline
            heapq.heappop(self._due)
        return None

    def expire(self, now: float) -> list[Transaction]:
        """Return the queries to send again now; those tried often enough are told they failed."""
        again: list[Transaction] = []
        while (deadline := self.next_timer()) is not None and deadline <= now:
            _, t = heapq.heappop(self._due)
            transaction = self._open[t]
            if transaction.asker.ended:
                del self._open[t]
            elif transaction.tries < QUERY_TRIES:
                again.append(transaction)
                transaction.asker.slow(transaction.subject, now)
            else:
                del self._open[t]
                transaction.asker.failed(transaction.subject, now)
        return again
