"""The TTL cache side by side with a plain dict and with caches that expire, at 1,000,000 entries.

Hits and puts are timed by pytest-benchmark. Memory and pauses are measured in a fresh process for
each library: this file, run with a figure and a library's name, prints one JSON object.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

ENTRIES = 1_000_000
CHUNK = 200_000  # look-ups or puts a round
LONG = 3600.0  # seconds: nothing expires while hits are timed
SHORT = 20.0  # seconds: more than it takes the slowest library to fill 1,000,000 entries
NOW = 1000.0  # the time at which the entries of dhtmeta are put

HIT_PEER, HIT_BAR = "dict", 0.9
PUT_PEER = "cachebox"
BYTES_BAR = 100.0
PAUSE_BAR_MS = 1.0

Keys = Sequence[bytes]


def fresh(keys: Keys) -> list[bytes]:
    """Return equal keys in new objects without a cached hash, as they come off the wire."""
    return [bytes(bytearray(key)) for key in keys]


def new_keys(count: int, seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(20) for _ in range(count)]


class Library:
    """A cache behind the same five verbs; each loop is the library's own shortest way."""

    module = ""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.cache = self.make(importlib.import_module(self.module))

    def make(self, module: Any) -> Any:
        raise NotImplementedError

    def hits(self, keys: Keys) -> None:
        get = self.cache.get
        for key in keys:
            get(key)

    def puts(self, keys: Keys, value: bytes) -> None:
        cache = self.cache
        for key in keys:
            cache[key] = value

    def value(self, key: bytes) -> Any:
        return self.cache.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.cache[key] = value

    def let_all_expire(self) -> None:
        """Return when every entry is past its lifetime."""
        time.sleep(self.lifetime)


class Dhtmeta(Library):
    """Ours: time is passed in."""

    module = "dhtmeta._fast.ttl_cache"
    now = NOW

    def make(self, module: Any) -> Any:
        return module.TtlCache(ENTRIES, seed=random.SystemRandom().getrandbits(128))

    def hits(self, keys: Keys) -> None:
        get, now = self.cache.get, self.now
        for key in keys:
            get(key, now)

    def puts(self, keys: Keys, value: bytes) -> None:
        put, now, lifetime = self.cache.put, self.now, self.lifetime
        for key in keys:
            put(key, value, now, lifetime)

    def value(self, key: bytes) -> Any:
        return self.cache.get(key, self.now)

    def put(self, key: bytes, value: bytes) -> None:
        self.cache.put(key, value, self.now, self.lifetime)

    def let_all_expire(self) -> None:
        self.now += self.lifetime


class Dict(Library):
    """What the hit is compared with; nothing in it expires."""

    module = "builtins"

    def make(self, module: Any) -> Any:
        return {}

    def hits(self, keys: Keys) -> None:
        table = self.cache
        for key in keys:
            table[key]


class Cachetools(Library):
    """Pure Python; its timer is passed in."""

    module = "cachetools"
    now = NOW

    def make(self, module: Any) -> Any:
        return module.TTLCache(ENTRIES, self.lifetime, timer=lambda: self.now)

    def let_all_expire(self) -> None:
        self.now += self.lifetime


class Cachebox(Library):
    """Rust; reads the clock itself."""

    module = "cachebox"

    def make(self, module: Any) -> Any:
        return module.TTLCache(ENTRIES, self.lifetime)


class Moka(Library):
    """Rust, TinyLFU; reads the clock itself."""

    module = "moka_py"

    def make(self, module: Any) -> Any:
        return module.Moka(ENTRIES, ttl=self.lifetime)

    def puts(self, keys: Keys, value: bytes) -> None:
        put = self.cache.set
        for key in keys:
            put(key, value)

    def put(self, key: bytes, value: bytes) -> None:
        self.cache.set(key, value)


