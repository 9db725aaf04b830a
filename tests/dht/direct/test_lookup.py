"""Whom a lookup asks, in which order and how many at once, and when it is over."""

from collections.abc import Iterable
from random import Random

import pytest

from dhtmeta.const import (
    CLOSEST,
    FAR_IN_FLIGHT,
    MAX_CANDIDATES,
    MAX_FAR_IN_FLIGHT,
    MAX_QUERIED,
    NEAR_IN_FLIGHT,
)
from dhtmeta.dht.direct.lookup import Candidate, Lookup
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import Response
from tests.dht.direct.stage import TARGET, Client, contact, small_net


def nodes(numbers: Iterable[int]) -> list[Contact]:
    return [contact(number) for number in numbers]


def asked_now(lookup: Lookup) -> list[Candidate]:
    """Ask all that the lookup wants to ask now."""
    asked: list[Candidate] = []
    while (candidate := lookup.next()) is not None:
        asked.append(candidate)
    return asked


def answer(
    lookup: Lookup, candidate: Candidate, contacts: Iterable[Contact] = ()
) -> Candidate | None:
    """Let a node answer under the id that was named."""
    return lookup.answer(candidate, said(candidate.contact, contacts))


def said(who: Contact, contacts: Iterable[Contact] = ()) -> Response:
    return Response(t=b"", node_id=who.node_id, **split_contacts(contacts))


def is_over(lookup: Lookup) -> bool:
    return lookup.is_over()


def numbers(candidates: Iterable[Candidate]) -> list[int]:
    return [candidate.distance for candidate in candidates]


def near(seeds: Iterable[int], closest: int = CLOSEST) -> tuple[Lookup, dict[int, Candidate]]:
    """Return a lookup of which the closest node, 0, has answered; and whom it asks now."""
    lookup = Lookup(TARGET, nodes([0]), closest)
    (first,) = asked_now(lookup)
    answer(lookup, first, nodes(seeds))
    return lookup, {one.distance: one for one in asked_now(lookup)}


def run(lookup: Lookup, known: dict[int, list[Contact]]) -> list[int]:
    """Let every node answer at once, in the order in which they were asked; return that order."""
    order: list[int] = []
    waiting = asked_now(lookup)
    while waiting:
        candidate = waiting.pop(0)
        order.append(candidate.distance)
        answer(lookup, candidate, known.get(candidate.distance, []))
        waiting += asked_now(lookup)
    return order


def test_the_closest_are_asked_first_and_no_more_of_them_than_needed() -> None:
    seeds = list(range(1, 31))
    Random(1).shuffle(seeds)
    lookup = Lookup(TARGET, nodes(seeds))
    assert run(lookup, {}) == list(range(1, CLOSEST + 1))
    assert is_over(lookup)
    assert lookup.queried == CLOSEST
    assert numbers(lookup.answered()) == list(range(1, CLOSEST + 1))


def test_it_goes_to_whoever_is_named_closer() -> None:
    lookup = Lookup(TARGET, nodes([900, 901]))
    known = {900: nodes([90, 91]), 90: nodes(range(1, 9))}
    assert run(lookup, known) == [900, 90, *range(1, 9)]
    assert is_over(lookup)


@pytest.mark.parametrize("closest", [1, 8, 20])
def test_it_is_over_when_the_closest_have_answered_and_not_before(closest: int) -> None:
    lookup = Lookup(TARGET, nodes(range(1, 40)), closest)
    waiting = asked_now(lookup)
    for number in range(1, closest + 1):
        assert not is_over(lookup)
        candidate = waiting.pop(0)
        assert candidate.distance == number
        answer(lookup, candidate)
        waiting += asked_now(lookup)
    assert is_over(lookup)
    assert lookup.next() is None


def test_it_is_over_where_nobody_is_known_or_all_failed() -> None:
    assert is_over(Lookup(TARGET, []))
    lookup = Lookup(TARGET, nodes([5]))
    (candidate,) = asked_now(lookup)
    assert not is_over(lookup)
    lookup.fail(candidate)
    assert is_over(lookup)
    assert list(lookup.answered()) == []


