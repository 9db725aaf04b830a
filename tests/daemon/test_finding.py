"""What HTTP and Prometheus are told of the search for peers, beside what really goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dhtmeta.config import Settings
from dhtmeta.dht.address import format_address
from dhtmeta.node import Node
from dhtmeta.store.store import KnownPeer
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity
from dhtmeta.values.node_id import peer_id
from tests.daemon.http_server import Served, serving
from tests.daemon.test_metrics import named, scraped
from tests.residents import WITHIN, resident, until

PRIVATE = {"node_type": "private"}


async def shown(
    ask: Callable[[], Awaitable[dict[str, Any]]], wanted: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Ask until that is what is shown."""
    async with asyncio.timeout(WITHIN):
        while not wanted(said := await ask()):
            await asyncio.sleep(0.02)
    return said


def asking(served: Served, path: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def ask() -> dict[str, Any]:
        reply = await served.get(path)
        assert reply.status == 200
        said: dict[str, Any] = reply.json
        return said

    return ask


async def test_a_relay_and_who_is_attached_to_it_show_each_other(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    async with (
        resident(own_swarm, tmp_path / "a", "pair") as relay,
        resident(own_swarm, tmp_path / "b", "pair", PRIVATE) as attached,
        serving(relay.node, finder=relay.finder, clock=relay.node.clock) as at_relay,
        serving(attached.node, finder=attached.finder, clock=attached.node.clock) as at_attached,
    ):
        address = format_address(relay.exchange)
        mine = await shown(asking(at_attached, "/topology"), lambda said: said["node"]["relay"])
        theirs = await shown(asking(at_relay, "/topology"), lambda said: said["node"]["sessions"])
        listed = await shown(asking(at_relay, "/peers/connectable"), lambda said: said["peers"])
        here = (await at_relay.get("/connections")).json["connections"]
        there = (await at_attached.get("/connections")).json["connections"]
        metrics = await scraped(at_relay), await scraped(at_attached)
        now = relay.node.clock()
    assert mine["node"] | {"endpoint": "", "exchange": ""} == {
        "peer_id": attached.peer_id.hex(),
        "public_key": attached.node.identity.public_key.hex(),
        "carrier": "direct",
        "endpoint": "",
        "exchange": "",
        "topic": "pair",
        "node_type": "private",
        "public_address": None,
        "relay": {"peer_id": relay.peer_id.hex(), "address": address},
        "is_relay": False,
        "sessions": 0,
        "capacity": 0,
    }
    node = theirs["node"]
    assert (node["node_type"], node["public_address"], node["exchange"]) == (
        "public",
        address,
        address,
    )
    assert (node["is_relay"], node["sessions"], node["capacity"], node["relay"]) == (
        True,
        1,
        100,
        None,
    )
    (peer,) = listed["peers"]
    assert (peer["peer_id"], peer["verdict"], peer["address"]) == (
        attached.peer_id.hex(),
        "via-relay",
        address,
    )
    assert (peer["topic"], peer["source"]) == ("pair", "exchange")
    assert 0 < peer["first_seen"] <= peer["last_seen"] <= now
    assert [one["peer_id"] for one in here if one["attached"]] == [attached.peer_id.hex()]
    assert not any(one["relay"] for one in here)
    assert not any(one["attached"] for one in there)
    (session,) = [one for one in there if one["relay"]]
    assert (session["peer_id"], session["address"]) == (relay.peer_id.hex(), address)
    assert {one["outbound"] for one in here + there} == {True, False}
    assert session["round_trip"] > 0
    assert 0 < session["since"] <= now
    for samples, kind, is_attached, sessions in (
        (metrics[0], "public", 0, 1),
        (metrics[1], "private", 1, 0),
    ):
        types = {one: named(samples, "dhtmeta_node_type", type=one) for one in TYPES}
        assert types == {one: float(one == kind) for one in TYPES}
        assert named(samples, "dhtmeta_attached") == is_attached
        assert named(samples, "dhtmeta_relay_sessions") == sessions
        assert named(samples, "dhtmeta_has_topic") == 1


TYPES = ("public", "private", "unknown")


async def test_what_the_search_counts_is_told(own_swarm: Swarm, tmp_path: Path) -> None:
    async with (
        resident(own_swarm, tmp_path / "a", "counted") as one,
        resident(own_swarm, tmp_path / "b", "counted") as other,
        serving(one.node, finder=one.finder) as served,
    ):
        await until(lambda: any(one.node.known("counted")))
        samples = await scraped(served)
        stats = (await served.get("/stats")).json["discovery"]
        finder, counts = one.finder, one.finder.gossip.counts
        links = list(finder.exchange.links)
    assert stats["gossip"]["taken"] == counts.taken >= 1
    assert named(samples, "dhtmeta_gossip_taken_total") >= 1
    for source in ("contact", "store", "lan", "topic", "exchange"):
        for name in ("asked", "failed", "candidates", "found"):
            metric = named(samples, f"dhtmeta_discovery_{name}_total", source=source)
            assert metric <= stats["sources"][source][name]
    assert named(samples, "dhtmeta_discovery_asked_total", source="store") >= 1
    assert named(samples, "dhtmeta_registry_requests_total") == 0 == stats["registry_requests"]
    dialled = named(samples, "dhtmeta_exchange_connections", direction="out")
    assert dialled + named(samples, "dhtmeta_exchange_connections", direction="in") >= 1
    assert {link.peer_id for link in links} <= {other.peer_id}
    assert named(samples, "dhtmeta_exchange_dials_total", result="ok") <= stats["dials"]["ok"]


async def test_where_the_exchange_is_off_nothing_is_told_of_it(writer: Node) -> None:
    async with serving(writer) as served:
        assert (await served.get("/stats")).json["discovery"] is None
        names = {name for name, _ in await scraped(served)}
    assert not [name for name in names if "gossip" in name or "discovery" in name]


def offline(directory: Path) -> Node:
    options: Any = {"store": str(directory / "s.db"), "keys": directory, "settings": Settings()}
    return Node(offline=True, **options)


async def test_peers_of_a_topic_fill_their_pages_and_we_are_in_none(tmp_path: Path) -> None:
    async with offline(tmp_path) as node, serving(node) as served:
        own = node.identity
        keys = [Identity.generate().public_key for _ in range(90)]
        known = [KnownPeer(key, "odd" if i % 3 else "even") for i, key in enumerate(keys)]
        for one in [*known, KnownPeer(own.public_key, "even")]:
            node._store.peers[peer_id(one.public_key)] = one
        first = (await served.get("/peers?topic=even&limit=20")).json
        last = (await served.get(f"/peers?topic=even&limit=20&after={first['next']}")).json
        everybody = (await served.get("/peers?limit=500")).json["peers"]
        nobody = (await served.get("/peers?topic=none")).json
        topology = (await served.get("/topology")).json
    assert (len(first["peers"]), len(last["peers"]), last["next"]) == (20, 10, None)
    listed = {one["public_key"] for one in first["peers"] + last["peers"]}
    assert listed == {key.hex() for key in keys[::3]}
    assert {one["topic"] for one in first["peers"]} == {"even"}
    assert len(everybody) == 90 == topology["known"] == topology["peers"]["unknown"]
    assert nobody == {"peers": [], "next": None}
