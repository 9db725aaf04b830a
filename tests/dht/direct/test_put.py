"""What a put reports: who accepted, rejected or kept silent, who holds it, what is against it."""

import pytest

from dhtmeta.const import CLOSEST, QUERY_TRIES
from dhtmeta.dht.carrier import Rejection
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.put import Put, ReadBack
from dhtmeta.dht.direct.search import Search
from dhtmeta.krpc import messages
from dhtmeta.krpc.codec import decode
from dhtmeta.krpc.messages import Error, Response
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem
from tests.dht.direct.stage import TARGET, Client, signed, small_net
from tests.dht.direct.test_search import Scene, of

MINE, NEWER = signed(5, b"mine"), signed(9, b"newer")
COPIES = 20


def puts(client: Client) -> list[messages.Put]:
    """Return the put queries that were sent."""
    sent = [decode(data) for _, (data, _) in client.sent]
    return [one for one in sent if isinstance(one, messages.Put)]


def closest(net: SimNet, count: int = COPIES) -> list[int]:
    """Return the nodes that a put reaches, as a lookup of them finds them."""
    search = Client(net).get(closest=COPIES)
    return [net.index(one.contact.node_id) for one in search.lookup.answered(count)]


def test_every_one_of_the_closest_gets_the_same_bytes_and_holds_them() -> None:
    net = small_net()
    client = Client(net)
    put = client.put(MINE)
    outcome = put.outcome
    assert (outcome.accepted, outcome.rejected, outcome.silent) == (COPIES, (), 0)
    assert outcome.copies == COPIES
    assert outcome.item is MINE
    assert put.other is None
    assert put.finished
    assert net.holders(TARGET) == dict.fromkeys(sorted(closest(net)), MINE)
    said = {(one.k, one.salt, one.seq, one.v, one.sig, one.cas) for one in puts(client)}
    assert said == {(MINE.public_key, b"", 5, MINE.v, MINE.sig, None)}
    assert len(puts(client)) == COPIES


def test_a_salt_and_any_seq_go_along() -> None:
    net, item = small_net(), signed(2**63 - 1, {"a": 1}, b"salt")
    assert Client(net).put(item).outcome.copies == COPIES
    assert set(net.holders(item.target).values()) == {item}


def test_what_shadows_an_item_does_not_hide_its_copies_from_the_read_back() -> None:
    net = small_net()
    liars = dict.fromkeys(closest(net, 8), Lie.SHADOWING)
    net = small_net(liars=liars)
    outcome = Client(net).put(MINE).outcome
    assert outcome.copies == len(net.holders(TARGET)) == COPIES


def test_a_newer_item_behind_a_shadow_is_reported() -> None:
    shadowing = closest(small_net(), 1)
    net = small_net(liars=dict.fromkeys(shadowing, Lie.SHADOWING))
    client = Client(net)
    search = client.get(closest=COPIES)
    net.store(NEWER, shadowing)  # between the look and the put
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.finish(put)
    assert put.other == NEWER
    assert put.outcome.rejected == (Rejection(302, NEWER.seq),)


@pytest.mark.parametrize("copies", [1, CLOSEST])
def test_it_is_stored_on_as_many_as_are_wanted(copies: int) -> None:
    net = small_net()
    assert Client(net).put(MINE, copies).outcome.accepted == copies
    assert set(net.holders(TARGET)) == set(closest(net, copies))


def test_a_newer_item_held_anywhere_is_reported_with_who_refused() -> None:
    net = small_net()
    holders = closest(net)[3:7]
    net.store(NEWER, holders)
    put = Client(net).put(MINE)
    assert put.other == NEWER
    assert put.outcome.accepted == put.outcome.copies == COPIES - 4
    assert put.outcome.rejected == (Rejection(302, NEWER.seq),) * 4
    assert {net.holders(TARGET)[i] for i in holders} == {NEWER}


def test_a_newer_item_that_only_the_read_back_shows_is_reported() -> None:
    net = small_net()
    client = Client(net)
    search = client.get(closest=COPIES)
    net.store(NEWER, closest(net)[-1:])
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.finish(put)
    assert put.other == NEWER
    assert put.outcome.rejected == (Rejection(302, NEWER.seq),)


def test_another_value_under_the_same_seq_is_reported_though_all_accept() -> None:
    net, other = small_net(), signed(5, b"other")
    net.store(other, closest(net)[:3])
    put = Client(net).put(MINE)
    assert (put.outcome.accepted, put.outcome.rejected) == (COPIES, ())
    assert put.outcome.copies == COPIES - 3
    assert put.other == other


def test_of_several_others_the_newest_is_reported() -> None:
    net = small_net()
    for seq, node in zip((7, 9, 8), closest(net), strict=False):
        net.store(signed(seq), [node])
    put = Client(net).put(MINE)
    assert put.other == signed(9)
    assert {one.seq for one in put.outcome.rejected} == {7, 8, 9}


