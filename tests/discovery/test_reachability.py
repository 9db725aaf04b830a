"""How a daemon finds out what it is to others: behind real NATs, gateways, and where it moves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.const import EXCHANGE_PORT
from dhtmeta.testing.netns import Host, Internet, Lan
from tests.dht.test_mapping import ALLOWED, Gateway
from tests.discovery.town import Town

NOT_OURS = f"deny {EXCHANGE_PORT} 10.0.0.0/8 0-65535"
ASKED_OFTEN = {"DIAL_BACK_INTERVAL": 1.0, "DIAL_BACK_EACH": 0.5}
ASKED_AGAIN = 4.0  # s in which such a node was dialled back more than once
FORWARD = """
table ip by_hand {{
    chain in {{
        type nat hook prerouting priority dstnat
        iifname "eth0" udp dport {port} dnat to {host}:{port}
    }}
}}
"""


@pytest.fixture
def lan(internet: Internet) -> Lan:
    return internet.lan()


@pytest_asyncio.fixture
async def gateway(lan: Lan, tmp_path: Path) -> AsyncIterator[Gateway]:
    made = Gateway(lan, tmp_path)
    yield made
    await made.stop()


async def test_a_forwarded_port_makes_a_node_public_while_others_come_through(
    internet: Internet, town: Town, lan: Lan
) -> None:
    router, inside = internet.public(), lan.host()
    rules = FORWARD.format(port=EXCHANGE_PORT, host=inside.address)
    lan.gateway.run(["nft", "-f", "-"], rules)
    await town.router(router)
    reader, forwarded = await asyncio.gather(
        town.settle(internet.public(), router, constants=ASKED_OFTEN),
        town.settle(inside, router, constants=ASKED_OFTEN),
    )
    entry = await reader.reaches(forwarded, "direct")
    assert entry["address"] == f"{lan.address}:{EXCHANGE_PORT}"
    assert "supports_upnp" not in await reader.holds(forwarded)
    entry = await reader.lists(forwarded, lambda entry: bool(entry["age"] > ASKED_AGAIN))
    assert entry["verdict"] == "direct"

    lan.gateway.run(["nft", "delete", "table", "ip", "by_hand"])
    entry = await reader.reaches(forwarded, "via-relay")
    assert entry["address"] == reader.exchange


async def test_a_gateway_that_maps_ports_makes_a_node_public_at_once(
    internet: Internet, town: Town, lan: Lan, gateway: Gateway
) -> None:
    router = internet.public()
    await gateway.start(ALLOWED)
    await town.router(router)
    reader, mapped = await asyncio.gather(
        town.settle(internet.public(), router), town.settle(lan.host(), router)
    )
    await reader.reaches(mapped, "direct")
    info = await reader.holds(mapped, lambda info: bool(info.get("supports_upnp")))
    assert (info["node_type"], info["public_ip"]) == ("public", lan.address)
    assert info["public_port"] == EXCHANGE_PORT
    assert info["is_relay"]


async def test_a_node_is_public_at_the_port_that_its_gateway_chose(
    internet: Internet, town: Town, lan: Lan, gateway: Gateway
) -> None:
    router = internet.public()
    await gateway.start(NOT_OURS, ALLOWED, upnp="no")
    await town.router(router)
    reader, mapped = await asyncio.gather(
        town.settle(internet.public(), router), town.settle(lan.host(), router)
    )
    entry = await reader.reaches(mapped, "direct")
    host, _, port = entry["address"].partition(":")
    assert (host, int(port) == EXCHANGE_PORT) == (lan.address, False)
    assert f"dport {port} dnat ip to {mapped.host.address}:{EXCHANGE_PORT}" in gateway.rules()


async def test_a_node_with_another_address_says_so(internet: Internet, town: Town) -> None:
    router = internet.public()
    await town.router(router)
    reader, moving = await asyncio.gather(
        *(town.settle(internet.public(), router) for _ in range(2))
    )
    await asyncio.gather(reader.reaches(moving, "direct"), moving.reaches(reader, "direct"))
    address = f"{moving.host.address.rpartition('.')[0]}.2"
    move(internet, moving.host, address)
    await reader.lists(moving, lambda entry: bool(entry["address"] == f"{address}:{EXCHANGE_PORT}"))


def move(internet: Internet, host: Host, address: str) -> None:
    """Give a public host another address."""
    port = host.name.rpartition("-")[2]
    internet._router.run(["ip", "route", "add", f"{address}/32", "dev", port])
    host.run(["ip", "addr", "flush", "dev", "eth0"])
    host.run(["ip", "addr", "add", f"{address}/32", "dev", "eth0"])
    host.run(["ip", "route", "replace", "default", "via", "169.254.0.1", "dev", "eth0", "onlink"])
