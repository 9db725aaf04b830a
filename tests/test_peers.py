"""Node's own words for discovery: peers, watch_peers, connect."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import dhtmeta
from dhtmeta.const import DIAL_DEADLINE, REPUBLISH_INTERVAL, STALE_AFTER_INTERVALS
from dhtmeta.dht.address import format_address
from dhtmeta.discovery.peer import Peer
from dhtmeta.errors import CallerError, NetworkUnreachable
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.record import NetworkInfo, NodeRecord
from tests.conftest import make_node
from tests.residents import WITHIN, Resident, resident, until, visitors_settings


def visitor(swarm: Swarm, home: Path) -> Node:
    """Make a node that only looks."""
    return make_node(swarm, home, settings=visitors_settings(), serve=False)


async def heard(watching: AsyncIterator[Peer]) -> Peer:
    """Return the next peer that is told of."""
    async with asyncio.timeout(WITHIN):
        return await anext(watching)


async def renew(one: Resident, **info: object) -> None:
    """Publish a record that says something else."""
    told = NetworkInfo(**info)  # type: ignore[arg-type]
    await one.node.publish(NodeRecord(topic=one.finder.topic, network_info=told))


async def test_who_is_connected_to_says_who_it_is_and_whom_it_knows(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with (
        resident(own_swarm, tmp_path / "a", "town") as one,
        resident(own_swarm, tmp_path / "b", "town") as other,
        visitor(own_swarm, tmp_path / "c") as node,
    ):
        await until(lambda: any(one.node.known("town")))
        met = await node.connect(f"localhost:{one.exchange[1]}", "town")
        known = {peer.peer_id for peer in node.known("town")}
    assert met.public_key == one.node.identity.public_key
    assert (met.verdict, met.address, met.topic) == (
        dhtmeta.Verdict.DIRECT,
        format_address(one.exchange),
        "town",
    )
    assert known == {one.peer_id, other.peer_id}


async def test_the_record_of_another_topics_peer_is_looked_up(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with (
        resident(own_swarm, tmp_path / "a", "elsewhere", serve=False) as one,
        visitor(own_swarm, tmp_path / "c") as node,
    ):
        met = await node.connect(format_address(one.exchange))
    assert (met.peer_id, met.topic, met.source) == (one.peer_id, "elsewhere", "query")


async def test_where_nobody_is_there_is_nobody_to_connect_to(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with visitor(own_swarm, tmp_path) as node:
        with pytest.raises(CallerError):
            await node.connect("127.0.0.1")
        with pytest.raises(NetworkUnreachable, match="cannot be resolved"):
            await node.connect("nobody.invalid:30906")
        async with asyncio.timeout(DIAL_DEADLINE + WITHIN):
            with pytest.raises(NetworkUnreachable, match=r"nobody answers at 127\.0\.0\.1:9"):
                await node.connect("127.0.0.1:9")


async def test_peers_are_found_after_a_connection_by_hand(own_swarm: Swarm, tmp_path: Path) -> None:
    """Who connected first still searches when it is asked for peers."""
    async with (
        resident(own_swarm, tmp_path / "a", "town") as one,
        visitor(own_swarm, tmp_path / "c") as node,
    ):
        finder = await node.open_discovery("town")
        found = await asyncio.gather(*(node.peers("town", connectable=True) for _ in range(2)))
        assert finder.ladder.counts["store"].asked
        with pytest.raises(CallerError, match="looks for 'town'"):
            await node.peers("city")
        assert [peer.peer_id for peer in await node.peers()] == [one.peer_id]
    assert [[peer.peer_id for peer in each] for each in found] == [[one.peer_id]] * 2


async def test_a_peer_is_told_of_once_and_again_when_it_is_judged_otherwise(
    own_swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.discovery.company.PEERS_RELOOK", 1000.0)  # news come by themselves
    told: list[tuple[bytes, str | None, str]] = []

    async def watch(node: Node) -> None:
        async for peer in node.watch_peers("town"):
            told.append((peer.peer_id, peer.verdict, peer.address))  # noqa: PERF401 - no end

    def seq(peer_id: bytes) -> int | None:
        return node.peer(peer_id, node.known_peers[peer_id]).seq

    async with (
        resident(own_swarm, tmp_path / "a", "town") as one,
        resident(own_swarm, tmp_path / "b", "town") as other,
        visitor(own_swarm, tmp_path / "c") as node,
    ):
        watching = asyncio.create_task(watch(node))
        await until(lambda: len(told) == 2)
        gone, moved = (other.peer_id, "unreachable", ""), (one.peer_id, "direct", "127.0.0.9:30906")
        await renew(other, node_type="private")
        await until(lambda: gone in told)
        before = seq(other.peer_id)
        await renew(other, node_type="private", nat_type="cone")  # nothing that is told of
        await until(lambda: seq(other.peer_id) != before)
        await renew(one, node_type="public", public_ip="127.0.0.9", public_port=30906)
        await until(lambda: moved in told)
        watching.cancel()
        await asyncio.wait([watching])
        assert (await node.open_discovery()).on_found == []
    first = {(one.peer_id, "direct"), (other.peer_id, "direct")}
    assert {(peer_id, verdict) for peer_id, verdict, _ in told[:2]} == first
    assert told[2:] == [gone, moved]


async def test_who_is_judged_otherwise_without_a_word_is_told_of_too(
    own_swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.discovery.company.PEERS_RELOOK", 0.05)
    late = 0.0
    async with (
        resident(own_swarm, tmp_path / "a", "town") as one,
        make_node(
            own_swarm,
            tmp_path / "c",
            settings=visitors_settings(),
            clock=lambda: time.time() + late,
        ) as node,
    ):
        watching = node.watch_peers("town")
        first = await heard(watching)
        late = (STALE_AFTER_INTERVALS + 1) * REPUBLISH_INTERVAL
        then = await heard(watching)
        await watching.aclose()  # type: ignore[attr-defined]
    assert first.peer_id == then.peer_id == one.peer_id
    assert first.verdict is dhtmeta.Verdict.DIRECT
    assert then.verdict in (None, dhtmeta.Verdict.STALE)  # gone from the cache, or looked up again


async def test_an_offline_node_can_neither_watch_nor_connect(tmp_path: Path) -> None:
    settings = visitors_settings()
    async with Node(
        offline=True, keys=tmp_path, store=str(tmp_path / "s.db"), settings=settings
    ) as node:
        assert await node.peers("town") == []
        with pytest.raises(CallerError, match="whose peers"):
            await node.peers()
        with pytest.raises(NetworkUnreachable):
            await anext(node.watch_peers("town"))
        with pytest.raises(NetworkUnreachable):
            await node.connect("127.0.0.1:30906")


def test_quic_is_imported_by_those_alone_who_use_it() -> None:
    code = "import sys, dhtmeta; dhtmeta.Node, dhtmeta.Peer; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "dhtmeta.discovery.peer" in loaded
    assert not {"aioquic", "zeroconf", "aiohttp", "cryptography"} & set(loaded)


async def test_once_keys_were_rotated_the_new_one_is_met_and_we_never_list_the_old(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with (
        resident(own_swarm, tmp_path / "a", "town") as one,
        resident(own_swarm, tmp_path / "b", "town") as other,
    ):
        await until(lambda: [peer.peer_id for peer in other.node.known("town")] == [one.peer_id])
        await until(lambda: one.finder.exchange.links)
        await one.node.rotate()
        new = one.node.own_id
        assert new not in (None, one.peer_id)
        await until(lambda: any(link.peer_id == new for link in other.finder.exchange.links))
        await until(lambda: new in {peer.peer_id for peer in other.node.known("town")})
        await until(lambda: other.peer_id in {peer.peer_id for peer in one.node.known("town")})
        assert one.peer_id not in {peer.peer_id for peer in one.node.known()}
