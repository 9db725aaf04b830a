"""The promises of the three policies, kept on a real swarm with a clock that the test moves.

Where a lookup has to last for a while, it is one of libtorrent's, which waits for a silent node.
"""

import asyncio
from pathlib import Path

import pytest

from dhtmeta._fast import bencode
from dhtmeta.const import CACHE_STALE_FOR, CACHE_TTL, JOIN_WITHIN, NEGATIVE_TTL
from dhtmeta.engine.resolve import Answer, Policy, Source
from dhtmeta.errors import (
    DeadlineExceeded,
    InvalidKey,
    InvalidRecord,
    InvalidSalt,
    NetworkUnreachable,
    NotFound,
)
from dhtmeta.node import Node
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from tests.conftest import Clock, Tardy, make_node


async def test_cache_first_asks_the_dht_once_and_then_remembers(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    put = await writer.publish(b"hello", identity=identity)
    before = reader.counters["lookups"]
    first = await reader.query(identity.public_key)
    second = await reader.query(identity.public_key.hex())
    assert (first.source, second.source) == (Source.DHT, Source.MEMORY)
    assert first.item == second.item == put.item
    assert (first.value, first.record, first.connectability) == (b"hello", None, None)
    assert second.age >= first.age >= 0
    assert reader.counters["lookups"] == before + 1


async def test_cache_only_never_asks_the_network(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    await writer.publish(b"hello", identity=identity)
    before = reader.counters["lookups"]
    with pytest.raises(NotFound, match="cache-only"):
        await reader.query(identity.public_key, policy="cache-only")
    assert reader.counters["lookups"] == before
    await reader.query(identity.public_key)
    cached = await reader.query(identity.public_key, policy="cache-only")
    assert cached.source == "memory"


async def test_freshest_sees_what_the_cache_does_not_know_yet(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    await writer.publish(b"one", identity=identity)
    await reader.query(identity.public_key)
    await writer.publish(b"two", identity=identity)
    cached = await reader.query(identity.public_key)
    freshest = await reader.query(identity.public_key, policy=Policy.FRESHEST)
    assert (cached.value, cached.seq) == (b"one", 1)
    assert (freshest.value, freshest.seq, freshest.source) == (b"two", 2, "dht")


async def test_a_stale_record_is_served_at_once_and_renewed_behind(
    own_swarm: Swarm, writer: Node, tmp_path: Path, clock: Clock
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w", clock=clock) as author,
        make_node(own_swarm, tmp_path / "r", clock=clock) as node,
    ):
        await author.publish(b"one", identity=identity)
        await node.query(identity.public_key)
        await author.publish(b"two", identity=identity)
        clock.now += CACHE_TTL
        stale = await node.query(identity.public_key)
        assert (stale.value, stale.age, stale.source) == (b"one", CACHE_TTL, "memory")
        await _renewed(node, identity, 2)
        clock.now += CACHE_TTL + CACHE_STALE_FOR
        gone = await node.query(identity.public_key)
        assert (gone.value, gone.source) == (b"two", "dht")


async def _renewed(node: Node, identity: Identity, seq: int) -> Answer:
    async with asyncio.timeout(10):
        while (answer := await node.query(identity.public_key)).seq < seq:
            await asyncio.sleep(0.01)
    return answer


async def test_a_missing_key_costs_one_lookup_however_many_ask(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    async with make_node(own_swarm, tmp_path, clock=clock) as node:
        key = Identity.generate().public_key
        asked = [node.query(key) for _ in range(1000)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {NotFound}
        assert node.counters["lookups"] == 1
        with pytest.raises(NotFound, match="0 s ago"):
            await node.query(key)
        assert node.counters["lookups"] == 1
        clock.now += NEGATIVE_TTL
        with pytest.raises(NotFound, match="no node holds it"):
            await node.query(key)
        assert node.counters["lookups"] == 2


async def test_freshest_does_not_trust_that_it_was_missing(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    with pytest.raises(NotFound):
        await reader.query(identity.public_key)
    await writer.publish(b"now", identity=identity)
    assert (await reader.query(identity.public_key, policy="freshest")).value == b"now"


async def test_salts_make_different_items_of_one_key(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    for salt in (b"", b"a", b"s" * 64):
        await writer.publish(b"under " + salt, salt=salt, identity=identity)
    for salt in (b"", b"a", b"s" * 64):
        assert (await reader.query(identity.public_key, salt=salt)).value == b"under " + salt
    with pytest.raises(NotFound):
        await reader.query(identity.public_key, salt=b"b")


async def test_an_older_seq_than_was_seen_is_not_believed(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path, clock=clock) as node:
        newest = SignedItem.sign(identity, encode_value(b"new"), 9)
        old = SignedItem.sign(identity, encode_value(b"old"), 8)
        async with Liar(identity.peer_id, _fields(newest)) as author:
            for session in own_swarm.sessions:
                session.add_nodes([author.endpoint])
            await _known(node, author)
            assert (await node.query(identity.public_key, policy="freshest")).seq == 9
            author.fields = _fields(old)
            held = await node.query(identity.public_key, policy="freshest")
            assert (held.value, held.source) == (b"new", "memory")
            clock.now += CACHE_TTL + CACHE_STALE_FOR
            with pytest.raises(NotFound, match=r"only seq 8 .* older than seq 9"):
                await node.query(identity.public_key)


def _fields(item: SignedItem) -> dict[bytes, bytes]:
    return {
        b"k": bencode.encode(item.public_key),
        b"sig": bencode.encode(item.sig),
        b"seq": bencode.encode(item.seq),
        b"v": item.v,
    }


async def _known(node: Node, liar: Liar) -> None:
    async with asyncio.timeout(10):
        await node.carrier.ready()
        while liar.endpoint not in {one.endpoint for one in await node.carrier.live_nodes()}:
            node.carrier.add_nodes([liar.endpoint])
            await asyncio.sleep(0.01)


async def test_a_slow_key_delays_no_other_and_ends_at_its_deadline(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    slow, quick = Identity.generate(), Identity.generate()
    async with make_node(own_swarm, tmp_path, clock=clock, carrier="libtorrent") as node:
        await node.publish(b"quick", identity=quick)
        async with Liar(slow.peer_id, {}) as dead:
            await _known(node, dead)
            dead.silent = True
            waiting = asyncio.create_task(node.query(slow.public_key, deadline=0.5))
            await asyncio.sleep(0)
            assert (await node.query(quick.public_key)).value == b"quick"
            assert not waiting.done()
            with pytest.raises(DeadlineExceeded, match=r"0\.5 s"):
                await waiting
        with pytest.raises(DeadlineExceeded):  # no answer is not "nobody holds it"
            await node.query(slow.public_key, deadline=0.2)


async def test_bad_arguments_are_named(reader: Node) -> None:
    with pytest.raises(InvalidKey, match="64 hex digits"):
        await reader.query("abc")
    with pytest.raises(InvalidKey, match="bytes or hex, not 5"):
        await reader.query(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey, match="32 bytes, got 3"):
        await reader.query(b"abc")
    with pytest.raises(InvalidSalt, match="65"):
        await reader.query(b"k" * 32, salt=b"s" * 65)
    with pytest.raises(ValueError, match="newest"):
        await reader.query(b"k" * 32, policy="newest")


async def test_an_offline_node_answers_from_its_store_only(
    own_swarm: Swarm, tmp_path: Path, writer: Node
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path) as node:
        await node.publish(b"kept", identity=identity)
        await node.query(identity.public_key)
    async with make_node(own_swarm, tmp_path, offline=True) as node:
        answer = await node.query(identity.public_key)
        assert (answer.value, answer.source) == (b"kept", "store")
        with pytest.raises(NetworkUnreachable, match="offline"):
            await node.query(identity.public_key, policy="freshest")


async def test_a_broken_node_record_is_an_error_that_names_the_field(
    reader: Node, writer: Node
) -> None:
    identity = Identity.generate()
    broken = {"peer_id": identity.peer_id.hex(), "network_info": {"public_port": 0}}
    await writer.publish(bencode.decode(bencode.encode(broken)), identity=identity)
    answer = await reader.query(identity.public_key)
    with pytest.raises(InvalidRecord, match=r"network_info\.public_port"):
        _ = answer.record
    foreign = {"peer_id": "0" * 40}
    await writer.publish(bencode.decode(bencode.encode(foreign)), identity=identity, salt=b"f")
    answer = await reader.query(identity.public_key, salt=b"f")
    with pytest.raises(InvalidRecord, match=r"peer_id.*not SHA1"):
        _ = answer.record


async def test_the_record_of_a_known_relay_is_fetched_for_the_verdict(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    relay, peer = Identity.generate(), Identity.generate()
    over = NetworkInfo(
        node_type="private",
        using_relay=True,
        connected_relay=relay.peer_id.hex(),
        relay_session_id="s",
        relay_address="127.0.0.1:5",
    )
    info = NetworkInfo(node_type="public", public_ip="127.0.0.1", public_port=5, is_relay=True)
    async with (
        make_node(own_swarm, tmp_path / "w") as author,
        make_node(own_swarm, tmp_path / "r") as node,
    ):
        await author.publish(NodeRecord(network_info=info), identity=relay)
        await author.publish(NodeRecord(network_info=over), identity=peer)
        answer = await node.query(peer.public_key)
        assert answer.connectability is not None
        assert "is not known" in answer.connectability.reason
        await node.query(relay.public_key)
        assert answer.connectability.verdict == "via-relay"
    async with make_node(own_swarm, tmp_path / "r", store=str(tmp_path / "other.db")) as node:
        await node.query(relay.public_key)
        assert len(node.known_peers) == 1
        answer = await node.query(peer.public_key)
        assert answer.connectability is not None
        assert answer.connectability.connectable


async def test_each_who_waits_has_a_deadline_of_his_own(own_swarm: Swarm, tmp_path: Path) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path, carrier="libtorrent") as node,
        Tardy(identity.peer_id) as tardy,
    ):
        await _known(node, tardy)
        tardy.silent = True
        patient = asyncio.create_task(node.query(identity.public_key))
        hasty = [node.query(identity.public_key, deadline=0.3) for _ in range(5)]
        async with asyncio.timeout(3):
            outcomes = await asyncio.gather(*hasty, return_exceptions=True)
        assert {type(one) for one in outcomes} == {DeadlineExceeded}
        assert not patient.done()
        tardy.answer()
        with pytest.raises(NotFound):
            await patient


async def test_freshest_does_not_pass_off_what_did_not_converge(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path, carrier="libtorrent") as node,
        Liar(identity.peer_id, {}) as dead,
    ):
        await node.publish(b"here", identity=identity)
        await _known(node, dead)
        dead.silent = True
        assert (await node.query(identity.public_key)).value == b"here"
        with pytest.raises(DeadlineExceeded):
            await node.query(identity.public_key, policy="freshest", deadline=0.3)


async def test_a_dead_network_costs_all_who_wait_one_deadline(tmp_path: Path, swarm: Swarm) -> None:
    async with make_node(swarm, tmp_path, bootstrap=["127.0.0.1:9"]) as node:
        keys = [Identity.generate().public_key for _ in range(6)]
        async with asyncio.timeout(8):  # one after the other they would take 12 s
            outcomes = await asyncio.gather(
                *(node.query(key, deadline=2.0) for key in keys), return_exceptions=True
            )
    assert {type(one) for one in outcomes} == {NetworkUnreachable}


async def test_a_relay_is_looked_at_again_while_its_peer_is_polled(
    own_swarm: Swarm, tmp_path: Path, clock: Clock
) -> None:
    relay, peer = Identity.generate(), Identity.generate()
    over = NetworkInfo(
        node_type="private",
        using_relay=True,
        connected_relay=relay.peer_id.hex(),
        relay_session_id="s",
        relay_address="127.0.0.1:5",
    )
    info = NetworkInfo(node_type="public", public_ip="127.0.0.1", public_port=5, is_relay=True)
    async with (
        make_node(own_swarm, tmp_path / "w", clock=clock) as author,
        make_node(own_swarm, tmp_path / "r", clock=clock) as node,
    ):
        await author.publish(NodeRecord(network_info=info), identity=relay)
        await author.publish(NodeRecord(network_info=over), identity=peer)
        await node.query(relay.public_key)
        for _ in range(12):
            clock.now += 200
            await node.query(peer.public_key)
            await _caught_up(node)
            answer = await node.query(peer.public_key)
            assert answer.connectability is not None
            assert answer.connectability.verdict == "via-relay"


async def _caught_up(node: Node) -> None:
    """Wait until no lookup runs behind the answers any more."""
    async with asyncio.timeout(10):
        while node.counters["running"]:
            await asyncio.sleep(0.01)


async def test_a_closed_node_says_so(own_swarm: Swarm, tmp_path: Path) -> None:
    async with make_node(own_swarm, tmp_path, carrier="libtorrent") as node:
        key = Identity.generate().public_key
        async with Liar(node.identity.peer_id, {}) as dead:
            await _known(node, dead)
            dead.silent = True
            waiting = asyncio.create_task(node.query(node.identity.public_key))
            await asyncio.sleep(0.05)
    with pytest.raises(NetworkUnreachable, match="closed"):
        await waiting
    with pytest.raises(NetworkUnreachable, match="closed"):
        await node.query(key)
    assert [answer async for answer in node.watch(key, interval=1)] == []


async def test_freshest_sees_what_was_put_after_an_old_lookup_began(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w", carrier="libtorrent") as author,
        make_node(own_swarm, tmp_path / "r", carrier="libtorrent") as node,
        Tardy(identity.peer_id) as tardy,
    ):
        await author.publish(b"one", identity=identity)
        await _known(node, tardy)
        tardy.silent = True
        old = asyncio.create_task(node.query(identity.public_key, policy="freshest"))
        await tardy.asked()
        tardy.silent = False  # what the old lookup asked it stays without an answer
        await asyncio.sleep(JOIN_WITHIN + 0.1)
        await author.publish(b"two", identity=identity)
        assert not old.done()
        new = asyncio.create_task(node.query(identity.public_key, policy="freshest"))
        async with asyncio.timeout(10):
            while node.counters["lookups"] < 2:
                await asyncio.sleep(0.01)
        tardy.answer()  # libtorrent answers one after the other who asks for the same key
        assert (await new).value == b"two"
        await old
