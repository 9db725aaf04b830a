"""The libtorrent carrier on real swarms: every pitfall of the binding that it has to stand."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta._fast import bencode, ed25519
from dhtmeta.dht.address import format_address
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.errors import (
    DeadlineExceeded,
    InvalidKey,
    InvalidSalt,
    InvalidValue,
    NetworkUnreachable,
    PortError,
    ValueTooLarge,
)
from dhtmeta.testing.liar import Fields, Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

WAIT = 10.0  # s: far above what anything here takes


Start = Callable[..., Awaitable[LibtorrentCarrier]]


@pytest_asyncio.fixture
async def swarm() -> AsyncIterator[Swarm]:
    """Run a swarm for one test: liars and carriers that left stay in its tables as dead nodes."""
    async with Swarm(12) as running:
        yield running


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start carriers, and close them when the test ends."""
    carriers: list[LibtorrentCarrier] = []

    async def started(bootstrap: list[str], **options: Any) -> LibtorrentCarrier:
        carrier = LibtorrentCarrier(bootstrap, **options)
        await carrier.start()
        carriers.append(carrier)
        return carrier

    yield started
    for carrier in carriers:
        await carrier.close()


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


async def test_a_put_is_read_back_by_another_node(start: Start, swarm: Swarm) -> None:
    writer, reader = await start(swarm.addresses[:1]), await start(swarm.addresses[1:2])
    identity, v = Identity.generate(), encode_value(b"hello")
    put = await writer.put(identity, v, b"salt", WAIT)
    seen: list[SignedItem] = []
    got = await reader.get(identity.public_key, b"salt", seen.append, WAIT)
    assert put.accepted == 8
    assert (put.item.seq, put.item.v, put.item.salt) == (1, v, b"salt")
    assert got.item == put.item
    assert seen == [put.item]
    assert got.converged
    assert await reader.get(identity.public_key, b"", ignore, WAIT) != got


