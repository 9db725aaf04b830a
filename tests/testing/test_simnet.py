"""The simulated DHT against brute force, and its nodes against the rules of BEP 44."""

import math
import random
from collections.abc import Callable

import pytest

from dhtmeta.const import SURVIVAL_SCALE, SURVIVAL_SHAPE
from dhtmeta.errors import CallerError, InvalidItem
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.messages import (
    Error,
    FindNode,
    Get,
    GetPeers,
    Message,
    Ping,
    Put,
    PutImmutable,
    Query,
    Response,
)
from dhtmeta.testing.sim_ids import ID_BITS
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import peer_id

US = ("198.51.100.7", 4000)
OURS = {"t": b"tran", "node_id": bytes(20)}
IDENTITY = Identity(bytes(32))
OLD, NEW = (SignedItem.sign(IDENTITY, encode_value({"n": seq}), seq) for seq in (5, 6))
SALTED = SignedItem.sign(IDENTITY, encode_value(b"salted"), 9, b"salt")
TARGET = OLD.target
HOUR = 3600.0  # s


def small(nodes: int = 200, **options: object) -> SimNet:
    given = {"seed": 1, "round_trip": constant_round_trip(0.1)} | options
    return SimNet(nodes, **given)  # type: ignore[arg-type]


def say(net: SimNet, i: int, query: Query) -> Message:
    """Ask node i, which has to answer."""
    ((_, data),) = net.ask(encode(query), US, net.contact(i).endpoint, net.now)
    return decode(data)


def get(net: SimNet, i: int, target: bytes = TARGET, seq: int | None = None) -> Response:
    said = say(net, i, Get(**OURS, target=target, seq=seq))  # type: ignore[arg-type]
    assert isinstance(said, Response)
    return said


def put(net: SimNet, i: int, item: SignedItem, **changes: object) -> int | None:
    """Put with a token of the node's own; return the code of the error, None if there is none."""
    token = get(net, i, item.target).token
    given = {"k": item.public_key, "salt": item.salt, "seq": item.seq, "v": item.v}
    given |= {"sig": item.sig, "token": token} | changes
    said = say(net, i, Put(**OURS, **given))  # type: ignore[arg-type]
    assert isinstance(said, Response | Error)
    return said.code if isinstance(said, Error) else None


def numbers(net: SimNet) -> list[int]:
    return [net.ids.number(i) for i in range(net.ids.nodes)]


# who is where


@pytest.mark.parametrize("nodes", [1, 2, 63, 64, 1000])
def test_ids_are_sorted_and_say_whose_they_are(nodes: int) -> None:
    net = small(nodes)
    assert numbers(net) == sorted(set(numbers(net)))
    assert all(net.index(net.contact(i).node_id) == i for i in range(nodes))


def test_ids_are_where_the_formula_has_them() -> None:
    net = small(10_000_000)
    for i in (0, 1, 4_999_999, 9_999_999):
        assert i << ID_BITS <= (net.ids.number(i) + 1) * 10_000_000
        assert net.ids.number(i) * 10_000_000 < (i + 1) << ID_BITS
        assert net.index(net.contact(i).node_id) == i


def test_endpoints_say_whose_they_are() -> None:
    net = small(10_000_000)
    some = random.Random(1).sample(range(10_000_000), 1000)
    assert [net.ids.at(net.contact(i).endpoint) for i in some] == some
    host, port = net.contact(7).endpoint
    assert net.ids.at((host, port + 1)) is None
    assert net.ids.at(("127.0.0.1", port)) is None


def test_neighbours_are_not_in_one_24() -> None:
    net = small(10_000_000)
    nets = {net.contact(i).endpoint[0].rpartition(".")[0] for i in range(5000, 5100)}
    assert len(nets) == 100


