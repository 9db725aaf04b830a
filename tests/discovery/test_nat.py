"""Who is behind a NAT attaches to a relay, says so, and is reached through it: real NATs, daemons.

Where a minute would have to be waited for, the constants are a tenth of the real ones.
"""

import asyncio
import signal
from functools import partial
from typing import Any

import pytest

from dhtmeta.const import (
    EXCHANGE_PING,
    RELAY_WATCH,
    REQUEST_TIMEOUT,
    SESSION_LIFETIME,
    SESSION_RENEWAL,
)
from dhtmeta.testing.netns import Internet
from tests.discovery.town import Entry, Resident, Town

HASTE = 10
LIFETIME = SESSION_LIFETIME // HASTE
BUSY = 5.0  # s that a busy machine may take on top
HASTY: dict[str, float] = {
    "EXCHANGE_PING": EXCHANGE_PING / HASTE,
    "REQUEST_TIMEOUT": REQUEST_TIMEOUT / HASTE,
    "RELAY_WATCH": RELAY_WATCH / HASTE,
    "SESSION_LIFETIME": LIFETIME,
    "SESSION_RENEWAL": SESSION_RENEWAL / HASTE,
}
NO_RELAY: dict[str, dict[str, Any]] = {"relay": {"serve": False}}
USES_NONE: dict[str, dict[str, Any]] = {"relay": {"use": False}}


@pytest.mark.parametrize(("symmetric", "nat_type"), [(False, "cone"), (True, "symmetric")])
async def test_a_private_node_says_nothing_before_a_relay_holds_it(
    internet: Internet, town: Town, symmetric: bool, nat_type: str
) -> None:
    router, first, second = internet.public(), internet.public(), internet.public()
    lan = internet.lan(symmetric=symmetric)
    await town.router(router)
    reader, private = await asyncio.gather(
        town.settle(first, router, sections=NO_RELAY), town.settle(lan.host(), router)
    )
    await private.reaches(reader, "direct")
    status, _ = await reader.daemon.get(f"/v1/records/{private.key}?policy=freshest")
    assert status == 404

    relay = await town.settle(second, router)
    info = await reader.holds(private, lambda info: info.get("nat_type") == nat_type)
    assert (info["node_type"], info["private_ip"]) == ("private", private.host.address)
    assert (info["connected_relay"], info["relay_address"]) == (relay.peer_id, relay.exchange)
    assert info["relay_session_id"]
    entry = await reader.reaches(private, "via-relay")
    assert entry["address"] == relay.exchange
    await asyncio.gather(*(private.reaches(one, "direct") for one in (reader, relay)))


async def test_a_relay_that_dies_is_replaced_and_no_longer_offered(
    internet: Internet, town: Town
) -> None:
    router, *hosts = [internet.public() for _ in range(4)]
    await town.router(router)
    reader, *relays, private = await asyncio.gather(
        town.settle(hosts[0], router, sections=NO_RELAY, constants=HASTY),
        *(town.settle(one, router, constants=HASTY) for one in hosts[1:]),
        town.settle(internet.lan().host(), router, constants=HASTY),
    )
    await reader.lists(private, is_proven)
    while relays:
        used = await in_use(reader, private, relays)
        relays.remove(used)
        await used.daemon.ended(signal.SIGKILL)
        async with asyncio.timeout(LIFETIME + BUSY):  # what it says itself comes much later
            await reader.lists(private, partial(leads_elsewhere, used))


def is_proven(entry: Entry) -> bool:
    """Whether it is listed longer than its word is taken for it: its relay says so, and a probe."""
    return bool(entry["verdict"] == "via-relay" and entry["age"] > LIFETIME + 1)


async def in_use(reader: Resident, private: Resident, relays: list[Resident]) -> Resident:
    """Return the relay that `private` can be reached through."""
    by_address = {one.exchange: one for one in relays}
    entry = await reader.lists(
        private, lambda entry: entry["verdict"] == "via-relay" and entry["address"] in by_address
    )
    return by_address[entry["address"]]


def leads_elsewhere(relay: Resident, entry: Entry) -> bool:
    return bool(entry["verdict"] != "via-relay" or entry["address"] != relay.exchange)


async def test_a_private_node_that_uses_no_relay_is_listed_as_unreachable(
    internet: Internet, town: Town
) -> None:
    router = internet.public()
    await town.router(router)
    relay, private = await asyncio.gather(
        town.settle(internet.public(), router),
        town.settle(internet.lan().host(), router, sections=USES_NONE),
    )
    entry = await relay.reaches(private, "unreachable")
    assert entry["reason"] == "no relay"
    assert (await relay.daemon.get("/peers/connectable"))[1]["peers"] == []
