"""A relay and who uses it, for tests of each."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from dhtmeta.const import (
    SESSION_LIFETIME,
)
from dhtmeta.discovery.attachment import Attachment, Session
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.link import Link
from dhtmeta.discovery.relay import RelayDesk
from dhtmeta.krpc import exchange as wire
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import format_endpoint
from tests.discovery.ends import end, until

CAPACITY = 3
OLD = 1_800_000_000 - 10 * SESSION_LIFETIME  # when records were signed: that shows nothing any more


@asynccontextmanager
async def relay(
    capacity: int = CAPACITY, identity: Identity | None = None, desk: type[RelayDesk] = RelayDesk
) -> AsyncIterator[RelayDesk]:
    """Run a relay."""
    async with end(identity) as exchange:
        made = desk(exchange, lambda: format_endpoint(exchange.endpoint), capacity)
        exchange.on(wire.Probe, made.on_probe)
        yield made
        await made.close()


def endpoint(desk: RelayDesk) -> Endpoint:
    return desk._exchange.endpoint


@dataclass
class Client:
    """A peer who attaches to one of `relays`."""

    exchange: Exchange
    relays: list[Endpoint]
    attachment: Attachment = field(init=False)
    changes: list[Session | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.attachment = Attachment(self.exchange, self.find, random.Random(1))
        self.attachment.on_change = lambda: self.changes.append(self.attachment.session)
        self.exchange.on(wire.Probe, self.attachment.on_probe)

    async def find(self) -> AsyncGenerator[Sequence[Endpoint], None]:
        yield self.relays

    async def attached(self) -> None:
        """Wait until it is."""
        await until(lambda: self.attachment.session)

    @property
    def at(self) -> Endpoint | None:
        """Where the relay is that it is attached to."""
        session = self.attachment.session
        return session.link.remote if session else None


@asynccontextmanager
async def client(*relays: Endpoint, identity: Identity | None = None) -> AsyncIterator[Client]:
    """Run a peer that is attached to one of these."""
    async with end(identity) as exchange:
        made = Client(exchange, list(relays))
        task = asyncio.create_task(made.attachment.run())
        try:
            yield made
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def attach(link: Link, session: bytes = b"") -> wire.Attached:
    return await link.request(lambda r: wire.Attach(r=r, id=session), wire.Attached)


async def probe(link: Link, peer: bytes, nonce: bytes = bytes(32)) -> wire.Probed:
    return await link.request(lambda r: wire.Probe(r=r, p=peer, n=nonce), wire.Probed)


def deafen(exchange: Exchange) -> None:
    """Have it read nothing from its socket any more, and say no goodbye."""
    door = exchange._door
    assert door is not None
    door.datagram_received = lambda data, addr: None  # type: ignore[method-assign]
    for link in exchange._all:
        link._quic.datagrams_to_send = lambda now: []  # type: ignore[method-assign]
