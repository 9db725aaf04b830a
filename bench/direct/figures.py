"""How runs become figures: percentiles and means, ratios of ours and theirs, and their spread."""

from collections.abc import Callable, Sequence
from statistics import fmean, quantiles

from bench.report import SEEDED_MARGIN, Bar, Cost, Row
from bench.simulated import Run

PARTS = 5  # a figure is of all runs; its spread is the lowest and highest of so many parts of them
SPREAD = f"in brackets: the same of {PARTS} parts of the runs"
Statistic = Callable[[Sequence[Run]], float]


def cuts(runs: Sequence[Run]) -> list[float]:
    """Return the 1st to 99th percentile of the durations, in seconds."""
    return quantiles([run.seconds for run in runs], n=100, method="inclusive")


def p50(runs: Sequence[Run]) -> float:
    return cuts(runs)[49]


def p95(runs: Sequence[Run]) -> float:
    return cuts(runs)[94]


def p99(runs: Sequence[Run]) -> float:
    return cuts(runs)[98]


def datagrams(runs: Sequence[Run]) -> float:
    return fmean(run.datagrams for run in runs)


def size(runs: Sequence[Run]) -> float:
    return fmean(run.bytes for run in runs)


def found(runs: Sequence[Run]) -> float:
    return fmean(run.found for run in runs)


def row(
    what: str, runs: Sequence[Run], statistic: Statistic, unit: str, bar: Bar | None = None
) -> Row:
    """Return the row of one statistic."""
    parts = [statistic(part) for part in _parts(runs)]
    return Row(what, statistic(runs), unit, min(parts), max(parts), bar, SPREAD)


def ratio(
    what: str,
    ours: Sequence[Run],
    theirs: Sequence[Run],
    statistic: Statistic,
    bar: Bar | None = None,
) -> Row:
    """Return the row of our statistic over theirs; parts are compared with parts."""
    figure = statistic(ours) / statistic(theirs)
    pairs = zip(_parts(ours), _parts(theirs), strict=True)
    parts = [statistic(one) / statistic(other) for one, other in pairs]
    return Row(what, figure, "x", min(parts), max(parts), bar, SPREAD, "lower", SEEDED_MARGIN)


def _parts(runs: Sequence[Run]) -> list[Sequence[Run]]:
    return [runs[part::PARTS] for part in range(PARTS)]


def cost(what: str, loss: float, runs: Sequence[Run]) -> Cost:
    """Return what a kind of operation cost."""
    figures = (statistic(runs) for statistic in (p50, p95, p99, datagrams, size, found))
    return Cost(what, loss, len(runs), *figures)
