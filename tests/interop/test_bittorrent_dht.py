"""bittorrent-dht and dhtmeta on one swarm of libtorrent nodes: each reads what the other wrote.

Everybody who put something stays alive until the last test: a node that leaves makes every later
lookup of libtorrent near it wait 15 s. The command line is such a node, so its tests have swarms of
their own.
"""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta import Identity, InvalidRecord, NetworkInfo, Node, NodeRecord, NotFound, Protocol
from dhtmeta._fast.bencode import Value
from dhtmeta.const import CARRIERS
from dhtmeta.testing.swarm import Swarm
from tests.conftest import make_node
from tests.interop.foreign import ForeignError, ForeignPeer, require_foreign_peer, run_dhtmeta
from tests.interop.plain_udp import (
    Item,
    KrpcError,
    PlainClient,
    endpoint_of,
    seed_near,
    sign,
    target_of,
)
from tests.reference import bencode

NODES = 16
GLOBAL_IP = "93.184.216.34"
LOOKUP_POLICIES = ["cache-first", "freshest"]
EXACT = 2**53  # up to here a JavaScript Number holds every int


@pytest.fixture(scope="module")
def _peer_installed() -> None:
    require_foreign_peer()


@pytest_asyncio.fixture(scope="module")
async def swarm(_peer_installed: None) -> AsyncIterator[Swarm]:
    async with Swarm(NODES) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def foreign(swarm: Swarm) -> AsyncIterator[ForeignPeer]:
    async with ForeignPeer(swarm.addresses[:3]) as peer:
        yield peer


@pytest_asyncio.fixture(scope="module")
async def client(swarm: Swarm) -> AsyncIterator[PlainClient]:
    async with PlainClient() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def nodes(
    swarm: Swarm, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[tuple[str, str], Node]]:
    """Run a writer and a reader with each carrier."""
    async with contextlib.AsyncExitStack() as opened:
        yield {
            (role, carrier): await opened.enter_async_context(
                make_node(swarm, tmp_path_factory.mktemp(role), carrier=carrier)
            )
            for role in ("writer", "reader")
            for carrier in CARRIERS
        }


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def writer(nodes: dict[tuple[str, str], Node], carrier: str) -> Node:
    return nodes["writer", carrier]


@pytest.fixture
def reader(nodes: dict[tuple[str, str], Node], carrier: str) -> Node:
    return nodes["reader", carrier]


@pytest.fixture
def seed() -> bytes:
    return secrets.token_bytes(32)


def text_of(size: int) -> bytes:
    """A string that takes `size` bytes (103 … 1,003) as bencode."""
    return b"x" * (size - 4)


def foreign_record(public_key: bytes, **network_info: Value) -> dict[bytes, Value]:
    """What a remote.network node publishes: the dict itself, no wrapping."""
    return {
        b"peer_id": target_of(public_key).hex().encode(),
        b"topic": b"remote-network-mesh",
        b"version": 1,
        b"timestamp": int(time.time()),
        b"capabilities": [b"relay", b"storage"],
        b"unheard_of": {b"kept": b"as it is"},
        b"network_info": {key.encode(): one for key, one in network_info.items()},
    }


# What dhtmeta wrote, bittorrent-dht reads


@pytest.mark.parametrize(
    "value", [b"hello", b"", bytes(range(256)), "Grüße".encode(), text_of(1000)], ids=repr
)
async def test_it_reads_a_string_we_published(
    writer: Node, foreign: ForeignPeer, value: bytes
) -> None:
    identity = Identity.generate()
    published = await writer.publish(value, identity=identity)
    found = await foreign.get(identity.public_key)
    assert found is not None
    assert (found.k, found.seq, found.value) == (identity.public_key, 1, value)
    assert found.sig == published.item.sig


def as_published(carrier: str, found: Value) -> Value:
    """What a dict is to others: itself, and with libtorrent, which puts strings only, in one."""
    if carrier == "libtorrent":
        assert isinstance(found, bytes)
        return bencode.decode(found)
    return found


async def test_it_reads_a_dict_we_published(
    writer: Node, carrier: str, foreign: ForeignPeer
) -> None:
    identity = Identity.generate()
    value: Value = {b"deep": [{b"er": [1, -2, b"\xff"]}, []], b"zero": 0}
    await writer.publish(value, identity=identity)
    found = await foreign.get(identity.public_key)
    assert found is not None
    assert as_published(carrier, found.value) == value


