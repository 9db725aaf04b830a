"""Publishing on a real swarm: the seq never falls, and bad input sends nothing.

Through both carriers, but for what follows from libtorrent's choosing the seq and waiting for dead
nodes; what only the direct one can do is in test_publish_direct.
"""

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dhtmeta.const import CARRIERS
from dhtmeta.engine.publish import Published
from dhtmeta.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidRecord,
    InvalidSalt,
    InvalidValue,
    NetworkUnreachable,
    ValueTooLarge,
)
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import PRIVATE_FILE, Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from tests.conftest import Clock, Tardy, make_node


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def writer(carrier: str, writer: Node, libtorrent_writer: Node) -> Node:
    return libtorrent_writer if carrier == "libtorrent" else writer


async def test_each_publish_raises_the_seq_by_one(reader: Node, writer: Node) -> None:
    identity = Identity.generate()
    published = [await writer.publish(b"%d" % i, identity=identity) for i in range(3)]
    assert [one.item.seq for one in published] == [1, 2, 3]
    assert all(one.accepted >= 8 for one in published)
    assert (await reader.query(identity.public_key, policy="freshest")).value == b"2"


async def test_publishes_at_once_get_different_seqs(writer: Node) -> None:
    identity = Identity.generate()
    many = await asyncio.gather(*(writer.publish(b"%d" % i, identity=identity) for i in range(5)))
    assert sorted(one.item.seq for one in many) == [1, 2, 3, 4, 5]


async def test_a_record_is_completed_with_peer_id_and_time(
    own_swarm: Swarm, tmp_path: Path, clock: Clock, carrier: str
) -> None:
    async with make_node(own_swarm, tmp_path, clock=clock, carrier=carrier) as node:
        await node.publish(NodeRecord(topic="t"))
        answer = await node.query(node.identity.public_key)
    assert answer.record is not None
    assert answer.record.peer_id == node.identity.peer_id.hex()
    assert answer.record.timestamp == int(clock.now)


@pytest.mark.parametrize(
    "value", [b"", b"text", b"le", b"i5e", 5, -1, [1, b"two"], {b"a": {b"b": [3]}}], ids=repr
)
async def test_every_kind_of_value_comes_back_as_it_was(
    reader: Node, writer: Node, value: object
) -> None:
    identity = Identity.generate()
    await writer.publish(value, identity=identity)  # type: ignore[arg-type]
    assert (await reader.query(identity.public_key)).value == value


async def test_with_libtorrent_a_network_below_the_ledger_is_a_conflict_and_nothing_is_sent(
    tmp_path: Path,
) -> None:
    async with Swarm(8) as first, make_node(first, tmp_path, carrier="libtorrent") as node:
        await node.publish(b"one")
        await node.publish(b"two")
    async with Swarm(8) as second, make_node(second, tmp_path, carrier="libtorrent") as node:
        with pytest.raises(Conflict, match="seq 2 was published, the network holds nothing") as no:
            await node.publish(b"three")
        assert (no.value.ledger_seq, no.value.network_seq) == (2, None)
    async with (
        Swarm(8) as third,
        make_node(third, tmp_path, store=str(tmp_path / "other.db"), carrier="libtorrent") as node,
        make_node(third, tmp_path, carrier="libtorrent") as again,
    ):
        await node.publish(b"restarted")
        with pytest.raises(Conflict, match="the network holds seq 1"):
            await again.publish(b"three")


async def test_a_network_above_the_ledger_is_overtaken_and_said(
    own_swarm: Swarm, tmp_path: Path, caplog: pytest.LogCaptureFixture, carrier: str
) -> None:
    other = str(tmp_path / "other.db")
    async with (
        make_node(own_swarm, tmp_path, carrier=carrier) as node,
        make_node(own_swarm, tmp_path, store=other, carrier=carrier) as twin,
    ):
        await node.publish(b"one")
        await twin.publish(b"two")
        await twin.publish(b"three")
        published = await node.publish(b"four")
    assert published.item.seq == 4
    assert "someone else publishes with this key" in caplog.text


async def test_a_restart_continues_the_seq(own_swarm: Swarm, tmp_path: Path, carrier: str) -> None:
    seqs = []
    for value in (
        b"one",
        b"two",
    ):  # comes back on the port that others know, so that no dead node is left
        async with make_node(own_swarm, tmp_path, carrier=carrier) as node:
            published: Published = await node.publish(value)
            seqs.append(published.item.seq)
    assert seqs == [1, 2]