@pytest.mark.parametrize(("nodes", "dead"), [(5, 0.0), (300, 0.0), (300, 0.3), (300, 0.95)])
def test_the_closest_are_those_of_brute_force(nodes: int, dead: float) -> None:
    net = small(nodes, dead=dead)
    ids, rng = numbers(net), random.Random(2)
    for _ in range(200):
        target = rng.randbytes(20)
        ranked = sorted(range(nodes), key=lambda i: ids[i] ^ int.from_bytes(target, "big"))
        assert net.closest(target, live=False) == ranked[:8]
        assert net.closest(target, 20) == [i for i in ranked if not net.dead(i)][:20]


# what tables hold


def table(net: SimNet, i: int) -> dict[int, list[int]]:
    """Return the ids in each bucket of node i, worked out from the list of all ids."""
    ids = numbers(net)
    buckets: dict[int, list[int]] = {}
    for one in ids:
        if one != ids[i]:
            buckets.setdefault(ID_BITS - (one ^ ids[i]).bit_length(), []).append(one)
    return buckets


@pytest.mark.parametrize("nodes", [3, 100, 1500])
def test_buckets_have_the_sizes_of_libtorrent(nodes: int) -> None:
    net, rng = small(nodes), random.Random(3)
    for i in rng.sample(range(nodes), min(nodes, 20)):
        for bits, all_of_them in table(net, i).items():
            held = [entry.number for entry in net.tables.bucket(i, bits)]
            limit = (128, 64, 32, 16, 8)[min(bits, 4)]
            assert len(held) == len(set(held)) == min(limit, len(all_of_them))
            assert set(held) <= set(all_of_them)


@pytest.mark.parametrize("nodes", [3, 100, 1500])
def test_answers_are_those_of_a_whole_table(nodes: int) -> None:
    """Bucket of the target, deeper ones, shallower ones; of each the nearest, until there are 8."""
    net, rng = small(nodes), random.Random(4)
    for _ in range(100):
        i = rng.randrange(nodes)
        own = net.ids.number(i)
        target = rng.choice([rng.getrandbits(160), own ^ rng.getrandbits(152), own])
        shared = ID_BITS - (own ^ target).bit_length()
        expected: list[int] = []
        for bits in [*range(shared, 40), *range(min(shared, 40) - 1, -1, -1)]:
            held = [entry.number for entry in net.tables.bucket(i, bits)]
            expected += sorted(held, key=lambda one: one ^ target)[: 8 - len(expected)]
        expected.sort(key=lambda one: one ^ target)
        found = net.contacts_of(i, target.to_bytes(20, "big"))
        assert [int.from_bytes(one.node_id, "big") for one in found] == expected
        assert own not in expected


def test_choices_are_spread_over_the_whole_bucket() -> None:
    net = small(1_000_000)
    chosen = [entry.slot for i in range(200) for entry in net.tables.bucket(i, 0)]
    quarters = [
        sum(lo <= slot < lo + 125_000 for slot in chosen) for lo in range(500_000, 10**6, 125_000)
    ]
    assert all(abs(one / len(chosen) - 0.25) < 0.02 for one in quarters)


# what gets through


