"""Which answers count, and when a query is slow, sent again and given up, on a clock of numbers."""

from random import Random

import pytest

from dhtmeta.const import (
    LAST_DEVIATIONS,
    MAX_TIMEOUT,
    MIN_TIMEOUT,
    QUERY_TRIES,
    SLOW_DEVIATIONS,
    TIMEOUT_DEVIATIONS,
    TRANSACTION_BYTES,
    TRANSACTION_KEPT,
)
from dhtmeta.dht.direct import transactions as module
from dhtmeta.dht.direct.transactions import Transaction, Transactions
from dhtmeta.krpc.codec import decode
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.krpc.messages import Error, Ping, Response

NODE, OTHER, UNKNOWN = ("11.0.0.1", 1), ("11.0.0.2", 2), ("11.0.0.3", 3)
QUERY = Ping(t=b"", node_id=bytes(20))


class Listener:
    """An asker that keeps what it is told, and wants so many tries."""

    def __init__(self, tries: int = QUERY_TRIES) -> None:
        self.ended = False
        self.tries = tries
        self.heard: list[tuple[str, object, float]] = []

    def answered(self, subject: object, response: Response, now: float) -> None:
        raise AssertionError("only the core tells of answers")

    def refused(self, subject: object, error: Error, now: float) -> None:
        raise AssertionError("only the core tells of errors")

    def slow(self, subject: object, now: float) -> None:
        self.heard.append(("slow", subject, now))

    def unheard(self, subject: object, tries: int, now: float) -> bool:
        self.heard.append((f"unheard {tries}", subject, now))
        return tries < self.tries


def made(endpoint: Endpoint = NODE, asker: Listener | None = None) -> Transaction:
    return Transaction(QUERY, endpoint, asker or Listener(), "subject")


def send(queries: Transactions, transaction: Transaction, now: float = 0.0) -> bytes:
    """Send it and return its transaction id."""
    query = decode(queries.send(transaction, now))
    assert isinstance(query, Ping)
    return query.t


def teach(queries: Transactions, endpoint: Endpoint, took: float, times: int = 1) -> None:
    """Let a node answer so many queries, each after `took` seconds."""
    for _ in range(times):
        t = send(queries, made(endpoint))
        assert queries.close(t, endpoint, took) is not None


def timeouts(queries: Transactions) -> list[float]:
    """Return everything that a learnt round trip could change."""
    return [queries.timeout(one, TIMEOUT_DEVIATIONS) for one in (NODE, OTHER, UNKNOWN)]


def test_an_answer_belongs_to_the_query_with_its_id_and_address() -> None:
    queries, first, second = Transactions(Random(1)), made(NODE), made(OTHER)
    first_id, second_id = send(queries, first), send(queries, second)
    assert queries.close(second_id, OTHER, 0.1) is second
    assert queries.close(first_id, NODE, 0.1) is first
    assert len(queries) == 0


@pytest.mark.parametrize("source", [OTHER, (NODE[0], NODE[1] + 1), ("11.0.0.9", NODE[1])])
def test_a_spoofed_source_changes_nothing(source: Endpoint) -> None:
    queries, query = Transactions(Random(1)), made()
    t = send(queries, query)
    before = timeouts(queries), queries.next_timer()
    assert queries.close(t, source, 0.01) is None
    assert (timeouts(queries), queries.next_timer(), len(queries)) == (*before, 1)
    assert queries.close(t, NODE, 0.1) is query


def test_a_guessed_id_changes_nothing() -> None:
    queries, query = Transactions(Random(1)), made()
    t = send(queries, query)
    before = timeouts(queries), queries.next_timer()
    for guess in (b"", t[:-1], t + b"\0", bytes([t[0] ^ 1]) + t[1:]):
        assert queries.close(guess, NODE, 0.01) is None
    assert (timeouts(queries), queries.next_timer(), len(queries)) == (*before, 1)


def test_a_replayed_answer_changes_nothing() -> None:
    queries = Transactions(Random(1))
    t = send(queries, made())
    assert queries.close(t, NODE, 0.1) is not None
    before = timeouts(queries)
    assert queries.close(t, NODE, 0.9) is None
    assert timeouts(queries) == before


def test_ids_are_random_and_repeatable() -> None:
    def ids(seed: int) -> list[bytes]:
        queries = Transactions(Random(seed))
        return [send(queries, made()) for _ in range(100)]

    first, other = ids(1), ids(2)
    assert {len(t) for t in first} == {TRANSACTION_BYTES}
    assert len(set(first)) == 100
    assert ids(1) == first
    assert not set(first) & set(other)


