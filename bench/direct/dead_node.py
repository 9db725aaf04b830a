"""How long one dead node in twelve holds up a get and a put: ours, and libtorrent's, on one swarm.

Somebody mute sits where the dead node was. Each of our operations has a carrier of its own, which
has not learnt yet who is dead; libtorrent's are begun all at once, for the same reason. A carrier
that did no get before still believes that round trips are mainline's.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median

import uvloop

from bench.direct.conditions import VALUE_BYTES, Size
from bench.direct.swarms import direct_beside, libtorrent_node
from bench.load.bare import WAIT
from bench.load.carriers import ignore
from bench.report import Bar, Part, Row
from bench.scenario import counted
from dhtmeta._fast import ed25519
from dhtmeta.const import CLOSEST
from dhtmeta.dht.carrier import Carrier, GetOutcome, PutOutcome
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.dht.libtorrent import LibtorrentCarrier
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import encode_value
from dhtmeta.values.keys import Identity

NODES = 12
BAR = 0.5  # s; issue 3 and DESIGN, "What fast means"
V = encode_value(b"v" * VALUE_BYTES)

KINDS = {"carrier just started": 0, "after 20 gets": 20}  # and how many those are

Times = tuple[list[float], int | None]  # s each; how many of ours asked the dead node
Operation = Callable[[Carrier, Identity], Awaitable[GetOutcome | PutOutcome]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A swarm in which a node died: our node there, two direct carriers, what is near the dead."""

    endpoint: Endpoint  # of the dead one
    node: LibtorrentCarrier
    carriers: Sequence[DirectCarrier]
    stored: Sequence[Identity]
    others: Sequence[Identity]  # as many again, to be put


def run(part: Part, how_many: Size) -> None:
    """Time gets and puts through both carriers; only ours have a bar."""
    for what, (seconds, asked) in uvloop.run(measure(how_many.on_swarm)).items():
        note = f"median {median(seconds):.3f} s of {len(seconds)}"
        bar = Bar("<=", BAR) if asked is not None else None
        note += "" if asked is None else f"; {asked} asked the dead node"
        title = f"one dead node in {NODES}: {what}, slowest"
        part.add(Row(title, max(seconds), " s", min(seconds), max(seconds), bar, note))


async def measure(count: int) -> dict[str, Times]:
    """Time ours on a swarm each, since others remember who puts, and libtorrent's on one."""
    times: dict[str, Times] = {}
    for kind, gets in KINDS.items():
        runs = []
        for _ in counted(f"one dead node, {kind}", range(count), count):
            async with scene(1, gets) as one:
                runs.append(await _ours(one))
        for operation, of_it in zip(("get", "put"), zip(*runs, strict=True), strict=True):
            seconds = [seconds for seconds, _ in of_it]
            times[f"direct {operation}, {kind}"] = seconds, sum(asked for _, asked in of_it)
    async with scene(count, 0) as all_at_once:
        return times | await _theirs(all_at_once)


@asynccontextmanager
async def scene(count: int, gets: int) -> AsyncIterator[Scene]:
    """Store `count` items near a node, let our carriers do some gets, and then let it die."""
    async with AsyncExitStack() as stack:
        swarm = await stack.enter_async_context(Swarm(NODES))
        node = await stack.enter_async_context(libtorrent_node(swarm.addresses, 4 * count))
        carriers = [await stack.enter_async_context(direct_beside(node)) for _ in range(2)]
        stored, others = (_near_the_last(swarm, node, count) for _ in range(2))
        await asyncio.gather(*(put(node, one) for one in stored))
        for carrier in carriers:
            await asyncio.gather(*(get(carrier, stored[0]) for _ in range(gets)))
        endpoint = swarm.sessions[-1].endpoint
        await swarm.sessions[-1].close()
        mute = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        mute.bind(endpoint)
        yield Scene(endpoint, node, carriers, stored, others)


def _near_the_last(swarm: Swarm, node: LibtorrentCarrier, count: int) -> list[Identity]:
    """Return new identities whose items' closest nodes include the swarm's last."""
    found: list[Identity] = []
    node_id = swarm.sessions[-1].node_ids()[0]
    everybody = [*(one.node_ids()[0] for one in swarm.sessions), *node.session.node_ids()]
    while len(found) < count:
        identity = Identity.generate()
        target = int.from_bytes(ed25519.target(identity.public_key), "big")
        order = sorted(everybody, key=lambda one: int.from_bytes(one, "big") ^ target)
        if node_id in order[:CLOSEST]:
            found.append(identity)
    return found


async def _ours(one: Scene) -> list[tuple[float, bool]]:
    """Return what a get and a put took, and whether each asked the dead node."""
    took = []
    todo: list[tuple[Operation, Identity]] = [(get, one.stored[0]), (put, one.others[0])]
    for carrier, (operation, identity) in zip(one.carriers, todo, strict=True):
        seconds = await _timed(operation, carrier, identity)
        now = asyncio.get_running_loop().time()
        took.append((seconds, carrier.core.contacts.is_dead(one.endpoint, now)))
    return took


async def _theirs(one: Scene) -> dict[str, Times]:
    """Time libtorrent's gets, all at once, then as many puts."""
    gets = [_timed(get, one.node, identity) for identity in one.stored]
    puts = [_timed(put, one.node, identity) for identity in one.others]
    return {
        "libtorrent get": (await asyncio.gather(*gets), None),
        "libtorrent put": (await asyncio.gather(*puts), None),
    }


async def _timed(operation: Operation, carrier: Carrier, identity: Identity) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await operation(carrier, identity)
    return loop.time() - start


async def get(carrier: Carrier, identity: Identity) -> GetOutcome:
    """Look up, to the end, what was put."""
    outcome = await carrier.get(identity.public_key, b"", ignore, WAIT)
    assert outcome.converged
    assert outcome.item is not None
    assert outcome.item.v == V
    return outcome


async def put(carrier: Carrier, identity: Identity) -> PutOutcome:
    """Store the value; libtorrent reaches few nodes while one is silent, and calls that done."""
    outcome = await carrier.put(identity, V, b"", WAIT)
    assert outcome.item.v == V
    assert outcome.accepted >= (1 if carrier.signs_itself else NODES - 1)
    return outcome