def test_what_was_answered_can_be_limited() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 30)), 20)
    run(lookup, {})
    assert numbers(lookup.answered(3)) == [1, 2, 3]
    assert len(list(lookup.answered(100))) == 20


# how many at once


def test_far_from_the_target_few_are_asked_at_once() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 30)))
    assert numbers(asked_now(lookup)) == list(range(1, FAR_IN_FLIGHT + 1))


def test_among_the_closest_many_are_asked_at_once() -> None:
    lookup, asked = near(range(1, 30), closest=20)
    assert list(asked) == list(range(1, NEAR_IN_FLIGHT + 1))
    answer(lookup, asked[1])
    assert numbers(asked_now(lookup)) == [NEAR_IN_FLIGHT + 1]


def test_nodes_closer_than_all_that_answered_are_far_still() -> None:
    lookup = Lookup(TARGET, nodes([1000]))
    (first,) = asked_now(lookup)
    answer(lookup, first, nodes(range(1, 30)))
    assert numbers(asked_now(lookup)) == list(range(1, FAR_IN_FLIGHT + 1))


def test_where_many_are_slow_more_are_asked_at_once_up_to_a_cap() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 60)), 20)
    waiting, most = asked_now(lookup), 0
    while waiting:
        most = max(most, len(waiting))
        lookup.slow(waiting.pop(0))
        waiting += asked_now(lookup)
    assert most == MAX_FAR_IN_FLIGHT > FAR_IN_FLIGHT


# slow and lost ones


def test_a_slow_node_is_passed_over_and_still_waited_for() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 9)))
    (first,) = asked_now(lookup)
    lookup.slow(first)
    others = asked_now(lookup)
    assert numbers(others) == list(range(2, 2 + FAR_IN_FLIGHT))
    while others:
        answer(lookup, others.pop(0))
        others += asked_now(lookup)
    assert not is_over(lookup)
    answer(lookup, first)
    assert is_over(lookup)
    assert numbers(lookup.answered()) == list(range(1, 9))


def test_a_slow_node_that_closer_ones_replaced_is_not_waited_for() -> None:
    lookup = Lookup(TARGET, nodes([100, 101]))
    (slow,) = asked_now(lookup)
    assert not is_over(lookup)
    lookup.slow(slow)
    (other,) = asked_now(lookup)
    answer(lookup, other, nodes(range(1, CLOSEST + 1)))
    assert not is_over(lookup)
    assert run(lookup, {}) == list(range(1, CLOSEST + 1))
    assert is_over(lookup)


def test_a_slow_node_does_not_make_room_for_one_farther_than_the_closest() -> None:
    lookup, asked = near(range(1, 30))
    assert list(asked) == list(range(1, CLOSEST))
    lookup.slow(asked[1])
    assert asked_now(lookup) == []


def test_a_lost_node_is_replaced_at_once_by_the_next_closest_and_waited_for() -> None:
    lookup, asked = near(range(1, 30))
    lookup.slow(asked[1])
    lookup.lose(asked[1])
    replacing = asked_now(lookup)
    assert numbers(replacing) == [CLOSEST]
    for number in range(2, CLOSEST):
        answer(lookup, asked[number])
    answer(lookup, replacing[0])
    assert not is_over(lookup)
    lookup.fail(asked[1])
    assert is_over(lookup)
    assert numbers(lookup.answered()) == [0, *range(2, CLOSEST + 1)]


def test_a_lost_node_that_answers_after_all_is_among_the_closest_again() -> None:
    lookup, asked = near(range(1, 30))
    lookup.lose(asked[1])
    (replacing,) = asked_now(lookup)
    for number in range(1, CLOSEST):
        answer(lookup, asked[number])
    assert is_over(lookup)
    assert asked_now(lookup) == []
    answer(lookup, replacing)
    assert numbers(lookup.answered(CLOSEST)) == list(range(CLOSEST))


