"""Somebody new at the fleet: asks for its peers as an application does, and tries to reach each."""

import json
import sys
import tempfile
from asyncio import subprocess
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import uvloop

from dhtmeta.config import PeerDiscovery, Settings
from dhtmeta.discovery.peer import Peer
from dhtmeta.errors import DhtmetaError
from dhtmeta.node import Node
from dhtmeta.testing.netns import Host
from dhtmeta.values.record import split_endpoint


@dataclass(frozen=True, slots=True)
class Visit:
    """How long it took to have the list (s), how many were tried, and how many not reached."""

    seconds: float
    tried: int
    failed: int


async def visited(
    host: Host, contact: str, topic: str, only: Collection[str] | None = None
) -> Visit:
    """Visit from `host`, which knows `contact` (ip); `only` names whom to try (peer ids, hex)."""
    with tempfile.TemporaryDirectory() as home:
        words = (sys.executable, "-m", "bench.convergence.visitor", home, contact, topic)
        process = await host.spawn(
            [*words, *(only or ())], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        said, _ = await process.communicate()
    return Visit(**json.loads(said.splitlines()[-1]))


async def _visit(home: str, contact: str, topic: str, only: list[str]) -> Visit:
    settings = Settings(
        peer_discovery=PeerDiscovery(topic=topic, lan=False, contacts=[f"{contact}:30906"])
    )
    keys, store = Path(home, "keys"), str(Path(home, "store.db"))
    bootstrap = [f"{contact}:30609"]
    start = monotonic()
    async with Node(
        keys=keys, store=store, state=home, bootstrap=bootstrap, settings=settings, serve=False
    ) as node:
        peers = await node.peers(topic, connectable=True)
        seconds = monotonic() - start
        chosen = [one for one in peers if not only or one.peer_id.hex() in only]
        failed = [one for one in chosen if not await _reach(node, one)]
    return Visit(seconds, len(chosen), len(failed))


async def _reach(node: Node, peer: Peer) -> bool:
    """Connect to a peer itself, or have it answer a probe through its relay."""
    finder = await node.open_discovery()
    assert peer.record is not None
    info = peer.record.network_info
    try:
        link = await finder.exchange.dial(split_endpoint(peer.address))
        if info.node_type == "public":
            return link.peer_id == peer.peer_id
        assert link.peer_id.hex() == info.connected_relay
        return await finder.watch.probe(link, peer.peer_id)
    except DhtmetaError as error:
        print(f"{peer.peer_id.hex()} at {peer.address}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    home, contact, topic, *only = sys.argv[1:]
    visit = uvloop.run(_visit(home, contact, topic, only))
    print(json.dumps(asdict(visit)))
