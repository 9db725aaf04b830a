"""What is measured of a trace: its policies side by side, and dhtmeta's beside the plain TTL."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

from bench.hit_rate.dht import Lookups, TraceCarrier, measured
from bench.hit_rate.hints import ShippedWithHints
from bench.hit_rate.policies import NoCache, PlainTtl, Policy, Shipped
from bench.hit_rate.replay import Played, Player
from bench.hit_rate.trace import DAY, HOUR, Law, Trace
from bench.report import SEEDED_MARGIN, Bar, Part, Row
from bench.scenario import Options, Run, counted
from dhtmeta.testing.sim_loop import sim_run

SAMPLES = 400  # lookups on the simulated DHT, of which each takes one
WITHOUT_WAITING, FEWER, NOT_MORE = 0.99, 0.5, 1.0  # the bars, for 200 peers
BARRED = 200
LARGE = 1000  # with more peers than that, one trace has to do
TRACES = 5  # seeds, for the spread
LAWS = {
    "each signed anew hourly": Law(signed_anew=HOUR),
    "all change daily": Law(shares=((1.0, DAY),)),
    "all change hourly": Law(shares=((1.0, HOUR),)),
    "all change every 5 minutes": Law(shares=((1.0, 300.0),)),
}
Make = Callable[[TraceCarrier, Trace, int], Policy]
POLICIES: Mapping[str, Make] = {
    "no cache": lambda carrier, trace, seed: NoCache(carrier),
    "plain TTL": lambda carrier, trace, seed: PlainTtl(carrier, 4 * len(trace.peers)),
    "dhtmeta": lambda carrier, trace, seed: Shipped(carrier, seed),
    "with hints": ShippedWithHints,
}


def played(trace: Trace, name: str, lookups: Lookups, seed: int) -> Played:
    """Play a trace to one policy, in virtual time."""

    async def play() -> Played:
        carrier = TraceCarrier(trace, lookups, seed)
        policy = POLICIES[name](carrier, trace, seed)
        now = asyncio.get_running_loop().time

        def traffic() -> tuple[int, int]:
            return carrier.lookups, carrier.datagrams + policy.datagrams

        try:
            return await Player(trace, policy, traffic, now).play()
        finally:
            await policy.close()

    return sim_run(play())


def of_size(peers: int) -> Run:
    """Return the part that plays traces of so many peers."""

    def run(options: Options) -> Part:
        seeds = range(options.seed, options.seed + _traces(options, peers))
        lookups = measured(options.value("samples", SAMPLES, 100))
        found: dict[str, list[Played]] = {name: [] for name in POLICIES}
        for seed in counted(f"{peers:,} peers", seeds, len(seeds)):
            trace = Trace(peers, seed, Law(), options.value("seconds", 3600, 3600))
            for name, runs in found.items():
                runs.append(played(trace, name, lookups, seed))
        return _part(peers, found, len(seeds))

    return run


def _traces(options: Options, peers: int) -> int:
    full = 1 if peers > LARGE else 2 if peers > BARRED else TRACES
    return options.value("traces", full, 1 if peers > BARRED else 3)


def laws(options: Options) -> Part:
    """Play traces whose records change by other laws than the one that the bars are for."""
    lookups, part = measured(100), Part()
    peers = options.value("peers", 200, 100)
    for what, law in LAWS.items():
        trace = Trace(peers, options.seed, law)
        runs = {name: played(trace, name, lookups, options.seed) for name in list(POLICIES)[1:]}
        for name in ("dhtmeta", "with hints"):
            part.add(*_of_law(f"{what}, {name}", runs[name], runs["plain TTL"]))
    return part


def _of_law(what: str, ours: Played, theirs: Played) -> list[Row]:
    """Return what one law makes of dhtmeta beside the plain TTL."""
    old = f"{100 * ours.out_of_date:.2g} % and {100 * theirs.out_of_date:.2g} % of the answers"
    lookups = _ratio(f"{what}: lookups / plain TTL's", [ours.lookups], [theirs.lookups])
    dates = _ratio(
        f"{what}: share of answers out of date / plain TTL's",
        [ours.out_of_date],
        [theirs.out_of_date],
        note=old,
    )
    return [replace(lookups, told=True), replace(dates, told=True)]


def _part(peers: int, found: Mapping[str, list[Played]], traces: int) -> Part:
    part = Part()
    note = f"{traces} traces of {found['dhtmeta'][0].seconds / 60:g} minutes"
    barred = peers == BARRED
    for name in ("dhtmeta", "with hints"):
        part.add(*_beside(name, found[name], found["plain TTL"], note, barred=barred))
    for name, runs in found.items():
        part.add(*_figures(name, runs, note, told=barred))
        part.series[f"{name}: datagrams a second"] = [_each(runs, _datagrams)[0]]
        part.series[f"{name}: out of date"] = runs[0].curve("out of date", "queries")
        part.series[f"{name}: waited"] = runs[0].curve("waited", "queries")
    return part


def _datagrams(run: Played) -> float:
    return run.datagrams / run.seconds


def _lookups(run: Played) -> float:
    return run.lookups / run.seconds


def _each(runs: list[Played], figure: Callable[[Played], float]) -> tuple[float, float, float]:
    """Return the median of a figure, the lowest and the highest."""
    figures = [figure(run) for run in runs]
    return median(figures), min(figures), max(figures)


def _beside(
    name: str, ours: list[Played], theirs: list[Played], note: str, *, barred: bool
) -> list[Row]:
    """Return the rows that have a bar for 200 peers."""
    bars = (
        (Bar(">=", WITHOUT_WAITING), Bar("<=", FEWER), Bar("<=", NOT_MORE))
        if barred
        else (None, None, None)
    )
    share, low, high = _each(ours, lambda run: run.without_waiting)
    figures: list[tuple[str, Callable[[Played], float], Bar | None]] = [
        ("lookups", _lookups, bars[1]),
        ("share of answers out of date", lambda run: run.out_of_date, bars[2]),
        ("datagrams", _datagrams, None),
    ]
    return [
        Row(f"{name}: answered without waiting", share, "", low, high, bars[0], note),
        *(
            _ratio(f"{name}: {what} / plain TTL's", [*map(f, ours)], [*map(f, theirs)], bar, note)
            for what, f, bar in figures
        ),
    ]


def _ratio(
    what: str, ours: list[float], theirs: list[float], bar: Bar | None = None, note: str = ""
) -> Row:
    """Return the row of our figure over theirs, trace by trace; over nothing there is no ratio."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
    if not ratios:
        return Row(what, None, note="nothing was out of date with the plain TTL")
    if left_out := len(ours) - len(ratios):
        without = f"without {left_out} of {len(ours)} traces, where the plain TTL's was 0"
        note = f"{note}; {without}" if note else without
    low, high = (min(ratios), max(ratios)) if len(ratios) > 1 else (None, None)
    return Row(what, median(ratios), "x", low, high, bar, note, "lower", SEEDED_MARGIN)


def _figures(name: str, runs: list[Played], note: str, *, told: bool) -> list[Row]:
    figures: list[tuple[str, str, Callable[[Played], float]]] = [
        ("without waiting", "", lambda run: run.without_waiting),
        ("lookups a second", "", _lookups),
        ("datagrams a second", "", _datagrams),
        ("share of answers out of date", "", lambda run: run.out_of_date),
        ("out of date for, p99", " s", lambda run: run.p99),
        ("out of date for, worst", " s", lambda run: run.worst),
    ]
    rows = []
    for what, unit, figure in figures:
        middle, low, high = _each(runs, figure)
        row = Row(f"all policies, {name}: {what}", middle, unit, low, high, note=note)
        rows.append(replace(row, told=told and what.startswith("out of date for")))
    return rows