def test_a_seed_says_everything() -> None:
    def run(seed: int) -> list[object]:
        net = SimNet(1000, seed=seed, dead=0.2, loss=0.2)
        query = encode(Get(**OURS, target=TARGET))  # type: ignore[arg-type]
        return [net.ask(query, US, net.contact(i).endpoint, i) for i in range(200)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_loss_strikes_each_way_and_dead_nodes_never_answer() -> None:
    net = SimNet(2000, seed=1, loss=0.1, dead=0.2)
    query = encode(Ping(**OURS))  # type: ignore[arg-type]
    live = [i for i in range(2000) if net.live(i)]
    assert abs(len(live) / 2000 - 0.8) < 0.03
    answers = [net.ask(query, US, net.contact(i).endpoint, 0.0) for i in live]
    assert abs(sum(map(len, answers)) / len(live) - 0.9 * 0.9) < 0.03
    assert not any(
        net.ask(query, US, net.contact(i).endpoint, 0.0) for i in set(range(2000)) - set(live)
    )


def test_round_trips_are_those_of_mainline() -> None:
    net = SimNet(2000, seed=1)
    query = encode(Ping(**OURS))  # type: ignore[arg-type]
    trips = sorted(
        net.ask(query, US, net.contact(i).endpoint, 5.0)[0][0] - 5.0 for i in range(2000)
    )
    assert trips[0] > 0.020
    assert abs(trips[1000] - 0.140) < 0.01
    assert abs(trips[1682] - (0.020 + 0.120 * math.exp(0.6))) < 0.03  # one sigma above


def test_what_is_sent_and_what_comes_back_is_counted() -> None:
    net = small(dead=0.5)
    query = encode(Ping(**OURS))  # type: ignore[arg-type]
    answers = [net.ask(query, US, net.contact(i).endpoint, 0.0) for i in range(100)]
    replies = [data for answer in answers for _, data in answer]
    assert net.traffic.sent == 100
    assert net.traffic.sent_bytes == 100 * len(query)
    assert net.traffic.received == len(replies) < 100
    assert net.traffic.received_bytes == sum(map(len, replies))


@pytest.mark.parametrize("data", [b"", b"junk", encode(Response(t=b"t", node_id=bytes(20)))])
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    net = small()
    assert net.ask(data, US, net.contact(0).endpoint, 0.0) == []


def test_each_query_gets_what_it_asks_for() -> None:
    net, target = small(), bytes(20)
    ping = say(net, 3, Ping(**OURS))  # type: ignore[arg-type]
    find = say(net, 3, FindNode(**OURS, target=target))  # type: ignore[arg-type]
    peers = say(net, 3, GetPeers(**OURS, info_hash=target))  # type: ignore[arg-type]
    assert ping == Response(t=b"tran", node_id=net.contact(3).node_id)
    assert isinstance(find, Response)
    assert find.contacts == net.contacts_of(3, target)
    assert find.token is None
    assert isinstance(peers, Response)
    assert peers.contacts == find.contacts
    assert peers.token


# BEP 44


def test_a_put_is_there_for_the_next_get() -> None:
    net = small()
    assert get(net, 4).k is None
    assert put(net, 4, OLD) is None
    found = get(net, 4)
    assert (found.k, found.seq, found.v, found.sig) == (OLD.public_key, 5, OLD.v, OLD.sig)
    assert found.contacts
    assert put(net, 4, NEW) is None
    assert get(net, 4).v == NEW.v
    assert net.holders(TARGET) == {4: NEW}


def test_a_get_with_seq_gets_only_what_is_newer() -> None:
    net = small()
    net.store(OLD, [4])
    assert get(net, 4, seq=4).v == OLD.v
    for seq in (5, 6):
        found = get(net, 4, seq=seq)
        assert (found.k, found.seq, found.v, found.sig) == (None, 5, None, None)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token": b"guess"}, 203),
        ({"seq": -1}, 203),
        ({"v": b"d1:bi1e1:ai1ee"}, 203),
        ({"v": b"997:" + bytes(997)}, 205),
        ({"sig": bytes(64)}, 206),
        ({"seq": 8}, 206),
        ({"salt": bytes(65)}, 207),
        ({"cas": 4}, 301),
        ({"seq": OLD.seq, "v": OLD.v, "sig": OLD.sig}, 302),
        ({"cas": 6}, None),
    ],
)
def test_what_is_wrong_is_refused(changes: dict[str, object], code: int | None) -> None:
    net = small()
    net.store(NEW, [4])
    assert put(net, 4, NEW, **changes) == code
    assert net.holders(TARGET) == {4: NEW}


def test_an_equal_seq_is_accepted_and_not_stored() -> None:
    net = small()
    net.store(OLD, [4])
    other = SignedItem.sign(IDENTITY, encode_value(b"other"), OLD.seq)
    assert put(net, 4, other) is None
    assert net.holders(TARGET) == {4: OLD}


def test_cas_on_an_absent_item_is_accepted() -> None:
    assert put(small(), 4, OLD, cas=3) is None


