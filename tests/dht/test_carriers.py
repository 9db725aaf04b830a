"""What both carriers promise, tested on real swarms with each of them."""

import asyncio
import time

import pytest

from dhtmeta._fast import bencode, ed25519
from dhtmeta.errors import (
    CallerError,
    InvalidKey,
    InvalidSalt,
    InvalidValue,
    NetworkUnreachable,
    ValueTooLarge,
)
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from tests.dht.conftest import StartAny, introduce, silent_address
from tests.dht.lies import LIES, fields, signed

WAIT = 10.0  # s: far above what anything here takes


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


async def test_a_put_is_read_back_by_another_node(start_any: StartAny, swarm: Swarm) -> None:
    writer, reader = await start_any(swarm.addresses[:1]), await start_any(swarm.addresses[1:2])
    identity, v = Identity.generate(), encode_value(b"hello")
    put = await writer.put(identity, v, b"salt", WAIT)
    seen: list[SignedItem] = []
    got = await reader.get(identity.public_key, b"salt", seen.append, WAIT)
    assert put.accepted >= 8
    assert (put.item.seq, put.item.v, put.item.salt) == (1, v, b"salt")
    assert got.item == put.item
    assert seen == [put.item]
    assert got.converged
    assert await reader.get(identity.public_key, b"", ignore, WAIT) != got


async def test_puts_of_one_key_are_made_one_after_the_other(
    start_any: StartAny, swarm: Swarm
) -> None:
    carrier = await start_any(swarm.addresses[:1])
    identity = Identity.generate()
    values = [encode_value(b"%d" % i) for i in range(5)]
    puts = await asyncio.gather(*(carrier.put(identity, v, b"", WAIT) for v in values))
    assert [put.item.seq for put in puts] == [1, 2, 3, 4, 5]
    got = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert got.item == puts[-1].item


async def test_bad_input_is_named_before_anything_is_sent(
    start_any: StartAny, swarm: Swarm
) -> None:
    carrier = await start_any(swarm.addresses[:1])
    identity, v = Identity.generate(), encode_value(b"x")
    with pytest.raises(ValueTooLarge, match="1,001 bytes"):
        await carrier.put(identity, b"997:" + b"x" * 997, b"", WAIT)
    with pytest.raises(InvalidSalt, match="65"):
        await carrier.put(identity, v, b"s" * 65, WAIT)
    with pytest.raises(InvalidSalt, match="65"):
        await carrier.get(identity.public_key, b"s" * 65, ignore, WAIT)
    with pytest.raises(InvalidKey, match="31"):
        await carrier.get(b"k" * 31, b"", ignore, WAIT)
    with pytest.raises(InvalidValue, match="trailing bytes at byte 3"):
        await carrier.put(identity, b"1:xx", b"", WAIT)
    nothing = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert nothing.item is None


