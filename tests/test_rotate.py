"""A rotated key on a real swarm: who asks for it is led to its successor, by one step."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.const import CARRIERS
from dhtmeta.errors import DeadlineExceeded, KeyFileError, NetworkUnreachable
from dhtmeta.node import Node
from dhtmeta.store.writer_lock import WriterLock
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import (
    NEXT_FILE,
    PRIVATE_FILE,
    Identity,
    next_identity,
    old_directory,
    read_identity,
)
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.successor import successor_value
from tests.conftest import make_node


@pytest_asyncio.fixture
async def node(own_swarm: Swarm, tmp_path: Path) -> AsyncIterator[Node]:
    """Run a node with keys of its own, which it may rotate."""
    async with make_node(own_swarm, tmp_path / "node") as running:
        yield running


@pytest_asyncio.fixture
async def asking(own_swarm: Swarm, tmp_path: Path) -> AsyncIterator[Node]:
    """Run another node of that swarm, which asks."""
    async with make_node(own_swarm, tmp_path / "asking") as running:
        yield running


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_who_asks_for_a_rotated_key_is_led_to_its_successor(
    own_swarm: Swarm, asking: Node, tmp_path: Path, carrier: str
) -> None:
    async with make_node(own_swarm, tmp_path / "n", carrier=carrier) as node:
        await node.publish(NodeRecord(topic="before"))
        old = node.identity.public_key
        published = await node.rotate()
        new = node.identity.public_key
        assert published.item.public_key == old != new
        alone = await asking.query(old, policy="freshest")
        assert (alone.item, alone.successor, alone.followed) == (published.item, new, None)
        assert alone.record is None
        await node.publish(NodeRecord(topic="after"))
    for policy in ("freshest", "cache-first", "cache-only"):
        answer = await asking.query(old, policy=policy)
        assert (answer.item.public_key, answer.followed, answer.successor) == (new, old, None)
        assert answer.record is not None
        assert answer.record.topic == "after"
    direct = await asking.query(new)
    assert (direct.item.public_key, direct.followed) == (new, None)
    own = await asking.query(old, follow=False)
    assert (own.item, own.successor, own.followed) == (published.item, new, None)


async def test_the_ledger_keeps_the_old_key_alive(node: Node, tmp_path: Path) -> None:
    await node.publish(NodeRecord(topic="t"))
    item = (await node.rotate()).item
    with closing(sqlite3.connect(tmp_path / "node" / "store.db")) as database:
        ((seq, v, state, due),) = database.execute(
            "SELECT seq, v, state, next_due FROM ledger WHERE target = ?", [item.target]
        )
    assert (seq, v, state) == (item.seq, item.v, "stored")
    assert 0 < due < float("inf")


async def test_only_one_step_is_followed(node: Node, asking: Node) -> None:
    first = node.identity.public_key
    await node.rotate()
    second = node.identity.public_key
    await node.rotate()
    third = node.identity.public_key
    await node.publish(b"third")
    answer = await asking.query(first)
    assert (answer.item.public_key, answer.followed, answer.successor) == (second, first, third)
    assert (await asking.query(second)).value == b"third"


async def test_keys_that_follow_each_other_are_not_followed(node: Node, asking: Node) -> None:
    one, other = Identity.generate(), Identity.generate()
    await node.publish(successor_value(one.public_key, other), identity=one)
    await node.publish(successor_value(other.public_key, one), identity=other)
    for key in (one.public_key, other.public_key):
        answer = await asking.query(key)
        assert (answer.item.public_key, answer.followed) == (key, None)


async def test_nobody_follows_who_did_not_agree(node: Node, asking: Node) -> None:
    thief, somebody, third = (Identity.generate() for _ in range(3))
    await node.publish(b"trusted", identity=somebody)
    for value in (
        successor_value(third.public_key, somebody),  # agreed to another key
        successor_value(thief.public_key, third) | {b"successor": somebody.public_key},
    ):
        await node.publish(value, identity=thief)
        answer = await asking.query(thief.public_key, policy="freshest")
        assert (answer.item.public_key, answer.successor) == (thief.public_key, None)
        assert answer.value == value


async def test_an_item_with_a_salt_leads_nowhere(node: Node, asking: Node) -> None:
    old, new = Identity.generate(), Identity.generate()
    await node.publish(b"new", identity=new)
    await node.publish(successor_value(old.public_key, new), identity=old, salt=b"s")
    answer = await asking.query(old.public_key, salt=b"s")
    assert (answer.item.public_key, answer.successor) == (old.public_key, None)


async def test_who_watches_a_key_sees_its_successor_whatever_its_seq(
    node: Node, asking: Node
) -> None:
    old = node.identity.public_key
    await node.publish(b"old", salt=b"")
    await node.publish(b"older", salt=b"")
    looks = asking.watch(old, interval=0.01)
    async with asyncio.timeout(30):
        assert (await anext(looks)).seq == 2
        await node.rotate()
        rotated = await anext(looks)
        assert (rotated.seq, rotated.successor) == (3, node.identity.public_key)
        await node.publish(b"new")
        followed = await anext(looks)
        assert (followed.seq, followed.value, followed.followed) == (1, b"new", old)
        await node.publish(b"newer")
        assert (await anext(looks)).value == b"newer"
    await looks.aclose()  # type: ignore[attr-defined]


async def test_where_the_network_is_dead_the_old_keys_stay_and_the_next_try_goes_on(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with make_node(own_swarm, tmp_path, bootstrap=["127.0.0.1:9"]) as node:
        old = node.identity.public_key
        with pytest.raises(NetworkUnreachable):
            await node.rotate(deadline=0.5)
        assert node.identity.public_key == old == read_identity(tmp_path / "keys").public_key
    new = next_identity(tmp_path / "keys").public_key
    async with make_node(own_swarm, tmp_path) as node:
        await node.rotate()
        assert node.identity.public_key == new == read_identity(tmp_path / "keys").public_key


async def test_who_runs_on_the_same_keys_publishes_with_the_new_ones_from_then_on(
    own_swarm: Swarm, node: Node, asking: Node, tmp_path: Path
) -> None:
    await node.publish(NodeRecord(topic="t"))
    old = node.identity.public_key
    async with make_node(own_swarm, tmp_path / "other", keys=tmp_path / "node" / "keys") as other:
        await other.rotate()
        new = other.identity.public_key
    assert (await node.publish(NodeRecord(topic="t"))).item.public_key == new
    assert node.identity.public_key == new
    assert (await asking.query(old)).followed == old


async def test_of_two_that_rotate_the_same_keys_one_is_told_that_it_was_done(
    own_swarm: Swarm, node: Node, tmp_path: Path
) -> None:
    old = node.identity.public_key
    async with make_node(own_swarm, tmp_path / "other", keys=tmp_path / "node" / "keys") as other:
        ends = await asyncio.gather(node.rotate(), other.rotate(), return_exceptions=True)
    (refused,) = [end for end in ends if isinstance(end, BaseException)]
    assert isinstance(refused, KeyFileError)
    assert "was rotated meanwhile" in str(refused)
    keys = tmp_path / "node" / "keys"
    assert read_identity(old_directory(keys, old)).public_key == old
    assert not (keys / NEXT_FILE).exists()


async def test_while_somebody_publishes_with_the_keys_they_are_not_rotated(
    node: Node, tmp_path: Path
) -> None:
    old = node.identity.public_key
    async with WriterLock(tmp_path / "node" / "keys" / PRIVATE_FILE).held(1):
        with pytest.raises(DeadlineExceeded, match="another process publishes"):
            await node.rotate(deadline=0.1)
    assert node.identity.public_key == old
    assert not (tmp_path / "node" / "keys" / NEXT_FILE).exists()


async def test_where_there_are_no_keys_none_are_made(node: Node, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="`dhtmeta keygen` makes one"):
        await node.rotate()
    assert not (tmp_path / "node" / "keys").exists()
