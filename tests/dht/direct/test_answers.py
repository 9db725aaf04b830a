"""What we answer to queries: nodes, never tokens or values, few a second, never much more."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import ANSWER_NETWORKS, ANSWER_RATE, ANSWER_RATIO, ANSWERS_IN_ALL, CLOSEST
from dhtmeta.dht.direct import answers as module
from dhtmeta.dht.direct.answers import Allowance, Answers
from dhtmeta.dht.direct.contacts import Contacts
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint, split_contacts
from dhtmeta.krpc.messages import (
    AnnouncePeer,
    Error,
    FindNode,
    Get,
    GetPeers,
    Ping,
    Put,
    PutImmutable,
    Query,
    Response,
    UnknownQuery,
)
from tests.dht.direct.stage import TARGET, contact, signed
from tests.krpc import strategies

US = b"u" * 20
ASKER: Endpoint = ("198.51.100.7", 4000)
WHO: dict[str, Any] = {"t": b"tt", "node_id": bytes(20)}
KNOWN = [contact(number) for number in range(1, 31)]
KNOWN6 = [Contact(one.node_id, (f"2001:db8::{i:x}", 1)) for i, one in enumerate(KNOWN, 1)]


def made(contacts: Iterable[Contact] = KNOWN) -> Answers:
    remembered = Contacts()
    for one in contacts:
        remembered.add(one)
    return Answers(US, remembered)


def said(query: Query, answers: Answers | None = None, source: Endpoint = ASKER) -> Any:
    """Return the answer as it is after a journey over the wire."""
    answer = (answers or made()).answer(query, len(encode(query)), source, 0.0)
    assert answer is not None
    return decode(encode(answer))


def answered(answers: Answers, sources: Iterable[Endpoint], now: float) -> int:
    """Return how many of these pings are answered."""
    ping = Ping(**WHO)
    return sum(answers.answer(ping, 100, source, now) is not None for source in sources)


def hosts(count: int) -> list[Endpoint]:
    """Return so many addresses, each of another /24."""
    return [(f"11.{i >> 8}.{i & 255}.1", 1) for i in range(count)]


def test_a_ping_gets_our_id() -> None:
    assert said(Ping(**WHO)) == Response(t=b"tt", node_id=US)


def test_find_node_gets_the_closest_that_we_know() -> None:
    answer = said(FindNode(**WHO, target=TARGET))
    assert answer == Response(t=b"tt", node_id=US, **split_contacts(KNOWN[:CLOSEST]))


@pytest.mark.parametrize(
    "query", [Get(**WHO, target=TARGET), Get(**WHO, target=TARGET, seq=3)], ids=["plain", "seq"]
)
def test_get_gets_nodes_and_neither_a_token_nor_a_value(query: Query) -> None:
    answer = said(query)
    assert answer.token is None
    assert answer.contacts == KNOWN[:CLOSEST]
    assert (answer.k, answer.seq, answer.v, answer.sig) == (None, None, None, None)


def test_get_peers_gets_nodes_and_neither_a_token_nor_peers() -> None:
    answer = said(GetPeers(**WHO, info_hash=TARGET))
    assert answer.token is None
    assert answer.contacts == KNOWN[:CLOSEST]
    assert answer.peers == []


@pytest.mark.parametrize(
    "query",
    [
        Put(**WHO, token=b"t", k=bytes(32), salt=b"", seq=1, v=b"0:", sig=b""),
        PutImmutable(**WHO, token=b"t", v=b"0:"),
        AnnouncePeer(**WHO, info_hash=TARGET, port=1, token=b"t"),
        UnknownQuery(**WHO, name=b"vote"),
    ],
    ids=lambda query: type(query).__name__,
)
def test_whatever_stores_something_gets_204(query: Query) -> None:
    answer = said(query)
    assert isinstance(answer, Error)
    assert (answer.t, answer.code) == (b"tt", 204)


def test_an_asker_over_ipv6_gets_ipv6_nodes() -> None:
    answer = said(FindNode(**WHO, target=TARGET), made(KNOWN6), ("2001:db8::7", 1))
    assert answer.contacts
    assert set(answer.contacts) <= set(KNOWN6)


@pytest.mark.parametrize("source", [ASKER, ("2001:db8:0:7::7", 1)])
def test_nobody_gets_nodes_of_the_other_family(source: Endpoint) -> None:
    known = [*KNOWN[:15], *KNOWN6[15:]]
    answer = said(FindNode(**WHO, target=TARGET), made(known), source)
    assert {":" in one.endpoint[0] for one in answer.contacts} <= {":" in source[0]}


# limits


def test_a_network_gets_so_many_answers_and_others_still_get_theirs() -> None:
    answers = made()
    network = [(f"198.51.100.{i % 250}", i) for i in range(1, 101)]
    assert answered(answers, network, 5.0) == ANSWER_RATE
    assert answered(answers, [("198.51.101.1", 1)], 5.0) == 1
    assert answered(answers, network, 5.9) == 0
    assert answered(answers, network, 60.0) == ANSWER_RATE


def test_in_a_swarm_on_loopback_every_query_is_answered() -> None:
    answers = Answers(US, Contacts(), limited=False)
    assert answered(answers, [("127.0.0.1", 1)] * 3000, 5.0) == 3000


def test_of_ipv6_a_64_is_one_network() -> None:
    answers = made()
    network = [(f"2001:db8:0:1::{i:x}", i) for i in range(1, 101)]
    assert answered(answers, network, 5.0) == ANSWER_RATE
    assert answered(answers, [("2001:db8:0:2::1", 1)], 5.0) == 1


def test_all_networks_together_get_so_many_answers() -> None:
    answers = made()
    assert answered(answers, hosts(3000), 5.0) == ANSWERS_IN_ALL
    assert answered(answers, hosts(3000), 5.5) == 0
    assert answered(answers, hosts(3000), 6.0) == ANSWERS_IN_ALL


def test_only_so_many_networks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is forgotten may have its answers again; those asked of lately are kept."""
    monkeypatch.setattr(module, "ANSWERS_IN_ALL", 10**6)
    answers = made()
    first, second, *others = hosts(ANSWER_NETWORKS + 1)
    spent = int(ANSWER_RATE)
    assert answered(answers, [first] * spent + [second] * spent, 5.0) == 2 * spent
    assert answered(answers, others[:-1], 5.0) == len(others) - 1
    assert answered(answers, [first], 5.0) == 0
    assert answered(answers, others[-1:], 5.0) == 1
    assert answered(answers, [first], 5.0) == 0
    assert answered(answers, [second], 5.0) == 1


