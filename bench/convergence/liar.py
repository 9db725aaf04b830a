"""A peer who lies in the exchange: tells of keys that nobody has, and shows what is forged."""

import asyncio
import random
import resource
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dhtmeta.config import PeerDiscovery, Settings
from dhtmeta.const import MAX_SEQ, MAX_SHARED
from dhtmeta.discovery.exchange import Exchange
from dhtmeta.discovery.topic import topic_hash
from dhtmeta.krpc import exchange as wire
from dhtmeta.node import Node
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity

TOPIC = "lied to"
PAUSE = 0.03  # s between messages: below what a peer may send for long


@dataclass(frozen=True, slots=True)
class Measured:
    """What so many fake peers told of have cost, and how many of them were taken for peers."""

    told: int
    listed: int
    megabytes: float
    lookups: int


async def lied_to(fakes: int, rng: random.Random) -> Measured:
    """Run a node in a swarm, and a liar that is connected to it."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(peer_discovery=PeerDiscovery(topic=TOPIC, lan=False))
        async with (
            Swarm(12) as swarm,
            Node(
                keys=home,
                store=f"{home}/store.db",
                state=home,
                bootstrap=swarm.addresses[:2],
                settings=settings,
            ) as node,
        ):
            finder = await node.open_discovery(listen="127.0.0.1:0")
            running = asyncio.create_task(finder.run())
            await asyncio.sleep(2.0)
            before, lookups = resident(), node.counters["lookups"]
            await _lie(finder.exchange.endpoint, fakes, rng)
            listed = sum(1 for _ in node.known())
            measured = Measured(
                fakes, listed, resident() - before, node.counters["lookups"] - lookups
            )
            running.cancel()
    return measured


async def _lie(endpoint: tuple[str, int], fakes: int, rng: random.Random) -> None:
    """Tell of them, a message after the other; the last item is forged, and ends it."""
    liar = Identity.generate()
    exchange = Exchange("127.0.0.1:0", lambda: liar, lambda: [topic_hash(TOPIC)], lambda: 0)
    await exchange.start()
    link = await exchange.dial(endpoint)
    for _ in range(fakes // MAX_SHARED):
        hints = [wire.Hint(rng.randbytes(32), rng.randrange(MAX_SEQ)) for _ in range(MAX_SHARED)]
        link.say(wire.Hints(peers=hints))
        await asyncio.sleep(PAUSE)
    forged = wire.Item(liar.public_key, 1, b"d7:peer_id2:hie", bytes(64))
    link.say(wire.Items(items=[forged]))
    await asyncio.sleep(1.0)
    await exchange.close()


def resident() -> float:
    """Return the megabytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6
