"""Calibration with dead nodes: libtorrent itself, and its simulated rules on a copy of that swarm.

Sessions look the same keys up that the rules do, in a swarm of which some nodes died a moment ago.
The copy has its ids and its dead, and everybody knows there whom it knew when they died; somebody
mute sits where a dead node was. All lookups begin at once, before anybody learns who is dead.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import fmean, median
from typing import Any

import libtorrent as lt
import uvloop

from bench.direct.conditions import Size, random
from bench.direct.swarms import HERE
from bench.libtorrent_rules import Lookup
from bench.load.bare import WAIT
from bench.load.client import session_messages
from bench.report import Bar, Part, Row
from bench.scenario import counted
from dhtmeta._fast import ed25519
from dhtmeta.const import PUBLIC_KEY_BYTES, SIM_BUCKET
from dhtmeta.dht.session import Session
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.compact import Contact, Endpoint, split_contacts
from dhtmeta.krpc.messages import Get, Response
from dhtmeta.testing.simnet import Traffic
from dhtmeta.testing.swarm import Swarm

NODES, DEAD = 50, 8  # about the share of FACTS.md, "Mainline"
KNOWN_WITHIN = 20.0  # s until a session knows those it was told of
SETTLED = 0.5  # s without anybody new
ROUND_TRIP = 0.001  # s, about loopback's
WITHIN = 0.15  # of what libtorrent does
FEW = 8  # whom a session is told of that does not know the swarm
KINDS = {  # by name: of how many nodes a session is told, and whether its lookups are aggressive
    "": (NODES, False),
    ", aggressive": (NODES, True),
    f", {FEW} known": (FEW, False),
    f", {FEW} known, aggressive": (FEW, True),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a get cost on average: datagrams of both directions, and seconds to its end."""

    datagrams: float
    seconds: float


Pair = tuple[Cost, Cost]  # of the rules, and of libtorrent


@dataclass(slots=True)
class Copy:
    """A network in which everybody who lives answers with the nearest of whom it knows."""

    ids: dict[Endpoint, bytes]  # of all, the dead too
    known: dict[Endpoint, list[Contact]]  # by those who live
    traffic: Traffic = field(default_factory=Traffic)

    def ask(
        self, data: bytes, source: Endpoint, to: Endpoint, now: float
    ) -> list[tuple[float, bytes]]:
        """See `SimNet.ask`."""
        self.traffic.sent += 1
        if to not in self.known:
            return []
        self.traffic.received += 1
        query = decode(data)
        assert isinstance(query, Get)
        contacts = split_contacts(nearest(self.known[to], query.target))
        answer = Response(t=query.t, node_id=self.ids[to], token=b"t", **contacts)
        return [(now + ROUND_TRIP, encode(answer))]


def nearest(known: Sequence[Contact], target: bytes) -> list[Contact]:
    """Return whom libtorrent takes of a table of one bucket, which NODES fit in."""
    number = int.from_bytes(target, "big")
    return sorted(known, key=lambda one: int.from_bytes(one.node_id, "big") ^ number)[:SIM_BUCKET]


