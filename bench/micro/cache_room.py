"""What a full cache weighs, and how long it stops when all of it expires: in a fresh process each.

A pause is CPU time of the process while one operation lasted: what others on the machine take does
not count, what a thread of the library does meanwhile counts. The clock's figure stands beside it.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from random import Random
from time import perf_counter_ns, process_time_ns

from bench.micro.beside import OURS, Beside, shown
from bench.micro.caches import KINDS, Keys, Library, filled, new_keys
from bench.micro.peers import CACHES, installed
from bench.report import Bar
from bench.scenario import Options, counted

ENTRIES, QUICK = 1_000_000, 100_000
BYTES, BYTES_BAR, BYTES_MARGIN = "cache bytes an entry", Bar("<=", 100), 0.05
PAUSE, PAUSE_BAR = "cache worst pause when all expire", Bar("<=", 1)
PAUSE_MARGIN = 4.0  # ours is some 0.2 ms at worst: a page of memory more or less is half of it
MARGINS = {"theine": 30.0}  # whose own thread may have done much of it before anyone asks
TIMES = 3  # that ours is measured beside each peer; the one in the middle counts
LIFETIMES = (2.0, 6.0, 18.0, 54.0)  # seconds: the first in which a library can be filled counts
PAGE = 4096
Figures = dict[str, float]


def resident_bytes() -> int:
    return PAGE * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def weigh(name: str, entries: int, seed: int) -> Figures:
    """Return bytes an entry, its key included, the value not."""
    values = [b"%d" % number for number in range(entries)]
    source = Random(seed)
    gc.collect()
    before = resident_bytes()
    library = KINDS[name](name, entries)
    for value in values:
        library.put(source.randbytes(20), value)
    return {BYTES: (resident_bytes() - before) / entries}


def pause(name: str, entries: int, seed: int) -> Figures:
    """Return the longest operations in ms after all entries expired: reads, puts and sweeps."""
    source = Random(seed)
    library = _full(name, new_keys(source, entries))
    later = new_keys(source, entries * 6 // 10)
    library.let_all_expire()
    cpu, clock = _worst_ms(partial(_use, library, later), len(later))
    if name == OURS:
        assert library.cache.expired > entries * 3 // 4
    return {PAUSE: cpu, "clock": clock}


def _full(name: str, keys: Keys) -> Library:
    """Return a full cache none of which expired so far: most libraries look at a clock."""
    for lifetime in LIFETIMES:
        with suppress(AssertionError):
            return filled(name, keys, lifetime)
    raise RuntimeError(f"{name} does not hold {len(keys):,} entries")


def _use(library: Library, keys: Keys, number: int) -> None:
    if number % 3 == 0:
        library.value(keys[number])
    elif number % 1000 == 1:
        library.sweep()
    else:
        library.put(keys[number], b"value")


def _worst_ms(operation: Callable[[int], object], times: int) -> tuple[float, float]:
    """Return the longest that one call took: of CPU, and by the clock."""
    worst_cpu = worst = 0
    for number in range(times):
        start, start_cpu = perf_counter_ns(), process_time_ns()
        operation(number)
        cpu, took = process_time_ns() - start_cpu, perf_counter_ns() - start
        worst_cpu, worst = max(worst_cpu, cpu), max(worst, took)
    return worst_cpu / 1e6, worst / 1e6


MEASURES = {BYTES: weigh, PAUSE: pause}


def _apart(measure: str, name: str, options: Options) -> Figures:
    """Measure in a fresh process."""
    module = [sys.executable, "-m", "bench.micro.cache_room"]
    words = [measure, name, str(QUICK if options.quick else ENTRIES), str(options.seed)]
    done = subprocess.run([*module, *words], check=True, capture_output=True, text=True)
    found: Figures = json.loads(done.stdout)
    return found


def room(options: Options) -> list[Beside]:
    """Measure ours before each peer's."""
    size = f"{QUICK if options.quick else ENTRIES:,} entries"
    peers = installed(CACHES)
    jobs = [
        Beside(BYTES, peer, [], [], "B", own=BYTES_BAR, margin=BYTES_MARGIN, size=size)
        for peer in peers
    ]
    jobs += [
        Beside(PAUSE, peer, [], [], "ms", own=PAUSE_BAR, margin=_margin(peer), size=size)
        for peer in peers
        if peer != "dict"  # nothing in it expires
    ]
    return [_measured(one, options) for one in counted("cache room", jobs, len(jobs))]


def _margin(peer: str) -> float:
    return MARGINS.get(peer, PAUSE_MARGIN)


def _measured(one: Beside, options: Options) -> Beside:
    often = [_apart(one.what, OURS, options) for _ in range(TIMES)]
    ours = sorted(often, key=itemgetter(one.what))[TIMES // 2]
    theirs = _apart(one.what, one.peer, options)
    note = ""
    if "clock" in ours:
        note = f"by the clock {shown(ours['clock'], 'ms')} beside {shown(theirs['clock'], 'ms')}"
    return replace(one, ours=[ours[one.what]], theirs=[theirs[one.what]], note=note)


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))))
