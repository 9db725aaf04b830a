"""The engine, unchanged, on a simulated DHT of a million nodes and on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiosqlite

from dhtmeta.const import CACHE_TTL
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.publish import Publisher
from dhtmeta.engine.resolve import Policy, Resolver
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.testing.sim_carrier import sim_carrier
from dhtmeta.testing.sim_loop import in_real_time, sim_run
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.keys import Identity

NODES = 1_000_000
START = 1_800_000_000.0  # Unix s at virtual time 0


class Engine(NamedTuple):
    publisher: Publisher
    resolver: Resolver
    carrier: DirectCarrier


def clock() -> float:
    return START + asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def engine(net: SimNet, seed: int, host: str) -> AsyncIterator[Engine]:
    """Put an engine with a store of its own beside a carrier at `host`."""
    carrier = await sim_carrier(net, seed=seed, endpoint=(host, 6881))
    with in_real_time(aiosqlite.Connection, "_connect", "_execute", "close"):
        store = await Store.open(MEMORY, clock)
        cache = RecordCache(store, seed=seed)
        resolver = Resolver(cache, lambda: carrier, Judge(), clock)
        try:
            yield Engine(Publisher(cache, Ledger(store), lambda: carrier, clock), resolver, carrier)
        finally:
            await resolver.close()
            await carrier.close()
            await store.close()


async def there_and_back(seed: int) -> tuple[int, int | None, float, float]:
    """Publish twice, query twice from elsewhere; return seq, copies and how long both took."""
    net = SimNet(NODES, seed=seed, dead=0.15, loss=0.05)
    identity = Identity(bytes([seed]) * 32)
    async with engine(net, seed, "192.0.2.1") as ours, engine(net, seed + 1, "192.0.2.2") as other:
        await ours.publisher.publish(identity, {b"n": 1})
        start = clock()
        published = await ours.publisher.publish(identity, {b"n": 2})
        put = clock() - start
        start = clock()
        answer = await other.resolver.query(identity.public_key, b"", Policy.FRESHEST)
        got = clock() - start
        again = await other.resolver.query(identity.public_key)
        assert answer.value == again.value == {b"n": 2}
        assert (answer.seq, again.source) == (published.item.seq, "memory")
        assert len(net.holders(identity.peer_id)) >= 16
    return published.item.seq, published.copies, put, got


def test_what_is_published_is_found_from_elsewhere() -> None:
    seq, copies, put, got = sim_run(there_and_back(5))
    assert seq == 2
    assert copies is not None
    assert copies >= 16
    assert 0.1 < got < 5.0  # virtual seconds, so no machine is too slow for it
    assert 0.1 < put < 10.0


def test_the_same_seed_gives_the_same_run() -> None:
    assert sim_run(there_and_back(5)) == sim_run(there_and_back(5))
    assert sim_run(there_and_back(5)) != sim_run(there_and_back(6))


async def polled(every: float, times: int) -> tuple[list[str], int]:
    """Ask for a record at regular intervals; return where answers came from, and the lookups."""
    net, identity = SimNet(NODES, seed=7, dead=0.15, loss=0.05), Identity(bytes([7]) * 32)
    async with engine(net, 7, "192.0.2.1") as ours, engine(net, 8, "192.0.2.2") as other:
        await ours.publisher.publish(identity, {b"n": 1})
        sources = []
        for _ in range(times):
            answer = await other.resolver.query(identity.public_key)
            sources.append(str(answer.source))
            assert answer.age < answer.age + answer.fresh_for
            await asyncio.sleep(every)
        return sources, other.resolver.lookups


def test_who_asks_regularly_never_waits_again_and_never_gets_what_is_stale() -> None:
    """Renewed just before each query that would find it stale: by as many lookups as lifetimes."""
    sources, lookups = sim_run(polled(30.0, 100))
    assert sources == ["dht", *["memory"] * 99]
    assert 3 <= lookups <= 3000 / CACHE_TTL


def test_a_record_that_nobody_asks_for_again_is_renewed_at_most_once() -> None:
    async def asked_and_left() -> int:
        net, identity = SimNet(NODES, seed=9), Identity(bytes([9]) * 32)
        async with engine(net, 9, "192.0.2.1") as ours, engine(net, 10, "192.0.2.2") as other:
            await ours.publisher.publish(identity, {b"n": 1})
            for wait in (0.0, 140.0, 140.0, 40_000.0):
                await other.resolver.query(identity.public_key)
                await asyncio.sleep(wait)
            return other.resolver.lookups

    assert sim_run(asked_and_left()) == 2