@pytest.mark.parametrize("count", [1, 20, 2000])
def test_an_allowance_gives_so_many_within_any_second(count: int) -> None:
    allowance = Allowance(count)
    given, now = list[float](), 100.0
    while now < 103.0:
        while allowance.take(now):
            given.append(now)
        now = max(now, allowance.next)
    assert given == [100.0] * count + [101.0] * count + [102.0] * count


@given(count=st.integers(1, 50), start=st.floats(0.0, 1e7), waits=st.lists(st.floats(0.0, 1.0)))
@settings(max_examples=300)
def test_what_an_allowance_promises_for_a_time_is_there_then(
    count: int, start: float, waits: list[float]
) -> None:
    """Else whoever keeps a timer for that time sets it for the same time again, for ever."""
    allowance, now = Allowance(count), start
    for wait in waits:
        now += wait
        for _ in range(count // 2):
            allowance.take(now)
    while allowance.take(now):
        pass
    assert allowance.next > now
    assert allowance.take(allowance.next)


# no amplifier

ids = st.binary(min_size=20, max_size=20)
who = {"t": st.binary(max_size=32), "node_id": ids, "read_only": st.booleans()}
small_queries: st.SearchStrategy[Query] = st.one_of(
    st.builds(Ping, **who),
    st.builds(FindNode, **who, target=ids),
    st.builds(GetPeers, **who, info_hash=ids),
    st.builds(Get, **who, target=ids, seq=st.none() | st.integers(0, 9)),
    st.builds(UnknownQuery, **who, name=st.sampled_from([b"", b"x"])),
    st.builds(PutImmutable, **who, token=st.just(b""), v=st.just(b"0:")),
)


@given(
    query=small_queries | strategies.queries,
    known=st.sampled_from([[], KNOWN[:3], KNOWN, KNOWN6, [*KNOWN[:15], *KNOWN6[15:]]]),
    source=st.sampled_from([ASKER, ("2001:db8::7", 1)]),
)
@settings(max_examples=500)
def test_an_answer_is_at_most_a_small_multiple_of_its_query(
    query: Query, known: list[Contact], source: Endpoint
) -> None:
    data = encode(query)
    answer = made(known).answer(query, len(data), source, 0.0)
    assert answer is not None
    assert answer.t == query.t
    assert len(encode(answer)) <= ANSWER_RATIO * len(data)


def test_the_limit_is_what_keeps_an_answer_small(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Get(t=b"", node_id=bytes(20), target=TARGET)
    source = ("2001:db8::7", 1)
    full = len(said(query, made(KNOWN6), source).contacts)
    monkeypatch.setattr(module, "ANSWER_RATIO", 2)
    answer = made(KNOWN6).answer(query, len(encode(query)), source, 0.0)
    assert isinstance(answer, Response)
    assert 0 <= len(answer.contacts) < full
    assert len(encode(answer)) <= 2 * len(encode(query))


def test_our_own_item_is_not_served() -> None:
    item = signed(1)
    answer = said(Get(**WHO, target=item.target, seq=0))
    assert answer.v is None