def test_what_is_older_does_not_stand_against_it() -> None:
    net = small_net()
    net.store(signed(4), closest(net))
    put = Client(net).put(MINE)
    assert put.other is None
    assert put.outcome.copies == COPIES


def test_putting_again_what_is_there_is_accepted() -> None:
    net = small_net()
    net.store(MINE, closest(net)[:5])
    put = Client(net).put(MINE)
    assert put.outcome.accepted == put.outcome.copies == COPIES
    assert put.other is None


def test_cas_goes_along_and_what_nodes_say_of_it_is_reported() -> None:
    net = small_net()
    net.store(signed(4), closest(net)[:6])
    client = Client(net)
    outcome = client.put(MINE, cas=3).outcome
    assert {one.cas for one in puts(client)} == {3}
    assert outcome.rejected == (Rejection(301, 4),) * 6
    assert outcome.accepted == outcome.copies == COPIES - 6


def test_a_token_that_ran_out_is_rejected_and_nothing_is_read_back() -> None:
    net = small_net()
    client = Client(net)
    search = client.get(closest=COPIES)
    client.now += 3600.0
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    before = len(client.sent)
    client.finish(put)
    nodes = len(list(search.lookup.answered()))
    assert put.outcome.rejected == (Rejection(203, None),) * nodes
    assert (put.outcome.accepted, put.outcome.copies) == (0, 0)
    assert put.finished
    assert len(client.sent) - before == nodes >= COPIES


def test_nodes_that_stay_silent_are_asked_again_counted_and_replaced() -> None:
    liars: dict[int, Lie] = {}
    net = small_net(liars=liars)
    client = Client(net)
    search = client.get(closest=COPIES)
    liars.update(dict.fromkeys(closest(net)[:7], Lie.SILENCE))
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.finish(put)
    able = min(len(list(search.lookup.answered())), COPIES + 7)
    assert (put.outcome.accepted, put.outcome.silent) == (able - 7, 7)
    assert put.outcome.copies == able - 7 > COPIES - 7
    assert put.finished
    assert len(puts(client)) == able - 7 + 7 * QUERY_TRIES


def test_where_nobody_answers_all_are_silent_and_it_ends() -> None:
    net = small_net()
    client = Client(net)
    search = client.get(closest=COPIES)
    net.loss = 1.0
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.finish(put)
    nodes = len(list(search.lookup.answered()))
    assert (put.outcome.accepted, put.outcome.silent, put.outcome.copies) == (0, nodes, 0)
    assert put.finished


def test_where_no_node_was_found_it_ends_at_once() -> None:
    client = Client(small_net(), knows=0)
    put = client.put(MINE)
    assert put.finished
    assert put.outcome == type(put.outcome)(MINE, 0, (), 0, 0)
    assert client.sent == []


def test_with_loss_every_node_is_in_one_of_three_outcomes() -> None:
    for seed in range(20):
        net = small_net(seed=seed, loss=0.2)
        client = Client(net, seed)
        search = client.get(closest=COPIES)
        nodes = len(list(search.lookup.answered()))
        put = client.core.store(search, MINE, copies=COPIES, cas=None)
        client.finish(put)
        outcome = put.outcome
        asked = len({to for _, (data, to) in client.sent if b"1:q3:put" in data})
        assert outcome.accepted + len(outcome.rejected) + outcome.silent == asked > CLOSEST
        assert outcome.accepted <= COPIES
        assert outcome.copies is not None
        assert outcome.copies <= len(net.holders(TARGET)) <= nodes


def test_one_that_is_cut_short_tells_how_far_it_came_and_sends_no_more() -> None:
    client = Client(small_net())
    search = client.get(closest=COPIES)
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.turn()
    assert client.step()  # the first answer
    client.core.cancel(put)
    client.rest()
    assert client.has_ended(put)
    assert not put.finished
    assert put.outcome.accepted == 1
    assert len(puts(client)) == COPIES


@pytest.mark.parametrize("kind", [Lie.HUGE_SEQ, Lie.FOREIGN_KEY, Lie.BAD_SALT, Lie.OVERSIZED])
def test_what_liars_show_when_it_is_read_back_is_not_believed(kind: Lie) -> None:
    liars: dict[int, Lie] = {}
    net = small_net(liars=liars)
    client = Client(net)
    search = client.get(closest=COPIES)
    liars.update(dict.fromkeys(closest(net)[:8], kind))
    put = client.core.store(search, MINE, copies=COPIES, cas=None)
    client.finish(put)
    assert put.other is None
    assert put.outcome.accepted == COPIES
    assert put.outcome.copies == COPIES - 8


@pytest.mark.parametrize("kind", [Lie.HUGE_SEQ, Lie.FOREIGN_KEY, Lie.BAD_SALT, Lie.OVERSIZED])
def test_nothing_is_stored_on_those_that_lied_in_the_lookup(kind: Lie) -> None:
    lying = closest(small_net())[:8]
    net = small_net(liars=dict.fromkeys(lying, kind))
    outcome = Client(net).put(MINE).outcome
    assert outcome.copies == COPIES
    assert not net.holders(TARGET).keys() & set(lying)


