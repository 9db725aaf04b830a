"""libtorrent's rules, which simulated lookups of ours are compared with: each rule by itself."""

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from bench.direct import calibration
from bench.direct.calibration import Copy, by_rules
from bench.libtorrent_rules import HERE, Lookup
from dhtmeta.const import NODE_ID_BYTES
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint, split_contacts
from dhtmeta.krpc.messages import Get, Response

TARGET = bytes(NODE_ID_BYTES)  # so that a node's id is its distance
ROUND_TRIP = 0.1  # s


def node(distance: int) -> Contact:
    """Return the node that is so far from TARGET."""
    endpoint = (f"11.0.{distance // 250}.{1 + distance % 250}", 6881)
    return Contact(distance.to_bytes(NODE_ID_BYTES, "big"), endpoint)


def nodes(*distances: int) -> list[Contact]:
    return [node(one) for one in distances]


@dataclass
class Script:
    """A network in which nodes name whom they are told to, and take as long as they are told."""

    names: dict[int, list[Contact]] = field(default_factory=dict)
    takes: dict[int, float | None] = field(default_factory=dict)  # s; None: it is dead
    asked: list[tuple[float, int]] = field(default_factory=list)  # when, and who

    def ask(
        self, data: bytes, source: Endpoint, to: Endpoint, now: float
    ) -> list[tuple[float, bytes]]:
        query = decode(data)
        assert isinstance(query, Get)
        assert (source, query.target) == (HERE, TARGET)
        octets = [int(one) for one in to[0].split(".")]
        distance = 250 * octets[2] + octets[3] - 1
        self.asked.append((now, distance))
        took = self.takes.get(distance, ROUND_TRIP)
        if took is None:
            return []
        contacts = split_contacts(self.names.get(distance, []))
        answer = Response(t=query.t, node_id=node(distance).node_id, token=b"t", **contacts)
        return [(now + took, encode(answer))]

    def look_up(self, *start: int, aggressive: bool = False) -> Lookup:
        lookup = Lookup(self, TARGET, 0.0, aggressive)
        lookup.run(nodes(*start))
        return lookup

    def asked_at(self, when: float) -> list[int]:
        return [who for at, who in self.asked if at == pytest.approx(when)]


def test_five_are_asked_at_first_the_nearest_ones() -> None:
    net = Script()
    net.look_up(9, 3, 8, 1, 7, 2, 6, 5, 4)
    assert net.asked_at(0.0) == [1, 2, 3, 4, 5]


def test_whenever_one_answers_the_next_is_asked() -> None:
    net = Script(takes={1: 0.3})
    net.look_up(*range(1, 20))
    assert net.asked_at(0.1) == [6, 7, 8, 9]  # 2, 3, 4 and 5 have answered


def test_a_lookup_ends_when_the_eight_nearest_have_answered() -> None:
    net = Script(takes=dict.fromkeys(range(9, 20)))
    lookup = net.look_up(*range(1, 20))
    assert lookup.answered == {node(distance).node_id for distance in range(1, 9)}
    assert lookup.now == pytest.approx(2 * ROUND_TRIP)
    assert max(who for _, who in net.asked) == 12  # farther ones are asked, not waited for


def test_nearer_ones_that_are_named_are_asked_first_and_count_instead() -> None:
    net = Script(names={10: nodes(*range(1, 9))})
    lookup = net.look_up(10, 20, 30, 40, 50, 60)
    assert net.asked_at(0.0) == [10, 20, 30, 40, 50]
    assert net.asked_at(0.1)[0] == 1
    assert {who for _, who in net.asked} == {10, 20, 30, 40, 50, *range(1, 9)}
    assert lookup.answered >= {node(distance).node_id for distance in range(1, 9)}


def test_a_dead_node_among_the_nearest_is_waited_for_fifteen_seconds() -> None:
    net = Script(takes={3: None})
    lookup = net.look_up(*range(1, 20))
    assert lookup.now == pytest.approx(15.0)
    assert [who for _, who in net.asked].count(3) == 1  # nobody is asked twice
    assert lookup.answered >= {node(distance).node_id for distance in (1, 2, *range(4, 10))}


def test_a_dead_node_behind_the_eighth_that_answered_holds_nothing_up() -> None:
    net = Script(names={5: nodes(1, 2, 3, 4, 6, 7, 8)}, takes={50: None})
    lookup = net.look_up(5, 50)
    assert (50 in net.asked_at(0.0), lookup.now < 1.0) == (True, True)


