"""Which clients are measured, each in a process of its own, and how a round of one is run."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.load.bare import VALUE
from bench.load.loops import SEQ, Order
from bench.load.network import Network
from bench.load.told import Told
from bench.tables import ROOT

BARE, FOREIGN = "bare libtorrent", "bittorrent-dht"
LIBTORRENT = "libtorrent carrier"
OURS = ("direct carrier", LIBTORRENT, "Node.query", "Node.query, cache-first")
LIBRARY = ROOT / "tests" / "interop" / "node_modules" / "bittorrent-dht" / "index.js"
READY_WITHIN, LATE = 60.0, 30.0  # s
LEAD = 0.2  # s from telling of an open loop to its first lookup


@dataclass(frozen=True, slots=True)
class Round:
    """How long each lookup took (s; None: no answer), and means of what was answered.

    `first` is the time to the first right value, `end` that to the lookup's end; empty where the
    client does not tell. `cpu` is user and system time of the client's process (s), `limit` what no
    answer counts as.
    """

    first: Sequence[float | None]
    end: Sequence[float | None]
    limit: float
    cpu: float
    seconds: float
    datagrams: float

    @property
    def answered(self) -> int:
        """How many were, to the end where that is told."""
        return sum(one is not None for one in self.end or self.first)

    @property
    def asked(self) -> int:
        """How many lookups there were."""
        return len(self.end or self.first)


Clients = dict[str, Told]


@contextmanager
def clients(
    network: Network, concurrency: int = 16, without: Sequence[str] = ()
) -> Iterator[Clients]:
    """Run all others that this machine can, with all of the swarm in their tables."""
    start = {
        "bootstrap": network.addresses,
        "value": VALUE.hex(),
        "seq": SEQ,
        "concurrency": concurrency,
    }
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(Told(words, network.host))
            for name, words in _words().items()
            if name not in without
        }
        for one in running.values():
            one.say(start)
        for one in running.values():
            one.hear(READY_WITHIN)
        yield running


def _words() -> dict[str, list[str]]:
    """Return the command of each client, ours first."""
    words = {name: [sys.executable, "-m", "bench.load.client", name] for name in (*OURS, BARE)}
    driver = str(Path(__file__).with_name("bittorrent_dht.mjs"))
    return words if foreign_missing() else words | {FOREIGN: ["node", driver, str(LIBRARY)]}


def foreign_missing() -> list[str]:
    """Return why bittorrent-dht is not measured, if it is not."""
    if shutil.which("node") is None:
        return [f"{FOREIGN}: node is missing"]
    return (
        [] if LIBRARY.exists() else [f"{FOREIGN}: not installed; `make bench` does that with npm"]
    )


def run(client: Told, order: Order) -> Round:
    """Have a client do a round; return what that took."""
    client.say(order.said())
    _tick(client, order)
    within = (order.at[-1] if order.at else 0.0) + order.limit + LATE
    return Round(limit=order.limit, **client.hear(within))


def opened(client: Told, keys: Sequence[bytes], at: Sequence[float], limit: float) -> Round:
    """Run an open loop that begins now."""
    return run(client, Order(keys, len(keys), limit, time.monotonic() + LEAD, at))


def warm_up(name: str, client: Told, order: Order) -> None:
    """Have a client find some keys: one that has just started may not know the swarm yet."""
    keys, end = order.keys, time.monotonic() + READY_WITHIN
    while keys:
        if time.monotonic() > end:
            raise RuntimeError(f"{name} does not find {len(keys)} of the keys that are stored")
        found = run(client, replace(order, keys=keys))
        times = zip(keys, found.end or found.first, strict=True)
        keys = [key for key, took in times if took is None]


def _tick(client: Told, order: Order) -> None:
    """Say when each lookup starts, whatever the client is doing."""
    for due in order.at:
        wait = order.start + due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        client.tick()
