"""What the direct carrier puts, libtorrent and bittorrent-dht read; what they hold, it counts."""

from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.krpc.compact import Contact
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord, record_value
from tests.interop.foreign import ForeignPeer

WAIT = 20.0  # s: far above what anything here takes

RECORD = {  # as remote.network nodes publish theirs: a dict, booleans as ints, no floats
    b"node_id": b"11" * 20,
    b"topic": b"remote-network-mesh",
    b"version": 1,
    b"timestamp": 1_800_000_000,
    b"capabilities": [b"files", b"apps"],
    b"network_info": {
        b"public_ip": b"203.0.113.9",
        b"public_port": 30906,
        b"node_type": b"public",
        b"is_relay": 1,
        b"relay_pricing": 1000,
        b"protocols": [{b"name": b"quic", b"port": 30906}],
    },
}


@pytest_asyncio.fixture
async def foreign(own_swarm: Swarm) -> AsyncIterator[ForeignPeer]:
    """Run a foreign node in a swarm of its own."""
    async with ForeignPeer(own_swarm.addresses[:3]) as peer:
        yield peer


@pytest_asyncio.fixture
async def node(own_swarm: Swarm) -> AsyncIterator[LibtorrentCarrier]:
    """Run a libtorrent node."""
    carrier = LibtorrentCarrier(own_swarm.addresses[:3])
    await carrier.start()
    yield carrier
    await carrier.close()


@pytest_asyncio.fixture
async def direct(node: LibtorrentCarrier) -> AsyncIterator[DirectCarrier]:
    """Run a direct carrier beside it."""
    carrier = DirectCarrier(node, UdpSocket("127.0.0.1:0"), local=True)
    await carrier.start()
    yield carrier
    await carrier.close()


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


async def put(carrier: DirectCarrier, item: SignedItem) -> int:
    """Put an item that was signed elsewhere; returns how many nodes hold it now."""

    async def choose(newest: SignedItem | None) -> SignedItem:
        return item

    outcome = await carrier.put_item(item.public_key, item.salt, choose, WAIT)
    assert outcome.item == item
    assert outcome.copies is not None
    return outcome.copies


@pytest.mark.parametrize("salt", [b"", b"s" * 64], ids=["no salt", "salt"])
@pytest.mark.parametrize("seq", [0, 7, 2**53])
async def test_signed_bytes_put_without_the_key_are_read_by_both(
    direct: DirectCarrier, node: LibtorrentCarrier, foreign: ForeignPeer, salt: bytes, seq: int
) -> None:
    item = SignedItem.sign(Identity.generate(), encode_value({"a": [1, "b"]}), seq, salt)
    assert await put(direct, item) >= 8
    by_libtorrent = await node.get(item.public_key, salt, ignore, WAIT)
    by_foreign = await foreign.get(item.public_key, salt)
    assert by_libtorrent.item == item
    assert by_foreign is not None
    assert (by_foreign.value, by_foreign.seq) == ({b"a": [1, b"b"]}, seq)


async def test_a_record_goes_round_as_the_dict_it_is(
    direct: DirectCarrier, node: LibtorrentCarrier, foreign: ForeignPeer
) -> None:
    identity = Identity.generate()
    said = RECORD | {b"peer_id": identity.peer_id.hex().encode()}
    item = SignedItem.sign(identity, encode_value(said), 1)
    await put(direct, item)
    found = (await node.get(identity.public_key, b"", ignore, WAIT)).item
    by_foreign = await foreign.get(identity.public_key)
    assert found is not None
    assert by_foreign is not None
    assert found.value == by_foreign.value == said
    value = record_value(found.value)
    assert value is not None
    record = NodeRecord.from_value(value)
    assert record.network_info.relay_pricing == 1000
    assert record.to_value() == said


async def test_a_record_of_ours_is_a_dict_to_others(
    direct: DirectCarrier, foreign: ForeignPeer
) -> None:
    identity = Identity.generate()
    info = NetworkInfo(node_type="public", public_ip="203.0.113.9", public_port=30906)
    record = NodeRecord(topic="t", network_info=info).completed(identity.public_key, 1_800_000_000)
    await direct.put(identity, encode_value(record.to_value()), b"", WAIT)
    found = await foreign.get(identity.public_key)
    assert found is not None
    assert found.value == record.to_value()


async def test_a_node_that_refuses_what_it_holds_already_counts_as_holding_it(
    direct: DirectCarrier, foreign: ForeignPeer
) -> None:
    near = _item_near(foreign.node_id)
    await direct.ready()
    direct.core.note_alive(Contact(foreign.node_id, foreign.endpoint))
    first, again = await put(direct, near), await put(direct, near)
    assert await foreign.gets() >= 2  # it was asked, and showed it
    assert again == first


def _item_near(node_id: bytes) -> SignedItem:
    """Return an item whose target shares the first bits with a node: it is among the closest."""
    tries: Sequence[Identity] = [Identity.generate() for _ in range(64)]
    nearest = min(tries, key=lambda one: int.from_bytes(one.peer_id) ^ int.from_bytes(node_id))
    return SignedItem.sign(nearest, encode_value(b"x"), 5)