# on paper


class Paper:
    """A network on paper: whom a put asks."""

    def __init__(self) -> None:
        self.stored: list[Candidate] = []
        self.read_back: list[tuple[ReadBack, Candidate]] = []
        self.ends = 0

    def put(self, asker: Put, candidate: Candidate, item: SignedItem, cas: int | None) -> None:
        self.stored.append(candidate)

    def read(self, asker: ReadBack, candidate: Candidate, target: bytes, seq: int | None) -> None:
        assert (target, seq) == (TARGET, MINE.seq - 1)
        self.read_back.append((asker, candidate))

    def end(self, put: Put) -> None:
        self.ends += 1


def searched(tokens: list[bytes | None]) -> Search:
    """Return a search that heard of these nodes, closest first."""
    scene = Scene(len(tokens)).start()
    for token in tokens:
        scene.show(token=token)
    return scene.search


def started(nodes: int = 1) -> tuple[Put, Paper]:
    paper = Paper()
    put = Put(paper, searched([b"token"] * nodes), MINE, COPIES)
    put.start()
    return put, paper


def shown(item: SignedItem | None) -> Response:
    return Response(t=b"", node_id=bytes(20), **({} if item is None else of(item)))


def test_a_node_that_gave_no_token_is_left_out() -> None:
    paper = Paper()
    put = Put(paper, searched([b"one", None, b"two"]), MINE, COPIES)
    put.start()
    assert [one.token for one in paper.stored] == [b"one", b"two"]


@pytest.mark.parametrize("code", [301, 302])
def test_a_node_that_refuses_for_its_seq_and_holds_these_bytes_has_accepted(code: int) -> None:
    """As after a try of which the answer was lost."""
    put, paper = started()
    put.refused(paper.stored[0], Error(t=b"", code=code), 0.0)
    ((read_back, node),) = paper.read_back
    read_back.answered(node, shown(MINE), 0.0)
    assert put.finished
    assert (put.outcome.accepted, put.outcome.rejected) == (1, ())
    assert put.outcome.copies == 1
    assert put.other is None


@pytest.mark.parametrize("code", [203, 204, 205, 206, 207])
def test_a_node_that_refuses_for_anything_else_is_not_read_back(code: int) -> None:
    put, paper = started()
    put.refused(paper.stored[0], Error(t=b"", code=code), 0.0)
    assert paper.read_back == []
    assert put.outcome.rejected == (Rejection(code, None),)
    assert put.finished


def test_accepting_without_holding_it_is_no_copy() -> None:
    put, paper = started()
    put.answered(paper.stored[0], shown(None), 0.0)
    ((read_back, node),) = paper.read_back
    read_back.answered(node, shown(None), 0.0)
    assert (put.outcome.accepted, put.outcome.copies) == (1, 0)


@pytest.mark.parametrize("field", ["seq", "v", "sig"])
def test_only_the_very_bytes_are_a_copy(field: str) -> None:
    put, paper = started()
    put.answered(paper.stored[0], shown(None), 0.0)
    ((read_back, node),) = paper.read_back
    changed = of(MINE) | {field: {"seq": 6, "v": b"4:fake", "sig": bytes(64)}[field]}
    read_back.answered(node, Response(t=b"", node_id=bytes(20), **changed), 0.0)
    assert put.outcome.copies == 0
    assert put.other is None


def test_it_is_read_back_once_all_have_had_their_say_and_ends_once_all_were_read() -> None:
    put, paper = started(3)
    put.answered(paper.stored[0], shown(None), 0.0)
    put.refused(paper.stored[1], Error(t=b"", code=302), 0.0)
    assert paper.read_back == []
    assert put.unheard(paper.stored[2], 1, 0.0)
    assert not put.unheard(paper.stored[2], QUERY_TRIES, 0.0)
    assert [node for _, node in paper.read_back] == paper.stored[:2]
    (read_back, first), (_, second) = paper.read_back
    read_back.answered(first, shown(MINE), 0.0)
    assert read_back.unheard(second, 1, 0.0)
    assert paper.ends == 0
    assert not read_back.unheard(second, QUERY_TRIES, 0.0)
    assert paper.ends == 1
    assert put.finished
    assert put.outcome.silent == 1
    assert put.outcome.rejected == (Rejection(302, None),)


def test_a_node_that_refuses_to_be_read_is_no_copy() -> None:
    put, paper = started()
    put.answered(paper.stored[0], shown(None), 0.0)
    ((read_back, node),) = paper.read_back
    read_back.refused(node, Error(t=b"", code=201), 0.0)
    assert put.finished
    assert (put.outcome.accepted, put.outcome.copies) == (1, 0)


def test_one_that_is_cut_short_reads_no_more_back() -> None:
    put, paper = started()
    put.answered(paper.stored[0], shown(None), 0.0)
    ((read_back, _),) = paper.read_back
    before = read_back.ended
    put.end()
    assert (before, read_back.ended) == (False, True)
    assert paper.ends == 1
    assert not put.finished
