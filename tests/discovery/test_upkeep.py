"""When known peers are looked up again, and which of them are forgotten: on a real swarm."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest_asyncio

from dhtmeta.const import KNOWN_FOR
from dhtmeta.discovery.upkeep import Upkeep
from dhtmeta.node import Node
from dhtmeta.store.store import KnownPeer
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord
from tests.conftest import Clock, make_node


@pytest_asyncio.fixture
async def node(own_swarm: Swarm, tmp_path: Path, clock: Clock) -> AsyncIterator[Node]:
    async with make_node(own_swarm, tmp_path, clock=clock) as opened:
        yield opened


@pytest_asyncio.fixture
async def writer(own_swarm: Swarm, tmp_path: Path) -> AsyncIterator[Node]:
    """Run another node of that swarm, which publishes."""
    async with make_node(own_swarm, tmp_path / "writer") as opened:
        yield opened


@pytest_asyncio.fixture
async def cut_off(swarm: Swarm, tmp_path: Path, clock: Clock) -> AsyncIterator[Node]:
    async with make_node(swarm, tmp_path, clock=clock, offline=True) as opened:
        yield opened


def upkeep_of(node: Node, concerns: Callable[[KnownPeer], bool] = lambda known: False) -> Upkeep:
    return Upkeep(node._store, node._resolver, concerns, node.clock)


async def look(upkeep: Upkeep) -> int:
    """Have it look once, and return how many peers that looked up."""
    upkeep._look()
    running = list(upkeep._running)
    await asyncio.gather(*running)
    return len(running)


def stranger(node: Node) -> bytes:
    """Have `node` know a peer of whom nobody holds a record; returns the id."""
    identity = Identity.generate()
    record = NodeRecord(peer_id=identity.peer_id.hex())
    node._store.keep_peer(identity.public_key, record, "exchange", node.clock())
    return identity.peer_id


async def test_a_known_peer_is_looked_at_again_after_a_day_and_stays_if_found(
    writer: Node, node: Node, clock: Clock
) -> None:
    identity = Identity.generate()
    record = NodeRecord(peer_id=identity.peer_id.hex(), topic="another")
    await writer.publish(record, identity=identity)
    await node.query(identity.public_key)
    upkeep = upkeep_of(node)
    clock.now += KNOWN_FOR
    assert await look(upkeep) == 0
    clock.now += 1
    assert await look(upkeep) == 1
    assert node.known_peers[identity.peer_id].last_seen == clock.now
    assert upkeep.forgotten == 0


async def test_a_peer_that_nobody_holds_any_more_is_forgotten_after_a_day(
    node: Node, clock: Clock
) -> None:
    peer = stranger(node)
    upkeep = upkeep_of(node)
    clock.now += KNOWN_FOR + 1
    assert await look(upkeep) == 1
    assert peer not in node.known_peers
    assert upkeep.forgotten == 1


async def test_a_peer_is_kept_while_the_network_is_down(cut_off: Node, clock: Clock) -> None:
    peer = stranger(cut_off)
    upkeep = upkeep_of(cut_off)
    clock.now += 10 * KNOWN_FOR
    assert await look(upkeep) == 1
    assert peer in cut_off.known_peers
    assert upkeep.forgotten == 0


async def test_a_peer_of_our_topic_is_looked_up_whenever_its_record_is_no_longer_fresh(
    writer: Node, node: Node, clock: Clock
) -> None:
    identity = Identity.generate()
    record = NodeRecord(peer_id=identity.peer_id.hex(), topic="ours")
    await writer.publish(record, identity=identity)
    await node.query(identity.public_key)
    upkeep = upkeep_of(node, lambda known: known.topic == "ours")
    held = node._resolver.cache.usable(identity.peer_id, clock.now)
    assert held is not None
    clock.now = held.fresh_until - 0.1
    assert await look(upkeep) == 0
    clock.now = held.fresh_until
    assert await look(upkeep) == 1
    assert await look(upkeep) == 0


async def test_a_peer_of_our_topic_that_is_not_found_is_kept_for_a_day(
    node: Node, clock: Clock
) -> None:
    peer = stranger(node)
    upkeep = upkeep_of(node, lambda known: True)
    clock.now += KNOWN_FOR
    assert await look(upkeep) == 1
    assert peer in node.known_peers


async def test_what_was_not_found_is_left_alone_for_a_while(node: Node, clock: Clock) -> None:
    stranger(node)
    upkeep = upkeep_of(node, lambda known: True)
    assert await look(upkeep) == 1
    assert await look(upkeep) == 0


async def test_a_key_that_holds_no_record_any_more_is_forgotten_after_a_day(
    writer: Node, node: Node, clock: Clock
) -> None:
    identity = Identity.generate()
    await writer.publish({b"now": b"plain"}, identity=identity)
    record = NodeRecord(peer_id=identity.peer_id.hex())
    node._store.keep_peer(identity.public_key, record, "exchange", clock.now)
    upkeep = upkeep_of(node)
    clock.now += KNOWN_FOR + 1
    assert await look(upkeep) == 1
    assert identity.peer_id not in node.known_peers