def test_a_node_that_was_lost_and_then_failed_leaves_no_extra_room() -> None:
    lookup, asked = near(range(1, 30))
    lookup.lose(asked[1])
    assert numbers(asked_now(lookup)) == [CLOSEST]
    lookup.fail(asked[1])
    assert asked_now(lookup) == []


def test_a_node_that_failed_is_replaced() -> None:
    lookup, asked = near(range(1, 30))
    lookup.fail(asked[3])
    assert numbers(asked_now(lookup)) == [CLOSEST]
    assert lookup.queried == CLOSEST + 1


def test_a_node_that_is_not_asked_after_all_does_not_count() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 30)))
    candidate = lookup.next()
    assert candidate is not None
    lookup.skip(candidate)
    assert lookup.queried == 0
    following = lookup.next()
    assert following is not None
    assert following.distance == 2


def test_only_nodes_among_the_closest_are_close() -> None:
    lookup, asked = near(range(10, 30))
    farthest = max(asked)
    assert lookup.is_close(asked[farthest])
    answer(lookup, asked[10], nodes(range(1, 3)))
    assert not lookup.is_close(asked[farthest])


# ids and addresses that do not fit


def test_a_node_that_answers_under_another_id_counts_as_that_one() -> None:
    lookup = Lookup(TARGET, nodes(range(1, 9)))
    (first,) = asked_now(lookup)
    real = Contact(contact(70).node_id, first.contact.endpoint)
    counted = lookup.answer(first, said(real, nodes([9])))
    assert counted is not None
    assert counted.contact == real
    assert run(lookup, {}) == list(range(2, 10))
    assert numbers(lookup.answered()) == [*range(2, 10), 70]


def test_a_node_that_answers_under_an_id_named_elsewhere_counts_as_nobody() -> None:
    lookup, asked = near([1, 2])
    assert lookup.answer(asked[1], said(contact(2), nodes([3]))) is None
    answer(lookup, asked[2])
    assert is_over(lookup)
    assert numbers(lookup.answered()) == [0, 2]
    assert lookup.next() is None  # nor is whom it named asked


def test_a_node_that_told_its_id_already_is_not_asked_again_under_it() -> None:
    lookup = Lookup(TARGET, [contact(1, "12.0.0.1"), contact(5, "12.0.0.1")])
    (first,) = asked_now(lookup)
    counted = lookup.answer(first, said(contact(5)))
    assert counted is not None
    assert asked_now(lookup) == []
    assert is_over(lookup)
    assert numbers(lookup.answered()) == [5]


def test_an_endpoint_named_under_many_ids_is_asked_once() -> None:
    lookup = Lookup(TARGET, [contact(number, "12.0.0.1") for number in range(1, 20)])
    assert len(run(lookup, {})) == 1
    assert lookup.queried == 1
    assert is_over(lookup)


def test_other_ports_of_an_address_are_other_nodes() -> None:
    lookup = Lookup(TARGET, [contact(number, "12.0.0.1", number) for number in range(1, 5)])
    assert run(lookup, {}) == [1, 2, 3, 4]


@pytest.mark.parametrize("late", [False, True])
def test_a_node_whose_id_a_liar_named_at_a_wrong_address_is_still_asked(late: bool) -> None:
    """Whether its own address is named before or after the wrong one failed."""
    lookup = Lookup(TARGET, [contact(1, "12.0.0.1")])
    (wrong,) = asked_now(lookup)
    if late:
        lookup.fail(wrong)
        lookup.add([contact(1)])
    else:
        lookup.add([contact(1)])
        lookup.fail(wrong)
    assert not is_over(lookup)
    (right,) = asked_now(lookup)
    assert right.contact == contact(1)
    answer(lookup, right)
    assert is_over(lookup)
    assert [one.contact for one in lookup.answered()] == [contact(1)]


def test_liars_that_name_the_same_wrong_address_do_not_crowd_out_the_right_one() -> None:
    lookup = Lookup(TARGET, [contact(1, "12.0.0.1")])
    (wrong,) = asked_now(lookup)
    for _ in range(8):
        lookup.add([contact(1, "12.0.0.2")])
    lookup.add([contact(1)])
    lookup.fail(wrong)
    (also_wrong,) = asked_now(lookup)
    lookup.fail(also_wrong)
    (right,) = asked_now(lookup)
    assert right.contact == contact(1)


