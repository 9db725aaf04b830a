"""`hit-rate`: which parts there are."""

from bench.hit_rate import memory, parts, plots, real
from bench.scenario import SEEDED, Bench

PLAYED = ("traces", "seconds", "samples", SEEDED)  # what those of one size take

BENCH = Bench(
    "hit-rate",
    "One trace of queries and changing records, played to each way of keeping what was heard.",
    {
        "peers-50": parts.of_size(50),
        "peers-200": parts.of_size(200),
        "peers-1000": parts.of_size(1000),
        "peers-10000": parts.of_size(10_000),
        "laws": parts.laws,
        "memory": memory.memory,
        "real": real.real,
    },
    ("peers-200", "memory"),
    plots.draw,
    {
        "traces": "how many traces, each with a seed of its own",
        "seconds": "how long each is, after five minutes that do not count",
        "samples": "lookups on the simulated DHT, of which each of a trace takes one",
        "peers": "of the parts laws and real",
        "records": "of the part memory",
        "minutes": "of the part real",
    },
    taken={
        "peers-50": PLAYED,
        "peers-200": PLAYED,
        "peers-1000": PLAYED,
        "peers-10000": PLAYED,
        "laws": ("peers", SEEDED),
        "memory": ("records",),
        "real": ("peers", "minutes", SEEDED),
    },
    most={"seconds": 100_000, "records": 1_000_000},
)