async def test_an_item_that_is_enough_ends_the_get(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    identity = Identity.generate()
    put = await carrier.put(identity, encode_value(b"x"), b"", WAIT)
    enough = await carrier.get(identity.public_key, b"", ignore, WAIT, enough=put.item.seq)
    more = await carrier.get(identity.public_key, b"", ignore, WAIT, enough=put.item.seq + 1)
    assert enough.item == more.item == put.item
    assert more.converged
    if not carrier.signs_itself:  # libtorrent may have ended its own lookup in the same moment
        assert not enough.converged


async def test_the_largest_value_and_salt_go_through(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    identity, v, salt = Identity.generate(), b"996:" + b"x" * 996, b"s" * 64
    put = await carrier.put(identity, v, salt, WAIT)
    got = await carrier.get(identity.public_key, salt, ignore, WAIT)
    assert len(v) == 1000
    assert got.item == put.item


async def test_not_found_is_told_apart_from_no_network(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    missing = await carrier.get(Identity.generate().public_key, b"", ignore, WAIT)
    assert missing.item is None
    assert missing.converged
    alone = await start_any([silent_address()])
    with pytest.raises(NetworkUnreachable, match=r"asked: 127\.0\.0\.1") as caught:
        await alone.get(Identity.generate().public_key, b"", ignore, 0.3)
    assert len(caught.value.silent) == 1
    with pytest.raises(NetworkUnreachable):
        await alone.put(Identity.generate(), encode_value(b"x"), b"", 0.3)


async def test_a_thousand_keys_at_once_all_converge(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    keys = [Identity.generate().public_key for _ in range(1000)]
    outcomes = await asyncio.gather(*(carrier.get(key, b"", ignore, 60) for key in keys))
    assert all(outcome.converged for outcome in outcomes)


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_what_is_not_a_valid_item_is_never_handed_over(
    start_any: StartAny, swarm: Swarm, lie: str
) -> None:
    identity, lies = LIES[lie]
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    async with Liar(ed25519.target(identity.public_key), lies) as liar:
        await introduce(carrier, liar)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
        assert liar.served >= 1
    assert outcome.item is None


@pytest.mark.parametrize(
    ("raw", "seq"),
    [(b"5:hello", 41), (b"d1:a1:x1:b1:ye", 41), (b"i0e", 41), (b"li1ei2ee", 41), (b"0:", 0)],
    ids=str,
)
async def test_the_same_node_telling_the_truth_is_believed(
    start_any: StartAny, swarm: Swarm, raw: bytes, seq: int
) -> None:
    identity, truth = signed(raw, seq)
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    async with Liar(ed25519.target(identity.public_key), truth) as honest:
        await introduce(carrier, honest)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert outcome.item is not None
    assert (outcome.item.v, outcome.item.seq) == (raw, seq)


async def test_a_liar_with_a_huge_seq_does_not_hide_the_true_item(
    start_any: StartAny, swarm: Swarm
) -> None:
    carrier = await start_any(swarm.addresses[:1])
    identity, forger = Identity.generate(), Identity.generate()
    put = await carrier.put(identity, encode_value(b"true"), b"", WAIT)
    forged = SignedItem.sign(forger, encode_value(b"false"), 2**62)
    lies = fields(forged) | {b"k": bencode.encode(identity.public_key)}
    async with Liar(ed25519.target(identity.public_key), lies) as liar:
        await introduce(carrier, liar)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
        assert liar.served >= 1
    assert outcome.item == put.item


async def test_two_values_under_one_seq_are_counted_and_the_smaller_kept(
    start_any: StartAny, swarm: Swarm
) -> None:
    identity = Identity.generate()
    target = ed25519.target(identity.public_key)
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    one, other = (SignedItem.sign(identity, encode_value(v), 5) for v in (b"aaa", b"bbb"))
    async with (
        Liar(target, fields(one)) as first,
        Liar(target[:-1] + bytes([target[-1] ^ 3]), fields(other)) as second,
    ):
        await introduce(carrier, first)
        await introduce(carrier, second)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert outcome.item == one
    if not carrier.signs_itself:  # libtorrent hands over rising seqs only, so it hides this
        assert outcome.conflicts == 1


async def test_closing_with_work_in_flight_ends_it_within_a_second(
    start_any: StartAny, swarm: Swarm
) -> None:
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    identities = [Identity.generate() for _ in range(200)]
    async with Liar(identities[0].peer_id, {}) as dead:
        await introduce(carrier, dead)
        dead.silent = True
        work = [
            asyncio.create_task(carrier.get(identities[0].public_key, b"", ignore, WAIT)),
            asyncio.create_task(carrier.put(identities[0], encode_value(b"x"), b"", WAIT)),
        ]
        work += [
            asyncio.create_task(carrier.get(one.public_key, b"", ignore, WAIT))
            for one in identities[1:]
        ]
        await asyncio.sleep(0)
        async with asyncio.timeout(5.0):  # the dead node alone costs 15 s
            await carrier.close()
            outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert isinstance(outcomes[0], NetworkUnreachable)
    assert isinstance(outcomes[1], NetworkUnreachable)
    with pytest.raises(NetworkUnreachable, match="closed"):
        await carrier.get(identities[0].public_key, b"", ignore, WAIT)


async def test_a_loop_that_was_blocked_catches_up(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    keys = [Identity.generate().public_key for _ in range(64)]
    lookups = [asyncio.create_task(carrier.get(key, b"", ignore, WAIT)) for key in keys]
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the very thing: alerts pile up while nobody reads
    assert all(outcome.converged for outcome in await asyncio.gather(*lookups))


async def test_what_is_signed_is_kept_by_who_can_and_refused_by_who_cannot(
    start_any: StartAny, swarm: Swarm
) -> None:
    carrier = await start_any(swarm.addresses[:1])
    item = SignedItem.sign(Identity.generate(), encode_value({"a": 1}), 7)
    if carrier.signs_itself:
        with pytest.raises(CallerError, match="--carrier direct"):
            await carrier.keep(item, lambda standing: 8, WAIT)
        return
    first = await carrier.keep(item, lambda standing: 3, WAIT)
    assert (first.standing.holding, first.standing.newer) == ((), None)
    assert set(first.stored) == set(first.standing.lacking[:3])
    again = await carrier.keep(item, lambda standing: 0, WAIT)
    assert set(again.standing.holding) == set(first.stored)
    got = await carrier.get(item.public_key, b"", ignore, WAIT)
    assert got.item == item


async def test_announced_peers_are_found(start_any: StartAny, swarm: Swarm) -> None:
    one, other = await start_any(swarm.addresses[:1]), await start_any(swarm.addresses[1:2])
    topic = Identity.generate().peer_id
    await one.announce(topic, 30906)
    found: list[tuple[str, int]] = []
    for _ in range(20):  # an announce has no completion: look until it is there
        found = await other.get_peers(topic, 0.2)
        if found:
            break
    assert found == [("127.0.0.1", 30906)]
    assert await other.get_peers(Identity.generate().peer_id, 0.1) == []


async def test_bootstrap_nodes_that_stay_silent_are_named(
    start_any: StartAny, swarm: Swarm
) -> None:
    silent = silent_address()
    carrier = await start_any([swarm.addresses[0], silent])
    await carrier.ready()
    assert await carrier.silent_contacts(0.3) == [silent]


async def test_it_can_be_cancelled_while_others_wait(start_any: StartAny, swarm: Swarm) -> None:
    carrier = await start_any(swarm.addresses[:1])
    await carrier.ready()
    key = Identity.generate().public_key
    lookups = [asyncio.create_task(carrier.get(key, b"", ignore, WAIT)) for _ in range(2)]
    await asyncio.sleep(0)
    lookups[0].cancel()
    assert (await lookups[1]).converged
    assert lookups[0].cancelled()