async def test_it_reads_a_record_we_published(
    writer: Node, carrier: str, foreign: ForeignPeer
) -> None:
    identity = Identity.generate()
    record = NodeRecord(
        topic="remote-network-mesh",
        timestamp=1_800_000_000,
        capabilities=["relay"],
        network_info=NetworkInfo(
            public_ip=GLOBAL_IP,
            public_port=30906,
            node_type="public",
            is_relay=True,
            protocols=[Protocol(name="quic", port=30906, meta={"v": 1})],
        ),
    )
    await writer.publish(record, identity=identity)
    found = await foreign.get(identity.public_key)
    assert found is not None
    assert as_published(carrier, found.value) == {
        b"peer_id": target_of(identity.public_key).hex().encode(),
        b"topic": b"remote-network-mesh",
        b"timestamp": 1_800_000_000,
        b"capabilities": [b"relay"],
        b"network_info": {
            b"public_ip": GLOBAL_IP.encode(),
            b"public_port": 30906,
            b"node_type": b"public",
            b"is_relay": 1,
            b"protocols": [{b"name": b"quic", b"port": 30906, b"meta": {b"v": 1}}],
        },
    }


@pytest.mark.parametrize(
    "salt", [b"s", b"4:salt", b"s" * 64, bytes(range(192, 256))], ids=lambda salt: f"{salt[:6]!r}"
)
async def test_it_reads_each_salt_we_published_under(
    writer: Node, foreign: ForeignPeer, salt: bytes
) -> None:
    identity = Identity.generate()
    await writer.publish(b"salted", salt=salt, identity=identity)
    found = await foreign.get(identity.public_key, salt)
    assert found is not None
    assert found.value == b"salted"
    assert await foreign.get(identity.public_key) is None
    assert await foreign.get(identity.public_key, salt[:-1] + b"?") is None


async def test_it_reads_each_seq_we_published(writer: Node, foreign: ForeignPeer) -> None:
    identity = Identity.generate()
    for seq in (1, 2, 3):
        await writer.publish(b"number %d" % seq, identity=identity)
        found = await foreign.get(identity.public_key)
        assert found is not None
        assert (found.seq, found.value) == (seq, b"number %d" % seq)


# What bittorrent-dht put, dhtmeta reads


@pytest.mark.parametrize("policy", LOOKUP_POLICIES)
@pytest.mark.parametrize(
    "value",
    [
        b"hello",
        b"",
        bytes(range(256)),
        text_of(1000),
        -7,
        2**53 - 1,
        [b"a", [1, [2]]],
        {b"a": {b"b": {b"c": [0, {b"d": b""}]}}, "ü".encode(): 1},
        {b"size": text_of(1000 - len(b"d4:sizee"))},
    ],
    ids=lambda value: f"{value!r:.24}",
)
async def test_we_read_what_it_put(
    foreign: ForeignPeer, reader: Node, seed: bytes, value: Value, policy: str
) -> None:
    assert len(bencode.encode(value)) <= 1000
    assert await foreign.put(seed, value, seq=7) >= 8
    answer = await reader.query(Identity(seed).public_key, policy=policy)
    assert (answer.seq, answer.source) == (7, "dht")
    assert answer.item.v == bencode.encode(value)
    assert answer.value == value


@pytest.mark.parametrize("policy", LOOKUP_POLICIES)
@pytest.mark.parametrize(
    "salt", [b"s", b"s" * 64, bytes(range(192, 256))], ids=lambda salt: f"{salt[:6]!r}"
)
async def test_we_read_what_it_put_under_a_salt(
    foreign: ForeignPeer, reader: Node, seed: bytes, salt: bytes, policy: str
) -> None:
    await foreign.put(seed, {b"salt": salt}, seq=1, salt=salt)
    answer = await reader.query(Identity(seed).public_key, salt=salt, policy=policy)
    assert answer.item.salt == salt
    assert answer.value == {b"salt": salt}
    with pytest.raises(NotFound):
        await reader.query(Identity(seed).public_key, policy=policy)


async def test_we_follow_its_explicit_seqs(foreign: ForeignPeer, reader: Node, seed: bytes) -> None:
    public_key = Identity(seed).public_key
    await foreign.put(seed, b"seven", seq=7)
    assert (await reader.query(public_key)).value == b"seven"
    await foreign.put(seed, b"eight", seq=8, cas=7)
    answer = await reader.query(public_key, policy="freshest")
    assert (answer.seq, answer.value) == (8, b"eight")
    assert (await reader.query(public_key, policy="cache-only")).seq == 8


