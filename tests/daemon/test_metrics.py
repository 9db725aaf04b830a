"""What Prometheus is told, read back with Prometheus' own parser, beside what the rooms say."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dhtmeta.config import Settings
from dhtmeta.const import CENSUS_AT_ONCE, CENSUS_SLICE, PEERS_PAGE
from dhtmeta.daemon import census as census_module
from dhtmeta.daemon.census import Census
from dhtmeta.daemon.status import State, Status
from dhtmeta.discovery.peer import Peer
from dhtmeta.engine.counts import Counts
from dhtmeta.node import Node
from dhtmeta.store.store import KnownPeer
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord
from tests.daemon.http_server import STARTED, Served, serving, signed

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(served: Served) -> Samples:
    """Scrape, and return value by name and labels."""
    reply = await served.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


def named(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def test_counts_are_told(writer: Node) -> None:
    async with serving(writer) as served:
        for number, one in enumerate(fields(Counts)):
            if one.name != "copies":
                setattr(served.counts, one.name, 10 + number)
        samples = await scraped(served)
    counts = served.counts
    for name, value, labels in (
        ("publishes", counts.publishes_ok, {"result": "ok"}),
        ("publishes", counts.publishes_failed, {"result": "failed"}),
        ("looks", counts.looks_ok, {"result": "ok"}),
        ("looks", counts.looks_failed, {"result": "failed"}),
        ("topups", counts.topped_up, {}),
        ("copies_lost", counts.copies_lost, {}),
        ("records_lost", counts.records_lost, {}),
        ("conflicts", counts.conflicts, {}),
        ("adopted", counts.adopted, {}),
    ):
        assert named(samples, f"dhtmeta_{name}_total", **labels) == value, name


async def test_copies_are_a_histogram_of_exact_counts(writer: Node) -> None:
    async with serving(writer) as served:
        served.counts.copies.update({0: 1, 3: 2, 8: 3, 20: 4, 25: 5})
        samples = await scraped(served)
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in samples.items()
        if name == "dhtmeta_record_copies_bucket"
    }
    assert buckets == {
        **dict.fromkeys(("0.0", "1.0", "2.0"), 1),
        **dict.fromkeys(("4.0", "6.0"), 3),
        **dict.fromkeys(("8.0", "12.0", "16.0"), 6),
        "20.0": 10,
        "+Inf": 15,
    }
    assert named(samples, "dhtmeta_record_copies_count") == 15
    assert named(samples, "dhtmeta_record_copies_sum") == 3 * 2 + 8 * 3 + 20 * 4 + 25 * 5


async def test_the_status_is_told(writer: Node) -> None:
    async with serving(writer) as served:
        served.status = Status(State.DEGRADED, (), STARTED, 4, 3, 2, 1, speed=1.5, unfinished=6)
        samples = await scraped(served)
    assert {one: named(samples, "dhtmeta_state", state=one) for one in State} == {
        one: float(one is State.DEGRADED) for one in State
    }
    kinds = ("kept", "due", "late", "damaged", "unfinished")
    assert [named(samples, f"dhtmeta_records_{kind}") for kind in kinds] == [4, 3, 2, 1, 6]
    assert named(samples, "dhtmeta_copy_death_speed") == 1.5
    assert named(samples, "dhtmeta_build_info", version="0.1.0") == 1


async def test_the_node_is_told(writer: Node) -> None:
    async with serving(writer) as served:
        before = await scraped(served)
        await served.get(f"/v1/records/{Identity.generate().public_key.hex()}")
        after = await scraped(served)
    counters = writer.counters
    for metric, name in (("lookups", "lookups"), ("cache_hits", "hits"), ("cache_stale", "stale")):
        assert named(after, f"dhtmeta_{metric}_total") == counters[name]
    for name in ("dhtmeta_lookups_total", "dhtmeta_cache_misses_total"):
        assert named(after, name) == named(before, name) + 1
    for name, labels in (("datagrams", {"direction": "in"}), ("bytes", {"direction": "out"})):
        assert named(after, f"dhtmeta_{name}_total", **labels) > named(
            before, f"dhtmeta_{name}_total", **labels
        )
    assert named(after, "dhtmeta_cache_entries") == counters["entries"]
    assert named(after, "dhtmeta_known_peers") == len(writer.known_peers)
    assert named(after, "dhtmeta_dht_nodes") >= 1
    assert named(after, "process_resident_memory_bytes") > 0


async def test_a_carrier_that_counts_no_datagrams_tells_of_none(libtorrent_writer: Node) -> None:
    async with serving(libtorrent_writer) as served:
        names = {name for name, _ in await scraped(served)}
    assert "dhtmeta_dht_nodes" in names
    assert "dhtmeta_datagrams_total" not in names


async def test_requests_are_counted_by_template_and_never_by_what_a_client_made_up(
    writer: Node,
) -> None:
    async with serving(writer) as served:
        for i in range(3):
            await served.get(f"/made/up/{i}")
        await served.get("/v1/records/zz")
        await served.put(signed())
        await served.ask("PROPFIND", "/health")
        samples = await scraped(served)
    requests = {labels: n for (name, labels), n in samples.items() if "http_requests" in name}
    assert requests == {
        (("method", "GET"), ("route", "unknown"), ("status", "404")): 3,
        (("method", "GET"), ("route", "/v1/records/{public_key}"), ("status", "400")): 1,
        (("method", "PUT"), ("route", "/v1/records/{public_key}"), ("status", "201")): 1,
        (("method", "other"), ("route", "unknown"), ("status", "405")): 1,
    }


async def test_two_servers_of_one_process_count_apart(writer: Node) -> None:
    async with serving(writer) as one, serving(writer) as other:
        await one.get("/stats")
        first, second = await scraped(one), await scraped(other)
    assert len([name for name, _ in first if "http_requests" in name]) == 1
    assert not [name for name, _ in second if "http_requests" in name]


def keys(peers: list[Peer]) -> list[bytes]:
    """Return whose they are, by the id that their made-up key begins with."""
    return [peer.public_key[:20] for peer in peers]


def known(count: int) -> Iterator[bytes]:
    """Return ids of so many peers, in order."""
    return (i.to_bytes(20, "big") for i in range(1, count + 1))


async def offline(directory: Path) -> Node:
    options: Any = {"store": str(directory / "s.db"), "keys": directory, "settings": Settings()}
    return Node(offline=True, **options)


async def test_peers_come_in_pages(tmp_path: Path) -> None:
    async with await offline(tmp_path) as node, serving(node) as served:
        node._store.peers.update((one, KnownPeer(one + bytes(12))) for one in known(250))
        seen, after = [], ""
        while True:
            page = (await served.get(f"/peers?{after and f'after={after}'}")).json
            assert len(page["peers"]) <= PEERS_PAGE
            seen += [one["public_key"][:40] for one in page["peers"]]
            if (after := page["next"]) is None:
                break
        small = (await served.get(f"/peers?limit=3&after={seen[9]}")).json
        none = (await served.get(f"/peers/connectable?limit=3&after={seen[9]}")).json
    assert none == {"peers": [], "next": seen[12]}  # no record of them is known
    assert seen == [peer.hex() for peer in known(250)]
    assert [one["public_key"] for one in small["peers"]] == [one + "00" * 12 for one in seen[10:13]]
    assert small["next"] == seen[12]
    assert small["peers"][0]["verdict"] is None


async def test_many_peers_are_listed_in_an_order_that_is_believed_for_a_while(
    tmp_path: Path,
) -> None:
    peers = [*known(CENSUS_AT_ONCE * 3 // 2)]
    async with await offline(tmp_path) as node:
        shuffled = random.Random(1).sample(peers, len(peers))
        node._store.peers.update((peer, KnownPeer(peer + bytes(12))) for peer in shuffled)
        census = Census(node)
        pages = await asyncio.gather(*(census.page(peers[i], 2) for i in (0, 1234)))
        del node._store.peers[peers[1]]  # forgotten
        node._store.peers[bytes(20)] = KnownPeer(bytes(20) + bytes(12))  # met
        first, after = await census.page(b"", 2)
        census._roll._due = 0.0
        renewed, _ = await census.page(b"", 2)
        last, none = await census.page(peers[-3], 2)
    for (page, following), i in zip(pages, (0, 1234), strict=True):
        assert keys(page) == peers[i + 1 : i + 3]
        assert following == peers[i + 2].hex()
    assert keys(first) == [peers[0], peers[2]]
    assert after == peers[2].hex()
    assert keys(renewed) == [bytes(20), peers[0]]
    assert (keys(last), none) == (peers[-2:], None)


async def test_relays_are_counted_with_those_who_lead_over_them(writer: Node) -> None:
    async with serving(writer) as served:
        relay = Identity.generate()
        relaying = NetworkInfo(
            node_type="public", public_ip="127.0.0.1", public_port=4, is_relay=True
        )
        await writer.publish(NodeRecord(network_info=relaying), identity=relay)
        await writer.query(relay.public_key)
        before = (await served.get("/topology")).json["peers"]
        over = NetworkInfo(
            node_type="private",
            using_relay=True,
            connected_relay=relay.peer_id.hex(),
            relay_session_id="1",
            relay_address="127.0.0.1:4",
        )
        for _ in range(2):
            peer = Identity.generate()
            await writer.publish(NodeRecord(network_info=over), identity=peer)
            await writer.query(peer.public_key)
        after = (await served.get("/topology")).json
        samples = await scraped(served)
    assert after["peers"]["via-relay"] == before["via-relay"] + 2
    assert {"peer_id": relay.peer_id.hex(), "peers": 2} in after["relays"]
    reachable = after["peers"]["direct"] + after["peers"]["via-relay"]
    assert named(samples, "dhtmeta_connectable_peers") == reachable


async def test_few_peers_are_counted_whenever_that_is_asked(tmp_path: Path) -> None:
    async with await offline(tmp_path) as node:
        peers = [*known(CENSUS_AT_ONCE)]
        node._store.peers.update((peer, KnownPeer(bytes(32))) for peer in peers)
        census = Census(node)
        assert (await census.count()).verdicts == {"unknown": CENSUS_AT_ONCE}
        del node._store.peers[peers[0]]
        assert (await census.count()).verdicts == {"unknown": CENSUS_AT_ONCE - 1}


async def test_many_peers_are_counted_behind_and_that_is_believed_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "CENSUS_PAUSE", 0.0)
    count = CENSUS_AT_ONCE + CENSUS_SLICE
    async with await offline(tmp_path) as node:
        node._store.peers.update((peer, KnownPeer(bytes(32))) for peer in known(count))
        census = Census(node)
        assert not (await census.count()).verdicts
        await asyncio.sleep(0)
        assert (await census.count()).verdicts == {"unknown": CENSUS_SLICE}  # as it grows
        await counted(census)
        assert (await census.count()).verdicts == {"unknown": count}
        node._store.peers[bytes(20)] = KnownPeer(bytes(32))
        assert (await census.count()).verdicts == {"unknown": count}
        assert census._counting is None
        monkeypatch.setattr(census, "_due", 0.0)
        await census.count()
        await counted(census)
        assert (await census.count()).verdicts == {"unknown": count + 1}


async def test_a_server_that_closes_counts_no_more(tmp_path: Path) -> None:
    async with await offline(tmp_path) as node:
        node._store.peers.update((peer, KnownPeer(bytes(32))) for peer in known(CENSUS_AT_ONCE + 1))
        async with serving(node) as served:
            await served.get("/topology")
            counting = served.server._census._counting
            assert counting is not None
        assert counting.cancelled()


async def counted(census: Census) -> None:
    """Wait until the count under way has ended."""
    async with asyncio.timeout(10):
        while census._counting is not None:
            await asyncio.sleep(0)
