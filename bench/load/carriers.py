"""Gets and puts a second through libtorrent's carrier and a Node, beside a bare session.

All are in this process and take turns on one swarm, which is another process. Each round looks
up, or stores, the same number of keys with the same window; answers are checked before a round
counts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

import uvloop

from bench.direct.swarms import libtorrent_node, swarm_process
from bench.load.bare import VALUE, WAIT, WINDOW, Bare
from bench.report import Bar, Part, Row
from bench.scenario import Options, counted
from dhtmeta.config import Settings
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.engine.resolve import Policy
from dhtmeta.node import Node
from dhtmeta.store.store import MEMORY
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NODES, KEYS, PUTS, ROUNDS = 20, 400, 200, 9
BAR = Bar(">=", 0.85)  # DESIGN, "What fast means"
BARE = "bare libtorrent"
Rates = dict[str, list[float]]  # operations a second of each round


def ignore(item: SignedItem) -> None:
    """Take an item that nobody waits for."""


async def carrier_gets(carrier: LibtorrentCarrier, keys: list[bytes]) -> None:
    """Look all keys up through the carrier; its own window holds them back."""
    outcomes = await asyncio.gather(*(carrier.get(key, b"", ignore, WAIT) for key in keys))
    v = encode_value(VALUE)
    assert all(one.item is not None and one.item.v == v for one in outcomes)


async def carrier_puts(carrier: LibtorrentCarrier, identities: list[Identity]) -> None:
    """Store under all identities through the carrier."""
    v = encode_value(VALUE)
    outcomes = await asyncio.gather(*(carrier.put(one, v, b"", WAIT) for one in identities))
    assert all(one.accepted >= 7 for one in outcomes), sorted(one.accepted for one in outcomes)


async def node_queries(node: Node, keys: list[bytes]) -> None:
    """Query all keys through a whole node, WINDOW at a time, always over the network."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            assert (await node.query(key, policy=Policy.FRESHEST)).value == VALUE

    await asyncio.gather(*(work() for _ in range(WINDOW)))


def carriers(options: Options) -> Part:
    """Measure gets and puts, turn about."""
    with swarm_process(NODES) as bootstrap:
        gets, puts = uvloop.run(_measure(bootstrap, 3 if options.quick else ROUNDS))
    part = Part()
    part.add(row_of("gets", "libtorrent carrier", gets, BAR), row_of("gets", "Node.query", gets))
    part.add(row_of("puts", "libtorrent carrier", puts, BAR))
    return part


def row_of(operation: str, ours: str, rates: Rates, bar: Bar | None = None) -> Row:
    """Return the median ratio of rounds that follow each other, with the lowest and highest."""
    ratios = [one / other for one, other in zip(rates[ours], rates[BARE], strict=True)]
    return Row(
        f"carriers: {operation} a second, {ours} / {BARE}",
        median(ratios),
        "x",
        min(ratios),
        max(ratios),
        bar,
        f"{median(rates[ours]):,.0f} and {median(rates[BARE]):,.0f}; one process, {NODES} nodes, "
        f"{WINDOW} in flight, {len(ratios)} rounds",
        better="higher",
        told=True,
    )


async def _measure(bootstrap: list[str], rounds: int) -> tuple[Rates, Rates]:
    """Run all rounds, turn about, and return the rates of gets and of puts."""
    bare = Bare(bootstrap)
    node = Node(bootstrap=bootstrap, store=MEMORY, state="/nonexistent", settings=Settings())
    async with libtorrent_node(bootstrap, WINDOW) as carrier, node:
        await node.carrier.ready()
        await node.carrier.silent_contacts(WAIT)
        identities = [Identity.generate() for _ in range(KEYS)]
        await carrier_puts(carrier, identities)
        keys = [one.public_key for one in identities]
        assert set(bare.get(keys).values()) == {VALUE}
        gets = {
            "libtorrent carrier": lambda: carrier_gets(carrier, keys),
            "Node.query": lambda: node_queries(node, keys),
        }
        puts = {"libtorrent carrier": lambda: carrier_puts(carrier, _new(PUTS))}
        return (
            await _turns("gets", KEYS, lambda: bare.get(keys), gets, rounds),
            await _turns("puts", PUTS, lambda: bare.put(_new(PUTS)), puts, rounds),
        )


def _new(count: int) -> list[Identity]:
    return [Identity.generate() for _ in range(count)]


async def _turns(
    what: str,
    count: int,
    bare: Callable[[], object],
    ours: Mapping[str, Callable[[], Awaitable[None]]],
    rounds: int,
) -> Rates:
    """Time rounds of each, in turn."""
    rates: Rates = {name: [] for name in (BARE, *ours)}
    for _ in counted(what, range(rounds), rounds):
        start = time.monotonic()
        bare()
        rates[BARE].append(count / (time.monotonic() - start))
        for name, run in ours.items():
            start = time.monotonic()
            await run()
            rates[name].append(count / (time.monotonic() - start))
    return rates