class Theine(Moka):
    """Rust and Python, W-TinyLFU; reads the clock itself, a lifetime for each entry."""

    module = "theine"

    def make(self, module: Any) -> Any:
        return module.Cache(ENTRIES)

    def puts(self, keys: Keys, value: bytes) -> None:
        put, ttl = self.cache.set, timedelta(seconds=self.lifetime)
        for key in keys:
            put(key, value, ttl)

    def put(self, key: bytes, value: bytes) -> None:
        self.cache.set(key, value, timedelta(seconds=self.lifetime))

    def value(self, key: bytes) -> Any:
        return self.cache.get(key)[0]


LIBRARIES: dict[str, type[Library]] = {
    "dhtmeta": Dhtmeta,
    "dict": Dict,
    "cachetools": Cachetools,
    "cachebox": Cachebox,
    "moka-py": Moka,
    "theine": Theine,
}


def filled(name: str, keys: Keys, lifetime: float = LONG) -> Library:
    """Return a cache that holds `keys`, each with a value object of its own, checked."""
    library = LIBRARIES[name](lifetime)
    for number, key in enumerate(fresh(keys)):
        library.put(key, b"%d" % number)
    held = sum(library.value(keys[number]) == b"%d" % number for number in range(0, len(keys), 997))
    asked = len(range(0, len(keys), 997))
    # moka-py and theine decide for themselves what to let in: a few may be missing.
    assert held >= (asked if name in ("dhtmeta", "dict") else 0.95 * asked)
    assert library.value(bytes(20)) is None if name != "dict" else bytes(20) not in library.cache
    return library


# What a fresh process measures.


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def measure_hit(name: str) -> dict[str, float]:
    keys = new_keys(ENTRIES, 1)
    library = filled(name, keys)
    order = random.Random(2)
    took = []
    for _ in range(7):
        chunk = fresh(order.choices(keys, k=CHUNK))
        start = time.perf_counter_ns()
        library.hits(chunk)
        took.append((time.perf_counter_ns() - start) / CHUNK)
    return {"hit_ns": sorted(took)[3]}


def measure_put(name: str) -> dict[str, float]:
    library = filled(name, new_keys(ENTRIES, 1))
    took = []
    for seed in range(2, 9):
        chunk = new_keys(CHUNK, seed)
        start = time.perf_counter_ns()
        library.puts(chunk, b"value")
        took.append((time.perf_counter_ns() - start) / CHUNK)
    return {"put_ns": sorted(took)[3]}


def measure_bytes(name: str) -> dict[str, float]:
    values = [b"%d" % number for number in range(ENTRIES)]
    source = random.Random(1)
    gc.collect()
    before = resident_bytes()
    library = LIBRARIES[name](LONG)
    empty = resident_bytes() - before
    for number in range(10):
        library.put(source.randbytes(20), values[number])
    ten = resident_bytes() - before
    for number in range(10, ENTRIES):
        library.put(source.randbytes(20), values[number])
    full = resident_bytes() - before
    return {"bytes_per_entry": full / ENTRIES, "empty_bytes": empty, "bytes_at_10_entries": ten}


def worst_ms(operation: Callable[[int], object], times: int) -> tuple[float, float]:
    """Return the longest that one call took, in ms: by the clock, and of this thread's CPU."""
    wall, cpu = time.perf_counter_ns, time.thread_time_ns
    worst = worst_cpu = 0
    for number in range(times):
        start, start_cpu = wall(), cpu()
        operation(number)
        took_cpu, took = cpu() - start_cpu, wall() - start
        worst, worst_cpu = max(worst, took), max(worst_cpu, took_cpu)
    return worst / 1e6, worst_cpu / 1e6


