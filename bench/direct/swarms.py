"""Real nodes to measure against: a swarm in a process of its own, and a node that knows it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.direct.udp import UdpSocket
from dhtmeta.dht.libtorrent import LibtorrentCarrier

HERE = "127.0.0.1:0"  # where our own sockets are bound
KNOWN_WITHIN = 60.0  # s until our node knows all of the swarm


@contextlib.contextmanager
def swarm_process(nodes: int) -> Iterator[list[str]]:
    """Run a swarm elsewhere; yields its nodes' addresses."""
    words = [sys.executable, "-m", "dhtmeta", "swarm", "--nodes", str(nodes), "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=subprocess.DEVNULL) as swarm:
        try:
            assert swarm.stdout is not None
            yield json.loads(swarm.stdout.readline())["bootstrap"]
        finally:
            swarm.terminate()


@contextlib.asynccontextmanager
async def libtorrent_node(
    bootstrap: Sequence[str], window: int
) -> AsyncIterator[LibtorrentCarrier]:
    """Run a libtorrent carrier that knows all of `bootstrap`."""
    node = LibtorrentCarrier(bootstrap, window=window)
    await node.start()
    try:
        await node.ready()
        await node.silent_contacts(KNOWN_WITHIN)
        yield node
    finally:
        await node.close()


@contextlib.asynccontextmanager
async def direct_beside(node: LibtorrentCarrier) -> AsyncIterator[DirectCarrier]:
    """Run a direct carrier that starts from what `node` knows, and leave `node` open."""
    udp = UdpSocket(HERE)
    carrier = DirectCarrier(node, udp, local=True)
    await carrier.start()
    try:
        await carrier.ready()
        yield carrier
    finally:
        udp.close()
