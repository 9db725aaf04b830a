"""The core by its five verbs: what must not change it, that a run repeats, the send limit, caps."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import (
    CLOSEST,
    DEAD_FOR,
    MAX_DATAGRAM_BYTES,
    MAX_QUERIED,
    NODE_ID_BYTES,
    QUERY_TRIES,
    UNREACHABLE_AFTER,
)
from dhtmeta.dht.direct import core as core_module
from dhtmeta.dht.direct.contacts import Contacts
from dhtmeta.dht.direct.core import Core, Datagram, Ended, Found
from dhtmeta.dht.direct.search import Search
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint, split_contacts
from dhtmeta.krpc.messages import Error, FindNode, Get, Ping, Query, Response
from tests.dht.direct.stage import OWNER, TARGET, US, Client, contact, signed, small_net
from tests.krpc import strategies

NEWEST = signed(7)
NODES = [contact(number) for number in range(1, 41)]
MOST = 22  # contacts that a small core remembers
STRANGER: Endpoint = ("203.0.113.9", 9)


def asked(datagrams: list[Datagram]) -> list[tuple[Any, Endpoint]]:
    """Return what these datagrams say, and to whom."""
    return [(decode(data), to) for data, to in datagrams]


def made(known: list[Contact] = NODES, **options: Any) -> Core:
    core = Core(Random(1), **options)
    for one in known:
        core.note_alive(one)
    return core


def begun(core: Core, now: float = 0.0) -> tuple[Search, bytes, Endpoint]:
    """Begin a lookup; return it, and the id and address of the first query."""
    search = core.look_up(OWNER.public_key, b"", now)
    (query, to), *_ = asked(core.datagrams_to_send(now))
    return search, query.t, to


def answer_of(core: Core, t: bytes, to: Endpoint, **fields: Any) -> bytes:
    """Return the answer of the remembered node at `to`."""
    node_id = next(one.node_id for one in core.contacts if one.endpoint == to)
    return encode(Response(**({"t": t, "node_id": node_id} | fields)))


def state(core: Core) -> object:
    """Return all of a core that can be seen without changing it."""
    return list(core.contacts), core.contacts.closest(TARGET, 50), core.next_timer()


# the verbs


def test_a_lookup_goes_through_the_five_verbs() -> None:
    core = made(NODES[:1], node_id=b"u" * 20)
    search = core.look_up(OWNER.public_key, b"", 5.0)
    ((query, to),) = asked(core.datagrams_to_send(5.0))
    assert query == Get(t=query.t, node_id=b"u" * 20, read_only=True, target=TARGET)
    assert to == NODES[0].endpoint
    assert core.datagrams_to_send(5.0) == []
    assert core.next_event() is None
    due = core.next_timer()
    assert due is not None
    assert 5.0 < due < 6.0
    shown = {"k": NEWEST.public_key, "seq": 7, "v": NEWEST.v, "sig": NEWEST.sig}
    core.receive_datagram(answer_of(core, query.t, to, **shown), to, 5.1)
    assert core.next_event() == Found(search, NEWEST)
    assert core.datagrams_to_send(5.1) == []
    assert core.next_event() == Ended(search)
    assert core.next_event() is None
    assert core.next_timer() is None
    assert search.outcome.item == NEWEST
    assert search.outcome.converged


def test_a_silent_node_is_asked_again_then_taken_for_dead_for_a_while() -> None:
    """Unless a lookup finds nothing without it."""
    core = made(NODES[:2])
    silent, other = (one.endpoint for one in NODES[:2])
    search, now, tries = core.look_up(OWNER.public_key, b"", 0.0), 0.0, 0
    while not search.ended:
        for query, to in asked(core.datagrams_to_send(now)):
            tries += to == silent
            if to == other:
                core.receive_datagram(answer_of(core, query.t, to), to, now)
        now = core.next_timer() or now
        core.handle_timer(now)
    assert tries == QUERY_TRIES
    assert core.next_event() == Ended(search)
    assert search.outcome.answered == 1
    assert list(core.contacts) == [NODES[1]]
    core.receive_datagram(encode(Ping(t=b"p", node_id=NODES[0].node_id)), silent, now)
    core.datagrams_to_send(now)  # that it asks does not show that it answers
    shown = {"k": NEWEST.public_key, "seq": 7, "v": NEWEST.v, "sig": NEWEST.sig}
    assert asks(core, now + 0.9 * DEAD_FOR, NODES[0], **shown) == [other]
    assert asks(core, now + 0.9 * DEAD_FOR, NODES[0]) == [other, silent]
    assert asks(core, now + 2.1 * DEAD_FOR, NODES[0], **shown) == [other, silent]


def test_while_nobody_answers_nobody_is_taken_for_dead() -> None:
    """It may be our own network: when it is back, those who were silent meanwhile are asked."""
    net = small_net()
    client = Client(net)
    client.get()
    known = {one.endpoint for one in client.core.contacts}
    net.loss = 1.0
    cut_off = client.get(b"other")
    assert cut_off.outcome.answered == 0
    net.loss = 0.0
    client.core.note_alive(net.contact(0))
    client.get(b"a third")
    assert not [one for one in known if client.core.contacts.is_dead(one, client.now)]


def asks(core: Core, now: float, named: Contact, **shown: Any) -> list[Endpoint]:
    """Return whom a lookup asks where the first node that it asks names this one, and shows."""
    _, t, to = begun(core, now)
    core.receive_datagram(
        answer_of(core, t, to, **split_contacts([named]), **shown), to, now + 0.01
    )
    more = [whom for _, whom in asked(core.datagrams_to_send(now + 0.01))]
    while not isinstance(event := core.next_event(), Ended):
        if event is not None:
            continue
        due = core.next_timer()  # whoever was asked more stays silent
        assert due is not None
        core.handle_timer(due)
        core.datagrams_to_send(due)
    return [to, *more]


def test_a_query_is_answered() -> None:
    core = made(node_id=b"u" * 20)
    core.receive_datagram(encode(FindNode(t=b"tt", node_id=bytes(20), target=TARGET)), US, 1.0)
    ((said, to),) = asked(core.datagrams_to_send(1.0))
    assert to == US
    assert said == Response(t=b"tt", node_id=b"u" * 20, **split_contacts(NODES[:8]))


def test_who_only_asks_is_not_remembered() -> None:
    core = made([])
    core.receive_datagram(encode(Ping(t=b"tt", node_id=b"x" * 20)), US, 1.0)
    assert len(core.contacts) == 0


def test_an_error_ends_the_wait_for_a_node() -> None:
    core = made(NODES[:1])
    search, t, to = begun(core)
    core.receive_datagram(encode(Error(t=t, code=204)), to, 0.1)
    assert core.next_event() == Ended(search)
    assert core.next_timer() is None


def test_neither_we_nor_who_is_out_of_bounds_is_asked() -> None:
    core = made(NODES[:9], node_id=NODES[0].node_id, may_ask=lambda to: to != NODES[1].endpoint)
    core.look_up(OWNER.public_key, b"", 0.0)
    ((_, to),) = asked(core.datagrams_to_send(0.0))
    assert to == NODES[2].endpoint


def test_an_id_is_made_where_none_is_given() -> None:
    assert len(Core(Random(1)).node_id) == NODE_ID_BYTES
    assert Core(Random(1)).node_id != Core(Random(2)).node_id


def test_whom_we_greet_is_remembered_once_it_answers() -> None:
    net = small_net()
    client = Client(net, knows=0)
    nodes = [net.contact(i) for i in range(5)]
    client.core.greet([*(one.endpoint for one in nodes), STRANGER])
    client.rest()
    assert sorted(client.core.contacts) == sorted(nodes)
    to_stranger = [to for _, (_, to) in client.sent if to == STRANGER]
    assert len(to_stranger) == QUERY_TRIES
    assert client.told == []


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_what_is_cancelled_ends_now_and_sends_no_more(steps: int) -> None:
    client = Client(small_net())
    search = client.core.look_up(OWNER.public_key, b"", 0.0)
    for _ in range(steps):
        client.turn()
        client.step()
    before = len(client.sent)
    client.core.cancel(search)
    client.core.cancel(search)
    client.rest()
    assert client.told.count(Ended(search)) == 1
    assert not search.outcome.converged
    assert len(client.sent) == before


def test_what_comes_in_and_goes_out_is_counted() -> None:
    net = small_net()
    client = Client(net)
    client.get()
    client.core.receive_datagram(b"junk", STRANGER, client.now)
    client.core.receive_datagram(answer_from(net, b"none"), STRANGER, client.now)
    ours, theirs = client.core.traffic, net.traffic
    assert (ours.datagrams_out, ours.bytes_out) == (theirs.sent, theirs.sent_bytes)
    assert ours.datagrams_in == theirs.received + 2
    assert ours.bytes_in == theirs.received_bytes + 4 + len(answer_from(net, b"none"))
    assert (ours.malformed, ours.unsolicited) == (1, 1)


def answer_from(net: Any, t: bytes) -> bytes:
    return encode(Response(t=t, node_id=net.contact(0).node_id))


# what changes nothing


def hostile(good: bytes, to: Endpoint) -> dict[str, Datagram]:
    """Return datagrams that have to change nothing, made of the one answer that would."""
    t = decode(good).t
    guessed = good.replace(t, bytes([t[0] ^ 1]) + t[1:])
    oversized = good.replace(b"d1:rd", b"d1:a%d:%b1:rd" % (MAX_DATAGRAM_BYTES, b"x" * 4096), 1)
    return {
        "empty": (b"", to),
        "truncated": (good[:-1], to),
        "half": (good[: len(good) // 2], to),
        "longer": (good + b"e", to),
        "oversized": (oversized, to),
        "spoofed": (good, STRANGER),
        "another port": (good, (to[0], to[1] + 1)),
        "guessed": (guessed, to),
        "an error from elsewhere": (encode(Error(t=t, code=203)), STRANGER),
        "nobody's id": (encode(Response(t=t, node_id=b"")), to),
    }


def first_exchange() -> tuple[Core, Search, bytes, Endpoint]:
    """Return a core that waits for one answer, and that answer."""
    core = made(NODES[:1])
    search, t, to = begun(core)
    shown = {"k": NEWEST.public_key, "seq": 7, "v": NEWEST.v, "sig": NEWEST.sig}
    return (
        core,
        search,
        answer_of(core, t, to, token=b"tk", **split_contacts(NODES[:2]), **shown),
        to,
    )


@pytest.mark.parametrize("name", list(hostile(*first_exchange()[2:])))
def test_a_datagram_that_was_not_asked_for_changes_nothing(name: str) -> None:
    core, search, good, to = first_exchange()
    before, outcome = state(core), search.outcome
    data, source = hostile(good, to)[name]
    core.receive_datagram(data, source, 0.01)
    assert core.datagrams_to_send(0.01) == []
    assert core.next_event() is None
    assert (state(core), search.outcome) == (before, outcome)
    core.receive_datagram(good, to, 0.1)  # and the query is open still
    assert core.next_event() == Found(search, NEWEST)


@pytest.mark.parametrize("name", list(hostile(*first_exchange()[2:])))
def test_the_run_goes_on_as_if_it_had_never_come(name: str) -> None:
    def run(*, disturbed: bool) -> object:
        net = small_net(dead=0.1, loss=0.05)
        net.store(NEWEST, net.closest(TARGET, 20))
        client = Client(net)
        search = client.core.look_up(OWNER.public_key, b"", 0.0)
        while not client.has_ended(search):
            before = len(client.sent)
            client.turn()
            for _, (sent, to) in client.sent[before:] if disturbed else []:
                good = encode(Response(t=decode(sent).t, node_id=net.contact(0).node_id))
                client.core.receive_datagram(*hostile(good, to)[name], client.now)
            client.step()
        return client.sent, search.outcome, list(client.core.contacts), client.found(search)

    assert run(disturbed=True) == run(disturbed=False)


def test_a_replayed_answer_changes_nothing() -> None:
    core, _, good, to = first_exchange()
    core.receive_datagram(good, to, 0.1)
    while core.next_event() is not None:
        pass
    core.datagrams_to_send(0.1)
    before = state(core)
    core.receive_datagram(good, to, 0.2)
    assert core.datagrams_to_send(0.2) == []
    assert core.next_event() is None
    assert state(core) == before
    assert core.traffic.unsolicited == 1


def test_an_answer_to_an_operation_that_ended_changes_no_outcome() -> None:
    core, search, good, to = first_exchange()
    core.cancel(search)
    outcome = search.outcome
    assert core.next_event() == Ended(search)
    core.receive_datagram(good, to, 0.1)
    assert core.next_event() is None
    assert core.datagrams_to_send(0.1) == []
    assert search.outcome == outcome


# repeatable


def run_of(seed: int) -> tuple[object, ...]:
    """Return all that a core with this seed sends on a network that is always the same."""
    net = small_net(dead=0.15, loss=0.05)
    net.store(NEWEST, net.closest(TARGET, 20))
    client = Client(net, seed, sends_per_second=50)
    for item in (signed(8), signed(9)):
        client.put(item)
    client.get()
    return client.sent, client.now, list(client.core.contacts)


def test_a_seed_makes_every_datagram_the_same() -> None:
    assert run_of(1) == run_of(1)
    assert run_of(1) != run_of(2)


# the send limit


def test_the_send_limit_holds_and_nothing_is_lost() -> None:
    rate, endpoints = 10, [(f"12.0.{i >> 8}.{i & 255}", 1) for i in range(200)]
    core = made([], sends_per_second=rate)
    core.greet(endpoints)
    sent: list[tuple[float, Endpoint]] = []
    now, timers = 0.0, 0
    while len({to for _, to in sent}) < len(endpoints):
        ready = core.datagrams_to_send(now)
        sent += [(now, to) for _, to in ready]
        assert core.datagrams_to_send(now) == []
        for data, to in ready:  # they answer at once, so that none is asked again
            said = Response(t=decode(data).t, node_id=to[0].encode().ljust(20, b"."))
            core.receive_datagram(encode(said), to, now)
        due = core.next_timer()
        assert due is None or due > now
        now = now if due is None else due
        core.handle_timer(now)
        timers += 1
        assert timers < 1000
    assert [to for _, to in sent] == endpoints
    times = [at for at, _ in sent]
    assert times.count(0.0) == rate
    for start in times:
        assert sum(start <= at < start + 1.0 for at in times) <= rate
    assert now == pytest.approx((200 - rate) / rate)
    assert core.next_timer() is None


def test_answers_do_not_wait_for_the_send_limit() -> None:
    core = made([], sends_per_second=1)
    core.greet([STRANGER, US])
    assert len(core.datagrams_to_send(0.0)) == 1
    core.receive_datagram(encode(Ping(t=b"tt", node_id=bytes(20))), US, 0.0)
    ((said, _),) = asked(core.datagrams_to_send(0.0))
    assert isinstance(said, Response)


def test_a_lookup_under_a_send_limit_finds_the_same() -> None:
    net = small_net()
    fast, slow = Client(net).get(), Client(net, sends_per_second=3).get()
    assert slow.outcome.converged
    closest = [net.contact(i) for i in net.closest(TARGET)]
    for search in (fast, slow):
        assert [one.contact for one in search.lookup.answered(8)] == closest


def test_what_waits_for_the_send_limit_is_dropped_when_its_operation_ends() -> None:
    core = made(sends_per_second=1)
    core.greet([STRANGER])
    search = core.look_up(OWNER.public_key, b"", 0.0)
    assert len(core.datagrams_to_send(0.0)) == 1
    core.cancel(search)
    assert core.datagrams_to_send(100.0) == []


# anything at all

damaged = st.tuples(st.integers(0, 400), st.integers(0, 255))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), strategies.responses, st.integers(0, 20)),
        st.tuples(st.just("damage"), damaged, st.integers(0, 20)),
        st.tuples(st.just("hear"), st.binary(max_size=60), st.integers(0, 20)),
        st.tuples(st.just("query"), strategies.queries.map(encode), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.floats(0.0, 3.0), st.just(0)),
        st.tuples(st.just("look"), st.sampled_from([None, 0, 7]), st.just(0)),
        st.tuples(st.just("store"), st.none() | st.integers(0, 9), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.none(), st.integers(0, 20)),
    ),
    max_size=40,
)


class Script:
    """A core that is fed whatever hypothesis makes up."""

    def __init__(self) -> None:
        self.now = 0.0
        self.core = made(NODES[:20], sends_per_second=100)
        self.sent: list[Datagram] = []
        self.operations: list[Any] = [self.core.look_up(OWNER.public_key, b"", 0.0)]
        self.ended: list[Any] = []
        self.turn()

    def play(self, what: str, how: Any, which: int) -> None:
        if what == "look":
            search = self.core.look_up(OWNER.public_key, b"", self.now, enough=how)
            self.operations.append(search)
        elif what == "wait":
            self.now += how
            self.core.handle_timer(self.now)
        elif what == "cancel":
            self.core.cancel(self.operations[which % len(self.operations)])
        elif what == "store":
            searches = [one for one in self.operations if isinstance(one, Search)]
            search = searches[which % len(searches)]
            self.operations.append(self.core.store(search, NEWEST, cas=how))
        else:
            self.core.receive_datagram(*self.datagram(what, how, which), self.now)
        self.turn()

    def datagram(self, what: str, how: Any, which: int) -> Datagram:
        data, to = self.sent[-1 - which % len(self.sent)]
        if what == "answer":
            shown = {"k": NEWEST.public_key, "seq": 7, "v": NEWEST.v, "sig": NEWEST.sig}
            fields = {name: getattr(how, name) for name in how.__struct_fields__}
            extra = shown if which % 2 else {}
            return encode(Response(**(fields | {"t": decode(data).t} | extra))), to
        if what == "damage":
            good = bytearray(encode(Response(t=decode(data).t, node_id=NODES[which].node_id)))
            good[how[0] % len(good)] = how[1]
            return bytes(good), to
        return how, to if which % 2 else STRANGER

    def turn(self) -> None:
        for data, to in self.core.datagrams_to_send(self.now):
            if isinstance(decode(data), Query):
                self.sent.append((data, to))
        while (event := self.core.next_event()) is not None:
            if isinstance(event, Found):
                assert event.item == NEWEST
            else:
                self.ended.append(event.operation)
        assert len(self.core.contacts) <= MOST

    def rest(self) -> None:
        timers = 0
        while (due := self.core.next_timer()) is not None:
            self.now = max(self.now, due)
            self.core.handle_timer(self.now)
            self.turn()
            timers += 1
            assert timers < 20 * MAX_QUERIED


@given(script=steps)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_and_when_the_core_stays_sane(script: list[tuple[str, Any, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core_module, "Contacts", lambda: Contacts(MOST))
        played = Script()
        for step in script:
            played.play(*step)
        played.rest()
    assert len(played.ended) == len(set(played.ended)) == len(played.operations)
    for search in played.operations:
        if isinstance(search, Search):
            assert search.outcome.queried <= MAX_QUERIED
            assert search.outcome.item in (None, NEWEST)


def test_a_flood_of_nodes_stays_within_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liars that name 32 new nodes next to the target each time, all of which answer."""
    monkeypatch.setattr(core_module, "Contacts", lambda: Contacts(200))
    core, word = made(NODES[:1]), Random(1)
    for turn in range(3):
        search = core.look_up(OWNER.public_key, b"%d" % turn, float(turn))
        near, waiting = search.target[:4], core.datagrams_to_send(float(turn))
        while waiting:
            data, to = waiting.pop()
            named = [
                Contact(near + word.randbytes(16), (f"12.{word.randrange(256)}.0.{i}", 1 + i))
                for i in range(32)
            ]
            said = Response(
                t=decode(data).t, node_id=near + word.randbytes(16), **split_contacts(named)
            )
            core.receive_datagram(encode(said), to, float(turn))
            waiting += core.datagrams_to_send(float(turn))
        assert core.next_event() == Ended(search)
        assert 50 < search.outcome.queried <= MAX_QUERIED
    assert len(core.contacts) == 200


