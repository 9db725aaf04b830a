"""A UDP transport that nobody waits for any more is closed."""

import asyncio

import pytest

from dhtmeta.discovery.datagrams import open_datagrams
from tests.discovery.ends import until


class GivesUp(asyncio.DatagramProtocol):
    """Has its opening cancelled once there is a transport, before that is handed over."""

    def __init__(self) -> None:
        self.opening = asyncio.create_task(open_datagrams(self, local=("127.0.0.1", 0)))
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        assert self.opening.cancel()


async def test_who_gives_up_before_it_is_handed_over_leaves_no_socket() -> None:
    told = GivesUp()
    with pytest.raises(asyncio.CancelledError):
        await told.opening
    transport = told.transport
    assert transport is not None
    await until(transport.is_closing)
