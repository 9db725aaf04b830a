"""A process that is one client: it looks keys up as it is told, and says what that took.

`python -m bench.load.client NAME` is told the swarm's addresses first, and then a round at a time.
All clients are read-only nodes (BEP 43), so that nobody looks into the others.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from typing import Any, Protocol

import libtorrent as lt
import uvloop

from bench.direct.cpu import MESSAGES, Meter, messages
from bench.direct.swarms import KNOWN_WITHIN, direct_beside
from bench.load.bare import VALUE, Bare, Found
from bench.load.carriers import ignore
from bench.load.loops import Order, Query, Times, closed_loop, left, open_loop, right
from bench.load.told import answer, heard, stdin
from dhtmeta.config import Settings
from dhtmeta.const import LOOKUP_DEADLINE
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.session import Session
from dhtmeta.engine.resolve import Policy
from dhtmeta.node import Node
from dhtmeta.store.store import MEMORY
from dhtmeta.values.item import encode_value

V = encode_value(VALUE)


class Client(Protocol):
    """What a round needs of a client."""

    async def closed(self, order: Order) -> Times:
        """Look the keys up, so many at once."""

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """Look a key up at each tick."""

    async def datagrams(self) -> int:
        """Return how many it has sent and received."""


class BareClient:
    """A bare libtorrent session."""

    def __init__(self, bootstrap: list[str]) -> None:
        self._bare = Bare(bootstrap, serve=False)

    async def closed(self, order: Order) -> Times:
        """See `Client.closed`; blocking."""
        done = self._bare.look_up(list(order.keys), order.window, order.limit)
        took = {found.key: seconds for found, seconds in done if right(found.value, found.seq)}
        return [took.get(key) for key in order.keys]

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """See `Client.opened`."""
        due = dict(zip(order.keys, order.at, strict=True))
        took: dict[bytes, float | None] = {}
        ended = asyncio.Event()

        def on_ended(found: Found) -> None:
            if found.key in due and right(found.value, found.seq):
                took[found.key] = time.monotonic() - order.start - due[found.key]
                if len(took) == len(due):
                    ended.set()

        with self._bare.heard(on_ended) as ask, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left(order)):
                for key in order.keys:
                    await ticks.readline()
                    ask(key)
                await ended.wait()
        return [took.get(key) for key in order.keys]

    async def datagrams(self) -> int:
        """See `Client.datagrams`."""
        return messages(self._bare.session)


class Asked:
    """A client that has an async call: `query` looks a key up and says whether it was found."""

    def __init__(self, query: Query, carrier: Carrier) -> None:
        self._query = query
        self._carrier = carrier

    async def closed(self, order: Order) -> Times:
        """See `Client.closed`."""
        return await closed_loop(self._query, order)

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """See `Client.opened`."""
        return await open_loop(self._query, order, ticks)

    async def datagrams(self) -> int:
        """See `Client.datagrams`."""
        if isinstance(self._carrier, DirectCarrier):
            traffic = self._carrier.core.traffic
            return traffic.datagrams_in + traffic.datagrams_out
        assert isinstance(self._carrier, LibtorrentCarrier)
        return await _session_messages(self._carrier.session)


async def _session_messages(session: Session) -> int:
    """Return how many DHT messages a session that a loop listens to has sent and received."""
    counted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_stats(alert: Any) -> None:
        counted.set_result(sum(int(alert.values[name]) for name in MESSAGES))

    session.on(lt.session_stats_alert, on_stats)
    session.handle.post_session_stats()
    return await counted


@asynccontextmanager
async def _bare(bootstrap: list[str]) -> AsyncIterator[Client]:
    yield BareClient(bootstrap)


@asynccontextmanager
async def _libtorrent(bootstrap: list[str]) -> AsyncIterator[Client]:
    async with _visitor(bootstrap) as node:
        yield _of_carrier(node)


@asynccontextmanager
async def _direct(bootstrap: list[str]) -> AsyncIterator[Client]:
    async with _visitor(bootstrap) as node, direct_beside(node) as carrier:
        yield _of_carrier(carrier)


@asynccontextmanager
async def _visitor(bootstrap: list[str]) -> AsyncIterator[LibtorrentCarrier]:
    """Run a read-only libtorrent node that knows all of `bootstrap`."""
    node = LibtorrentCarrier(bootstrap, serve=False)
    await node.start()
    try:
        await node.ready()
        await node.silent_contacts(KNOWN_WITHIN)
        yield node
    finally:
        await node.close()


def _of_carrier(carrier: Carrier) -> Client:
    async def query(key: bytes) -> bool:
        item = (await carrier.get(key, b"", ignore, LOOKUP_DEADLINE)).item
        return item is not None and right(VALUE if item.v == V else item.v, item.seq)

    return Asked(query, carrier)


@asynccontextmanager
async def _node(bootstrap: list[str]) -> AsyncIterator[Client]:
    """Run a whole node as it ships, without a disk."""
    options = {"store": MEMORY, "state": "/nonexistent", "settings": Settings()}
    async with Node(bootstrap=bootstrap, serve=False, **options) as node:  # type: ignore[arg-type]
        await node.carrier.ready()
        await node.carrier.silent_contacts(KNOWN_WITHIN)

        async def query(key: bytes) -> bool:
            found = await node.query(key, policy=Policy.FRESHEST)
            assert isinstance(found.value, bytes)
            return right(found.value, found.seq)

        yield Asked(query, node.carrier)


Start = Callable[[list[str]], AbstractAsyncContextManager[Client]]
CLIENTS: dict[str, Start] = {
    "bare libtorrent": _bare,
    "libtorrent carrier": _libtorrent,
    "direct carrier": _direct,
    "Node.query": _node,
}


async def main(start: Start) -> None:
    """Do as told until stdin ends."""
    lines = await stdin()
    async with start((await heard(lines))["bootstrap"]) as client:
        answer(True)
        gc.collect()
        gc.freeze()  # what the start left is not to be looked at again and again
        while (said := await heard(lines)) is not None:
            answer(await _measured(client, Order.told(said), lines))


async def _measured(client: Client, order: Order, ticks: asyncio.StreamReader) -> dict[str, Any]:
    """Return what a round took, and each right answer in it, on average."""
    meter = Meter()
    meter.start(await client.datagrams())
    times = await (client.opened(order, ticks) if order.at else client.closed(order))
    answered = len(times) - times.count(None)
    return {"times": times} | asdict(meter.stop(await client.datagrams(), max(1, answered)))


if __name__ == "__main__":
    uvloop.run(main(CLIENTS[sys.argv[1]]))
