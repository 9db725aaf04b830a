"""How two are timed: turn about, so that noise hits both; pytest-benchmark times the peer."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import repeat
from time import perf_counter
from typing import Any

from bench.micro.beside import Beside
from bench.report import MARGIN, Bar

TURN = 0.5e-3  # seconds: many ticks of the clock, and less than what a scheduler gives to others
TRIES = 3  # whoever else is on the machine does not disturb all of them
NS = 1e9
Work = Callable[[int], object]
"""Does a thing so many times."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is done between two looks at the clock, and how many calls that is."""

    go: Callable[[], object]
    calls: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What is measured beside whom, and what has to come out."""

    what: str
    peer: str
    bar: Bar | None = None
    margin: float = MARGIN
    size: str = ""
    note: str = ""


def calling(function: Callable[[Any], object], argument: object) -> Work:
    """Return the loop around a function of one argument; every library gets the same one."""

    def work(times: int) -> None:
        for _ in repeat(None, times):
            function(argument)

    return work


def turn_of(work: Work) -> Turn:
    """Return as many calls as a turn has time for, found by trying."""
    calls = 1
    while min(_seconds(functools.partial(work, calls)) for _ in range(TRIES)) < TURN / 2:
        calls *= 2
    return Turn(functools.partial(work, calls), calls)


def _seconds(go: Callable[[], object]) -> float:
    start = perf_counter()
    go()
    return perf_counter() - start


def turn_about(
    benchmark: Any,
    claim: Claim,
    ours: Turn,
    theirs: Turn,
    rounds: int,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Time ours before each of the peer's rounds; `prepare` is called before and not timed."""
    ours_ns: list[float] = []

    def our_turn() -> None:
        prepare()
        ours_ns.append(NS * _seconds(ours.go) / ours.calls)

    benchmark.group = claim.what
    benchmark.pedantic(theirs.go, setup=our_turn, rounds=rounds)
    theirs_ns = [NS * took / theirs.calls for took in benchmark.stats.stats.data]
    found = Beside(
        claim.what,
        claim.peer,
        ours_ns,
        theirs_ns,
        bar=claim.bar,
        margin=claim.margin,
        size=claim.size,
        note=claim.note,
    )
    benchmark.extra_info.update(asdict(found))
