"""The libtorrent carrier on real swarms: every pitfall of the binding that it has to stand."""

import asyncio
import socket

import pytest

from dhtmeta._fast import ed25519
from dhtmeta.dht.address import format_address
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.errors import (
    CallerError,
    DeadlineExceeded,
    InvalidValue,
    PortError,
)
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from tests.dht.conftest import Start, introduce

WAIT = 10.0  # s: far above what anything here takes


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


async def test_only_byte_strings_can_be_put(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    with pytest.raises(InvalidValue, match="byte strings"):
        await carrier.put(Identity.generate(), encode_value({"a": 1}), b"", WAIT)


async def test_signed_items_need_the_other_carrier(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])

    async def choose(newest: SignedItem | None) -> SignedItem:
        raise AssertionError("never asked")

    with pytest.raises(CallerError, match="--carrier direct"):
        await carrier.put_item(Identity.generate().public_key, b"", choose, WAIT)


async def test_many_who_ask_for_one_key_share_one_lookup(start: Start, swarm: Swarm) -> None:
    carrier = await start(swarm.addresses[:1])
    await carrier.ready()
    public_key = Identity.generate().public_key
    async with Liar(ed25519.target(public_key), {}) as liar:
        await introduce(carrier, liar)
        asked = [carrier.get(public_key, b"", ignore, WAIT) for _ in range(1000)]
        outcomes = await asyncio.gather(*asked)
        assert liar.served == 1
    assert all(outcome.item is None and outcome.converged for outcome in outcomes)


async def test_a_silent_node_delays_convergence_but_not_the_value(
    start: Start, swarm: Swarm
) -> None:
    carrier = await start(swarm.addresses[:1])
    identity = Identity.generate()
    put = await carrier.put(identity, encode_value(b"here"), b"", WAIT)
    async with Liar(ed25519.target(identity.public_key), {}) as dead:
        await introduce(carrier, dead)
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
        await introduce(carrier, dead)
        dead.silent = True
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            await carrier.put(identity, encode_value(b"slow"), b"", 0.5)


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