def test_an_answer_that_comes_before_fifteen_seconds_counts_and_a_later_one_does_not() -> None:
    slow, too_slow = Script(takes={3: 14.9}), Script(takes={3: 15.1})
    assert node(3).node_id in slow.look_up(*range(1, 9)).answered
    assert node(3).node_id not in too_slow.look_up(*range(1, 9)).answered


def test_for_each_that_is_silent_for_a_second_one_more_may_be_in_flight() -> None:
    net = Script(takes=dict.fromkeys(range(1, 4)))
    net.look_up(*range(1, 30))
    assert net.asked_at(0.1) == [6, 7]  # 3 are silent: 2 of the 5 are free
    assert net.asked_at(0.2) == [8, 9]
    silent = Script(takes=dict.fromkeys(range(1, 6)))
    silent.look_up(*range(1, 30))
    assert silent.asked_at(0.5) == []
    assert silent.asked_at(1.0) == [6, 7, 8, 9, 10]
    assert silent.asked_at(1.1) == [11, 12, 13, 14, 15]


def test_one_that_was_slow_gives_its_place_back_when_it_fails() -> None:
    lookup = Script(takes=dict.fromkeys(range(1, 6))).look_up(*range(1, 30))
    assert (lookup.branch, lookup.flying) == (5, 0)


def test_where_all_answered_or_failed_a_lookup_ends_with_fewer_than_eight() -> None:
    lookup = Script(takes={2: None}).look_up(1, 2, 3)
    assert lookup.now == pytest.approx(15.0)
    assert lookup.answered == {node(1).node_id, node(3).node_id}


def test_where_nobody_is_known_a_lookup_ends_at_once() -> None:
    net = Script()
    assert net.look_up().now == 0.0
    assert not net.asked


def test_aggressive_lookups_do_not_count_who_is_behind_the_nearest() -> None:
    def later(*, aggressive: bool) -> list[int]:
        takes: dict[int, float | None] = dict.fromkeys(range(51, 55))
        net = Script(names={50: nodes(*range(1, 9))}, takes=takes)
        net.look_up(*range(50, 55), aggressive=aggressive)
        return net.asked_at(ROUND_TRIP)

    assert later(aggressive=False) == [1]  # four that are far away are in flight
    assert later(aggressive=True) == [1, 2, 3, 4, 5]


def test_a_hundred_candidates_are_kept_the_nearest_ones() -> None:
    names = {1000 + i: nodes(*range(100 + 30 * i, 130 + 30 * i)) for i in range(4)}
    lookup = Script(names=names).look_up(*names)
    assert [one.distance for one in lookup.results] == list(range(100, 200))


# what calibrates them


def test_in_a_copy_of_a_swarm_everybody_names_the_nearest_it_knows_but_the_dead() -> None:
    everybody = nodes(*range(1, 31))
    ids = {one.endpoint: one.node_id for one in everybody}
    copy = Copy(ids, {one.endpoint: everybody for one in everybody[3:]})  # 1, 2 and 3 died
    query = encode(Get(t=b"aa", node_id=bytes(20), target=TARGET))
    assert copy.ask(query, HERE, node(2).endpoint, 0.0) == []
    [(_, data)] = copy.ask(query, HERE, node(9).endpoint, 0.0)
    answer = decode(data)
    assert isinstance(answer, Response)
    assert (answer.node_id, answer.contacts) == (node(9).node_id, nodes(*range(1, 9)))
    assert copy.traffic.datagrams == 3


def test_the_rules_in_a_copy_cost_two_datagrams_for_each_answer_and_one_for_a_dead_node() -> None:
    everybody = nodes(*range(1, 9))
    ids = {one.endpoint: one.node_id for one in everybody}
    copy = Copy(ids, {one.endpoint: everybody for one in everybody[1:]})
    cost = by_rules(copy, everybody, [bytes(32)] * 4, aggressive=False)
    assert cost.datagrams == 15
    assert cost.seconds == pytest.approx(15.0, abs=0.01)


def test_libtorrent_itself_does_as_the_rules_do_where_nobody_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "NODES", 12)
    monkeypatch.setattr(calibration, "DEAD", 0)
    monkeypatch.setattr(calibration, "KINDS", {"": (12, False)})
    [(ours, theirs)] = asyncio.run(calibration.on_swarm(Random(1), 20)).values()
    assert ours.datagrams >= 16  # 8 queries, 8 answers
    assert theirs.datagrams == pytest.approx(ours.datagrams, rel=calibration.WITHIN)
