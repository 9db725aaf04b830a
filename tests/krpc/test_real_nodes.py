"""What libtorrent's nodes and bittorrent-dht send is read as what it means, and ours by them."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import libtorrent as lt
import pytest
import pytest_asyncio

from dhtmeta._fast import bencode
from dhtmeta.dht.address import format_address, parse_address
from dhtmeta.dht.session import Session
from dhtmeta.krpc.compact import Contact
from dhtmeta.krpc.messages import (
    AnnouncePeer,
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
    UnknownQuery,
)
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from tests.interop.foreign import ForeignPeer, require_foreign_peer
from tests.krpc.wire import Wire

PEER_PORT = 6881
NODES = 4


@pytest_asyncio.fixture(scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(NODES) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def foreign(swarm: Swarm) -> AsyncIterator[ForeignPeer]:
    require_foreign_peer()
    async with ForeignPeer(swarm.addresses) as peer:
        yield peer


@pytest_asyncio.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire() as running:
        yield running


@pytest.fixture(params=["libtorrent", "bittorrent-dht"])
def node(request: pytest.FixtureRequest, swarm: Swarm) -> Contact:
    """Return a node of either kind that knows the swarm."""
    if request.param == "libtorrent":
        return Contact(swarm.sessions[0].node_ids()[0], parse_address(swarm.addresses[0]))
    peer: ForeignPeer = request.getfixturevalue("foreign")
    return Contact(peer.node_id, peer.endpoint)


@pytest.fixture
def item() -> SignedItem:
    return SignedItem.sign(Identity.generate(), b"d1:a5:hello1:bi7ee", 3, b"salt")


@asynccontextmanager
async def one_node() -> AsyncIterator[Session]:
    """Run a node of libtorrent that knows nobody."""
    session = Session(listen="127.0.0.1:0")
    await session.start()
    try:
        yield session
    finally:
        await session.close()


def target_of(identity: Identity) -> bytes:
    """Return where what it signs with b"salt" is kept."""
    return hashlib.sha1(identity.public_key + b"salt").digest()


def known(swarm: Swarm, answer: Message) -> set[Contact]:
    """Return those of the answer's nodes that are the swarm's, as it knows them itself."""
    assert isinstance(answer, Response)
    members = {
        Contact(session.node_ids()[0], parse_address(address))
        for session, address in zip(swarm.sessions, swarm.addresses, strict=True)
    }
    return members & set(answer.contacts)


async def test_a_ping_is_answered_with_the_nodes_id(wire: Wire, node: Contact) -> None:
    query = Ping(**wire.who(), read_only=True)
    answer = await wire.ask(query, node.endpoint)
    assert isinstance(answer, Response)
    assert (answer.t, answer.node_id) == (query.t, node.node_id)


async def test_find_node_is_answered_with_nodes(wire: Wire, swarm: Swarm, node: Contact) -> None:
    query = FindNode(**wire.who(), target=secrets.token_bytes(20), read_only=True)
    answer = await wire.ask(query, node.endpoint)
    assert len(known(swarm, answer)) >= NODES - 1


async def test_get_of_nothing_is_answered_with_nodes_and_a_token(
    wire: Wire, swarm: Swarm, node: Contact
) -> None:
    query = Get(**wire.who(), target=secrets.token_bytes(20), read_only=True)
    answer = await wire.ask(query, node.endpoint)
    assert len(known(swarm, answer)) >= NODES - 1
    assert isinstance(answer, Response)
    assert answer.token
    assert (answer.k, answer.seq, answer.v, answer.sig) == (None,) * 4


async def test_what_was_put_is_got_back_and_verifies(
    wire: Wire, node: Contact, item: SignedItem
) -> None:
    put = await wire.put(node.endpoint, item)
    assert isinstance(put, Response)
    answer = await wire.ask(Get(**wire.who(), target=item.target), node.endpoint)
    assert isinstance(answer, Response)
    assert answer.k is not None
    assert answer.seq is not None
    assert answer.v is not None
    assert answer.sig is not None
    found = SignedItem.verified(item.target, answer.k, b"salt", answer.seq, answer.v, answer.sig)
    assert found == item


async def test_get_with_the_seq_it_has_is_answered_without_the_value(
    wire: Wire, swarm: Swarm, item: SignedItem
) -> None:
    node = parse_address(swarm.addresses[0])
    await wire.put(node, item)
    answer = await wire.ask(Get(**wire.who(), target=item.target, seq=item.seq), node)
    assert isinstance(answer, Response)
    assert (answer.seq, answer.v) == (item.seq, None)
    newer = await wire.ask(Get(**wire.who(), target=item.target, seq=item.seq - 1), node)
    assert isinstance(newer, Response)
    assert (newer.seq, newer.v) == (item.seq, item.v)


async def test_a_refused_put_is_an_error_with_its_code(wire: Wire, node: Contact) -> None:
    identity = Identity.generate()
    newer, older = (SignedItem.sign(identity, b"2:hi", seq) for seq in (5, 4))
    assert isinstance(await wire.put(node.endpoint, newer), Response)
    refused = await wire.put(node.endpoint, older)
    assert isinstance(refused, Error)
    assert refused.code == 302
    assert refused.message
    mismatch = await wire.put(node.endpoint, SignedItem.sign(identity, b"2:hi", 9), cas=2)
    assert isinstance(mismatch, Error)
    assert mismatch.code == 301


async def test_an_immutable_value_is_put_and_got(wire: Wire, node: Contact) -> None:
    v = bencode.encode(secrets.token_bytes(30))
    target = hashlib.sha1(v).digest()
    token = await wire.token(node.endpoint, target)
    put = await wire.ask(PutImmutable(**wire.who(), token=token, v=v), node.endpoint)
    assert isinstance(put, Response)
    answer = await wire.ask(Get(**wire.who(), target=target), node.endpoint)
    assert isinstance(answer, Response)
    assert answer.v == v
    assert (answer.k, answer.seq, answer.sig) == (None,) * 3


async def test_who_announced_is_a_peer(wire: Wire, node: Contact) -> None:
    info_hash = secrets.token_bytes(20)
    first = await wire.ask(GetPeers(**wire.who(), info_hash=info_hash), node.endpoint)
    assert isinstance(first, Response)
    assert first.token
    assert first.peers == []
    for port in (PEER_PORT, None):
        announce = AnnouncePeer(**wire.who(), info_hash=info_hash, port=port, token=first.token)
        assert isinstance(await wire.ask(announce, node.endpoint), Response)
    answer = await wire.ask(GetPeers(**wire.who(), info_hash=info_hash), node.endpoint)
    assert isinstance(answer, Response)
    assert {port for _, port in answer.peers} & {PEER_PORT, wire.endpoint[1]}


async def test_a_query_nobody_knows_is_answered_by_libtorrent_with_an_error(
    wire: Wire, swarm: Swarm
) -> None:
    answer = await wire.ask(
        UnknownQuery(**wire.who(), name=b"vote"), parse_address(swarm.addresses[0])
    )
    assert isinstance(answer, Error)


async def test_libtorrents_own_queries_are_read(wire: Wire) -> None:
    identity = Identity.generate()
    info_hash = secrets.token_bytes(20)
    async with one_node() as session:
        session.add_nodes([wire.endpoint])
        assert (await wire.hear(Query)).node_id == session.node_ids()[0]
        session.handle.dht_put_mutable_item(
            identity.expanded(), identity.public_key, b"hello", b"salt"
        )
        get = await wire.hear(Get)
        put = await wire.hear(Put)
        session.handle.dht_announce(lt.sha1_hash(info_hash), PEER_PORT, 0)
        get_peers = await wire.hear(GetPeers)
        announce = await wire.hear(AnnouncePeer)
    assert get.target == target_of(identity)
    assert (put.k, put.salt, put.v) == (identity.public_key, b"salt", b"5:hello")
    assert put.token == announce.token == b"our token"
    SignedItem.verified(target_of(identity), put.k, put.salt, put.seq, put.v, put.sig)
    assert get_peers.info_hash == announce.info_hash == info_hash
    assert announce.port == PEER_PORT


async def test_bittorrent_dhts_own_queries_are_read(wire: Wire) -> None:
    require_foreign_peer()
    seed = secrets.token_bytes(32)
    async with ForeignPeer([format_address(wire.endpoint)]) as peer:
        assert (await wire.hear(FindNode)).node_id == peer.node_id
        assert await peer.put(seed, b"hello", seq=4, salt=b"salt") == 1
        get = await wire.hear(Get)
        put = await wire.hear(Put)
    assert get.target == target_of(Identity(seed))
    assert (put.salt, put.seq, put.v, put.token) == (b"salt", 4, b"5:hello", b"our token")
    assert put.k == Identity(seed).public_key