async def test_what_we_published_is_not_answered_from_an_older_cache(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    async with make_node(own_swarm, tmp_path, carrier=carrier) as node:
        await node.publish(b"one")
        await node.query(node.identity.public_key)
        await node.publish(b"two")
        answer = await node.query(node.identity.public_key)
    assert (answer.value, answer.source) == (b"two", "dht")


async def test_bad_input_is_refused_before_anything_is_sent_or_written(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    async with make_node(own_swarm, tmp_path, carrier=carrier) as node:
        with pytest.raises(ValueTooLarge, match=r"1,\d\d\d bytes.*notes 9\d\d bytes"):
            await node.publish({b"notes": b"n" * 980, b"small": b"s"})
        with pytest.raises(ValueTooLarge, match=r"network_info\.nat_type 1,0\d\d bytes"):
            await node.publish(NodeRecord(network_info=NetworkInfo(nat_type="n" * 1000)))
        with pytest.raises(InvalidSalt):
            await node.publish(b"x", salt=b"s" * 65)
        with pytest.raises(InvalidRecord, match="peer_id"):
            await node.publish(NodeRecord(peer_id="0" * 40))
        with pytest.raises(InvalidRecord, match=r"network_info\.public_port"):
            await node.publish(NodeRecord(network_info=NetworkInfo(public_port=65536)))
        with pytest.raises(InvalidValue, match="float"):
            await node.publish({b"a": 1.5})  # type: ignore[dict-item]
        with pytest.raises(InvalidValue, match="64"):
            await node.publish(2**63)
        deep: list[object] = []
        for _ in range(100):
            deep = [deep]
        with pytest.raises(InvalidValue, match="deep"):
            await node.publish(deep)  # type: ignore[arg-type]
        published = await node.publish(b"fine")
    assert published.item.seq == 1


async def test_without_a_network_nothing_is_written_down(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    nobody = ["127.0.0.1:9"]
    async with make_node(own_swarm, tmp_path, bootstrap=nobody, carrier=carrier) as node:
        with pytest.raises(NetworkUnreachable, match=r"127\.0\.0\.1:9"):
            await node.publish(b"x", deadline=0.3)
    async with make_node(own_swarm, tmp_path, carrier=carrier) as node:
        assert (await node.publish(b"x")).item.seq == 1


async def test_processes_that_share_keys_publish_one_after_the_other(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    async with contextlib.AsyncExitStack() as opened:
        nodes = [
            await opened.enter_async_context(
                make_node(
                    own_swarm,
                    tmp_path,
                    store=str(tmp_path / f"{i}.db"),
                    state=tmp_path / str(i),
                    carrier=carrier,
                )
            )
            for i in range(3)
        ]
        one = nodes[0].identity
        at_once = [node.publish(b"%d" % i) for i, node in enumerate([*nodes, *nodes])]
        published = await asyncio.gather(*at_once)
        assert sorted(put.item.seq for put in published) == [1, 2, 3, 4, 5, 6]
        answer = await nodes[0].query(one.public_key, policy="freshest")
        assert answer.seq == 6


async def test_waiting_for_another_writer_ends_at_the_deadline(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with make_node(own_swarm, tmp_path) as node:
        await node.publish(b"x")
        with (tmp_path / "keys" / PRIVATE_FILE).open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(DeadlineExceeded, match="another process publishes"):
                await node.publish(b"y", deadline=0.1)
        assert (await node.publish(b"y")).item.seq == 2


@contextlib.asynccontextmanager
async def silent_node_near(node: Node, target: bytes) -> AsyncIterator[Tardy]:
    """Put a node that stays silent until told next to `target` into the routing table of `node`."""
    async with Tardy(target) as tardy:
        await node.carrier.ready()
        async with asyncio.timeout(10):
            while tardy.endpoint not in {one.endpoint for one in await node.carrier.live_nodes()}:
                node.carrier.add_nodes([tardy.endpoint])
                await asyncio.sleep(0.01)
        tardy.silent = True
        yield tardy


async def test_with_libtorrent_a_put_that_was_given_up_does_not_overlap_the_next(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path / "w", carrier="libtorrent") as node:
        async with silent_node_near(node, identity.peer_id) as tardy:
            with pytest.raises(DeadlineExceeded, match="may have reached some nodes"):
                await node.publish(b"first", identity=identity, deadline=0.3)
            tardy.silent = False  # only the first put waits, for the answer that is kept
            second = asyncio.create_task(node.publish(b"second", identity=identity))
            assert not (await asyncio.wait([second], timeout=0.3))[0]
            tardy.answer()
            assert (await second).item.seq == 2
        async with make_node(own_swarm, tmp_path / "r", carrier="libtorrent") as reader:
            answer = await reader.query(identity.public_key)
    assert (answer.seq, answer.value) == (2, b"second")


async def test_with_libtorrent_a_put_that_never_began_sends_nothing(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path, carrier="libtorrent") as node,
        silent_node_near(node, identity.peer_id) as tardy,
    ):
        slow = asyncio.create_task(node.publish(b"first", identity=identity))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match="nothing was sent"):
            await node.publish(b"second", identity=identity, deadline=0.3)
        tardy.answer()
        assert (await slow).item.seq == 1
        assert (await node.publish(b"third", identity=identity)).item.seq == 2


async def test_a_lookup_under_way_sees_what_we_publish_meanwhile(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path, carrier="libtorrent") as node,
        silent_node_near(node, identity.peer_id) as tardy,
    ):
        publishing = asyncio.create_task(node.publish(b"one", identity=identity))
        await tardy.asked()
        under_way = asyncio.create_task(node.query(identity.public_key, policy="freshest"))
        await tardy.asked(2)
        tardy.answer(1)
        await publishing
        assert not under_way.done()
        tardy.answer()
        assert (await under_way).value == b"one"


async def test_with_libtorrent_a_look_that_did_not_converge_is_no_conflict(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with Swarm(8) as first, make_node(first, tmp_path, carrier="libtorrent") as node:
        await node.publish(b"one")
    async with (
        make_node(own_swarm, tmp_path, carrier="libtorrent") as node,
        silent_node_near(node, node.identity.peer_id),
    ):
        with pytest.raises(DeadlineExceeded, match="the look before the put"):
            await node.publish(b"two", deadline=0.5)