def run(part: Part, how_many: Size) -> None:
    """Compare both in so many swarms."""
    swarms, keys = max(1, how_many.rounds // 3), how_many.on_swarm * 10
    found: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    for number in counted("real swarm, some dead", range(swarms), swarms):
        rng = random(f"dead {number}", how_many.seed)
        for kind, pair in uvloop.run(on_swarm(rng, keys)).items():
            found[kind].append(pair)
    for kind, pairs in found.items():
        part.add(*_rows(kind, pairs, keys))


def _rows(kind: str, pairs: Sequence[Pair], keys: int) -> list[Row]:
    """Return the rows of datagrams and of seconds: the medians, the lowest and the highest."""
    size = f"of {keys} gets in each of {len(pairs)} swarms"
    rows = []
    for name in ("datagrams", "seconds"):
        ours, theirs = ([getattr(one, name) for one in side] for side in zip(*pairs, strict=True))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        what = f"calibration: libtorrent's rules / libtorrent, {DEAD} of {NODES} dead: {name}{kind}"
        note = f"{median(ours):.4g} and {median(theirs):.4g} {name} a get, mean {size}"
        low, high = (min(ratios), max(ratios)) if len(ratios) > 1 else (None, None)
        rows.append(Row(what, median(ratios), "x", low, high, Bar("~", 1.0, WITHIN), note))
    return rows


async def on_swarm(rng: Random, keys: int) -> dict[str, Pair]:
    """Look random keys up in a swarm and in its copy, by sessions of every kind."""
    public_keys = [rng.randbytes(PUBLIC_KEY_BYTES) for _ in range(keys)]
    async with contextlib.AsyncExitStack() as stack:
        swarm = await stack.enter_async_context(Swarm(NODES))
        sessions = {
            kind: await stack.enter_async_context(_session(rng, swarm, *how))
            for kind, how in KINDS.items()
        }
        ids = {one.endpoint: one.node_ids()[0] for one in swarm.sessions}
        known = {one.endpoint: await one.live_nodes() for one in swarm.sessions}
        starts = {kind: await one.live_nodes() for kind, one in sessions.items()}
        for one in rng.sample(swarm.sessions, DEAD):
            del known[one.endpoint]
            stack.enter_context(await _mute(one))
        real = await asyncio.gather(
            *(_by_libtorrent(one, public_keys) for one in sessions.values())
        )
    pairs = {}
    for (kind, (_, aggressive)), theirs in zip(KINDS.items(), real, strict=True):
        ours = by_rules(Copy(ids, known), starts[kind], public_keys, aggressive=aggressive)
        pairs[kind] = (ours, theirs)
    return pairs


@contextlib.asynccontextmanager
async def _session(
    rng: Random, swarm: Swarm, told_of: int, aggressive: bool
) -> AsyncIterator[Session]:
    """Run a read-only session, which nobody's table takes in, that is told of so many nodes."""
    session = Session(listen=HERE, serve=False)
    await session.start()
    try:
        session.handle.apply_settings({"dht_aggressive_lookups": aggressive})
        session.add_nodes([one.endpoint for one in rng.sample(swarm.sessions, told_of)])
        async with asyncio.timeout(KNOWN_WITHIN):
            await _settled(session, told_of)
        yield session
    finally:
        await session.close()


async def _settled(session: Session, least: int) -> None:
    """Return when a session knows so many, and has learnt of nobody for a while."""
    before: set[Endpoint] = set()
    while (now := {one.endpoint for one in await session.live_nodes()}) != before or len(
        now
    ) < least:
        before = now
        await asyncio.sleep(SETTLED)


async def _mute(session: Session) -> socket.socket:
    """End a node; return the socket that is now where it was, and never answers."""
    endpoint = session.endpoint
    await session.close()
    mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mute.bind(endpoint)
    return mute


async def _by_libtorrent(session: Session, public_keys: Sequence[bytes]) -> Cost:
    """Begin all gets at once; return what they cost when the last has ended."""
    now = asyncio.get_running_loop().time
    begun: dict[bytes, float] = {}
    took: dict[bytes, float] = {}
    ended = asyncio.Event()

    def on_item(alert: Any) -> None:
        if alert.authoritative:
            took[alert.key] = now() - begun[alert.key]
            if len(took) == len(public_keys):
                ended.set()

    session.on(lt.dht_mutable_item_alert, on_item)
    before = await session_messages(session)
    for public_key in public_keys:
        begun[public_key] = now()
        session.handle.dht_get_mutable_item(public_key, b"")
    async with asyncio.timeout(WAIT):
        await ended.wait()
    messages = await session_messages(session) - before
    return Cost(messages / len(public_keys), fmean(took.values()))


def by_rules(
    copy: Copy, start: Sequence[Contact], public_keys: Sequence[bytes], *, aggressive: bool
) -> Cost:
    """Look all up by the rules, each from the nearest of `start`."""
    seconds = []
    for public_key in public_keys:
        target = ed25519.target(public_key)
        lookup = Lookup(copy, target, 0.0, aggressive)
        lookup.run(nearest(start, target))
        seconds.append(lookup.now)
    return Cost(copy.traffic.datagrams / len(public_keys), fmean(seconds))
