"""What a search makes of what nodes show: no liar hides the newest item, and little is verified."""

from random import Random
from typing import Any

import pytest

from dhtmeta.const import CLOSEST, QUERY_TRIES
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.search import Search
from dhtmeta.dht.direct.transactions import Asker
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import Error, Response
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem
from tests.dht.direct.stage import (
    OTHER_OWNER,
    OWNER,
    TARGET,
    Client,
    contact,
    signed,
    small_net,
)

OLD, NEW = signed(5, b"old"), signed(6, b"new")
SALTED = signed(7, b"salted", b"salt")
FOREIGN = SignedItem.sign(OTHER_OWNER, b"1:x", 2**62)
RUNS = 30


class Paper:
    """A network on paper: whom a search asks, and what it tells."""

    def __init__(self) -> None:
        self.asked: list[tuple[Candidate, int | None]] = []
        self.items: list[SignedItem] = []
        self.ends = 0
        self.alive: list[Contact] = []
        self.noted: list[Contact] = []  # as silent
        self.unusable: set[Contact] = set()
        self.silenced: list[Contact] = []  # lately, nearest first
        self.remembered: list[Contact] = []  # nearest first

    def seeds(self, target: bytes, count: int) -> list[Contact]:
        return self.remembered[:count]

    def get(self, asker: Asker, candidate: Candidate, target: bytes, seq: int | None) -> None:
        assert target == TARGET
        self.asked.append((candidate, seq))

    def find_node(self, asker: Asker, contact: Contact, target: bytes) -> None:
        raise AssertionError("the eight closest are found without")

    def silent(self, target: bytes, count: int, now: float) -> list[Contact]:
        return self.silenced[:count]

    def usable(self, contact: Contact, now: float, *, silent: bool = False) -> bool:
        return contact not in self.unusable and (silent or contact not in self.silenced)

    def note_alive(self, contact: Contact) -> None:
        self.alive.append(contact)

    def drop(self, contact: Contact) -> None:
        self.remembered.remove(contact)

    def cut_off_since(self, then: float, now: float) -> bool:
        return False

    def soon(self, search: Search) -> None:
        search.go_on(0.0)

    def note_silent(self, contact: Contact, now: float) -> None:
        self.noted.append(contact)

    def found(self, search: Search, item: SignedItem) -> None:
        self.items.append(item)

    def end(self, search: Search) -> None:
        self.ends += 1


class Scene:
    """A search on paper, of which the nodes at distances 1, 2, … are asked one after the other."""

    def __init__(self, nodes: int = 8, **options: Any) -> None:
        self.paper = Paper()
        self.search = Search(self.paper, OWNER.public_key, b"", **options)
        self.paper.remembered = [contact(number) for number in range(1, nodes + 1)]

    def start(self, *remembered: Contact) -> "Scene":
        self.paper.remembered += remembered
        self.search.go_on(0.0)
        return self

    def show(self, item: SignedItem | None = None, **fields: Any) -> Candidate:
        """Let the node that was asked first, of those that did not answer yet, show this."""
        candidate, _ = self.paper.asked.pop(0)
        shown = {} if item is None else of(item)
        said: dict[str, Any] = {"t": b"", "node_id": candidate.contact.node_id} | shown | fields
        self.search.answered(candidate, Response(**said), 0.0)
        return candidate