async def test_nodes_refuse_its_old_seq_and_its_wrong_cas(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    await foreign.put(seed, b"eight", seq=8)
    with pytest.raises(ForeignError) as old:
        await foreign.put(seed, b"seven", seq=7)
    with pytest.raises(ForeignError) as mismatch:
        await foreign.put(seed, b"nine", seq=9, cas=7)
    assert (old.value.code, mismatch.value.code) == (302, 301)
    answer = await reader.query(Identity(seed).public_key, policy="freshest")
    assert (answer.seq, answer.value) == (8, b"eight")


async def test_both_take_turns_on_one_key(
    writer: Node, foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    identity = Identity(seed)
    await foreign.put(seed, b"theirs", seq=7)
    assert (await writer.publish(b"ours", identity=identity)).item.seq == 8
    found = await foreign.get(identity.public_key)
    assert found is not None
    assert (found.seq, found.value) == (8, b"ours")
    await foreign.put(seed, b"theirs again", seq=9, cas=8)
    answer = await reader.query(identity.public_key, policy="freshest")
    assert (answer.seq, answer.value) == (9, b"theirs again")


async def test_it_passes_on_what_we_signed(
    writer: Node, foreign: ForeignPeer, swarm: Swarm, reader: Node
) -> None:
    """The same signed bytes, put again by somebody without the key, on nodes that lack them."""
    identity = Identity.generate()
    item = (await writer.publish(b"keep me alive", identity=identity)).item
    accepted = await foreign.put_signed(item.public_key, b"keep me alive", item.sig, seq=item.seq)
    assert accepted > 8
    answer = await reader.query(identity.public_key, policy="freshest")
    assert answer.item == item


# Records that bittorrent-dht put, judged


@pytest.mark.parametrize("policy", LOOKUP_POLICIES)
@pytest.mark.parametrize("wrapped", [False, True], ids=["dict", "dict in a string"])
async def test_we_judge_a_record_it_put(
    foreign: ForeignPeer, reader: Node, seed: bytes, policy: str, wrapped: bool
) -> None:
    public_key = Identity(seed).public_key
    value: Value = foreign_record(
        public_key,
        public_ip=GLOBAL_IP.encode(),
        public_port=30906,
        node_type=b"public",
        supports_upnp=1,
    )
    await foreign.put(seed, bencode.encode(value) if wrapped else value, seq=3)
    answer = await reader.query(public_key, policy=policy)
    record, verdict = answer.record, answer.connectability
    assert record is not None
    assert record.topic == "remote-network-mesh"
    assert record.capabilities == ["relay", "storage"]
    assert record.network_info.supports_upnp is True
    assert record.extra == {"unheard_of": {"kept": "as it is"}}
    assert verdict is not None
    assert (verdict.verdict, verdict.address) == ("direct", f"{GLOBAL_IP}:30906")


async def test_we_judge_a_record_it_put_as_unreachable(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    public_key = Identity(seed).public_key
    await foreign.put(seed, foreign_record(public_key, node_type=b"private"), seq=1)
    verdict = (await reader.query(public_key)).connectability
    assert verdict is not None
    assert (verdict.verdict, verdict.reason) == ("unreachable", "no relay")


async def test_we_judge_an_old_record_it_put_as_stale(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    public_key = Identity(seed).public_key
    record = foreign_record(public_key, node_type=b"private")
    await foreign.put(seed, record | {b"timestamp": 1_000_000_000}, seq=1)
    verdict = (await reader.query(public_key)).connectability
    assert verdict is not None
    assert verdict.verdict == "stale"


async def test_a_record_it_put_under_a_foreign_name_is_refused(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    await foreign.put(seed, foreign_record(Identity.generate().public_key), seq=1)
    answer = await reader.query(Identity(seed).public_key)
    with pytest.raises(InvalidRecord) as refused:
        _ = answer.record
    assert refused.value.field == "peer_id"


# Lies


async def test_nodes_refuse_its_wrong_signature(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    item = sign(seed, b"5:hello", 1)
    with pytest.raises(ForeignError, match="All queries failed"):
        await foreign.put_signed(item.k, b"jello", item.sig, seq=1)
    with pytest.raises(NotFound):
        await reader.query(item.k, policy="freshest")
    assert await foreign.put_signed(item.k, b"hello", item.sig, seq=1) >= 8


@pytest.mark.parametrize("policy", LOOKUP_POLICIES)
@pytest.mark.parametrize(
    ("value", "seq", "believed"),
    [(b"hello", 1, True), (b"jello", 1, False), (b"hello", 2, False)],
    ids=["what was signed", "another value", "another seq"],
)
async def test_we_believe_what_it_hands_out_only_if_the_signature_holds(
    foreign: ForeignPeer,
    swarm: Swarm,
    reader: Node,
    value: bytes,
    seq: int,
    believed: bool,
    policy: str,
) -> None:
    item = await item_near(foreign, swarm, b"5:hello", 1)
    await foreign.hold(item.k, value, item.sig, seq=seq)
    before = await foreign.gets()
    if believed:
        assert (await reader.query(item.k, policy=policy)).value == value
    else:
        with pytest.raises(NotFound):
            await reader.query(item.k, policy=policy)
    assert await foreign.gets() > before


async def test_its_wrong_signature_does_not_hide_the_real_item(
    foreign: ForeignPeer, swarm: Swarm, client: PlainClient, reader: Node
) -> None:
    item = await item_near(foreign, swarm, b"5:hello", 1)
    await client.store([endpoint_of(address) for address in swarm.addresses], item)
    await foreign.hold(item.k, b"jello", item.sig, seq=1000)
    before = await foreign.gets()
    answer = await reader.query(item.k, policy="freshest")
    assert (answer.seq, answer.value) == (1, b"hello")
    assert await foreign.gets() > before


async def item_near(foreign: ForeignPeer, swarm: Swarm, v: bytes, seq: int) -> Item:
    """Sign `v` with a key whose item every lookup seeks at `foreign`, which the nodes know."""
    await foreign.put(secrets.token_bytes(32), b"here I am", seq=1)
    node_ids = [node_id for session in swarm.sessions for node_id in session.node_ids()]
    return sign(seed_near(foreign.node_id, node_ids), v, seq)


# What bittorrent-dht cannot read, and we can


@pytest.mark.parametrize(
    ("v", "readable"),
    [
        (b"i1e", True),
        (b"i0e", False),  # a falsy value is no value
        (b"d4:zeroi0ee", True),
        (b"i%de" % EXACT, True),
        (b"i%de" % (EXACT + 1), False),
        (b"i-%de" % (EXACT + 1), False),
        (b"i%de" % (EXACT + 2), True),  # even, so a Number holds it by chance
        (b"d3:bigi%dee" % (2**63 - 1), False),
        (b"d1:ki1ee", True),
        (b"d1:\xffi1ee", False),  # a key that is not UTF-8
        (b"d2:\xc3\xbci1ee", True),
        (b"d3:\xee\x80\x80i1e4:\xf0\x9f\x8c\x8di2ee", False),  # it sorts keys as UTF-16
    ],
    ids=repr,
)
async def test_what_it_can_read_and_what_it_cannot(
    foreign: ForeignPeer,
    client: PlainClient,
    swarm: Swarm,
    reader: Node,
    seed: bytes,
    v: bytes,
    readable: bool,
) -> None:
    item = sign(seed, v, 1)
    stored = await client.store([endpoint_of(address) for address in swarm.addresses], item)
    assert len(stored.accepted) == NODES
    found = await foreign.get(item.k)
    assert (found is not None) is readable
    if found is not None:
        assert bencode.encode(found.value) == v
    assert (await reader.query(item.k)).item.v == v


# What bittorrent-dht sends and takes


async def test_its_size_limit_is_another_than_that_of_nodes(
    foreign: ForeignPeer, reader: Node, seed: bytes
) -> None:
    """It counts the bytes of the string, up to 999; BEP 44 those of its encoding, up to 1,000."""
    with pytest.raises(ForeignError, match="v must be less than 1000 bytes"):
        await foreign.put(seed, b"x" * 1000, seq=1)
    with pytest.raises(ForeignError, match="All queries failed"):
        await foreign.put(seed, b"x" * 997, seq=1)
    with pytest.raises(NotFound):
        await reader.query(Identity(seed).public_key)


async def test_it_sends_no_salt_of_65_bytes(foreign: ForeignPeer, seed: bytes) -> None:
    with pytest.raises(ForeignError, match="salt is > 64 bytes"):
        await foreign.put(seed, b"hello", seq=1, salt=bytes(65))


async def test_as_a_node_it_refuses_an_equal_and_an_old_seq(
    client: PlainClient, foreign: ForeignPeer, seed: bytes
) -> None:
    """Even of the very same bytes: a 302 may mean that it has the item."""
    item = sign(seed, b"5:hello", 7)
    assert (await client.store([foreign.endpoint], item)).accepted == [foreign.endpoint]
    for again in (item, sign(seed, b"5:jello", 7), sign(seed, b"5:older", 6)):
        assert (await client.store([foreign.endpoint], again)).codes == {302}
    assert (await client.get(foreign.endpoint, item.target)).v == b"5:hello"


async def test_as_a_node_it_checks_cas_and_token(
    client: PlainClient, foreign: ForeignPeer, seed: bytes
) -> None:
    await client.store([foreign.endpoint], sign(seed, b"5:hello", 7))
    newer = sign(seed, b"5:jello", 8)
    assert (await client.store([foreign.endpoint], newer, cas=6)).codes == {301}
    with pytest.raises(KrpcError) as refused:
        await client.put(foreign.endpoint, b"x" * 20, newer)
    assert refused.value.code == 203
    assert (await client.store([foreign.endpoint], newer, cas=7)).accepted


async def test_as_a_node_it_does_not_answer_a_bad_signature(
    client: PlainClient, foreign: ForeignPeer, seed: bytes
) -> None:
    good = sign(seed, b"5:hello", 1)
    assert not await client.answers(foreign.endpoint, good._replace(v=b"5:jello"))
    assert (await client.get(foreign.endpoint, good.target)).v is None
    assert await client.answers(foreign.endpoint, good)


async def test_as_a_node_it_does_not_answer_an_int_0(
    client: PlainClient, foreign: ForeignPeer, seed: bytes
) -> None:
    assert not await client.answers(foreign.endpoint, sign(seed, b"i0e", 1))
    assert await client.answers(foreign.endpoint, sign(seed, b"i1e", 1))


async def test_as_a_node_it_takes_1005_bytes_and_we_refuse_them(
    client: PlainClient, foreign: ForeignPeer, swarm: Swarm, reader: Node
) -> None:
    item = await item_near(foreign, swarm, b"1000:" + b"x" * 1000, 1)
    assert (await client.store([foreign.endpoint], item)).accepted == [foreign.endpoint]
    before = await foreign.gets()
    with pytest.raises(NotFound):
        await reader.query(item.k, policy="freshest")
    assert await foreign.gets() > before


# The command line


async def test_it_reads_what_the_command_line_published(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    require_foreign_peer()
    record = {"topic": "mesh", "network_info": {"public_ip": GLOBAL_IP, "public_port": 30906}}
    publish = ("publish", "--record", "-", "--salt", "cli", "--carrier", carrier)
    published = await command(own_swarm, tmp_path, *publish, stdin=record)
    assert published["seq"] == 1
    assert published["accepted"] >= 8
    public_key = bytes.fromhex(published["public_key"])
    async with ForeignPeer(own_swarm.addresses[:3]) as foreign:
        found = await foreign.get(public_key, b"cli")
    assert found is not None
    assert found.seq == 1
    said = as_published(carrier, found.value)
    assert isinstance(said, dict)
    assert said[b"peer_id"] == target_of(public_key).hex().encode()
    assert said[b"network_info"] == {b"public_ip": GLOBAL_IP.encode(), b"public_port": 30906}


async def test_the_command_line_reads_what_it_put(
    own_swarm: Swarm, tmp_path: Path, seed: bytes, carrier: str
) -> None:
    """Cache-first, since libtorrent, where it is read-only, may else wait 15 s for itself.

    bittorrent-dht does not know BEP 43: it counts the read-only asker among its nodes, tells it of
    itself, and libtorrent then asks itself in vain.
    """
    public_key = Identity(seed).public_key
    value = foreign_record(
        public_key, node_type=b"public", public_ip=GLOBAL_IP.encode(), public_port=30906
    )
    async with ForeignPeer(own_swarm.addresses[:3]) as foreign:
        await foreign.put(seed, value, seq=7)
        query = ("query", public_key.hex(), "--carrier", carrier)
        found = await command(own_swarm, tmp_path, *query)
    assert (found["seq"], found["source"]) == (7, "dht")
    assert found["record"]["topic"] == "remote-network-mesh"
    assert found["record"]["unheard_of"] == {"kept": "as it is"}
    assert found["connectability"]["verdict"] == "direct"
    assert found["connectability"]["address"] == f"{GLOBAL_IP}:30906"


async def command(
    swarm: Swarm, home: Path, *arguments: str, stdin: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run `dhtmeta` on `swarm`; its one result."""
    contact = ("--bootstrap", swarm.addresses[0], "--bootstrap", swarm.addresses[1])
    finished = await run_dhtmeta(home, *arguments, *contact, stdin=json.dumps(stdin))
    return finished.result


# The harness itself


def test_without_node_tests_skip_and_in_ci_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="node is missing"):
        require_foreign_peer()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="node is missing"):
        require_foreign_peer()