async def test_puts_of_one_key_are_made_one_after_the_other(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    identity = Identity.generate()
    values = [encode_value(b"%d" % i) for i in range(5)]
    puts = await asyncio.gather(*(carrier.put(identity, v, b"", WAIT) for v in values))
    assert [put.item.seq for put in puts] == [1, 2, 3, 4, 5]
    got = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert got.item == puts[-1].item


async def test_bad_input_is_named_before_libtorrent_sees_it(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    identity, v = Identity.generate(), encode_value(b"x")
    with pytest.raises(ValueTooLarge, match="1,001 bytes"):
        await carrier.put(identity, b"997:" + b"x" * 997, b"", WAIT)
    with pytest.raises(InvalidSalt, match="65"):
        await carrier.put(identity, v, b"s" * 65, WAIT)
    with pytest.raises(InvalidSalt, match="65"):
        await carrier.get(identity.public_key, b"s" * 65, ignore, WAIT)
    with pytest.raises(InvalidKey, match="31"):
        await carrier.get(b"k" * 31, b"", ignore, WAIT)
    with pytest.raises(InvalidValue, match="byte strings"):
        await carrier.put(identity, encode_value({b"a": 1}), b"", WAIT)
    with pytest.raises(InvalidValue, match="trailing bytes at byte 3"):
        await carrier.put(identity, b"1:xx", b"", WAIT)
    nothing = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert nothing.item is None


async def test_the_largest_value_and_salt_go_through(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    identity, v, salt = Identity.generate(), b"996:" + b"x" * 996, b"s" * 64
    put = await carrier.put(identity, v, salt, WAIT)
    got = await carrier.get(identity.public_key, salt, ignore, WAIT)
    assert len(v) == 1000
    assert got.item == put.item


async def test_not_found_is_told_apart_from_no_network(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    missing = await carrier.get(Identity.generate().public_key, b"", ignore, WAIT)
    assert missing.item is None
    assert missing.converged
    alone = await start([_silent_address()])
    with pytest.raises(NetworkUnreachable, match=r"asked: 127\.0\.0\.1") as caught:
        await alone.get(Identity.generate().public_key, b"", ignore, 0.3)
    assert len(caught.value.silent) == 1
    with pytest.raises(NetworkUnreachable):
        await alone.put(Identity.generate(), encode_value(b"x"), b"", 0.3)


async def test_many_who_ask_for_one_key_share_one_lookup(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    public_key = Identity.generate().public_key
    async with Liar(ed25519.target(public_key), {}) as liar:
        await _introduce(carrier, liar)
        asked = [carrier.get(public_key, b"", ignore, WAIT) for _ in range(1000)]
        outcomes = await asyncio.gather(*asked)
        assert liar.served == 1
    assert all(outcome.item is None and outcome.converged for outcome in outcomes)


async def test_a_thousand_keys_at_once_all_converge(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    keys = [Identity.generate().public_key for _ in range(1000)]
    outcomes = await asyncio.gather(*(carrier.get(key, b"", ignore, 60) for key in keys))
    assert all(outcome.converged for outcome in outcomes)


async def test_a_silent_node_delays_convergence_but_not_the_value(
    start: Start, swarm: Swarm
) -> None:
    carrier = await start(swarm.addresses[:1])
    identity = Identity.generate()
    put = await carrier.put(identity, encode_value(b"here"), b"", WAIT)
    async with Liar(ed25519.target(identity.public_key), {}) as dead:
        await _introduce(carrier, dead)
        dead.silent = True
        first: asyncio.Future[SignedItem] = asyncio.get_running_loop().create_future()
        lookup = asyncio.create_task(
            carrier.get(identity.public_key, b"", lambda item: first.set_result(item), 3.0)
        )
        assert await first == put.item
        assert not lookup.done()
        outcome = await lookup  # the deadline ends it: libtorrent would wait for 15 s
    assert outcome.item == put.item
    assert not outcome.converged


async def test_a_put_that_takes_too_long_ends_at_its_deadline(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    identity = Identity.generate()
    await carrier.ready()
    async with Liar(ed25519.target(identity.public_key), {}) as dead:
        await _introduce(carrier, dead)
        dead.silent = True
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            await carrier.put(identity, encode_value(b"slow"), b"", 0.5)


def _signed(raw: bytes, seq: int = 1, *, said_seq: int | None = None) -> tuple[Identity, Fields]:
    """Sign raw bytes as they are, whatever they are, as a node would serve them."""
    identity = Identity.generate()
    prefix = b"3:seqi%de1:v" % seq
    return identity, {
        b"k": bencode.encode(identity.public_key),
        b"sig": bencode.encode(identity.sign(prefix + raw)),
        b"seq": b"i%de" % (seq if said_seq is None else said_seq),
        b"v": raw,
    }


LIES: dict[str, tuple[Identity, Fields]] = {
    "minus zero": _signed(b"i-0e"),
    "leading zeros in an int": _signed(b"i007e"),
    "leading zero in a length": _signed(b"05:hello"),
    "unsorted keys": _signed(b"d1:b1:x1:a1:ye"),
    "duplicate keys": _signed(b"d1:a1:x1:a1:ye"),
    "an int of more than 64 bits": _signed(b"i9223372036854775808e"),
    "1,001 bytes": _signed(b"997:" + b"x" * 997),
    "a negative seq": _signed(b"1:x", -1),
    "another seq than was signed": _signed(b"1:x", 1, said_seq=2**62),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
async def test_what_is_not_a_valid_item_is_never_handed_over(
    start: Start, swarm: Swarm, lie: str
) -> None:
    identity, fields = LIES[lie]
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    async with Liar(ed25519.target(identity.public_key), fields) as liar:
        await _introduce(carrier, liar)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
        assert liar.served == 1
    assert outcome.item is None


@pytest.mark.parametrize(
    ("raw", "seq"),
    [(b"5:hello", 41), (b"d1:a1:x1:b1:ye", 41), (b"i0e", 41), (b"li1ei2ee", 41), (b"0:", 0)],
    ids=str,
)
async def test_the_same_node_telling_the_truth_is_believed(
    start: Start, swarm: Swarm, raw: bytes, seq: int
) -> None:
    identity, fields = _signed(raw, seq)
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    async with Liar(ed25519.target(identity.public_key), fields) as honest:
        await _introduce(carrier, honest)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert outcome.item is not None
    assert (outcome.item.v, outcome.item.seq) == (raw, seq)


async def test_a_liar_with_a_huge_seq_does_not_hide_the_true_item(
    start: Start, swarm: Swarm
) -> None:
    carrier = await start(swarm.addresses[:1])
    identity, forger = Identity.generate(), Identity.generate()
    put = await carrier.put(identity, encode_value(b"true"), b"", WAIT)
    forged = SignedItem.sign(forger, encode_value(b"false"), 2**62)
    fields = {
        b"k": bencode.encode(identity.public_key),
        b"sig": bencode.encode(forged.sig),
        b"seq": b"i%de" % forged.seq,
        b"v": forged.v,
    }
    async with Liar(ed25519.target(identity.public_key), fields) as liar:
        await _introduce(carrier, liar)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
        assert liar.served >= 1
    assert outcome.item == put.item


async def test_two_values_under_one_seq_are_counted_and_the_smaller_kept(
    start: Start, swarm: Swarm
) -> None:
    identity = Identity.generate()
    target = ed25519.target(identity.public_key)
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    one, other = (SignedItem.sign(identity, encode_value(v), 5) for v in (b"aaa", b"bbb"))
    async with (
        Liar(target, _fields(one)) as first,
        Liar(target[:-1] + bytes([target[-1] ^ 3]), _fields(other)) as second,
    ):
        await _introduce(carrier, first)
        await _introduce(carrier, second)
        outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert outcome.item == one
    assert outcome.conflicts <= 1  # libtorrent hands over rising seqs only, so it may hide this


def _fields(item: SignedItem) -> Fields:
    return {
        b"k": bencode.encode(item.public_key),
        b"sig": bencode.encode(item.sig),
        b"seq": b"i%de" % item.seq,
        b"v": item.v,
    }


async def test_saved_state_restores_the_table_without_any_bootstrap_node(
    start: Start, swarm: Swarm
) -> None:
    carrier = await start(swarm.addresses)
    await carrier.ready()
    assert not await carrier.silent_contacts(WAIT)
    saved = carrier.saved_state()
    await carrier.close()
    again = await start([], listen="127.0.0.1:0", saved_state=saved)
    await again.ready()
    assert len(await again.live_nodes()) >= 8


async def test_damaged_saved_state_costs_only_the_fast_start(start: Start, swarm: Swarm) -> None:
    for damaged in (b"garbage", b"d9:dht state", b"\x00" * 1000):
        carrier = await start(swarm.addresses[:1], saved_state=damaged)
        await carrier.ready()


async def test_closing_with_work_in_flight_ends_it_within_a_second(
    start: Start, swarm: Swarm
) -> None:
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    identities = [Identity.generate() for _ in range(200)]
    async with Liar(identities[0].peer_id, {}) as dead:
        await _introduce(carrier, dead)
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
        async with asyncio.timeout(1.0):
            await carrier.close()
            outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert isinstance(outcomes[0], NetworkUnreachable)
    assert isinstance(outcomes[1], NetworkUnreachable)
    with pytest.raises(NetworkUnreachable, match="closed"):
        await carrier.get(identities[0].public_key, b"", ignore, WAIT)


async def test_a_loop_that_was_blocked_catches_up(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    keys = [Identity.generate().public_key for _ in range(64)]
    lookups = [asyncio.create_task(carrier.get(key, b"", ignore, WAIT)) for key in keys]
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the very thing: alerts pile up while nobody reads
    assert all(outcome.converged for outcome in await asyncio.gather(*lookups))


def test_it_runs_on_plain_asyncio_too() -> None:
    async def there_and_back() -> tuple[int, bool]:
        async with Swarm(8) as swarm:
            carrier = LibtorrentCarrier(swarm.addresses[:1])
            await carrier.start()
            put = await carrier.put(Identity.generate(), encode_value(b"x"), b"", WAIT)
            got = await carrier.get(put.item.public_key, b"", ignore, WAIT)
            await carrier.close()
            return put.accepted, got.item == put.item

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(there_and_back()) == (8, True)


async def test_a_busy_port_is_named(swarm: Swarm) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = format_address(taken.getsockname())
        carrier = LibtorrentCarrier(swarm.addresses[:1], address)
        with pytest.raises(PortError, match=rf"{address}.*--listen"):
            await carrier.start()


async def test_announced_peers_are_found(start: Start, swarm: Swarm) -> None:
    one, other = await start(swarm.addresses[:1]), await start(swarm.addresses[1:2])
    topic = Identity.generate().peer_id
    await one.announce(topic, 30906)
    found: list[tuple[str, int]] = []
    for _ in range(20):  # an announce has no completion: look until it is there
        found = await other.get_peers(topic, 0.2)
        if found:
            break
    assert found == [("127.0.0.1", 30906)]
    assert await other.get_peers(Identity.generate().peer_id, 0.1) == []


async def test_bootstrap_nodes_that_stay_silent_are_named(start: Start, swarm: Swarm) -> None:
    silent = _silent_address()
    carrier = await start([swarm.addresses[0], silent])
    await carrier.ready()
    assert await carrier.silent_contacts(0.3) == [silent]


async def test_it_can_be_cancelled_while_others_wait(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    key = Identity.generate().public_key
    lookups = [asyncio.create_task(carrier.get(key, b"", ignore, WAIT)) for _ in range(2)]
    await asyncio.sleep(0)
    lookups[0].cancel()
    assert (await lookups[1]).converged
    assert lookups[0].cancelled()


def _silent_address() -> str:
    """Return a loopback address that was free a moment ago: nobody answers there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return format_address(free.getsockname())


async def _introduce(carrier: LibtorrentCarrier, liar: Liar) -> None:
    """Wait until the carrier's routing table holds the liar."""
    async with asyncio.timeout(WAIT):
        carrier.session.add_nodes([liar.endpoint])
        while liar.endpoint not in {one.endpoint for one in await carrier.live_nodes()}:
            await asyncio.sleep(0.01)
