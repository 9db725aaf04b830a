"""Daemons that come together where little is left: no router, no DHT, nobody but a registry."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from itertools import permutations
from typing import Any

from dhtmeta.testing.netns import Internet
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from tests.daemon.http_server import path_of
from tests.discovery.town import TOPIC, Resident, Town

ON_A_LAN: dict[str, dict[str, Any]] = {
    "peer_discovery": {"lan": True, "topic": TOPIC, "allow_non_global": True}
}


async def all_reach_all(residents: list[Resident], above: dict[str, int] | None = None) -> None:
    """Wait until each can be reached by all others, with a record above that seq."""
    seqs = above or {}
    await asyncio.gather(
        *(
            reader.lists(
                peer,
                lambda entry: (
                    entry["verdict"] in ("direct", "via-relay")
                    and entry["seq"] > seqs.get(entry["peer_id"], 0)
                ),
            )
            for reader, peer in permutations(residents, 2)
        )
    )


async def test_who_knows_others_from_the_store_needs_no_router(
    internet: Internet, town: Town
) -> None:
    router = internet.public()
    carrier = await town.router(router)
    hosts = [internet.public(), internet.public(), internet.lan().host()]
    residents = await asyncio.gather(*(town.settle(one, router) for one in hosts))
    await all_reach_all(residents)

    await carrier.close()
    await asyncio.gather(*(one.daemon.ended() for one in residents))
    seqs = {one.peer_id: last_seq(one) for one in residents}
    for one in residents:
        forget_all_but_peers(one)
    await asyncio.gather(*(town.again(one) for one in residents))
    await all_reach_all(residents, seqs)


def forget_all_but_peers(resident: Resident) -> None:
    """Leave what is left after hours: whom the DHT node knew may be gone, records are too old."""
    shutil.rmtree(resident.settings.parent / "dhtmeta" / "dht")
    with closing(sqlite3.connect(resident.settings.parent / "store.db")) as store, store:
        store.execute("DELETE FROM metadata_cache")


def last_seq(resident: Resident) -> int:
    """Return the seq of the record that a daemon, which has ended, published last."""
    with closing(sqlite3.connect(resident.settings.parent / "store.db")) as store:
        (seq,) = store.execute("SELECT max(seq) FROM ledger").fetchone()
    return int(seq)


async def test_daemons_on_a_lan_need_nobody_else_and_are_a_dht_of_their_own(
    internet: Internet, town: Town
) -> None:
    lan = internet.lan()
    residents = await asyncio.gather(
        *(town.settle(lan.host(), sections=ON_A_LAN) for _ in range(3))
    )
    await all_reach_all(residents)
    writer, reader, _ = residents  # who reads asks the third: no node asks itself
    item = SignedItem.sign(Identity.generate(), encode_value(b"hello"), 1)
    assert await writer.daemon.put(item) == 201
    status, found = await reader.daemon.get(f"{path_of(item)}?policy=freshest")
    assert (status, found["v"]) == (200, item.v.hex())


async def test_a_registry_is_not_asked_where_the_dht_knows_peers(
    internet: Internet, town: Town
) -> None:
    router, other = internet.public(), internet.public()
    await town.router(router)
    url, registry = await town.registry(other)
    asks = {"registry": {"urls": [url]}}
    residents = await asyncio.gather(*(town.settle(internet.public(), router) for _ in range(2)))
    await all_reach_all(residents)
    newcomers = await asyncio.gather(
        town.settle(internet.public(), router, sections=asks),
        town.settle(internet.lan().host(), router, sections=asks),
    )
    await all_reach_all([*residents, *newcomers])
    assert (await registry.get("/stats"))[1]["answers"] == {}


async def test_with_a_dead_dht_a_registry_brings_peers_together(
    internet: Internet, town: Town
) -> None:
    nobody, other = internet.public(), internet.public()
    url, registry = await town.registry(other)
    asks = {"registry": {"urls": [url]}}
    residents = await asyncio.gather(
        *(town.settle(internet.public(), nobody, sections=asks) for _ in range(2))
    )
    await all_reach_all(residents)
    assert (await registry.get("/stats"))[1]["entries"] == 2
