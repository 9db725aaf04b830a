"""What a full cache weighs, and what a call costs when all of it expires: in a fresh process each.

What has a bar is CPU of the process while one call lasted: what others on the machine take does
not count, what a thread of the library does meanwhile counts. How long the longest call was by the
clock is told as well, without a bar, since it has in it whatever the machine did for others. Both
are the worst of all runs.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter_ns, process_time_ns

from bench.micro.beside import OURS, Beside, shown
from bench.micro.caches import KINDS, Keys, Library, filled, new_keys
from bench.micro.peers import CACHES, installed
from bench.report import Bar
from bench.scenario import Options, counted

ENTRIES, QUICK = 1_000_000, 100_000
BYTES, BYTES_BAR, BYTES_MARGIN = "cache bytes an entry", Bar("<=", 100), 0.05
CPU, CPU_BAR = "cache CPU of the worst call when all expire", Bar("<=", 1)
CLOCK = "cache longest call by the clock when all expire"
CPU_MARGIN = 4.0  # ours is some 0.2 ms at worst: a page of memory more or less is half of it
MARGINS = {"theine": 30.0}  # whose own thread may have done much of it before anyone asks
TIMES = 3  # that ours is measured beside each peer; ratios are of the one in the middle
LIFETIMES = (2.0, 6.0, 18.0, 54.0)  # seconds: the first in which a library can be filled counts
PAGE = 4096
WORST = "the worst of all runs"
BY_CLOCK = f"{WORST}; what the machine gives to others meanwhile is in it, so there is no bar"
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
    """Return the worst calls in ms after all entries expired: reads, puts and sweeps."""
    source = Random(seed)
    library = _full(name, new_keys(source, entries))
    later = new_keys(source, entries * 6 // 10)
    library.let_all_expire()
    cpu, clock = _worst_ms(partial(_use, library, later), len(later))
    if name == OURS:
        assert library.cache.expired > entries * 3 // 4
    return {CPU: cpu, CLOCK: clock}


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


MEASURES = {BYTES: weigh, CPU: pause}


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
        Beside(CPU, peer, [], [], "ms", own=CPU_BAR, worst=True, margin=_margin(peer), size=size)
        for peer in peers
        if peer != "dict"  # nothing in it expires
    ]
    return [
        got for one in counted("cache room", jobs, len(jobs)) for got in _measured(one, options)
    ]


def _margin(peer: str) -> float:
    return MARGINS.get(peer, CPU_MARGIN)


def _measured(one: Beside, options: Options) -> Iterator[Beside]:
    """Yield what was measured of ours and of the peer, and the clock's figures of ours."""
    often = [_apart(one.what, OURS, options) for _ in range(TIMES)]
    theirs = _apart(one.what, one.peer, options)
    ours = [found[one.what] for found in often]
    if one.what != CPU:
        yield replace(one, ours=ours, theirs=[theirs[one.what]] * TIMES)
        return
    clock = [found[CLOCK] for found in often]
    note = f"by the clock {shown(median(clock), 'ms')} beside {shown(theirs[CLOCK], 'ms')}"
    yield replace(one, ours=ours, theirs=[theirs[CPU]] * TIMES, note=note, own_note=WORST)
    yield Beside(CLOCK, "", clock, [], "ms", worst=True, size=one.size, own_note=BY_CLOCK)


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))))
