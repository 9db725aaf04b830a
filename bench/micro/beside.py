"""What a run finds of ours and of one peer, and the rows and curves that several runs make."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.report import MARGIN, RATIO, Bar, Row

OURS = "dhtmeta"
SHOWN = {  # the units in which a figure may read better, and what of its own unit they are
    "ns": (("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)),
    "ms": (("us", 1e-3), ("ms", 1.0), ("s", 1e3)),
}


@dataclass(frozen=True, slots=True)
class Beside:
    """Figures of ours and of a peer in `unit`, taken in turns: the n-th of each belong together.

    The ratio is ours over theirs, less is better; with a bar ">=" it is theirs over ours. `own` is
    the bar of our figure by itself; `size` says of how much. `worst`: our figure by itself is the
    highest of all runs, and has a row without a bar, too. With nobody as the peer that is all.
    """

    what: str
    peer: str
    ours: list[float]
    theirs: list[float]
    unit: str = "ns"
    bar: Bar | None = None
    own: Bar | None = None
    worst: bool = False
    margin: float = MARGIN
    size: str = ""
    note: str = ""
    own_note: str = ""

    @property
    def name(self) -> str:
        """What the row of the ratio is called."""
        return f"{self.what}, beside {self.peer}"

    @property
    def upwards(self) -> bool:
        """Whether more is better."""
        return self.bar is not None and self.bar.sign == ">="

    @property
    def ratio(self) -> float:
        """The median over the turns."""
        ratio = median(ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True))
        return 1 / ratio if self.upwards else ratio


Runs = Sequence[Beside]


def rows_of(found: Iterable[Beside]) -> list[Row]:
    """Make a row of all runs of each ratio, and one of each figure of ours that has a bar."""
    found = list(found)
    own = _grouped((one.what, one) for one in found if one.own or one.worst)
    ratios = _grouped((one.name, one) for one in found if one.peer)
    return [*map(_own_row, own.values()), *map(_ratio_row, ratios.values())]


def _grouped(named: Iterable[tuple[str, Beside]]) -> Mapping[str, list[Beside]]:
    groups: dict[str, list[Beside]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    return groups


def _own_row(runs: Runs) -> Row:
    first, figures = runs[0], [figure for one in runs for figure in one.ours]
    low, high = min(figures), max(figures)
    figure = high if first.worst else median(figures)
    note = "; ".join(filter(None, (first.size, first.own_note)))
    return Row(first.what, figure, first.unit, low, high, first.own, note, told=True)


def _ratio_row(runs: Runs) -> Row:
    first, ratios = runs[0], [one.ratio for one in runs]
    ours = shown(median(median(one.ours) for one in runs), first.unit)
    theirs = shown(median(median(one.theirs) for one in runs), first.unit)
    note = "; ".join(filter(None, (f"{ours} beside {theirs}", first.size, first.note)))
    better = "higher" if first.upwards else "lower"
    return Row(
        first.name,
        median(ratios),
        RATIO,
        min(ratios),
        max(ratios),
        first.bar,
        note,
        better,
        first.margin,
    )


def series_of(found: Iterable[Beside]) -> dict[str, list[float]]:
    """Return what each library took, run by run, as "WHAT [UNIT]: LIBRARY"."""
    series: dict[str, list[float]] = {}
    for one in found:
        theirs = [(one.peer, one.theirs)] if one.peer else []
        for library, figures in [(OURS, one.ours), *theirs]:
            name = f"{one.what} [{one.unit}]: {library}"
            series.setdefault(name, []).append(median(figures))
    return series


def shown(figure: float, unit: str) -> str:
    """Return a figure with the unit that reads best."""
    best = [(name, size) for name, size in SHOWN.get(unit, ()) if figure >= size]
    name, size = best[-1] if best else (unit, 1)
    return f"{figure / size:.3g} {name}"