def test_an_id_in_use_is_not_given_again() -> None:
    class Repeating(Random):
        def __init__(self) -> None:
            super().__init__(1)
            self.words = [b"aaaa", b"aaaa", b"aaaa", b"bbbb"]

        def randbytes(self, n: int) -> bytes:
            return self.words.pop(0)

    queries = Transactions(Repeating())
    assert [send(queries, made()), send(queries, made())] == [b"aaaa", b"bbbb"]


# slow, lost, given up


def test_a_silent_node_is_slow_then_asked_again_then_given_up() -> None:
    queries, asker = Transactions(Random(1)), Listener()
    query = made(asker=asker)
    send(queries, query, 10.0)
    slow = 10.0 + queries.timeout(NODE, SLOW_DEVIATIONS)
    lost = 10.0 + queries.timeout(NODE, TIMEOUT_DEVIATIONS)
    assert slow < lost
    assert queries.next_timer() == pytest.approx(slow)
    assert queries.expire(slow - 0.001) == []
    assert asker.heard == []
    assert queries.expire(slow + 0.001) == []
    assert queries.next_timer() == pytest.approx(lost)
    assert queries.expire(lost + 0.001) == [query]
    assert queries.next_timer() is None
    send(queries, query, 20.0)
    last = 20.0 + queries.timeout(NODE, LAST_DEVIATIONS)
    assert queries.next_timer() == pytest.approx(last)
    assert queries.expire(last + 0.001) == []
    assert asker.heard == [
        ("slow", "subject", slow + 0.001),
        ("unheard 1", "subject", lost + 0.001),
        ("unheard 2", "subject", last + 0.001),
    ]
    assert queries.next_timer() is None


def test_an_asker_may_give_up_after_one_try() -> None:
    queries, asker = Transactions(Random(1)), Listener(tries=1)
    send(queries, made(asker=asker))
    assert queries.expire(5.0) == []
    assert [what for what, _, _ in asker.heard] == ["slow", "unheard 1"]
    assert queries.next_timer() is None


def test_an_answered_query_is_neither_slow_nor_lost() -> None:
    queries, asker = Transactions(Random(1)), Listener()
    t = send(queries, made(asker=asker))
    assert queries.close(t, NODE, 0.1) is not None
    assert queries.next_timer() is None
    assert queries.expire(5.0) == []
    assert asker.heard == []


