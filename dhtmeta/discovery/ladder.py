"""In which order sources of candidates are asked, how often, and when the last resort is.

The cheapest and least central come first. A source that fails, or has nobody new, is asked less and
less often. Registries are asked only where nothing above them has found anybody.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dhtmeta.const import FIRST_ROUND, SOURCE_BACKOFF, SOURCE_DEADLINE
from dhtmeta.discovery.candidate import Candidate, Source
from dhtmeta.errors import DhtmetaError

log = logging.getLogger(__name__)

LAST_RESORT = "registry"

Meet = Callable[[Candidate], Awaitable[bool]]
"""Finds out who a candidate is; True if that is somebody new."""


@dataclass(slots=True)
class SourceCounts:
    """What came of asking one source: times asked, times it failed, candidates, and new peers."""

    asked: int = 0
    failed: int = 0
    candidates: int = 0
    found: int = 0


class _Rung:
    """A source on the ladder, when it is asked again (loop s), and after how long a wait (s)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.counts = SourceCounts()
        self.due = 0.0
        self.wait = 0.0

    def asked(self, found: int, now: float, interval: float) -> None:
        """Note what came of it."""
        again = min(max(2 * self.wait, interval), SOURCE_BACKOFF * interval)
        self.wait = 0.0 if found else again
        self.due = now + (0.0 if found else again - interval / 2)


class Ladder:
    """Asks `sources` in their order. `meet` meets candidates, `alone` says whether we know nobody.

    `interval` is in seconds; `rng` spreads rounds of nodes that started together.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        meet: Meet,
        alone: Callable[[], bool],
        interval: float,
        rng: random.Random,
    ) -> None:
        self._rungs = [_Rung(one) for one in sources]
        self._meet, self._alone, self._interval, self._rng = meet, alone, interval, rng
        self._wake = asyncio.Event()
        self.rounds = 0
        self.problems: dict[str, str] = {}  # why sources could not be asked the last time, by name
        self.on_round: Callable[[], None] = lambda: None

    @property
    def counts(self) -> dict[str, SourceCounts]:
        """What came of each source, by name."""
        return {one.source.name: one.counts for one in self._rungs}

    def wake(self, source: str) -> None:
        """Have the next round come at once, and that source be asked in it."""
        for rung in self._rungs:
            if rung.source.name == source:
                rung.due = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Go round, until cancelled: quickly while somebody new is found, then every interval."""
        wait = FIRST_ROUND
        while True:
            found = await self.round()
            wait = FIRST_ROUND if found else min(2 * wait, self._interval)
            try:
                async with asyncio.timeout(wait * self._rng.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def round(self) -> int:
        """Ask each source that is due; returns how many new peers were found."""
        self.on_round()
        now = asyncio.get_running_loop().time()
        first = [one for one in self._rungs if one.source.name != LAST_RESORT]
        found = sum(await asyncio.gather(*(self._ask(one) for one in first if now >= one.due)))
        for rung in self._rungs:
            if rung.source.name == LAST_RESORT and now >= rung.due and self._alone():
                found += await self._ask(rung)
        self.rounds += 1
        return found

    async def _ask(self, rung: _Rung) -> int:
        counts, meetings = rung.counts, []
        counts.asked += 1
        self.problems.pop(rung.source.name, None)
        try:
            async with asyncio.timeout(SOURCE_DEADLINE):
                async for candidate in rung.source.candidates():
                    counts.candidates += 1
                    meetings.append(asyncio.ensure_future(self._meet(candidate)))
        except (DhtmetaError, TimeoutError) as error:
            why = str(error) or f"no end within {SOURCE_DEADLINE:g} s"
            self.problems[rung.source.name] = why
            counts.failed += 1
            log.debug("source %s: %s", rung.source.name, why)
        except Exception:
            counts.failed += 1
            log.exception("unexpected, while source %s was asked", rung.source.name)
        finally:
            outcomes = await asyncio.gather(*meetings, return_exceptions=True)
        found = sum(one is True for one in outcomes)
        counts.found += found
        rung.asked(found, asyncio.get_running_loop().time(), self._interval)
        return found
