"""In which order sources are asked, how often, and when the last resort is: on virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from dhtmeta.const import DISCOVERY_INTERVAL, FIRST_ROUND, SOURCE_BACKOFF, SOURCE_DEADLINE
from dhtmeta.discovery.candidate import Candidate
from dhtmeta.discovery.ladder import LAST_RESORT, Ladder
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.testing.sim_loop import sim_run


class Steady(random.Random):
    """Randomness that spreads nothing, so that a test can say when what happens."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Told:
    """A source that names one candidate after `takes` seconds, or fails; notes when it was asked.

    The candidates of the askings in `new` are somebody new.
    """

    def __init__(
        self, name: str, takes: float = 0.0, new: tuple[int, ...] = (), *, fails: bool = False
    ) -> None:
        self.name, self.asked_at = name, list[float]()
        self._takes, self._new, self._fails = takes, new, fails

    async def candidates(self) -> AsyncIterator[Candidate]:
        loop = asyncio.get_running_loop()
        self.asked_at.append(loop.time())
        await asyncio.sleep(self._takes)
        if self._fails:
            raise NetworkUnreachable("nobody answers")
        yield Candidate(self.name, seq=len(self.asked_at) in self._new)


async def met(candidate: Candidate) -> bool:
    return bool(candidate.seq)


def climbed(seconds: float, *sources: Told, alone: bool = False, woken: float = 0.0) -> Ladder:
    """Run a ladder for so many seconds; at `woken` something happens on the LAN."""

    async def main() -> Ladder:
        ladder = Ladder(sources, met, lambda: alone, DISCOVERY_INTERVAL, Steady())
        running = asyncio.create_task(ladder.run())
        if woken:
            asyncio.get_running_loop().call_later(woken, ladder.wake, "lan")
        await asyncio.sleep(seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return ladder

    return sim_run(main())


def waits(source: Told) -> list[float]:
    return [later - earlier for earlier, later in pairwise(source.asked_at)]


def test_a_source_without_anybody_new_is_asked_less_often_down_to_every_interval() -> None:
    source = Told("topic")
    climbed(150, source)
    assert waits(source) == [2, 4, 8, 16, DISCOVERY_INTERVAL, DISCOVERY_INTERVAL, 30]


def test_a_source_that_fails_is_asked_still_less_often_and_named_with_the_reason() -> None:
    source, well = Told("topic", fails=True), Told("store")
    ladder = climbed(900, source, well)
    longest = SOURCE_BACKOFF * DISCOVERY_INTERVAL
    assert waits(source) == [2, 4, 8, 16, 32, 64, 128, longest, longest]
    assert max(waits(well)) == DISCOVERY_INTERVAL
    assert ladder.problems == {"topic": "nobody answers"}
    assert (ladder.counts["topic"].failed, ladder.counts["store"].failed) == (10, 0)


def test_a_source_with_somebody_new_is_asked_again_soon() -> None:
    source = Told("exchange", new=(3, 4))
    ladder = climbed(12, source)
    assert waits(source) == [2, 4, FIRST_ROUND, FIRST_ROUND, 2]
    assert (ladder.counts["exchange"].candidates, ladder.counts["exchange"].found) == (6, 2)


def test_a_slow_source_keeps_no_other_one_waiting() -> None:
    slow, quick = Told("topic", takes=1000), Told("store")
    ladder = climbed(SOURCE_DEADLINE - 1, slow, quick)
    assert quick.asked_at == [0, 2, 6]
    assert slow.asked_at == [0]
    assert ladder.problems == {}


def test_a_source_that_does_not_end_is_given_up() -> None:
    ladder = climbed(SOURCE_DEADLINE + 1, Told("topic", takes=1000))
    assert ladder.problems == {"topic": "no end within 10 s"}


def test_a_source_that_has_news_is_asked_at_once() -> None:
    lan, topic = Told("lan"), Told("topic")
    climbed(20.5, lan, topic, woken=20)
    assert lan.asked_at == [0, 2, 6, 14, 20]
    assert topic.asked_at == [0, 2, 6, 14]


@pytest.mark.parametrize("fails", [False, True])
def test_the_last_resort_waits_for_all_others(fails: bool) -> None:
    slow, registry = Told("topic", takes=5, fails=fails), Told(LAST_RESORT)
    climbed(20, slow, Told("store"), registry, alone=True)
    assert 5 <= registry.asked_at[0] <= 5 + FIRST_ROUND


def test_the_last_resort_is_not_asked_while_anybody_is_known() -> None:
    registry = Told(LAST_RESORT)
    ladder = climbed(1000, Told("topic"), registry, alone=False)
    assert registry.asked_at == []
    assert ladder.counts[LAST_RESORT].asked == 0


def test_one_round_asks_all_and_the_last_resort_only_if_that_found_nobody() -> None:
    async def main(alone: bool) -> tuple[int, list[str]]:
        sources = [Told("store", new=(1,)), Told("topic"), Told(LAST_RESORT, new=(1,))]
        ladder = Ladder(sources, met, lambda: alone, DISCOVERY_INTERVAL, Steady())
        return await ladder.round(), [one.name for one in sources if one.asked_at]

    assert sim_run(main(False)) == (1, ["store", "topic"])
    assert sim_run(main(True)) == (2, ["store", "topic", LAST_RESORT])


def test_who_is_being_met_is_let_go_when_the_ladder_ends() -> None:
    let_go = []

    async def slow(candidate: Candidate) -> bool:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            let_go.append(candidate)
            raise
        return True

    async def main() -> float:
        loop = asyncio.get_running_loop()
        ladder = Ladder([Told("store")], slow, lambda: False, DISCOVERY_INTERVAL, Steady())
        running = asyncio.create_task(ladder.run())
        await asyncio.sleep(1)
        running.cancel()
        before = loop.time()
        await asyncio.gather(running, return_exceptions=True)
        return loop.time() - before

    assert sim_run(main()) == 0
    assert len(let_go) == 1
