"""What libtorrent says of our reachability, behind real NATs with a real miniupnpd on them."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import libtorrent as lt
import pytest
import pytest_asyncio

from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.mapping import Outside
from dhtmeta.errors import CallerError
from dhtmeta.testing.netns import Host, Internet, Lan
from tests.gateway import ALLOWED, WITHIN, Gateway, until

DHT_PORT = 7000
EXCHANGE_PORT = 7001
LIBTORRENT_WAITS = 10.0  # s for each mapping of a dead gateway, all threads frozen; we 0.5 in all

REFUSED = "deny 0-65535 0.0.0.0/0 0-65535"

SHORT_LIVED = """
import asyncio, os, sys
from dhtmeta.dht.session import Session

async def main():
    session = Session([], f"0.0.0.0:{sys.argv[1]}")
    mapped = asyncio.Event()
    session.outside.on_change(lambda: mapped.set() if session.outside.mappings else None)
    await session.start()
    await mapped.wait()
    print("mapped", *session.outside.mappings, flush=True)
    await session.close()
    os._exit(0)

asyncio.run(main())
"""

Start = Callable[..., Awaitable[LibtorrentCarrier]]


async def until_told(outside: Outside, holds: Callable[[], bool]) -> None:
    """Wait until `holds`, looking only when `outside` says that something changed."""
    changed = asyncio.Event()
    outside.on_change(changed.set)
    async with asyncio.timeout(WITHIN):
        while not holds():
            await changed.wait()
            changed.clear()


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start carriers on hosts, and close them when the test ends."""
    carriers: list[LibtorrentCarrier] = []

    async def started(host: Host, *, serve: bool = True) -> LibtorrentCarrier:
        carrier = LibtorrentCarrier([], f"0.0.0.0:{DHT_PORT}", serve=serve)
        carriers.append(carrier)
        with host.inside():
            await carrier.start()
        return carrier

    yield started
    for carrier in carriers:
        await carrier.close()


async def test_ports_and_address_are_known_behind_a_gateway_that_maps(
    internet: Internet, lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(ALLOWED)
    host = lan.host()
    outside = (await start(host)).outside
    outside.map_port(EXCHANGE_PORT)
    await until_told(outside, lambda: set(outside.mappings) == {DHT_PORT, EXCHANGE_PORT})
    await until_told(outside, lambda: outside.supports_upnp)
    assert outside.external_address == lan.address
    assert arrives(internet.public(), (lan.address, outside.mappings[EXCHANGE_PORT]), host)


def arrives(stranger: Host, mapping: tuple[str, int], host: Host) -> bool:
    """Say whether a datagram that a stranger sends to `mapping` arrives at our EXCHANGE_PORT."""
    with host.inside():
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with stranger.inside():
        theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(WITHIN)
        ours.bind(("0.0.0.0", EXCHANGE_PORT))
        theirs.bind((stranger.address, DHT_PORT))
        theirs.sendto(b"hello", mapping)
        return ours.recvfrom(100) == (b"hello", (stranger.address, DHT_PORT))


async def test_the_external_port_may_be_another_one(
    internet: Internet, lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(f"deny {EXCHANGE_PORT} 10.0.0.0/8 0-65535", ALLOWED, upnp="no")
    host = lan.host()
    outside = (await start(host)).outside
    outside.map_port(EXCHANGE_PORT)
    await until_told(outside, lambda: EXCHANGE_PORT in outside.mappings)
    assert outside.mappings[EXCHANGE_PORT] != EXCHANGE_PORT
    assert arrives(internet.public(), (lan.address, outside.mappings[EXCHANGE_PORT]), host)
    assert not outside.supports_upnp


async def test_a_mapping_that_is_refused_later_is_no_longer_in_force(
    lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(ALLOWED, natpmp="no")
    carrier = await start(lan.host())
    outside = carrier.outside
    outside.map_port(EXCHANGE_PORT)
    await until_told(outside, lambda: outside.supports_upnp and len(outside.mappings) == 2)
    await gateway.stop()
    await gateway.start(REFUSED, natpmp="no")
    carrier.session.handle.reopen_network_sockets(lt.session.reopen_map_ports)  # asks again
    await until_told(outside, lambda: DHT_PORT not in outside.mappings)


async def test_ports_are_mapped_again_where_the_address_changes(
    internet: Internet, lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(ALLOWED)
    host = lan.host()
    outside = (await start(host)).outside
    outside.map_port(EXCHANGE_PORT)
    await until_told(outside, lambda: EXCHANGE_PORT in outside.mappings)
    net = host.address.rpartition(".")[0]
    host.run(["ip", "addr", "flush", "dev", "eth0"])
    host.run(["ip", "addr", "add", f"{net}.77/24", "dev", "eth0"])
    host.run(["ip", "route", "add", "default", "via", f"{net}.1"])
    await until(lambda: f"{net}.77:{EXCHANGE_PORT}" in gateway.rules())
    await until_told(outside, lambda: EXCHANGE_PORT in outside.mappings)
    mapping = lan.address, outside.mappings[EXCHANGE_PORT]
    assert arrives(internet.public(), mapping, host)


async def test_a_node_that_does_not_serve_asks_no_gateway(
    lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(ALLOWED)
    host = lan.host()
    reader = (await start(host, serve=False)).outside
    reader.map_port(EXCHANGE_PORT)
    other = (await start(lan.host())).outside
    await until_told(other, lambda: DHT_PORT in other.mappings)
    assert dict(reader.mappings) == {}
    assert host.address not in gateway.rules()


async def test_a_process_that_ends_gives_back_what_was_mapped(lan: Lan, gateway: Gateway) -> None:
    await gateway.start(ALLOWED, natpmp="no")
    host = lan.host()
    process = await host.spawn(
        [sys.executable, "-c", SHORT_LIVED, str(DHT_PORT)], stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert said.split() == [b"mapped", str(DHT_PORT).encode()]
    assert host.address not in gateway.rules()


async def test_the_port_of_a_closed_node_is_free(lan: Lan, start: Start) -> None:
    host = lan.host()
    await (await start(host)).close()
    assert (await start(host)).session.endpoint[1] == DHT_PORT


async def test_a_node_closes_while_libtorrent_would_wait_for_a_dead_gateway(
    lan: Lan, gateway: Gateway, start: Start
) -> None:
    await gateway.start(ALLOWED, natpmp="no")
    carrier = await start(lan.host())
    await until_told(carrier.outside, lambda: DHT_PORT in carrier.outside.mappings)
    lan.gateway.lose(1)
    begun = asyncio.get_running_loop().time()
    await carrier.close()
    assert asyncio.get_running_loop().time() - begun < LIBTORRENT_WAITS


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(CallerError, match="1 … 65535"):
        Outside().map_port(port)
