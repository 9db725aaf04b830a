"""What a top-up sends and to whom, and what a search for an item of ours makes of what it meets."""

from typing import Any

import pytest

from dhtmeta.const import CLOSEST, QUERY_TRIES
from dhtmeta.dht.direct.lookup import Candidate
from dhtmeta.dht.direct.search import Search
from dhtmeta.dht.direct.top_up import TopUp
from dhtmeta.krpc import messages
from dhtmeta.krpc.codec import decode
from dhtmeta.testing.sim_liars import Lie
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem
from tests.dht.direct.stage import TARGET, Client, signed, small_net
from tests.dht.direct.test_search import Scene, verifications

__all__ = ["verifications"]  # a fixture

OLD, MINE, NEWER = signed(3, b"old"), signed(5, b"mine"), signed(9, b"newer")
OTHER = signed(5, b"a smaller value")


def indices(net: SimNet, nodes: list[Candidate]) -> list[int]:
    return [net.index(one.contact.node_id) for one in nodes]


def look(client: Client, **options: Any) -> Search:
    """Look for MINE as one that is kept."""
    return client.get(known=MINE, **options)


def top_up(client: Client, search: Search, copies: int) -> TopUp:
    """Top up, and let it come to its end."""
    puts = client.core.top_up(search, MINE, copies)
    client.rest()
    assert puts.ended
    return puts


def sent_puts(client: Client) -> list[messages.Put]:
    sent = [decode(data) for _, (data, _) in client.sent]
    return [one for one in sent if isinstance(one, messages.Put)]


# puts


def test_the_very_bytes_go_to_so_many_of_those_that_lack_them_closest_first() -> None:
    net = small_net()
    closest = net.closest(TARGET)
    net.store(MINE, closest[2:4])
    client = Client(net)
    puts = top_up(client, look(client), 3)
    assert indices(net, puts.stored) == [closest[0], closest[1], closest[4]]
    assert set(net.holders(TARGET)) == set(closest[:5])
    assert set(net.holders(TARGET).values()) == {MINE}
    said = {(one.k, one.salt, one.seq, one.v, one.sig, one.cas) for one in sent_puts(client)}
    assert said == {(MINE.public_key, b"", 5, MINE.v, MINE.sig, None)}
    assert (len(sent_puts(client)), puts.sent, puts.rejected, puts.silent) == (3, 3, [], 0)


def test_what_is_older_is_replaced_and_another_value_under_our_seq_left_alone() -> None:
    net = small_net()
    closest = net.closest(TARGET)
    net.store(OLD, closest[:3])
    net.store(OTHER, closest[3:5])
    client = Client(net)
    puts = top_up(client, look(client), CLOSEST)
    assert indices(net, puts.stored) == closest[:3] + closest[5:]
    held = net.holders(TARGET)
    assert [held[one] for one in closest] == [MINE] * 3 + [OTHER] * 2 + [MINE] * 3


def test_no_copies_is_over_at_once() -> None:
    client = Client(small_net())
    puts = client.core.top_up(look(client), MINE, 0)
    assert puts.ended
    client.rest()
    assert sent_puts(client) == []
    assert (puts.stored, puts.sent) == ([], 0)


def test_in_place_of_those_that_are_silent_the_next_are_asked() -> None:
    liars: dict[int, Lie] = {}
    net = small_net(liars=liars)
    closest, client = net.closest(TARGET), Client(net)
    search = look(client)
    liars.update(dict.fromkeys(closest[:2], Lie.SILENCE))
    puts = top_up(client, search, 4)
    assert sorted(indices(net, puts.stored)) == sorted(closest[2:6])
    assert puts.silent == 2
    assert puts.sent == len(sent_puts(client)) == 4 + 2 * QUERY_TRIES


def test_in_place_of_those_that_refuse_the_next_are_asked() -> None:
    net = small_net()
    closest, client = net.closest(TARGET), Client(net)
    search = look(client)
    net.store(NEWER, closest[:2])  # between the look and the puts
    puts = top_up(client, search, 4)
    assert sorted(indices(net, puts.stored)) == sorted(closest[2:6])
    assert puts.rejected == [302, 302]