def test_nodes_are_told_of_in_the_order_of_their_deadlines() -> None:
    queries, asker = Transactions(Random(1)), Listener()
    for at in (0.3, 0.1, 0.2):
        send(queries, Transaction(QUERY, NODE, asker, at), at)
    queries.expire(0.5)
    assert [subject for what, subject, _ in asker.heard if what == "slow"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("answered", [0, 1])
def test_of_two_tries_the_first_answer_settles_and_the_other_only_teaches(answered: int) -> None:
    queries, asker = Transactions(Random(1)), Listener()
    query = made(asker=asker)
    ids = [send(queries, query, 0.0)]
    assert queries.expire(1.0) == [query]
    ids.append(send(queries, query, 1.0))
    assert queries.close(ids[answered], NODE, 1.05) is query
    assert queries.next_timer() is None
    before = queries.timeout(NODE, 0)
    assert queries.close(ids[1 - answered], NODE, 1.9) is None
    assert queries.timeout(NODE, 0) > before


def test_an_answer_to_a_query_that_was_given_up_only_teaches() -> None:
    queries, asker = Transactions(Random(1)), Listener(tries=1)
    t = send(queries, made(asker=asker))
    queries.expire(0.9)
    told, before = list(asker.heard), queries.timeout(NODE, 0)
    assert told[-1][0] == "unheard 1"
    assert queries.close(t, NODE, 1.0) is None
    assert queries.timeout(NODE, 0) > before
    assert queries.expire(1.5) == []
    assert asker.heard == told


def test_an_asker_that_ended_is_told_nothing_and_asks_nobody_again() -> None:
    queries, asker = Transactions(Random(1)), Listener()
    for endpoint in (NODE, OTHER):
        send(queries, made(endpoint, asker))
    asker.ended = True
    assert queries.expire(5.0) == []
    assert asker.heard == []
    assert queries.next_timer() is None


def test_an_asker_that_ends_while_it_is_told_hears_no_more() -> None:
    class Quitter(Listener):
        def slow(self, subject: object, now: float) -> None:
            super().slow(subject, now)
            self.ended = True

    queries, asker = Transactions(Random(1)), Quitter()
    for endpoint in (NODE, OTHER):
        send(queries, made(endpoint, asker))
    assert queries.expire(5.0) == []
    assert [what for what, _, _ in asker.heard] == ["slow"]


# how long to wait


def test_a_fast_node_is_waited_for_less_than_an_unknown_one_and_that_less_than_a_slow_one() -> None:
    queries = Transactions(Random(1))
    for _ in range(30):
        teach(queries, NODE, 0.03)
        teach(queries, OTHER, 0.4)
    for deviations in (0.0, SLOW_DEVIATIONS, TIMEOUT_DEVIATIONS):
        fast, slow, unknown = (queries.timeout(one, deviations) for one in (NODE, OTHER, UNKNOWN))
        assert fast < unknown
        assert queries.timeout(NODE, 0.0) < queries.timeout(UNKNOWN, 0.0) < slow


def test_one_fast_answer_is_not_believed_as_much_as_many() -> None:
    queries = Transactions(Random(1))
    teach(queries, NODE, 0.03)
    once = queries.timeout(NODE, SLOW_DEVIATIONS)
    teach(queries, NODE, 0.03, times=30)
    assert 0.03 < queries.timeout(NODE, SLOW_DEVIATIONS) < once < 0.16


def test_the_estimate_of_a_node_follows_it_down_and_up() -> None:
    queries = Transactions(Random(1))
    before = queries.timeout(NODE, TIMEOUT_DEVIATIONS)
    teach(queries, NODE, 0.11, times=40)
    fast = queries.timeout(NODE, TIMEOUT_DEVIATIONS)
    teach(queries, NODE, 0.5, times=40)
    slow = queries.timeout(NODE, TIMEOUT_DEVIATIONS)
    assert fast < before < slow
    assert fast == pytest.approx(0.11, rel=0.2)
    assert slow == pytest.approx(0.5, rel=0.2)


def test_a_node_that_varies_is_waited_for_longer_than_a_steady_one() -> None:
    queries = Transactions(Random(1))
    for _ in range(40):
        teach(queries, NODE, 0.2, times=2)
        teach(queries, OTHER, 0.1)
        teach(queries, OTHER, 0.3)
    steady, varying, _ = timeouts(queries)
    assert varying > steady + 0.1


def test_a_wait_has_a_least_and_a_most() -> None:
    queries = Transactions(Random(1))
    teach(queries, NODE, 0.0, times=300)
    teach(queries, OTHER, 2.0, times=300)
    assert queries.timeout(NODE, TIMEOUT_DEVIATIONS) == MIN_TIMEOUT
    assert queries.timeout(OTHER, 0.0) == MAX_TIMEOUT


def test_what_all_nodes_took_is_expected_of_one_that_is_not_known() -> None:
    queries = Transactions(Random(1))
    before = queries.timeout(UNKNOWN, TIMEOUT_DEVIATIONS)
    for i in range(300):
        teach(queries, (f"12.0.{i // 256}.{i % 256}", 1), 0.04)
    assert queries.timeout(UNKNOWN, TIMEOUT_DEVIATIONS) < before / 3


# what is kept


def test_ids_are_forgotten_once_no_answer_is_to_be_expected() -> None:
    queries = Transactions(Random(1))
    old = [send(queries, made(asker=Listener(tries=1)), i / 1000) for i in range(100)]
    queries.expire(1.5)
    assert len(queries) == 100
    assert queries.close(old[0], NODE, 1.5) is None  # late: known, and learnt from
    assert len(queries) == 99
    newer = made()
    t = send(queries, newer, 0.2 + TRANSACTION_KEPT)
    queries.expire(0.2 + TRANSACTION_KEPT)
    assert len(queries) == 1
    before = timeouts(queries)
    assert queries.close(old[1], NODE, 9.0) is None
    assert timeouts(queries) == before
    assert queries.close(t, NODE, 0.3 + TRANSACTION_KEPT) is newer


def test_of_too_many_nodes_the_one_known_longest_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROUND_TRIPS", 3)
    queries = Transactions(Random(1))
    nodes = [(f"12.0.0.{i}", 1) for i in range(4)]
    for node in nodes:
        teach(queries, node, 0.9, times=3)
    unknown = queries.timeout(UNKNOWN, 0.0)
    assert [queries.timeout(node, 0.0) == unknown for node in nodes] == [True, False, False, False]


def test_an_answer_that_comes_much_later_teaches_nothing() -> None:
    """When nothing is waited for, no timer clears old ids away."""
    queries = Transactions(Random(1))
    t = send(queries, made())
    before = timeouts(queries)
    assert queries.close(t, NODE, 3600.0) is None
    assert timeouts(queries) == before
