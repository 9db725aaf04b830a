"""A process that is one client: it looks keys up as it is told, and says what that took.

`python -m bench.load.client NAME` is told the swarm's addresses first, and then a round at a time.
All clients are read-only nodes (BEP 43), so that nobody looks into the others.
"""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import libtorrent as lt
import uvloop

from bench.direct.cpu import MESSAGES, Meter, messages
from bench.direct.swarms import KNOWN_WITHIN, direct_beside
from bench.load.bare import VALUE, Bare, Heard
from bench.load.loops import OnFirst, Order, Query, Times, closed_loop, left, open_loop, right
from bench.load.told import answer, heard, stdin
from dhtmeta.config import Settings
from dhtmeta.const import LOOKUP_DEADLINE
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.session import Session
from dhtmeta.engine.resolve import Policy, Source
from dhtmeta.node import Node
from dhtmeta.store.store import MEMORY
from dhtmeta.values.item import SignedItem, encode_value

V = encode_value(VALUE)
BOTH = FIRST, END = "first", "end"


class Client(Protocol):
    """What a round needs of a client."""

    @property
    def tells(self) -> Sequence[str]:
        """Which times it can tell."""

    async def closed(self, order: Order) -> Times:
        """Look the keys up, so many at once."""

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """Look a key up at each tick."""

    async def datagrams(self) -> int:
        """Return how many it has sent and received, over all of its sockets."""


class BareClient:
    """A bare libtorrent session."""

    tells = BOTH

    def __init__(self, bootstrap: list[str]) -> None:
        self._bare = Bare(bootstrap, serve=False)

    async def closed(self, order: Order) -> Times:
        """See `Client.closed`; blocking."""
        heard = _Alerts(order)
        self._bare.look_up(list(order.keys), heard.take, order.window, order.limit)
        return heard.times

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """See `Client.opened`."""
        due = dict(zip(order.keys, order.at, strict=True))
        all_heard = _Alerts(order)
        ended = asyncio.Event()

        def on_heard(heard: Heard) -> None:
            if heard.key in due:
                all_heard.take(heard, time.monotonic() - order.start - due[heard.key])
                if None not in all_heard.times.end:
                    ended.set()

        with self._bare.heard(on_heard) as ask, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left(order)):
                for key in order.keys:
                    await ticks.readline()
                    ask(key)
                await ended.wait()
        return all_heard.times

    async def datagrams(self) -> int:
        """See `Client.datagrams`."""
        return messages(self._bare.session)


class _Alerts:
    """The alerts of one round, as times."""

    def __init__(self, order: Order) -> None:
        self._places = {key: i for i, key in enumerate(order.keys)}
        self.times = Times.of(len(order.keys))

    def take(self, heard: Heard, seconds: float) -> None:
        """Take what was heard of a lookup so long after it began."""
        if right(heard.value, heard.seq):
            i = self._places[heard.key]
            self.times.value(i, seconds)
            if heard.ended:
                self.times.end[i] = seconds


class Asked:
    """A client that has an async call."""

    def __init__(self, query: Query, carrier: Carrier, tells: Sequence[str]) -> None:
        self._query = query
        self._carrier = carrier
        self.tells = tells

    async def closed(self, order: Order) -> Times:
        """See `Client.closed`."""
        return await closed_loop(self._query, order)

    async def opened(self, order: Order, ticks: asyncio.StreamReader) -> Times:
        """See `Client.opened`."""
        return await open_loop(self._query, order, ticks)

    async def datagrams(self) -> int:
        """See `Client.datagrams`: a direct carrier's own, and those of the node beside it."""
        node, own = self._carrier, 0
        if isinstance(node, DirectCarrier):
            traffic = node.core.traffic
            node, own = node.node, traffic.datagrams_in + traffic.datagrams_out
        assert isinstance(node, LibtorrentCarrier)
        return own + await session_messages(node.session)


async def session_messages(session: Session) -> int:
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
    async def query(key: bytes, on_first: OnFirst) -> bool:
        def on_item(item: SignedItem) -> None:
            if _right(item):
                on_first()

        found = await carrier.get(key, b"", on_item, LOOKUP_DEADLINE)
        return found.item is not None and _right(found.item) and found.converged

    return Asked(query, carrier, BOTH)


def _right(item: SignedItem) -> bool:
    return right(VALUE if item.v == V else item.v, item.seq)


@asynccontextmanager
async def _node(bootstrap: list[str], policy: Policy, tells: str) -> AsyncIterator[Client]:
    """Run a whole node as it ships, without a disk; its policy says which of both it answers."""
    options = {"store": MEMORY, "state": "/nonexistent", "settings": Settings()}
    async with Node(bootstrap=bootstrap, serve=False, **options) as node:  # type: ignore[arg-type]
        await node.carrier.ready()
        await node.carrier.silent_contacts(KNOWN_WITHIN)

        async def query(key: bytes, on_first: OnFirst) -> bool:
            found = await node.query(key, policy=policy)
            assert found.source is Source.DHT
            if _right(found.item):
                on_first()
            return _right(found.item)

        yield Asked(query, node.carrier, (tells,))


Start = Callable[[list[str]], AbstractAsyncContextManager[Client]]
CLIENTS: dict[str, Start] = {
    "bare libtorrent": _bare,
    "libtorrent carrier": _libtorrent,
    "direct carrier": _direct,
    "Node.query": partial(_node, policy=Policy.FRESHEST, tells=END),
    "Node.query, cache-first": partial(_node, policy=Policy.CACHE_FIRST, tells=FIRST),
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
    """Return what a round took, and each answer in it, on average; no times that are not told."""
    meter = Meter()
    meter.start(await client.datagrams())
    times = await (client.opened(order, ticks) if order.at else client.closed(order))
    told = {name: one if name in client.tells else [] for name, one in asdict(times).items()}
    answers = told[client.tells[-1]]
    answered = max(1, len(answers) - answers.count(None))
    return told | asdict(meter.stop(await client.datagrams(), answered))


if __name__ == "__main__":
    uvloop.run(main(CLIENTS[sys.argv[1]]))