def test_a_token_is_for_one_target_and_one_address() -> None:
    net = small()
    other = get(net, 4, bytes(20)).token
    assert put(net, 4, OLD, token=other) == 203
    assert put(net, 4, OLD, token=get(net, 5).token) == 203
    query = encode(Get(**OURS, target=TARGET))  # type: ignore[arg-type]
    for host, code in (("198.51.100.8", 203), (US[0], None)):  # the port does not matter
        ((_, data),) = net.ask(query, (host, 9), net.contact(4).endpoint, 0.0)
        said = decode(data)
        assert isinstance(said, Response)
        assert put(net, 4, OLD, token=said.token) == code


def test_a_token_is_good_for_five_minutes_at_least_and_ten_at_most() -> None:
    net = small()
    token = get(net, 4).token
    net.advance(599.0)
    assert put(net, 4, OLD, token=token) is None
    net.advance(600.0)
    assert put(net, 4, OLD, token=token) == 203


def test_an_immutable_value_is_stored_at_its_hash() -> None:
    net, v = small(), encode_value(b"immutable")
    target = peer_id(v)  # SHA1
    token = get(net, 4, target).token
    assert token
    said = say(net, 4, PutImmutable(**OURS, token=token, v=v))  # type: ignore[arg-type]
    assert isinstance(said, Response)
    found = get(net, 4, target)
    assert (found.v, found.k, found.seq, found.sig) == (v, None, None, None)
    assert get(net, 4, target, seq=0).v is None


def test_a_node_holds_no_more_than_libtorrents_do() -> None:
    net = small()
    for salt in range(701):
        net.store(SignedItem.sign(IDENTITY, b"i1e", 1, b"%d" % salt), [4])
    first, last = (SignedItem.sign(IDENTITY, b"i1e", 1, b"%d" % salt) for salt in (0, 700))
    assert net.holders(first.target) == {}
    assert net.holders(last.target) == {4: last}


# liars


def believed(response: Response, target: bytes = TARGET) -> SignedItem | None:
    """Return the item of a response, None if a reader has to refuse it."""
    k, seq, v, sig = response.k, response.seq, response.v, response.sig
    if k is None or seq is None or v is None or sig is None:
        return None
    try:
        return SignedItem.verified(target, k, b"", seq, v, sig)
    except InvalidItem:
        return None


LIES_ABOUT_ITEMS = [
    Lie.FOREIGN_KEY,
    Lie.HUGE_SEQ,
    Lie.NO_SIGNATURE,
    Lie.BAD_SALT,
    Lie.OVERSIZED,
    Lie.SHADOWING,
]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("kind", LIES_ABOUT_ITEMS)
def test_lies_about_items_are_refused(kind: Lie, stored: bool) -> None:
    net = small(liars={4: kind})
    if stored:
        net.store(OLD, [4, 5])
        net.store(SALTED, [6])
    lie = get(net, 4)
    assert lie.v is not None
    assert lie.token
    assert believed(lie) is None
    assert believed(get(net, 5)) == (OLD if stored else None)


def test_each_lie_is_the_one_it_is_called() -> None:
    def lie(kind: Lie) -> Response:
        net = small(liars=lambda i: kind if i == 4 else None)
        net.store(OLD, [4])
        net.store(SALTED, [6])
        return get(net, 4)

    foreign, huge, salted = lie(Lie.FOREIGN_KEY), lie(Lie.HUGE_SEQ), lie(Lie.BAD_SALT)
    assert foreign.k
    assert foreign.k != OLD.public_key
    assert believed(foreign, peer_id(foreign.k)) is not None
    assert (huge.k, huge.seq) == (OLD.public_key, 2**62)
    assert (salted.k, salted.sig) == (SALTED.public_key, SALTED.sig)
    assert len(lie(Lie.OVERSIZED).v or b"") == 1001
    assert lie(Lie.NO_SIGNATURE).sig is None
    assert lie(Lie.SHADOWING).k is None


