"""Carriers of both kinds for the tests: started on a real swarm, closed when the test ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta.dht.address import format_address
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm

AnyCarrier = LibtorrentCarrier | DirectCarrier
Start = Callable[..., Awaitable[LibtorrentCarrier]]
StartAny = Callable[..., Awaitable[AnyCarrier]]
INTRODUCED_WITHIN = 10.0  # s: far above what it takes


@pytest_asyncio.fixture
async def swarm() -> AsyncIterator[Swarm]:
    """Run a swarm for one test: liars and carriers that left stay in its tables as dead nodes."""
    async with Swarm(12) as running:
        yield running


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start libtorrent carriers, and close them when the test ends."""
    carriers: list[LibtorrentCarrier] = []

    async def started(bootstrap: list[str], **options: Any) -> LibtorrentCarrier:
        carrier = LibtorrentCarrier(bootstrap, **options)
        await carrier.start()
        carriers.append(carrier)
        return carrier

    yield started
    for carrier in carriers:
        await carrier.close()


@pytest_asyncio.fixture
async def start_direct(start: Start) -> AsyncIterator[Callable[..., Awaitable[DirectCarrier]]]:
    """Start direct carriers, each beside a libtorrent node of its own."""
    carriers: list[DirectCarrier] = []

    async def started(bootstrap: list[str], **options: Any) -> DirectCarrier:
        carrier = DirectCarrier(
            await start(bootstrap, **options), UdpSocket("127.0.0.1:0"), local=True
        )
        await carrier.start()
        carriers.append(carrier)
        return carrier

    yield started
    for carrier in carriers:
        await carrier.close()


@pytest.fixture(params=["libtorrent", "direct"])
def start_any(
    request: pytest.FixtureRequest,
    start: Start,
    start_direct: Callable[..., Awaitable[DirectCarrier]],
) -> StartAny:
    """Start carriers of one kind, then all over of the other."""
    return start if request.param == "libtorrent" else start_direct


def silent_address() -> str:
    """Return a loopback address that was free a moment ago: nobody answers there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return format_address(free.getsockname())


async def introduce(carrier: AnyCarrier, liar: Liar) -> None:
    """Wait until the carrier knows the liar."""
    async with asyncio.timeout(INTRODUCED_WITHIN):
        carrier.add_nodes([liar.endpoint])
        while liar.endpoint not in await known(carrier):
            await asyncio.sleep(0.01)


async def known(carrier: AnyCarrier) -> set[tuple[str, int]]:
    """Return where the nodes are that the carrier would ask."""
    if isinstance(carrier, DirectCarrier):
        return {one.endpoint for one in carrier.contacts()}
    return {one.endpoint for one in await carrier.live_nodes()}
