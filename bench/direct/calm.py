"""Calibration with nobody dead and nothing lost: the core on simnet and on a real swarm.

Both look the same keys up in 50 nodes: cold, from the 8 nearest that one node knows; from that node
alone; and warm, when one core knows them all. What is compared is datagrams a get: 8 queries and 8
answers wherever those nodes are known, so this tells of nothing but a gross mistake. The rules of
libtorrent are compared with it where nodes are dead (calibration.py).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from statistics import fmean

import uvloop

from bench.direct import calibration
from bench.direct.conditions import Size, ask, random
from bench.direct.swarms import HERE
from bench.libtorrent_rules import SEED
from bench.report import Bar, Part, Row
from bench.scenario import counted
from bench.simulated import Client
from dhtmeta._fast import ed25519
from dhtmeta.const import CLOSEST, PUBLIC_KEY_BYTES
from dhtmeta.dht.direct.core import Core
from dhtmeta.dht.direct.udp import Datagrams, UdpSocket
from dhtmeta.krpc.compact import Contact
from dhtmeta.testing.simnet import SimNet, constant_round_trip
from dhtmeta.testing.swarm import Swarm

NODES = 50
ROUND_TRIP = 0.001  # s, about loopback's
WITHIN = 0.15  # of the real swarm's datagrams; issue 3

Counts = dict[str, list[int]]  # datagrams of each get, by where it started
COLD, ALONE, WARM = "cold", "from one node", "warm"


class RealClient:
    """A core on a real socket, which does one lookup at a time."""

    def __init__(self, seed: int) -> None:
        self.core = Core(random(seed))
        self._udp = UdpSocket(HERE)
        self._came = asyncio.Event()
        self._udp.open(self._take)

    def _take(self, datagrams: Datagrams) -> None:
        for data, source in datagrams:
            self.core.receive_datagram(data, source, _now())
        self._came.set()

    async def get(self, public_key: bytes) -> int:
        """Look a key up; returns how many datagrams went out and came in."""
        traffic = self.core.traffic
        before = traffic.datagrams_in + traffic.datagrams_out
        search = self.core.look_up(public_key, b"", _now())
        while not search.ended:
            await self._step()
        assert search.converged
        return traffic.datagrams_in + traffic.datagrams_out - before

    async def _step(self) -> None:
        """Send what is to be sent; wait for an answer or the timer, if anything is waited for."""
        self._came.clear()
        self._udp.send(self.core.datagrams_to_send(_now()))
        due = self.core.next_timer()
        if due is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._came.wait()
            self.core.handle_timer(_now())

    def close(self) -> None:
        """Close the socket."""
        self._udp.close()


def run(part: Part, how_many: Size) -> None:
    """Compare both, from each start; then libtorrent's rules with libtorrent, some nodes dead."""
    seed, numbers = how_many.seed, range(how_many.lookups // 10)
    keys = [random(i, seed).randbytes(PUBLIC_KEY_BYTES) for i in numbers]
    real, simulated = uvloop.run(on_swarm(keys, seed)), on_simnet(keys, seed)
    for kind in (COLD, ALONE, WARM):
        ours, theirs = fmean(simulated[kind]), fmean(real[kind])
        note = f"{ours:.2f} and {theirs:.2f} datagrams a get, {len(keys)} gets"
        what = f"calibration: direct {kind} on simnet / on a real swarm, {NODES} nodes"
        part.add(Row(what, ours / theirs, "x", bar=Bar("~", 1.0, WITHIN), note=note))
    calibration.run(part, how_many)


def on_simnet(keys: Sequence[bytes], seed: int) -> Counts:
    """Return the datagrams of each get in a simulated network."""
    net, rng = (
        SimNet(NODES, seed=seed, round_trip=constant_round_trip(ROUND_TRIP)),
        random("simnet", seed),
    )
    everybody = [net.contact(i) for i in range(NODES)]
    knowing, counts = Client(net, SEED), Counts({COLD: [], ALONE: [], WARM: []})
    knowing.remember(everybody)
    for number, key in enumerate(keys):
        for kind, start in ((COLD, ask(net, key, rng).start), (ALONE, [rng.choice(everybody)])):
            client = Client(net, number)
            client.remember(start)
            counts[kind].append(client.get(key)[1].datagrams)
        counts[WARM].append(knowing.get(key)[1].datagrams)
    return counts


async def on_swarm(keys: Sequence[bytes], seed: int) -> Counts:
    """Return the datagrams of each get in a real swarm."""
    rng, counts = random("swarm", seed), Counts({COLD: [], ALONE: [], WARM: []})
    async with Swarm(NODES) as swarm:
        tables = [await session.live_nodes() for session in swarm.sessions]
        everybody = [Contact(one.node_ids()[0], one.endpoint) for one in swarm.sessions]
        for key in counted("real swarm", keys, len(keys)):
            counts[COLD].append(await _get(key, _nearest(rng.choice(tables), key)))
            counts[ALONE].append(await _get(key, [rng.choice(everybody)]))
            counts[WARM].append(await _get(key, everybody))
    return counts


async def _get(key: bytes, start: Sequence[Contact]) -> int:
    """Look a key up with a new core that knows these; returns its datagrams."""
    client = RealClient(SEED)
    for contact in start:
        client.core.note_alive(contact)
    try:
        return await client.get(key)
    finally:
        client.close()


def _nearest(table: Sequence[Contact], key: bytes) -> list[Contact]:
    target = int.from_bytes(ed25519.target(key), "big")
    return sorted(table, key=lambda one: int.from_bytes(one.node_id, "big") ^ target)[:CLOSEST]


def _now() -> float:
    return asyncio.get_running_loop().time()