def measure_pause(name: str) -> dict[str, float]:
    library = filled(name, new_keys(ENTRIES, 1), SHORT)
    later = new_keys(600_000, 2)
    floor, floor_cpu = worst_ms(lambda number: None, 600_000)
    library.let_all_expire()
    if isinstance(library, Dhtmeta):
        assert len(library.cache) == ENTRIES

    def work(number: int) -> None:
        if number % 3 == 0:
            library.value(later[number])
        elif number % 1000 == 1 and isinstance(library, Dhtmeta):
            library.cache.sweep(library.now, 100)
        else:
            library.put(later[number], b"value")

    worst, cpu = worst_ms(work, len(later))
    if isinstance(library, Dhtmeta):
        assert library.cache.expired > 800_000
    return {
        "worst_pause_ms": worst,
        "worst_pause_cpu_ms": cpu,
        "noise_floor_ms": floor,
        "noise_floor_cpu_ms": floor_cpu,
    }


FIGURES: dict[str, Callable[[str], dict[str, float]]] = {
    "hit": measure_hit,
    "put": measure_put,
    "bytes": measure_bytes,
    "pause": measure_pause,
}


def measured_apart(figure: str, name: str) -> dict[str, float]:
    """Measure in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, figure, name], check=True, capture_output=True, text=True
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    print(json.dumps(FIGURES[sys.argv[1]](sys.argv[2])))
    raise SystemExit(0)


# What pytest runs.

import pytest  # noqa: E402 - a child that measures memory does without it

Benchmark = Any  # BenchmarkFixture, but for its method pedantic, which has no types

EXPIRING = [name for name in LIBRARIES if name != "dict"]


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return the library's name, or skip where it is not installed."""
    library: str = request.param
    try:
        importlib.import_module(LIBRARIES[library].module)
    except ImportError:
        pytest.skip(f"{library} is not installed: not measured")
    return library


@pytest.mark.parametrize("name", LIBRARIES, indirect=True)
def bench_hit(benchmark: Benchmark, name: str) -> None:
    benchmark.group = "cache hit, 1,000,000 entries"
    benchmark.extra_info.update(library=name, peer=HIT_PEER, bar=HIT_BAR, per_round=CHUNK)
    keys = new_keys(ENTRIES, 1)
    library = filled(name, keys)
    order = random.Random(2)

    def setup() -> tuple[tuple[Keys], dict[str, object]]:
        return (fresh(order.choices(keys, k=CHUNK)),), {}

    benchmark.pedantic(library.hits, setup=setup, rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("name", EXPIRING, indirect=True)
def bench_put_and_evict(benchmark: Benchmark, name: str) -> None:
    benchmark.group = "cache put and evict, full at 1,000,000"
    benchmark.extra_info.update(library=name, peer=PUT_PEER, per_round=CHUNK)
    library = filled(name, new_keys(ENTRIES, 1))
    seeds = iter(range(2, 100))

    def setup() -> tuple[tuple[Keys, bytes], dict[str, object]]:
        return (new_keys(CHUNK, next(seeds)), b"value"), {}

    benchmark.pedantic(library.puts, setup=setup, rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("name", LIBRARIES, indirect=True)
def bench_bytes_an_entry(benchmark: Benchmark, name: str) -> None:
    benchmark.group = "cache bytes an entry, 1,000,000 entries"
    benchmark.extra_info.update(library=name, bar=BYTES_BAR)
    figure = benchmark.pedantic(measured_apart, args=("bytes", name), rounds=1)
    benchmark.extra_info["figure"] = figure


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", EXPIRING, indirect=True)
def bench_pause(benchmark: Benchmark, name: str) -> None:
    benchmark.group = "cache worst pause when 1,000,000 entries expire"
    benchmark.extra_info.update(library=name, bar=PAUSE_BAR_MS)
    runs: list[dict[str, float]] = []
    rounds = 3 if name == "dhtmeta" else 1  # others have to sleep until all has expired
    benchmark.pedantic(lambda: runs.append(measured_apart("pause", name)), rounds=rounds)
    worst = max(runs, key=lambda run: run["worst_pause_ms"])
    benchmark.extra_info["figure"] = worst
    benchmark.extra_info["runs"] = runs