def test_a_shadow_does_not_hide_from_a_get_with_seq() -> None:
    net = small(liars={4: Lie.SHADOWING})
    net.store(OLD, [4])
    assert believed(get(net, 4)) is None
    assert believed(get(net, 4, seq=0)) == OLD


def test_wrong_nodes_lead_nowhere() -> None:
    net = small(liars={4: Lie.WRONG_NODES})
    contacts = get(net, 4).contacts
    real = [net.contact(i).node_id for i in net.closest(TARGET)]
    assert len(contacts) == 8
    assert [one.node_id in real for one in contacts] == [False] * 4 + [True] * 4
    assert all(one.node_id[:19] == TARGET[:19] for one in contacts[:4])
    ping = encode(Ping(**OURS))  # type: ignore[arg-type]
    assert not any(net.ask(ping, US, one.endpoint, 0.0) for one in contacts)


def test_a_silent_node_says_nothing_and_a_false_one_another_id() -> None:
    net = small(liars={4: Lie.SILENCE, 5: Lie.WRONG_ID})
    ping = Ping(**OURS)  # type: ignore[arg-type]
    assert net.ask(encode(ping), US, net.contact(4).endpoint, 0.0) == []
    said = [say(net, 5, query) for query in (ping, ping, Get(**OURS, target=TARGET))]  # type: ignore[arg-type]
    ids = {one.node_id for one in said if isinstance(one, Response)}
    assert len(ids) == 1
    assert net.contact(5).node_id not in ids


# who dies when


@pytest.mark.parametrize(("begin", "scale"), [(0.0, 1.0), (100 * HOUR, 1.0), (0.0, 3.0)])
def test_copies_die_by_the_law_whenever_they_were_put(begin: float, scale: float) -> None:
    net = SimNet(20_000, seed=2, churn=True, survival_scale=scale)
    net.advance(begin)
    net.store(OLD, range(20_000))
    for hours in (1, 6, 24, 48):
        net.advance(begin + hours * HOUR)
        alive = len(net.holders(TARGET)) / 20_000
        law = math.exp(-((scale * hours * HOUR / SURVIVAL_SCALE) ** SURVIVAL_SHAPE))
        assert abs(alive - law) < 0.015  # four standard deviations
    if scale == 1.0:
        assert 0.25 <= alive <= 0.31


def test_who_comes_next_is_somebody_else_at_the_same_place() -> None:
    net = SimNet(1000, seed=2, churn=True)
    net.store(OLD, range(1000))
    before = [net.contact(i) for i in range(1000)]
    net.advance(48 * HOUR)
    gone = [i for i in range(1000) if net.contact(i) != before[i]]
    assert len(gone) > 500
    for i in gone:
        now = net.contact(i)
        assert now.node_id != before[i].node_id
        assert now.endpoint != before[i].endpoint
        assert net.index(now.node_id) == net.index(before[i].node_id) == i
        assert net.ids.at(before[i].endpoint) is None
        assert get(net, i).v is None
    assert numbers(net) == sorted(numbers(net))
    assert set(net.holders(TARGET)) == set(range(1000)) - set(gone)


def test_tables_name_some_who_are_gone() -> None:
    net, rng = SimNet(5000, seed=2, churn=True, dead=0.15), random.Random(5)
    net.advance(10 * HOUR)
    told = [
        one for _ in range(300) for one in net.contacts_of(rng.randrange(5000), rng.randbytes(20))
    ]
    gone = sum(net.ids.at(one.endpoint) is None for one in told) / len(told)
    assert abs(gone - 0.15) < 0.03
    assert all(net.live(i) for i in range(5000))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimNet(0, seed=1),
        lambda: SimNet(2**24 + 1, seed=1),
        lambda: SimNet(20_001, seed=1, churn=True),
    ],
)
def test_sizes_that_cannot_be_are_refused(make: Callable[[], SimNet]) -> None:
    with pytest.raises(CallerError):
        make()
