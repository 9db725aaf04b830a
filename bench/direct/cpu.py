"""What a get costs this process beside a bare libtorrent session: CPU, datagrams, gets a second."""

import asyncio
import gc
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import libtorrent as lt
import uvloop

from bench.direct.conditions import Size
from bench.direct.swarms import direct_beside, libtorrent_node, swarm_process
from bench.load.bare import VALUE, WAIT, WINDOW, Bare
from bench.load.carriers import KEYS, carrier_puts, ignore
from bench.report import Bar, Part, Row
from bench.scenario import counted
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.values.item import encode_value
from dhtmeta.values.keys import Identity

NODES = 20
REPEATS = 5  # gets of each key in a round
CPU_BAR = 1.3  # of a bare session's CPU; issue 3
RATE_BAR = 0.85  # of its rate; DESIGN, "What fast means"
MESSAGES = ("dht.dht_messages_in", "dht.dht_messages_out")


@dataclass(frozen=True, slots=True)
class Round:
    """What one get took, on average: seconds of CPU (user and system) and of time, datagrams."""

    cpu: float
    seconds: float
    datagrams: float


class Meter:
    """Measures what happens between `start` and `stop`."""

    def start(self, datagrams: int) -> None:
        """Begin, with so many datagrams counted already."""
        self._datagrams = datagrams
        self._cpu, self._start = _cpu(), time.monotonic()

    def stop(self, datagrams: int, gets: int) -> Round:
        """Return what each of so many gets took."""
        seconds, cpu = time.monotonic() - self._start, _cpu() - self._cpu
        return Round(cpu / gets, seconds / gets, (datagrams - self._datagrams) / gets)


def run(part: Part, how_many: Size) -> None:
    """Measure both, turn about, on a swarm of another process."""
    with swarm_process(NODES) as bootstrap:
        theirs, ours = uvloop.run(measure(bootstrap, how_many.rounds))
    of = f"bare libtorrent's, {NODES} nodes, {WINDOW} in flight"
    figures: list[tuple[str, Callable[[Round], float], Bar | None]] = [
        ("CPU us per get", lambda one: one.cpu * 1e6, Bar("<=", CPU_BAR)),
        ("gets a second", lambda one: 1 / one.seconds, Bar(">=", RATE_BAR)),
        ("datagrams a get", lambda one: one.datagrams, None),
    ]
    for what, figure, bar in figures:
        part.add(_row(f"{what} / {of}", [*map(figure, ours)], [*map(figure, theirs)], bar))


def _row(what: str, ours: Sequence[float], theirs: Sequence[float], bar: Bar | None) -> Row:
    """Return the median ratio of rounds that follow each other, the lowest and the highest."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    note = f"{median(ours):,.4g} and {median(theirs):,.4g}; {len(ratios)} rounds"
    better = "" if bar else "lower"
    return Row(what, median(ratios), "x", min(ratios), max(ratios), bar, note, better)


async def measure(bootstrap: list[str], rounds: int) -> tuple[list[Round], list[Round]]:
    """Return the rounds of a bare session, and ours."""
    bare = Bare(bootstrap)
    async with libtorrent_node(bootstrap, WINDOW) as node, direct_beside(node) as direct:
        identities = [Identity.generate() for _ in range(KEYS)]
        await carrier_puts(node, identities)
        keys = [one.public_key for one in identities]
        assert set(bare.get(keys).values()) == {VALUE}
        await _direct(direct, keys)
        gc.collect()
        gc.freeze()  # what was measured before is not to be looked at again and again
        theirs, ours = [], []
        for _ in counted("CPU", range(rounds), rounds):
            theirs.append(_bare(bare, keys))
            ours.append(await _direct(direct, keys))
    return theirs, ours


def _bare(bare: Bare, keys: list[bytes]) -> Round:
    meter = Meter()
    meter.start(messages(bare.session))
    for _ in range(REPEATS):
        assert len(bare.get(keys)) == len(keys)
    return meter.stop(messages(bare.session), REPEATS * len(keys))


async def _direct(carrier: DirectCarrier, keys: list[bytes]) -> Round:
    meter, v = Meter(), encode_value(VALUE)
    traffic, waiting = carrier.core.traffic, iter(REPEATS * keys)

    async def work() -> None:
        for key in waiting:
            outcome = await carrier.get(key, b"", ignore, WAIT)
            assert outcome.converged
            assert outcome.item is not None
            assert outcome.item.v == v

    meter.start(traffic.datagrams_in + traffic.datagrams_out)
    await asyncio.gather(*(work() for _ in range(WINDOW)))
    return meter.stop(traffic.datagrams_in + traffic.datagrams_out, REPEATS * len(keys))


def messages(session: Any) -> int:
    """Return how many DHT messages a session has sent and received."""
    session.post_session_stats()
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                values: Any = alert.values
                return sum(int(values[name]) for name in MESSAGES)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
