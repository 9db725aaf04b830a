"""In which order sources of candidates are asked, how often, and when the last resort is.

The cheapest and least central come first. A source that fails, or has nobody new, is asked less and
less often. Registries are asked only where nothing above them has found anybody.
"""

import asyncio
import contextlib
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
    """A source on the ladder, and after how long a wait it is asked again (s)."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.counts = SourceCounts()
        self.wait = FIRST_ROUND
        self.wake = asyncio.Event()

    def asked(self, found: int, *, failed: bool, interval: float) -> None:
        """Note what came of it: nobody new makes the wait longer, a failure longer still."""
        self.counts.asked += 1
        self.counts.failed += failed
        self.counts.found += found
        longest = SOURCE_BACKOFF * interval if failed else interval
        self.wait = FIRST_ROUND if found else min(2 * self.wait, longest)


class Ladder:
    """Asks `sources` in their order. `meet` meets candidates, `alone` says whether we know nobody.

    `interval` is in seconds; `rng` spreads what nodes do that started together. `on_round` hears
    when a source is about to be asked.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        meet: Meet,
        alone: Callable[[], bool],
        interval: float,
        rng: random.Random,
    ) -> None:
        rungs = [_Rung(one) for one in sources]
        self._first = [one for one in rungs if one.source.name != LAST_RESORT]
        self._last = [one for one in rungs if one.source.name == LAST_RESORT]
        self._meet, self._alone, self._interval, self._rng = meet, alone, interval, rng
        self.problems: dict[str, str] = {}  # why sources could not be asked the last time, by name
        self.on_round: Callable[[], None] = lambda: None

    @property
    def counts(self) -> dict[str, SourceCounts]:
        """What came of each source, by name."""
        return {one.source.name: one.counts for one in self._first + self._last}

    @property
    def rounds(self) -> int:
        """How often all sources but the last resort were asked."""
        return min((one.counts.asked for one in self._first), default=0)

    def wake(self, source: str) -> None:
        """Have that source be asked at once."""
        for rung in self._first:
            if rung.source.name == source:
                rung.wait = FIRST_ROUND
                rung.wake.set()

    def go_on(self, source: str) -> None:
        """Ask that source again soon: somebody new was found through it."""
        for rung in self._first:
            if rung.source.name == source:
                rung.wait = min(rung.wait, FIRST_ROUND)

    async def run(self) -> None:
        """Ask them all, until cancelled: often while somebody new is found, then every interval."""
        await asyncio.gather(
            *(self._climb(one) for one in self._first),
            *(self._fall_back(one) for one in self._last),
        )

    async def round(self) -> int:
        """Ask each source once; returns how many new peers were found."""
        found = sum(await asyncio.gather(*(self._ask(one) for one in self._first)))
        for rung in self._last:
            found += await self._ask(rung) if self._alone() else 0
        return found

    async def _climb(self, rung: _Rung) -> None:
        while True:
            await self._ask(rung)
            await self._pause(rung)

    async def _fall_back(self, rung: _Rung) -> None:
        """Ask the last resort only once all others were asked, and while nobody is known."""
        while True:
            if self.rounds and self._alone():
                await self._ask(rung)
                await self._pause(rung)
            else:
                await asyncio.sleep(FIRST_ROUND)

    async def _pause(self, rung: _Rung) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rung.wait * self._rng.uniform(0.8, 1.2)):
                await rung.wake.wait()
        rung.wake.clear()

    async def _ask(self, rung: _Rung) -> int:
        """Ask one source, and meet whom it names; returns how many of them are new."""
        self.on_round()
        name, meetings = rung.source.name, []
        why = ""
        try:
            async with asyncio.timeout(SOURCE_DEADLINE):
                async for candidate in rung.source.candidates():
                    rung.counts.candidates += 1
                    meetings.append(asyncio.ensure_future(self._meet(candidate)))
        except (DhtmetaError, TimeoutError) as error:
            why = str(error) or f"no end within {SOURCE_DEADLINE:g} s"
            log.debug("source %s: %s", name, why)
        except Exception as error:
            why = f"a bug of ours: {error!r}"
            log.exception("unexpected, while source %s was asked", name)
        except asyncio.CancelledError:
            for meeting in meetings:
                meeting.cancel()
            raise
        outcomes = await asyncio.gather(*meetings, return_exceptions=True)
        self.problems |= {name: why}
        if not why:
            del self.problems[name]
        found = sum(one is True for one in outcomes)
        rung.asked(found, failed=bool(why), interval=self._interval)
        return found