def test_a_wrong_address_does_not_replace_one_that_answered() -> None:
    lookup = Lookup(TARGET, [contact(1)])
    assert run(lookup, {}) == [1]
    lookup.add([contact(1, "12.0.0.1")])
    assert asked_now(lookup) == []
    assert [one.contact for one in lookup.answered()] == [contact(1)]


def test_addresses_of_one_id_are_tried_until_none_is_left() -> None:
    lookup = Lookup(TARGET, [contact(1, f"12.0.0.{i}") for i in range(50)])
    tried = 0
    while asked := asked_now(lookup):
        (candidate,) = asked
        lookup.fail(candidate)
        tried += 1
    assert 2 <= tried <= 5  # a liar cannot keep it busy with one id
    assert is_over(lookup)


# caps


def test_a_lookup_that_liars_would_make_endless_ends() -> None:
    """Each names ever closer nodes: after MAX_QUERIED of them it gives up."""
    lookup = Lookup(TARGET, nodes([2**23]))
    waiting, step = asked_now(lookup), 0
    while waiting:
        step += 8
        answer(lookup, waiting.pop(0), nodes(2**23 - step + i for i in range(8)))
        waiting += asked_now(lookup)
        assert step <= 8 * MAX_QUERIED
    assert 200 < lookup.queried <= MAX_QUERIED
    assert is_over(lookup)


def test_of_too_many_candidates_the_farthest_are_let_go() -> None:
    everybody = list(range(1, 2 * MAX_CANDIDATES + 1))
    Random(1).shuffle(everybody)
    lookup = Lookup(TARGET, [], MAX_QUERIED)
    for number in everybody:
        lookup.add(nodes([number]))
    assert run(lookup, {}) == list(range(1, MAX_CANDIDATES + 1))


# on a whole network


@pytest.mark.parametrize("seed", range(20))
def test_without_loss_it_finds_exactly_the_true_closest(seed: int) -> None:
    net = small_net(2000, seed=seed)
    search = Client(net, seed).get()
    found = [one.contact for one in search.lookup.answered(CLOSEST)]
    assert found == [net.contact(i) for i in net.closest(search.target, CLOSEST)]
    assert search.converged


def test_a_search_for_twenty_asks_beside_the_target_and_finds_nearly_all() -> None:
    """A node names 8 nearest to a target: with that alone it would be nine in ten."""
    found = 0
    for seed in range(20):
        net = small_net(2000, seed=seed)
        search = Client(net, seed).get(closest=20)
        heard = {one.contact for one in search.lookup.answered(20)}
        found += sum(net.contact(i) in heard for i in net.closest(search.target, 20))
    assert found >= 0.97 * 20 * 20


def test_a_search_for_twenty_finds_all_of_a_small_network() -> None:
    for seed in range(5):
        net = small_net(24, seed=seed)
        search = Client(net, seed).get(closest=20)
        assert len(list(search.lookup.answered())) >= 18


def test_with_dead_nodes_and_loss_it_ends_and_finds_most() -> None:
    found = 0
    for seed in range(20):
        net = small_net(2000, seed=seed, dead=0.15, loss=0.05)
        search = Client(net, seed).get()
        assert search.converged
        true = {net.contact(i) for i in net.closest(search.target)}
        found += len(true & {one.contact for one in search.lookup.answered(CLOSEST)})
    assert found >= 0.9 * 20 * CLOSEST


def test_liars_cannot_aim_a_lookup_at_one_address() -> None:
    """Where a limit is set: so many of one address are asked, until one of them answers."""
    lookup = Lookup(TARGET, [contact(n, "12.0.0.1", n) for n in range(1, 60)], per_host=3)
    waiting = asked_now(lookup)
    asked = list(waiting)
    while waiting:
        lookup.slow(waiting[0])
        lookup.lose(waiting.pop(0))
        waiting += (more := asked_now(lookup))
        asked += more
    assert len(asked) == 3
