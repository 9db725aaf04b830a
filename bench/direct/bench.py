"""`lookup-at-scale`: which parts there are, and how many of everything each runs."""

from collections.abc import Callable
from dataclasses import replace

from bench.direct import (
    calm,
    conflicts,
    cpu,
    dead_node,
    early,
    liars,
    lookups,
    plots,
    syscalls,
)
from bench.direct.conditions import QUICK, Size
from bench.report import Part
from bench.scenario import SEED, Bench, Options, Run


def _sized(run: Callable[[Part, Size], None]) -> Run:
    def sized(options: Options) -> Part:
        part = Part()
        size = QUICK if options.quick else Size()
        run(part, replace(size, seed=size.seed + options.seed - SEED))  # the usual is the usual
        return part

    return sized


BENCH = Bench(
    "lookup-at-scale",
    "Direct lookups beside libtorrent's rules on 10,000,000 simulated nodes, and on real swarms.",
    {
        "cpu": _sized(cpu.run),
        "calibration": _sized(calm.run),
        "lookups": _sized(lookups.run),
        "cache-first": _sized(early.run),
        "liars": _sized(liars.run),
        "conflicts": _sized(conflicts.run),
        "dead-node": _sized(dead_node.run),
        "syscalls": _sized(syscalls.run),
    },
    ("lookups", "cache-first", "dead-node"),
    plots.draw,
    taken={"cpu": (), "dead-node": (), "syscalls": ()},  # real swarms, with new keys each time
)
