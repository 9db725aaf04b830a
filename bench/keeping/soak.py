"""An hour at 500 lookups a second against a real swarm, and by how much the process grows.

The process is a whole daemon: a Node that keeps records alive and answers HTTP. Nine of ten
lookups are for keys that are there, each to its end; the tenth is for a key that nobody has.
"""

import asyncio
import contextlib
import gc
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from statistics import fmean, linear_regression

import uvloop

from bench.direct.swarms import swarm_process
from bench.keeping.month import Scenario, items
from bench.report import Bar, Part, Row
from bench.scenario import Options
from dhtmeta.config import Http, IdentitySettings, Settings, StoreSettings
from dhtmeta.const import PUBLIC_KEY_BYTES
from dhtmeta.daemon.app import Daemon
from dhtmeta.errors import DhtmetaError, NotFound
from dhtmeta.node import Node
from dhtmeta.values.item import SignedItem

RATE = 500  # lookups a second
KEYS = 500
SWARM = 20  # nodes
SAMPLE = 10.0  # s
SETTLED = 0.5  # of the time: until then caches fill up, and tables double
BATCHES = 50  # a second: lookups begin in as many groups
PAGE = os.sysconf("SC_PAGE_SIZE")
MISSING = 0.1  # of the lookups


class Soaked(Daemon):
    """A daemon whose process is the bench's, too."""

    def _take_signals(self, opened: contextlib.AsyncExitStack) -> None:
        """Leave them to the bench, which ends the daemon."""


class Load:
    """Lookups at a steady rate, whatever becomes of them; answers are checked."""

    def __init__(self, node: Node, kept: list[SignedItem], seed: int) -> None:
        self.found = self.missing = self.failed = self.wrong = 0
        self._node = node
        self._kept = kept
        self._random = Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Ask for so long."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for tick in range(round(seconds * BATCHES)):
            await asyncio.sleep(start + tick / BATCHES - loop.time())
            for _ in range(RATE // BATCHES):
                task = loop.create_task(self._ask())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        item = None if self._random.random() < MISSING else self._random.choice(self._kept)
        key = self._random.randbytes(PUBLIC_KEY_BYTES) if item is None else item.public_key
        try:
            answer = await self._node.query(key, policy="freshest")
        except NotFound:
            self.missing += item is None
            self.wrong += item is not None
        except DhtmetaError:
            self.failed += 1
        else:
            self.found += 1
            self.wrong += answer.item != item


def soak(options: Options) -> Part:
    """Run it for an hour; the slope is that of resident memory over its second half."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_soak(60.0 if options.quick else 3600.0, options.seed))


async def _soak(seconds: float, seed: int) -> Part:
    with swarm_process(SWARM) as bootstrap, tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        os.environ["XDG_DATA_HOME"] = directory
        daemon = Soaked(lambda: _settings(home, bootstrap))
        async with _running(daemon):
            kept = items(Scenario("soak", KEYS, 0, seed=seed))
            await _put(daemon.node, kept)
            load, memory = Load(daemon.node, kept, seed), list[float]()
            sampling = asyncio.create_task(_sample(memory))
            await load.run(seconds)
            sampling.cancel()
    return Part(_rows(load, memory, seconds), {"rss_mb": memory})


@contextlib.asynccontextmanager
async def _running(daemon: Daemon) -> AsyncIterator[None]:
    """Run a daemon to the end of the block, whatever ends that."""
    running = asyncio.create_task(daemon.run())
    try:
        while daemon.http_endpoint is None:
            await asyncio.sleep(0.01)
        yield
    finally:
        daemon.stop()
        await running


def _settings(home: Path, bootstrap: list[str]) -> Settings:
    settings = Settings(
        identity=IdentitySettings(keys=str(home / "keys")),
        store=StoreSettings(url=str(home / "store.db")),
        http=Http(listen="127.0.0.1:0"),
    )
    settings.dht.port = 0
    settings.dht.bootstrap_nodes = bootstrap[:3]
    settings.log.level = "warning"
    return settings


async def _put(node: Node, kept: list[SignedItem]) -> None:
    slots = asyncio.Semaphore(32)

    async def put(item: SignedItem) -> None:
        async with slots:
            await node.put(item)

    await asyncio.gather(*map(put, kept))


async def _sample(memory: list[float]) -> None:
    """Note the resident memory in MB, after a collection, so that garbage is no growth."""
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            gc.collect()
            memory.append(_resident_mb())
            await asyncio.sleep(SAMPLE)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def _rows(load: Load, memory: list[float], seconds: float) -> list[Row]:
    settled = memory[round(len(memory) * SETTLED) :]
    hours = [i * SAMPLE / 3600 for i in range(len(settled))]
    slope = linear_regression(hours, settled).slope
    what = f"soak, {seconds / 3600:g} h at {RATE} lookups a second"
    asked = load.found + load.missing + load.failed
    return [
        Row(
            f"{what}: growth of resident memory an hour / its mean",
            slope / fmean(settled),
            bar=Bar("<=", 0.02),
            note=f"{slope:+.2f} MB an hour of {fmean(settled):.0f} MB, first half left out",
        ),
        Row(f"{what}: lookups", asked, note=f"{load.missing:,} of keys that nobody has"),
        Row(f"{what}: wrong answers", load.wrong, bar=Bar("<=", 0)),
        Row(f"{what}: share that failed", load.failed / asked, bar=Bar("<=", 0.001)),
    ]