# whom it begins with


def test_remembered_nodes_that_may_not_be_asked_do_not_hide_those_that_may() -> None:
    net = small_net()
    near = [contact(n) for n in range(1, 30)]  # nearer to the target than any node of the net
    refused = {one.endpoint for one in near}
    client = Client(net, may_ask=lambda endpoint: endpoint not in refused)
    for one in near:
        client.core.note_alive(one)
    search = client.get()
    assert search.outcome.answered >= CLOSEST
    assert not {to for _, (_, to) in client.sent} & refused


def test_dead_nodes_that_are_remembered_do_not_hide_live_ones() -> None:
    net = small_net()
    client = Client(net)
    for n in range(1, UNREACHABLE_AFTER - 2):
        client.core.note_alive(contact(n))
    search = client.get()
    assert search.converged
    assert search.outcome.answered >= CLOSEST
    found = {one.contact for one in search.lookup.answered(CLOSEST)}
    assert found == {net.contact(i) for i in net.closest(search.target, CLOSEST)}


def test_nodes_that_end_with_us_are_not_asked() -> None:
    net = small_net()
    ours = net.contact(net.closest(TARGET, 1)[0])
    client = Client(net, also_us=[ours.node_id])
    client.get()
    assert ours.endpoint not in {to for _, (_, to) in client.sent}
