"""The TTL cache beside a plain dict and caches that expire; each in a process of its own."""

from collections.abc import Iterator
from typing import Any

import pytest

from bench.micro.beside import OURS
from bench.micro.cache_worker import READY, Apart, apart
from bench.micro.peers import CACHES, installed
from bench.micro.turns import Claim, Turn, turn_about
from bench.report import MARGIN, Bar
from bench.scenario import Options

ENTRIES, QUICK = 1_000_000, 300_000
HIT_BAR = Bar("<=", 0.9)  # of a dict's
STEADY = ("dict", "cachebox")  # beside the others, and in fills, runs differ by up to 0.3
WIDE = 0.5  # the margin there
Pair = tuple[str, Apart, Apart]


def entries(options: Options) -> int:
    return QUICK if options.quick else ENTRIES


def calls(options: Options) -> int:
    """Return how many look-ups or puts a turn has: many more than a processor's caches hold."""
    return entries(options) // 10


@pytest.fixture(scope="module", params=installed(CACHES))
def pair(request: pytest.FixtureRequest, options: Options) -> Iterator[Pair]:
    """Start ours and a peer."""
    name = str(request.param)
    sizes = entries(options), calls(options), options.seed
    with apart(OURS, *sizes) as ours, apart(name, *sizes) as theirs:
        yield name, ours, theirs


def take_turns(
    benchmark: Any, options: Options, pair: Pair, word: str, bar: Bar | None = None
) -> None:
    name, ours, theirs = pair

    def prepare() -> None:
        for one in (ours, theirs):
            one.tell(word)
        for one in (ours, theirs):
            one.hear(READY)

    filling = word == "put"
    count = entries(options) if filling else calls(options)
    rounds = 2 if filling else 5 if options.quick else 9
    size = f"{entries(options):,} entries"
    margin = MARGIN if name in STEADY and not filling else WIDE
    claim = Claim(f"cache {word}", name, bar, margin, size)
    turn_about(benchmark, claim, Turn(ours.go, count), Turn(theirs.go, count), rounds, prepare)


def bench_put(benchmark: Any, options: Options, pair: Pair) -> None:
    take_turns(benchmark, options, pair, "put")


def bench_hit(benchmark: Any, options: Options, pair: Pair) -> None:
    take_turns(benchmark, options, pair, "hit", HIT_BAR if pair[0] == "dict" else None)


def bench_miss(benchmark: Any, options: Options, pair: Pair) -> None:
    take_turns(benchmark, options, pair, "miss")


def bench_evict(benchmark: Any, options: Options, pair: Pair) -> None:
    if pair[0] == "dict":
        pytest.skip("a dict is never full")
    take_turns(benchmark, options, pair, "evict")
