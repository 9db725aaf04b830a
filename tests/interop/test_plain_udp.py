"""A plain UDP client and dhtmeta on real swarms: what is on the wire, and what of it we believe.

Whoever put something stays alive to the end of its swarm, and the command line, which does not,
has a swarm for each test: a node that left makes libtorrent's later lookups near it wait 15 s.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta import Node, NotFound
from dhtmeta.const import CARRIERS
from dhtmeta.testing.swarm import Swarm
from tests.conftest import make_node
from tests.interop.foreign import Finished, run_dhtmeta
from tests.interop.plain_udp import (
    Endpoint,
    Got,
    Item,
    KrpcError,
    PlainClient,
    endpoint_of,
    seed_near,
    sign,
    target_of,
)
from tests.reference import bencode

NODES = 12
COPIES = 8
LOOKUP_POLICIES = ["cache-first", "freshest"]
both_carriers = pytest.mark.parametrize("carrier", CARRIERS)

# What no encoder makes, though each is signed: the code with which nodes refuse it, or None where
# they take it and hand out something else.
NON_CANONICAL: dict[bytes, int | None] = {
    b"i-0e": None,
    b"d1:ai-0ee": None,
    b"i9223372036854775808e": None,
    b"i-9223372036854775809e": None,
    b"i99999999999999999999e": None,
    b"i007e": 203,
    b"05:hello": 203,
    b"d1:b1:x1:a1:xe": 203,
    b"d1:a1:x1:a1:ye": 203,
}
CANONICAL = [b"i0e", b"i7e", b"5:hello", b"d1:a1:x1:b1:xe", b"i9223372036854775807e"]


@pytest_asyncio.fixture(scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(NODES) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def client(swarm: Swarm) -> AsyncIterator[PlainClient]:
    async with PlainClient() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def reader(swarm: Swarm, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with make_node(swarm, tmp_path_factory.mktemp("reader")) as node:
        yield node


@pytest_asyncio.fixture
async def visitor(swarm: Swarm, tmp_path: Path, carrier: str) -> AsyncIterator[Node]:
    """A node of the module's swarm for one test, on which no other node comes to count.

    The direct carrier drops a datagram that is not bencode whole, and asks who sends nothing else
    no more for a while: one such answer of `client`, and the same reader hears of it no more.
    """
    async with make_node(swarm, tmp_path, carrier=carrier, serve=False) as node:
        yield node


@pytest.fixture
def seed() -> bytes:
    return secrets.token_bytes(32)


def endpoints(swarm: Swarm) -> list[Endpoint]:
    return [endpoint_of(address) for address in swarm.addresses]


async def item_near(client: PlainClient, swarm: Swarm, v: bytes, seq: int = 1) -> Item:
    return sign(await seed_near_client(client, swarm), v, seq)


async def listed(client: PlainClient, nodes: list[Endpoint]) -> None:
    """Wait until most nodes tell of the client: they ping first whom they have only heard of."""
    target = {b"target": bencode.encode(client.node_id)}
    async with asyncio.timeout(60):
        while True:
            told = [await client.query(node, b"find_node", target) for node in nodes]
            if 2 * sum(client.node_id in answer for answer in told) > len(nodes):
                return
            await asyncio.sleep(0.1)


async def seed_near_client(client: PlainClient, swarm: Swarm) -> bytes:
    """Return a seed whose item every lookup seeks at `client`, and make it known to the nodes."""
    await client.store(endpoints(swarm), sign(secrets.token_bytes(32), b"9:here I am", 1))
    await listed(client, endpoints(swarm))
    node_ids = [node_id for session in swarm.sessions for node_id in session.node_ids()]
    return seed_near(client.node_id, node_ids)


async def command(swarm: Swarm, home: Path, *arguments: str, stdin: Any = None) -> Finished:
    """Run `dhtmeta` on `swarm`."""
    contact = ("--bootstrap", swarm.addresses[0], "--bootstrap", swarm.addresses[1])
    return await run_dhtmeta(home, *arguments, *contact, stdin=json.dumps(stdin))


def through(carrier: str) -> tuple[str, ...]:
    """Return the words that choose a carrier: none for the one that is used where nobody says."""
    return () if carrier == "direct" else ("--carrier", carrier)


def assert_stored(published: Finished, holders: list[Got], carrier: str) -> None:
    """Nodes hold what was reported.

    libtorrent puts on 8, and counts its own node, too, where that is as close. The direct carrier
    puts on all there are here, and counts those that show it afterwards.
    """
    accepted, copies = published.result["accepted"], published.result["copies"]
    if carrier == "libtorrent":
        assert (accepted, copies) == (COPIES, None)
        assert len(holders) in (accepted, accepted - 1)
    else:
        assert COPIES < accepted == copies == len(holders) <= NODES


# What the command line published


@pytest.mark.parametrize(
    ("carrier", "value", "v"),
    [
        ("direct", "hello", b"5:hello"),
        ("direct", {"hex": "00ff"}, b"2:\x00\xff"),
        ("direct", {"port": 30609, "tags": ["a"]}, b"d4:porti30609e4:tagsl1:aee"),
        ("libtorrent", "hello", b"5:hello"),
        ("libtorrent", {"port": 30609, "tags": ["a"]}, b"26:d4:porti30609e4:tagsl1:aee"),
    ],
    ids=["text", "bytes", "dict", "libtorrent: text", "libtorrent: dict in a string"],
)
async def test_the_client_reads_a_value_the_command_line_published(
    own_swarm: Swarm, tmp_path: Path, carrier: str, value: Any, v: bytes
) -> None:
    salt = b"s" * 64
    publish = ("publish", "--value", "-", "--salt", salt.decode(), *through(carrier))
    finished = await command(own_swarm, tmp_path, *publish, stdin=value)
    public_key = bytes.fromhex(finished.result["public_key"])
    target = target_of(public_key, salt)
    async with PlainClient() as client:
        holders = await client.holders(endpoints(own_swarm), target)
        assert not await client.holders(endpoints(own_swarm), target_of(public_key))
    assert finished.result["target"] == target.hex()
    assert_stored(finished, holders, carrier)
    for held in holders:
        held.verify(salt)
        assert (held.k, held.seq, held.v) == (public_key, 1, v)


@both_carriers
async def test_the_client_reads_a_record_the_command_line_published(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    """As the dict it is; libtorrent can put strings only, so there it is in one."""
    record = {"topic": "mesh", "network_info": {"node_type": "private", "using_relay": True}}
    before = int(time.time())
    publish = ("publish", "--record", "-", *through(carrier))
    finished = await command(own_swarm, tmp_path, *publish, stdin=record)
    public_key = bytes.fromhex(finished.result["public_key"])
    async with PlainClient() as client:
        holders = await client.holders(endpoints(own_swarm), target_of(public_key))
    assert_stored(finished, holders, carrier)
    for held in holders:
        held.verify()
        assert held.v is not None
        said = bencode.decode(held.v)
        if carrier == "libtorrent":
            assert isinstance(said, bytes)
            said = bencode.decode(said)
        assert isinstance(said, dict)
        timestamp = said.pop(b"timestamp")
        assert isinstance(timestamp, int)
        assert before <= timestamp <= time.time()
        assert said == {
            b"peer_id": target_of(public_key).hex().encode(),
            b"topic": b"mesh",
            b"network_info": {b"node_type": b"private", b"using_relay": 1},
        }


# What the client put


async def test_the_command_line_reads_what_the_client_put(
    own_swarm: Swarm, tmp_path: Path, seed: bytes
) -> None:
    """Seq 40 is on seven nodes of twelve: of the eight closest at least one holds 41."""
    salt = "Grüße".encode()
    older = sign(seed, b"d5:stale4:truee", 40, salt)
    newest = sign(seed, b"d4:deepld3:binl2:\xff\x00i-7eeeee", 41, salt)
    nodes = endpoints(own_swarm)
    async with PlainClient() as client:
        assert len((await client.store(nodes, older)).accepted) == NODES
        assert len((await client.store(nodes[:5], newest)).accepted) == 5
        query = ("query", newest.k.hex(), "--salt", salt.decode(), "--policy", "freshest")
        found = (await command(own_swarm, tmp_path, *query)).result
    assert (found["seq"], found["salt"], found["source"]) == (41, "Grüße", "dht")
    assert found["value"] == {"deep": [{"bin": [{"hex": "ff00"}, -7]}]}
    assert found["connectability"] is None


async def test_the_command_line_judges_a_record_the_client_put(
    own_swarm: Swarm, tmp_path: Path, seed: bytes
) -> None:
    own_id = target_of(sign(seed, b"", 0).k).hex().encode()
    record = {
        b"network_info": {b"node_type": b"public", b"public_ip": b"127.0.0.1", b"public_port": 9},
        b"peer_id": own_id,
        b"timestamp": int(time.time()),
    }
    item = sign(seed, bencode.encode(record), 41)
    async with PlainClient() as client:
        await client.store(endpoints(own_swarm), item)
        found = (await command(own_swarm, tmp_path, "query", item.k.hex())).result
    assert found["seq"] == 41
    assert found["record"]["peer_id"] == own_id.decode()
    assert found["connectability"] == {
        "verdict": "direct",
        "reason": "public node at 127.0.0.1:9",
        "address": "127.0.0.1:9",
    }


async def test_freshest_waits_for_a_slow_node_that_holds_the_newest(
    swarm: Swarm, client: PlainClient, reader: Node
) -> None:
    """Every node holds 40 and answers at once; 41 is with the client alone, asked a second time."""
    seed = await seed_near_client(client, swarm)
    older, newest = sign(seed, b"5:older", 40), sign(seed, b"6:newest", 41)
    await client.store(endpoints(swarm), older)
    first = await reader.query(older.k)
    client.hold(newest, unheard=1)
    last = await reader.query(older.k, policy="freshest")
    assert ((first.seq, first.value), (last.seq, last.value)) == ((40, b"older"), (41, b"newest"))


# Encodings that no encoder makes


@both_carriers
@pytest.mark.parametrize("v", NON_CANONICAL, ids=repr)
async def test_we_do_not_return_what_is_not_canonical(
    swarm: Swarm, client: PlainClient, visitor: Node, v: bytes
) -> None:
    """Nodes hold it where they take it, and the client hands it out just as it was signed."""
    item = await item_near(client, swarm, v)
    stored = await client.store(endpoints(swarm), item)
    code = NON_CANONICAL[v]
    assert stored.codes == (set() if code is None else {code})
    assert len(stored.accepted) == (NODES if code is None else 0)
    client.hold(item)
    before = client.served
    for policy in LOOKUP_POLICIES:
        with pytest.raises(NotFound):
            await visitor.query(item.k, policy=policy)
    assert client.served > before


@both_carriers
async def test_we_return_what_is_canonical_from_the_same_client(
    swarm: Swarm, client: PlainClient, visitor: Node, carrier: str
) -> None:
    for v in CANONICAL:
        for policy in LOOKUP_POLICIES:
            item = await item_near(client, swarm, v)
            client.hold(item)
            assert (await visitor.query(item.k, policy=policy)).item.v == v, policy


async def test_the_command_line_does_not_find_what_is_not_canonical(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with PlainClient() as client:
        items = [await item_near(client, own_swarm, v) for v in (*NON_CANONICAL, b"5:hello")]
        for item in items:
            await client.store(endpoints(own_swarm), item)
            client.hold(item)
        keys = [item.k.hex() for item in items]
        several = await command(own_swarm, tmp_path, "query", *keys, "--policy", "freshest")
        single = await command(own_swarm, tmp_path, "query", keys[0])
    assert (several.code, single.code) == (3, 3)
    assert [found["public_key"] for found in several.results] == keys[-1:]
    assert all(key in several.stderr for key in keys[:-1])
    assert single.results == []


# What nodes refuse


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v": b"997:" + b"x" * 997}, 205),
        ({"v": b"5:jello"}, 206),
        ({"seq": 8}, 206),
        ({"salt": b"other"}, 206),
        ({"salt": b"s" * 65}, 207),
        ({"seq": -1}, 203),
    ],
    ids=["1,001 bytes", "other v", "other seq", "other salt", "salt of 65 bytes", "negative seq"],
)
async def test_nodes_refuse_with_the_code_of_bep_44(
    swarm: Swarm,
    client: PlainClient,
    reader: Node,
    seed: bytes,
    change: dict[str, Any],
    code: int,
) -> None:
    good = sign(seed, b"5:hello", 7, b"salt")
    bad = good._replace(**change)
    if code != 206:  # all is well but for its size
        bad = sign(seed, bad.v, bad.seq, bad.salt)
    stored = await client.store(endpoints(swarm), bad)
    assert (stored.codes, len(stored.refused)) == ({code}, NODES)
    if len(bad.salt) <= 64:
        with pytest.raises(NotFound):
            await reader.query(bad.k, salt=bad.salt, policy="freshest")
    assert len((await client.store(endpoints(swarm), good)).accepted) == NODES


async def test_nodes_take_1000_bytes_and_a_salt_of_64(
    swarm: Swarm, client: PlainClient, reader: Node, seed: bytes
) -> None:
    item = sign(seed, b"996:" + b"x" * 996, 2**63 - 1, b"s" * 64)
    assert len((await client.store(endpoints(swarm), item)).accepted) == NODES
    answer = await reader.query(item.k, salt=item.salt, policy="freshest")
    assert (answer.seq, answer.item.v) == (2**63 - 1, item.v)


async def test_nodes_refuse_a_wrong_token_an_old_seq_and_another_cas(
    swarm: Swarm, client: PlainClient, reader: Node, seed: bytes
) -> None:
    nodes = endpoints(swarm)
    absent = await client.store(nodes, sign(seed, b"5:eight", 8), cas=3)
    assert len(absent.accepted) == NODES  # nothing is there yet that cas could differ from
    newer = sign(seed, b"4:nine", 9)
    with pytest.raises(KrpcError) as refused:
        await client.put(nodes[0], b"none", newer)
    assert refused.value.code == 203
    assert (await client.store(nodes, sign(seed, b"5:seven", 7))).codes == {302}
    assert (await client.store(nodes, newer, cas=7)).codes == {301}
    assert (await reader.query(newer.k, policy="freshest")).seq == 8
    assert len((await client.store(nodes, newer, cas=8)).accepted) == NODES
    assert (await reader.query(newer.k, policy="freshest")).seq == 9


async def test_nodes_accept_an_equal_seq_without_storing_it(
    swarm: Swarm, client: PlainClient, reader: Node, seed: bytes
) -> None:
    first, second = sign(seed, b"5:first", 5), sign(seed, b"6:second", 5)
    for item in (first, second):
        assert len((await client.store(endpoints(swarm), item)).accepted) == NODES
    held = {one.v for one in await client.holders(endpoints(swarm), first.target)}
    assert held == {first.v}
    assert (await reader.query(first.k, policy="freshest")).value == b"first"


async def test_nodes_do_not_answer_eight_levels_inside_v(
    swarm: Swarm, client: PlainClient, seed: bytes
) -> None:
    (node, *_) = endpoints(swarm)
    assert await client.answers(node, sign(seed, b"l" * 7 + b"e" * 7, 1))
    assert not await client.answers(node, sign(seed, b"l" * 8 + b"e" * 8, 2))


# Shadowing


@both_carriers
async def test_an_unsigned_put_hides_the_item_from_libtorrent_alone_and_is_never_returned(
    own_swarm: Swarm, tmp_path: Path, seed: bytes, carrier: str
) -> None:
    """A limit of the libtorrent carrier: it asks without seq, so it gets the shadow alone.

    A put with k and no sig is kept by libtorrent nodes as an immutable item at the mutable target.
    A get that says which seq it has already still brings the real one: so asks the direct carrier.
    """
    item = sign(seed, b"5:hello", 7)
    nodes = endpoints(own_swarm)
    async with (
        PlainClient() as client,
        make_node(own_swarm, tmp_path, carrier=carrier) as reader,
        make_node(own_swarm, tmp_path / "stranger", carrier=carrier) as stranger,
    ):
        assert len((await client.store(nodes, item)).accepted) == NODES
        assert (await reader.query(item.k, policy="freshest")).value == b"hello"
        shadow = item._replace(v=b"6:shadow", sig=b"")
        assert len((await client.store(nodes, shadow)).accepted) == NODES
        plain = await client.get(nodes[0], item.target)
        asking = await client.get(nodes[0], item.target, seq=0)
        assert (plain.v, plain.k) == (shadow.v, None)
        assert (asking.v, asking.sig) == (item.v, item.sig)
        if carrier == "libtorrent":
            with pytest.raises(NotFound):
                await stranger.query(item.k, policy="freshest")
        else:
            found = await stranger.query(item.k, policy="freshest")
            assert (found.item.v, found.item.sig) == (item.v, item.sig)
        assert (await reader.query(item.k)).value == b"hello"
