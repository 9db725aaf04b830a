"""Gets and puts a second through the asyncio carrier, beside a bare libtorrent session.

Both are in this process and take turns on one swarm, which is another process. Each round looks
up, or stores, the same number of keys with the same window; answers are checked before a round
counts. Prints one JSON object: per figure the rates of all rounds and the ratios of the pairs.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import libtorrent as lt
import uvloop

from dhtmeta.dht.address import parse_address
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.dht.session import settings
from dhtmeta.engine.resolve import Policy
from dhtmeta.node import Node
from dhtmeta.store.store import MEMORY
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NODES, KEYS, PUTS, WINDOW, ROUNDS, WAIT = 20, 400, 200, 32, 9, 60.0
VALUE = b"v" * 600  # bytes, about a NodeRecord


class Bare:
    """A libtorrent session driven as directly as the binding allows: a blocking alert loop."""

    def __init__(self, bootstrap: list[str]) -> None:
        """Start it and let it know the same nodes as the carrier."""
        listen = ("127.0.0.1", 0)
        params = lt.session_params()
        params.settings = settings(  # type: ignore[assignment]
            listen, [], local=True, serve=True
        )
        self.session: Any = lt.session(params)
        for address in bootstrap:
            self.session.add_dht_node(parse_address(address))

    def get(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """Look all keys up, WINDOW at a time; return what was found."""
        found: dict[bytes, bytes] = {}
        waiting = iter(keys)
        for key in (next(waiting) for _ in range(min(WINDOW, len(keys)))):
            self.session.dht_get_mutable_item(key, b"")
        while len(found) < len(keys):
            self.session.wait_for_alert(1000)
            for alert in self.session.pop_alerts():
                if isinstance(alert, lt.dht_mutable_item_alert) and alert.authoritative:
                    found[alert.key] = bytes(alert.item)  # type: ignore[arg-type]
                    if following := next(waiting, None):
                        self.session.dht_get_mutable_item(following, b"")
        return found

    def put(self, identities: list[Identity]) -> dict[bytes, int]:
        """Store VALUE under all identities, WINDOW at a time; return how many nodes accepted."""
        accepted: dict[bytes, int] = {}
        waiting = iter(identities)
        for one in (next(waiting) for _ in range(min(WINDOW, len(identities)))):
            self._put(one)
        while len(accepted) < len(identities):
            self.session.wait_for_alert(1000)
            for alert in self.session.pop_alerts():
                if isinstance(alert, lt.dht_put_alert):
                    accepted[alert.public_key] = alert.num_success
                    if (one_more := next(waiting, None)) is not None:
                        self._put(one_more)
        return accepted

    def _put(self, identity: Identity) -> None:
        self.session.dht_put_mutable_item(identity.expanded(), identity.public_key, VALUE, b"")


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
    """Query all keys through a whole node, always over the network."""
    answers = await asyncio.gather(*(node.query(key, policy=Policy.FRESHEST) for key in keys))
    assert all(one.value == VALUE for one in answers)


async def measure(bootstrap: list[str]) -> dict[str, Any]:
    """Run all rounds, turn about, and return the figures."""
    bare = Bare(bootstrap)
    carrier = LibtorrentCarrier(bootstrap, window=WINDOW)
    await carrier.start()
    await carrier.ready()
    await carrier.silent_contacts(WAIT)
    identities = [Identity.generate() for _ in range(KEYS)]
    await carrier_puts(carrier, identities)
    keys = [one.public_key for one in identities]
    assert set(bare.get(keys).values()) == {VALUE}
    async with Node(bootstrap=bootstrap, store=MEMORY, state="/nonexistent") as node:
        await node.carrier.ready()
        await node.carrier.silent_contacts(WAIT)
        gets = await _turns(
            KEYS,
            lambda: bare.get(keys),
            {
                "carrier.get": lambda: carrier_gets(carrier, keys),
                "Node.query": lambda: node_queries(node, keys),
            },
        )
    puts = await _turns(
        PUTS,
        lambda: bare.put([Identity.generate() for _ in range(PUTS)]),
        {"carrier.put": lambda: carrier_puts(carrier, [Identity.generate() for _ in range(PUTS)])},
    )
    await carrier.close()
    return {"gets": gets, "puts": puts}


async def _turns(
    count: int, bare: Callable[[], object], ours: dict[str, Callable[[], Awaitable[None]]]
) -> dict[str, Any]:
    """Time ROUNDS rounds of each, in turn; ratios are of rounds that follow each other."""
    rates: dict[str, list[float]] = {"bare libtorrent": [], **{name: [] for name in ours}}
    for _ in range(ROUNDS):
        start = time.monotonic()
        bare()
        rates["bare libtorrent"].append(count / (time.monotonic() - start))
        for name, run in ours.items():
            start = time.monotonic()
            await run()
            rates[name].append(count / (time.monotonic() - start))
    return {name: _figures(own, rates["bare libtorrent"]) for name, own in rates.items()}


def _figures(own: list[float], peer: list[float]) -> dict[str, Any]:
    ratios = sorted(one / other for one, other in zip(own, peer, strict=True))
    quarter = len(ratios) // 4
    return {
        "per_second": round(median(own)),
        "ratio": round(median(ratios), 3),
        "ratio_quartiles": [round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
    }


def main() -> None:
    """Start the swarm, measure, print JSON."""
    words = [sys.executable, "-m", "dhtmeta", "swarm", "--nodes", str(NODES), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swarm:
        try:
            assert swarm.stdout is not None
            bootstrap = json.loads(swarm.stdout.readline())["bootstrap"]
            print(json.dumps(uvloop.run(measure(bootstrap))))
        finally:
            swarm.terminate()


if __name__ == "__main__":
    main()
