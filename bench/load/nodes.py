"""A process with some nodes of a swarm: it says where they are, is told of others, and stores."""

import asyncio
import sys

import uvloop

from bench.direct.swarms import libtorrent_node
from bench.load.bare import WINDOW
from bench.load.carriers import carrier_puts
from bench.load.told import answer, heard, stdin
from dhtmeta.dht.address import parse_address
from dhtmeta.dht.session import Session
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.keys import Identity

KNOWN = 0.9  # share of the others that each has to know
LOOK = 0.05  # s between looks at a table


async def main(count: int) -> None:
    """Run the nodes until stdin ends: told are all addresses, then the seeds of what to store."""
    lines = await stdin()
    async with Swarm(count) as swarm:
        answer(swarm.addresses)
        everybody = await heard(lines)
        if everybody is None:
            return
        await asyncio.gather(*(_introduce(one, everybody) for one in swarm.sessions))
        answer(True)
        if (seeds := await heard(lines)) is not None:
            async with libtorrent_node(everybody, WINDOW) as writer:
                await carrier_puts(writer, [Identity(bytes.fromhex(seed)) for seed in seeds])
                answer(True)
                await heard(lines)


async def _introduce(session: Session, everybody: list[str]) -> None:
    """Tell a node of all others, and wait until it knows most."""
    others = [parse_address(one) for one in everybody]
    others.remove(session.endpoint)
    session.add_nodes(others)
    while len(await session.live_nodes()) < KNOWN * len(others):
        await asyncio.sleep(LOOK)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
