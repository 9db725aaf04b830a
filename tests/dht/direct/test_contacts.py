"""Which nodes are remembered: the closest against brute force, the caps, and who counts as dead."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import CONTACTS, DEAD_CONTACTS, DEAD_FOR
from dhtmeta.dht.direct.contacts import Contacts
from dhtmeta.krpc.compact import Contact, Endpoint


def node_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def node(number: int, port: int = 1) -> Contact:
    return Contact(node_id(number), (f"11.{number >> 16 & 255}.{number >> 8 & 255}.9", port))


def endpoint(i: int) -> Endpoint:
    return f"12.{i >> 16}.{i >> 8 & 255}.{i & 255}", 1


# near each other, so that long prefixes are shared, as well as anywhere
numbers = st.integers(0, 300) | st.integers(0, 2**160 - 1) | st.integers(2**160 - 300, 2**160 - 1)


@given(held=st.lists(numbers, max_size=60), wanted=numbers, count=st.integers(1, 20))
@settings(max_examples=300)
def test_the_closest_are_those_of_brute_force(held: list[int], wanted: int, count: int) -> None:
    contacts = Contacts()
    for number in held:
        contacts.add(node(number))
    true = sorted(set(held), key=lambda number: number ^ wanted)[:count]
    assert contacts.closest(node_id(wanted), count) == [node(number) for number in true]


@given(
    acts=st.lists(st.tuples(st.sampled_from(["add", "silent"]), st.integers(0, 12)), max_size=60),
    capacity=st.integers(1, 8),
    wanted=st.integers(0, 12),
)
@settings(max_examples=300)
def test_what_is_left_after_additions_and_silences_is_found(
    acts: list[tuple[str, int]], capacity: int, wanted: int
) -> None:
    contacts, model = Contacts(capacity), list[int]()
    for act, number in acts:
        model = [one for one in model if one != number]
        if act == "add":
            contacts.add(node(number))
            model = [*model, number][-capacity:]
        else:
            contacts.note_silent(node(number), 0.0)
    assert list(contacts) == [node(number) for number in model]
    assert len(contacts) == len(model)
    true = sorted(model, key=lambda number: number ^ wanted)
    assert contacts.closest(node_id(wanted), capacity) == [node(number) for number in true]


def test_whoever_answered_longest_ago_is_forgotten_first() -> None:
    contacts = Contacts(3)
    for number in (1, 2, 3, 1, 4):
        contacts.add(node(number))
    assert list(contacts) == [node(3), node(1), node(4)]
    assert contacts.closest(node_id(2), 8) == [node(3), node(1), node(4)]


def test_the_same_id_elsewhere_replaces_the_older_one() -> None:
    contacts = Contacts()
    contacts.add(node(7, port=1))
    contacts.add(node(7, port=2))
    assert list(contacts) == contacts.closest(node_id(7), 8) == [node(7, port=2)]


def test_it_may_be_changed_while_somebody_goes_through_it() -> None:
    contacts = Contacts()
    for number in range(5):
        contacts.add(node(number))
    for contact in contacts:
        contacts.note_silent(contact, 0.0)
    assert len(contacts) == 0


def test_a_silent_node_is_forgotten_and_dead_for_a_while() -> None:
    contacts = Contacts()
    contacts.add(node(7))
    contacts.note_silent(node(7), 1000.0)
    assert contacts.closest(node_id(7), 8) == []
    assert contacts.is_dead(node(7).endpoint, 1000.0)
    assert contacts.is_dead(node(7).endpoint, 999.9 + DEAD_FOR)
    assert not contacts.is_dead(node(7).endpoint, 1000.0 + DEAD_FOR)
    assert not contacts.is_dead(node(7, port=2).endpoint, 1000.0)


def test_silence_counts_from_the_first_time_while_it_lasts() -> None:
    contacts = Contacts()
    for now in (1000.0, 1100.0):
        contacts.note_silent(node(7), now)
    assert contacts.is_dead(node(7).endpoint, 999.9 + DEAD_FOR)
    assert not contacts.is_dead(node(7).endpoint, 1000.0 + DEAD_FOR)
    contacts.note_silent(node(7), 1000.0 + DEAD_FOR)
    assert contacts.is_dead(node(7).endpoint, 1050.0 + DEAD_FOR)


def test_the_nearest_that_are_dead_now_are_named() -> None:
    contacts = Contacts()
    one, five, six, nine = (Contact(node_id(number), endpoint(number)) for number in (1, 5, 6, 9))
    for silent, since in ((one, 1000.0), (nine, 1050.0), (five, 1050.0), (six, 1100.0)):
        contacts.note_silent(silent, since)
    assert contacts.silent(node_id(4), 2, 1100.0) == [five, six]
    assert contacts.silent(node_id(0), 1, 1100.0) == [one]
    assert contacts.silent(node_id(0), 8, 1000.0 + DEAD_FOR) == [five, six, nine]
    contacts.add(six)
    assert contacts.silent(node_id(0), 8, 1050.0 + DEAD_FOR) == []


def test_who_answers_is_not_dead() -> None:
    contacts = Contacts()
    contacts.note_silent(node(7), 1000.0)
    contacts.add(node(7))
    assert not contacts.is_dead(node(7).endpoint, 1000.0)
    assert contacts.closest(node_id(7), 8) == [node(7)]


def test_silence_at_another_address_does_not_forget_a_node() -> None:
    contacts = Contacts()
    contacts.add(node(7, port=1))
    contacts.note_silent(node(7, port=2), 1000.0)
    assert list(contacts) == [node(7, port=1)]
    assert not contacts.is_dead(node(7, port=1).endpoint, 1000.0)


def test_the_dead_have_a_cap_and_the_one_silent_longest_goes() -> None:
    contacts = Contacts()
    for i in range(DEAD_CONTACTS):
        contacts.note_silent(Contact(node_id(i), endpoint(i)), 1000.0)
    now = 1000.0 + DEAD_FOR
    contacts.note_silent(Contact(node_id(0), endpoint(0)), now)  # anew: it is the newest
    contacts.note_silent(Contact(bytes(20), endpoint(DEAD_CONTACTS)), now)
    named = {one.endpoint for one in contacts.silent(bytes(20), DEAD_CONTACTS, now - 0.1)}
    assert named == {endpoint(i) for i in range(DEAD_CONTACTS + 1)} - {endpoint(1)}


def test_the_remembered_have_a_cap() -> None:
    contacts = Contacts()
    for i in range(CONTACTS + 1):
        contacts.add(Contact(node_id(i), endpoint(i)))
    assert len(contacts) == CONTACTS
    assert next(iter(contacts)).node_id == node_id(1)