def test_where_nobody_takes_it_it_ends_all_the_same() -> None:
    net = small_net()
    client = Client(net)
    search = look(client)
    client.now += 3600.0  # the tokens run out
    puts = top_up(client, search, 2)
    assert (puts.stored, puts.rejected, puts.silent) == ([], [203] * CLOSEST, 0)


def test_one_that_is_cut_short_tells_how_far_it_came_and_hears_no_more() -> None:
    net = small_net()
    client = Client(net)
    puts = client.core.top_up(look(client), MINE, 3)
    client.turn()
    client.core.cancel(puts)
    client.rest()
    assert puts.ended
    assert puts.stored == []
    assert len(sent_puts(client)) == 3


# the look


def test_it_tells_who_holds_it_and_who_lacks_it() -> None:
    net = small_net()
    closest = net.closest(TARGET)
    net.store(MINE, [*closest[:3], *net.closest(TARGET, 20)[CLOSEST:]])
    net.store(OLD, closest[3:5])
    net.store(OTHER, closest[5:6])
    search = look(Client(net))
    assert indices(net, search.holding(MINE)) == closest[:3]
    assert indices(net, search.lacking(MINE)) == closest[3:5] + closest[6:]
    assert search.outcome.holding >= 3


def test_of_what_is_older_nothing_is_verified_and_ours_is_not_verified_again(
    verifications: list[int],
) -> None:
    net = small_net()
    closest = net.closest(TARGET)
    net.store(MINE, closest[:4])
    net.store(OLD, closest[4:])
    verifications.clear()
    search = look(Client(net))
    assert search.best is MINE
    assert verifications == []
    assert len(search.holding(MINE)) == 4


def test_bytes_that_only_resemble_ours_are_verified() -> None:
    scene = Scene(1, known=MINE).start()
    node = scene.show(MINE, sig=b"\x5a" * 64)
    assert scene.search.outcome.refused == 1
    assert node not in scene.search.holding(MINE)


def test_another_value_under_our_seq_is_counted_and_ours_stays() -> None:
    for other in (OTHER, signed(5, b"zzzz")):  # of others the smaller bytes would be kept
        net = small_net()
        net.store(other, net.closest(TARGET)[:2])
        client = Client(net)
        search = look(client)
        assert search.best is MINE
        assert search.outcome.conflicts == 2
        assert client.found(search) == []


def test_what_is_newer_takes_its_place_and_is_told_of() -> None:
    net = small_net()
    net.store(MINE, net.closest(TARGET))
    net.store(NEWER, net.closest(TARGET)[-1:])
    client = Client(net)
    search = look(client)
    assert search.best == NEWER
    assert client.found(search) == [NEWER]
    assert len(search.holding(MINE)) == CLOSEST - 1


def test_ours_is_not_told_of_as_found() -> None:
    net = small_net()
    net.store(MINE, net.closest(TARGET))
    client = Client(net)
    assert client.found(look(client)) == []


def test_one_that_gives_no_token_cannot_take_it() -> None:
    scene = Scene(2, known=MINE).start()
    scene.show(token=b"t")
    scene.show()
    assert len(scene.search.lacking(MINE)) == 1


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_every_datagram_is_counted(loss: float) -> None:
    shadowing = dict.fromkeys(small_net().closest(TARGET)[:3], Lie.SHADOWING)
    net = small_net(loss=loss, liars=shadowing)
    net.store(MINE, net.closest(TARGET)[:2])
    client = Client(net)
    search = look(client)
    puts = top_up(client, search, 4)
    assert search.sent + puts.sent == len(client.sent)
    assert loss == 0 or puts.sent + puts.silent > len(puts.stored)


@pytest.mark.parametrize("item", [signed(0), signed(2**63 - 1, {"a": 1}, b"salt")])
def test_an_item_of_any_seq_and_salt_can_be_kept(item: SignedItem) -> None:
    net = small_net()
    client = Client(net)
    search = client.get(item.salt, known=item)
    client.core.top_up(search, item, CLOSEST)
    client.rest()
    assert list(net.holders(item.target).values()) == [item] * CLOSEST
    assert len(client.get(item.salt, known=item).holding(item)) == CLOSEST
