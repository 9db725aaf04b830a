"""Lookups that end with the first believable item: who may join one, and what it never gives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta._fast import bencode, ed25519
from dhtmeta.const import CACHE_STALE_FOR, CACHE_TTL
from dhtmeta.dht.carrier import GetOutcome
from dhtmeta.engine.cache import RecordCache
from dhtmeta.engine.connectability import Judge
from dhtmeta.engine.resolve import Policy, Resolver
from dhtmeta.errors import NotFound
from dhtmeta.node import Node
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.testing.liar import Liar
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from tests.conftest import Clock, make_node

CARRIERS = ["libtorrent", "direct"]
both_carriers = pytest.mark.parametrize("carrier", CARRIERS)


def signed(identity: Identity, value: bytes, seq: int) -> SignedItem:
    return SignedItem.sign(identity, encode_value(value), seq)


def fields(item: SignedItem) -> dict[bytes, bytes]:
    """Return what a node says that holds `item`."""
    plain: dict[bytes, bencode.Value] = {b"k": item.public_key, b"sig": item.sig, b"seq": item.seq}
    return {name: bencode.encode(value) for name, value in plain.items()} | {b"v": item.v}


async def told_of(node: Node, liar: Liar) -> None:
    async with asyncio.timeout(10):
        await node.carrier.ready()
        while liar.endpoint not in {one.endpoint for one in await node.carrier.live_nodes()}:
            node.carrier.add_nodes([liar.endpoint])
            await asyncio.sleep(0.01)


@both_carriers
async def test_cache_first_ends_its_lookup_early_and_freshest_does_not(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w") as author,
        make_node(own_swarm, tmp_path / "r", carrier=carrier) as node,
    ):
        await author.publish(b"x", identity=identity)
        first = await node.query(identity.public_key)
        cached = await node.query(identity.public_key)
        freshest = await node.query(identity.public_key, policy="freshest")
    assert first.value == freshest.value == b"x"
    assert cached.lookup is None
    assert first.lookup is not None
    assert freshest.lookup is not None
    assert freshest.lookup.converged
    if carrier == "direct":  # libtorrent counts nothing, and has often converged at once here
        assert not first.lookup.converged
        assert 1 <= first.lookup.holding <= first.lookup.answered <= first.lookup.queried
        assert freshest.lookup.answered >= 8 > freshest.lookup.refused == 0
        assert first.lookup.answered < freshest.lookup.answered


@both_carriers
async def test_freshest_never_joins_a_lookup_that_may_end_early(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w") as author,
        make_node(own_swarm, tmp_path / "r", carrier=carrier) as node,
        Liar(identity.peer_id, fields(signed(identity, b"old", 1))) as behind,
    ):
        await author.publish(b"one", identity=identity)
        await author.publish(b"new", identity=identity)
        await told_of(node, behind)  # the closest of all, and it holds what is old
        early = asyncio.create_task(node.query(identity.public_key))
        while not node.counters["running"]:
            await asyncio.sleep(0)
        freshest = await node.query(identity.public_key, policy="freshest")
        assert freshest.value == b"new"
        assert (await early).value in (b"old", b"one", b"new")
        assert node.counters["lookups"] == 2


@both_carriers
async def test_all_who_ask_cache_first_share_one_lookup(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w") as author,
        make_node(own_swarm, tmp_path / "r", carrier=carrier) as node,
    ):
        await author.publish(b"x", identity=identity)
        answers = await asyncio.gather(*(node.query(identity.public_key) for _ in range(1000)))
        missing = [node.query(Identity(b"m" * 32).public_key) for _ in range(1000)]
        outcomes = await asyncio.gather(*missing, return_exceptions=True)
        assert {answer.value for answer in answers} == {b"x"}
        assert {type(one) for one in outcomes} == {NotFound}
        assert node.counters["lookups"] == 2
        assert node.counters["running"] == 0


@both_carriers
async def test_cache_first_joins_a_lookup_that_goes_on_and_does_not_wait_for_it(
    own_swarm: Swarm, tmp_path: Path, carrier: str
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path, carrier=carrier) as node:
        await node.publish(b"x", identity=identity)
        freshest = asyncio.create_task(node.query(identity.public_key, policy="freshest"))
        while not node.counters["running"]:
            await asyncio.sleep(0)
        assert (await node.query(identity.public_key)).value == b"x"
        assert (await freshest).value == b"x"
        assert node.counters["lookups"] == 1


@both_carriers
async def test_a_stale_record_is_renewed_to_the_newest_whoever_holds_the_old_one_nearer(
    own_swarm: Swarm, tmp_path: Path, clock: Clock, carrier: str
) -> None:
    identity = Identity.generate()
    async with (
        make_node(own_swarm, tmp_path / "w") as author,
        make_node(own_swarm, tmp_path / "r", clock=clock, carrier=carrier) as node,
    ):
        old = (await author.publish(b"old", identity=identity)).item
        async with Liar(identity.peer_id, fields(old)) as behind:
            await told_of(node, behind)
            await node.query(identity.public_key)
            await author.publish(b"new", identity=identity)
            clock.now += CACHE_TTL
            assert (await node.query(identity.public_key)).value == b"old"
            async with asyncio.timeout(20):
                while (await node.query(identity.public_key)).value != b"new":
                    await asyncio.sleep(0.01)


@both_carriers
async def test_an_early_end_is_never_below_a_seq_seen(
    own_swarm: Swarm, tmp_path: Path, clock: Clock, carrier: str
) -> None:
    identity = Identity.generate()
    async with make_node(own_swarm, tmp_path, clock=clock, carrier=carrier) as node:
        await node.publish(b"one", identity=identity)
        newest = (await node.publish(b"two", identity=identity)).item
        async with Liar(identity.peer_id, fields(signed(identity, b"one", 1))) as behind:
            await told_of(node, behind)
            for _ in range(3):
                clock.now += CACHE_TTL + CACHE_STALE_FOR
                assert (await node.query(identity.public_key)).item == newest
            assert behind.served


class Meanwhile:
    """A real carrier whose lookups end as early as they may, and then something else happens."""

    def __init__(self, node: Node, happens: Callable[[], None]) -> None:
        self._carrier = node.carrier
        self._happens = happens
        self.enough: list[int | None] = []

    async def ready(self, deadline: float) -> None:
        await self._carrier.ready(deadline)

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        self.enough.append(enough)
        outcome = await self._carrier.get(public_key, salt, on_item, deadline, enough=enough)
        self._happens()
        return replace(outcome, converged=enough is None)  # loopback is often faster than that


@pytest_asyncio.fixture
async def cache(clock: Clock) -> AsyncIterator[RecordCache]:
    store = await Store.open(MEMORY, clock)
    yield RecordCache(store, seed=1)
    await store.close()


async def test_what_was_enough_but_is_so_no_longer_is_looked_up_to_the_end(
    reader: Node, writer: Node, cache: RecordCache, clock: Clock
) -> None:
    identity = Identity.generate()
    await writer.publish(b"x", identity=identity)
    target = ed25519.target(identity.public_key)
    carrier = Meanwhile(reader, lambda: cache.raise_floor(target, 2, clock.now))
    judge = Judge(republish_interval=3600.0, allow_non_global=True)
    resolver = Resolver(cache, lambda: carrier, judge, clock)  # type: ignore[arg-type, return-value]
    with pytest.raises(NotFound, match="only seq 1 is on the DHT, older than seq 2"):
        await resolver.query(identity.public_key, policy=Policy.CACHE_FIRST)
    assert carrier.enough == [0, None]
    await resolver.close()