def of(item: SignedItem) -> dict[str, Any]:
    return {"k": item.public_key, "seq": item.seq, "v": item.v, "sig": item.sig}


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the seqs that are verified."""
    seqs: list[int] = []
    verified = SignedItem.verified

    def counting(
        target: bytes, k: bytes, salt: bytes, seq: int, v: bytes, sig: bytes
    ) -> SignedItem:
        seqs.append(seq)
        return verified(target, k, salt, seq, v, sig)

    monkeypatch.setattr(SignedItem, "verified", counting)
    return seqs


# liars


def network_of_liars(kind: Lie | None, seed: int) -> SimNet:
    """Return a network in which 8 of the 20 closest lie; the 12 others hold the newest item."""
    liars: dict[int, Lie] = {}
    net = small_net(2000, seed=seed, liars=liars)
    closest = net.closest(TARGET, 20)
    lying = Random(seed).sample(closest, 8)
    net.store(SALTED, closest)
    net.store(OLD, closest)
    net.store(NEW, closest if kind is Lie.SHADOWING else set(closest) - set(lying))
    if kind is not None:
        liars.update(dict.fromkeys(lying, kind))
    return net


@pytest.mark.parametrize("kind", Lie)
def test_eight_liars_of_the_twenty_closest_never_hide_the_newest_item(kind: Lie) -> None:
    refused = 0
    for seed in range(RUNS):
        client = Client(network_of_liars(kind, seed), seed)
        outcome = client.get().outcome
        assert outcome.item == NEW
        assert outcome.converged
        assert outcome.conflicts == 0
        refused += outcome.refused
    about_nodes = {Lie.WRONG_NODES, Lie.WRONG_ID, Lie.SILENCE}
    assert (refused > RUNS) == (kind not in about_nodes)


def test_honest_nodes_are_not_refused() -> None:
    for seed in range(5):
        client = Client(network_of_liars(None, seed), seed)
        search = client.get()
        assert search.outcome.refused == 0
        assert client.found(search)[-1] == NEW


def test_liars_cannot_keep_it_from_the_true_closest() -> None:
    """Who names wrong addresses for real ids costs time only: the nodes are asked all the same."""
    for seed in range(RUNS):
        net = network_of_liars(Lie.WRONG_NODES, seed)
        search = Client(net, seed).get(closest=20)
        heard = {one.contact for one in search.lookup.answered()}
        assert {net.contact(i) for i in net.closest(TARGET, CLOSEST)} <= heard


# what is verified


def test_the_same_signed_bytes_are_verified_once(verifications: list[int]) -> None:
    scene = Scene().start()
    for _ in range(8):
        scene.show(NEW)
    assert verifications == [NEW.seq]
    assert scene.paper.items == [NEW]
    assert scene.search.outcome.holding == 8


def test_a_forgery_is_verified_once_and_refused_each_time(verifications: list[int]) -> None:
    scene = Scene().start()
    for _ in range(8):
        scene.show(NEW, seq=2**62)
    assert verifications == [2**62]
    assert scene.paper.items == []
    assert scene.search.outcome.refused == 8


def test_what_is_older_than_what_is_proved_is_not_verified(verifications: list[int]) -> None:
    scene = Scene().start()
    scene.show(NEW)
    scene.show(OLD)
    assert verifications == [NEW.seq]
    assert scene.search.outcome.holding == 1


def test_of_another_key_nothing_is_verified(verifications: list[int]) -> None:
    scene = Scene().start()
    scene.show(FOREIGN)
    assert verifications == []
    assert scene.search.outcome.refused == 1


def test_another_signature_under_the_same_value_is_not_taken_for_the_same() -> None:
    scene = Scene().start()
    scene.show(NEW, sig=bytes(64))
    scene.show(NEW)
    assert scene.paper.items == [NEW]
    assert scene.search.outcome.refused == 1


# the newest, and conflicts


def test_each_better_item_is_told_of() -> None:
    scene = Scene().start()
    for item in (OLD, OLD, NEW, OLD):
        scene.show(item)
    assert scene.paper.items == [OLD, NEW]
    assert scene.search.best == NEW


@pytest.mark.parametrize("smaller_first", [False, True])
def test_of_two_values_under_one_seq_the_smaller_bytes_are_kept(smaller_first: bool) -> None:
    small, large = signed(6, b"a"), signed(6, b"b")
    scene = Scene().start()
    scene.show(small if smaller_first else large)
    scene.show(large if smaller_first else small)
    outcome = scene.search.outcome
    assert outcome.item == small
    assert outcome.conflicts == 1
    assert outcome.holding == 1


def test_the_outcome_counts_nodes() -> None:
    scene = Scene(20).start()
    scene.show(NEW)
    scene.show(OLD)
    scene.show(NEW, sig=bytes(64))
    scene.search.refused(scene.paper.asked.pop(0)[0], Error(t=b"", code=204), 0.0)
    while scene.paper.asked:
        scene.show()
    outcome = scene.search.outcome
    assert (outcome.queried, outcome.answered, outcome.holding, outcome.refused) == (10, 9, 1, 1)
    assert outcome.converged


# when it ends


def test_enough_ends_it_early() -> None:
    scene = Scene(enough=NEW.seq).start()
    scene.show(OLD)
    assert scene.paper.ends == 0
    scene.show(NEW)
    assert scene.paper.ends == 1
    assert not scene.search.outcome.converged
    asked = len(scene.paper.asked)
    scene.show(signed(9))
    assert scene.search.best == NEW
    assert len(scene.paper.asked) == asked - 1


def test_what_does_not_verify_is_never_enough() -> None:
    scene = Scene(enough=0).start()
    scene.show(NEW, sig=bytes(64))
    scene.show(FOREIGN)
    assert scene.paper.ends == 0


def test_enough_costs_fewer_datagrams_on_a_network() -> None:
    def datagrams(enough: int | None) -> int:
        net = small_net(2000, seed=3)
        net.store(NEW, net.closest(TARGET, 20))
        client = Client(net, 3)
        assert client.get(enough=enough).best == NEW
        return len(client.sent)

    assert datagrams(NEW.seq) < datagrams(NEW.seq + 1) == datagrams(None)


def test_it_ends_once_when_the_closest_have_answered() -> None:
    scene = Scene(30).start()
    for _ in range(CLOSEST):
        assert scene.paper.ends == 0
        scene.show()
    assert scene.search.outcome.converged
    assert scene.paper.ends == 1
    assert scene.paper.asked == []


def test_it_ends_at_once_where_nobody_is_known() -> None:
    scene = Scene(0).start()
    assert scene.search.outcome.converged
    assert scene.search.outcome.answered == 0
    assert scene.paper.ends == 1


def test_one_that_was_ended_asks_nobody_any_more() -> None:
    scene = Scene(30).start()
    scene.search.end()
    scene.search.end()
    scene.show(**split_contacts([contact(40)]))
    assert scene.paper.asked == []
    assert scene.paper.ends == 1
    assert not scene.search.converged


def test_a_node_that_may_not_be_asked_is_passed_by() -> None:
    scene = Scene(30)
    scene.paper.unusable = {contact(1), contact(3)}
    scene.start()
    while scene.paper.asked:
        scene.show()
    heard = [one.distance for one in scene.search.lookup.answered()]
    assert heard == [2, 4, 5, 6, 7, 8, 9, 10]
    assert scene.search.outcome.queried == CLOSEST


def test_where_too_few_found_nothing_those_who_were_silent_are_asked_after_all() -> None:
    scene = Scene(4)
    scene.paper.silenced = [contact(2), contact(9)]  # one that others name, one remembered alone
    scene.start()
    asked: list[int] = []
    while scene.paper.asked:
        asked.append(scene.show().distance)
    assert sorted(asked[:3]) == [1, 3, 4]
    assert sorted(asked[3:]) == [2, 9]
    assert scene.paper.ends == 1
    assert scene.search.outcome.answered == 5
    assert scene.search.converged


def test_where_something_was_found_those_who_were_silent_are_left_alone() -> None:
    scene = Scene(4)
    scene.paper.silenced = [contact(2)]
    scene.start()
    scene.show(NEW)
    while scene.paper.asked:
        scene.show()
    assert scene.search.outcome.answered == 3
    assert scene.search.converged


# shadowed items


def test_where_something_hides_the_item_the_node_is_asked_again_with_seq() -> None:
    scene = Scene(1).start()
    candidate = scene.show(v=b"8:a shadow", token=b"one")
    assert scene.paper.asked == [(candidate, 0)]
    assert scene.paper.ends == 0
    scene.show(NEW, token=b"two")
    assert scene.search.best == NEW
    assert scene.search.outcome.converged
    assert (candidate.seq, candidate.token) == (NEW.seq, b"two")


@pytest.mark.parametrize("missing", ["k", "seq", "sig"])
def test_an_item_with_something_missing_hides_it_too(missing: str) -> None:
    scene = Scene(1).start()
    candidate = scene.show(NEW, **{missing: None})
    assert scene.paper.asked == [(candidate, 0)]
    assert scene.search.best is None


def test_a_node_is_asked_again_only_once() -> None:
    scene = Scene(1).start()
    scene.show(v=b"8:a shadow")
    scene.show(v=b"8:a shadow")
    assert scene.paper.asked == []
    assert scene.search.outcome.converged
    assert scene.search.outcome.refused == 2


@pytest.mark.parametrize("how", ["error", "silence"])
def test_a_node_that_does_not_answer_the_second_time_is_not_waited_for(how: str) -> None:
    scene = Scene(1).start()
    scene.show(v=b"8:a shadow")
    candidate, _ = scene.paper.asked.pop()
    if how == "error":
        scene.search.refused(candidate, Error(t=b"", code=203), 0.0)
    else:
        assert scene.search.unheard(candidate, 1, 0.0)
        assert scene.paper.ends == 0
        assert not scene.search.unheard(candidate, QUERY_TRIES, 0.0)
    assert scene.search.outcome.converged
    assert list(scene.search.lookup.answered()) == [candidate]


# slow and silent nodes


def test_a_silent_node_among_the_closest_is_asked_again_then_remembered_as_silent() -> None:
    scene = Scene(1).start()
    candidate, _ = scene.paper.asked.pop()
    scene.search.slow(candidate, 0.1)
    assert scene.search.unheard(candidate, 1, 0.2)
    assert scene.paper.noted == []
    assert not scene.search.unheard(candidate, QUERY_TRIES, 0.3)
    assert scene.paper.noted == [candidate.contact]
    assert scene.paper.ends == 1
    assert not scene.search.outcome.converged  # nobody has said anything


def test_in_place_of_a_node_that_is_asked_again_the_next_closest_is_asked_at_once() -> None:
    scene = Scene(0).start(contact(0))
    scene.show(**split_contacts([contact(number) for number in range(1, 20)]))
    assert [one.distance for one, _ in scene.paper.asked] == list(range(1, CLOSEST))
    candidate, _ = scene.paper.asked.pop(0)
    scene.search.slow(candidate, 0.1)
    assert scene.paper.asked[-1][0].distance == CLOSEST - 1
    assert scene.search.unheard(candidate, 1, 0.2)
    assert scene.paper.asked[-1][0].distance == CLOSEST


def test_a_silent_node_that_closer_ones_replaced_is_not_asked_again() -> None:
    scene = Scene(0).start(contact(100), contact(101))
    candidate, _ = scene.paper.asked.pop(0)
    scene.search.slow(candidate, 0.1)
    scene.show(**split_contacts([contact(number) for number in range(1, 9)]))
    assert not scene.search.unheard(candidate, 1, 0.2)
    assert scene.paper.noted == []
    while scene.paper.asked:
        scene.show()
    assert scene.search.outcome.converged


def test_those_that_answer_are_remembered_by_the_id_they_tell() -> None:
    scene = Scene(2).start()
    scene.show(node_id=contact(77).node_id)
    assert contact(1) not in scene.paper.remembered
    assert scene.paper.alive == [Contact(contact(77).node_id, contact(1).endpoint)]


@pytest.mark.parametrize("kind", [Lie.HUGE_SEQ, Lie.FOREIGN_KEY, Lie.BAD_SALT, Lie.NO_SIGNATURE])
def test_even_if_the_eight_nearest_lie_the_item_is_found_behind_them(kind: Lie) -> None:
    net = small_net()
    nearest = net.closest(TARGET, 20)
    net = small_net(liars=dict.fromkeys(nearest[:CLOSEST], kind))
    net.store(NEW, nearest)
    search = Client(net).get()
    assert search.best == NEW
    assert search.converged
