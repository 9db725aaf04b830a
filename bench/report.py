"""What a part of a bench reports, and what of it is kept as JSON: rows, costs, curves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STEP = 3  # percentiles from one point of a curve to the next
RATIO = "x"  # the unit of a figure of ours over a peer's in the same run
MARGIN = 0.25  # by which a timed ratio may differ from run to run on a busy machine
SEEDED_MARGIN = 0.02  # the same for one that a seed makes repeat


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to be: "<=" or ">=" the value, or "~": within a `share` of it."""

    sign: str
    value: float
    share: float = 0.0

    def holds(self, figure: float) -> bool:
        """Whether the figure is as it has to be."""
        if self.sign == "~":
            return abs(figure / self.value - 1) <= self.share
        return figure <= self.value if self.sign == "<=" else figure >= self.value

    def __str__(self) -> str:
        within = f" ± {self.share:.0%}" if self.share else ""
        return f"{self.sign} {self.value:.4g}{within}"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure (None: not measured, and `note` says why), its spread and its bar.

    `better` is "lower" or "higher"; "" where the bar says it, or neither is. `margin` is the share
    by which a ratio may get worse before `bench check` fails. `told`: pages show it without a bar.
    """

    what: str
    figure: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    bar: Bar | None = None
    note: str = ""
    better: str = ""
    margin: float = MARGIN
    told: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None where there is none, or no figure."""
        return None if self.bar is None or self.figure is None else self.bar.holds(self.figure)

    @property
    def direction(self) -> str:
        """Which way is better, "lower", "higher", or "" where neither is."""
        signs = {"<=": "lower", ">=": "higher", "~": ""}
        return self.better or (signs[self.bar.sign] if self.bar else "")

    def as_json(self) -> dict[str, Any]:
        """Return what is kept of it."""
        bar = None if self.bar is None else str(self.bar)
        return asdict(self) | {"bar": bar, "holds": self.holds, "better": self.direction}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of operation costs: seconds, and means of datagrams, bytes, share found."""

    what: str
    loss: float
    count: int
    p50: float
    p95: float
    p99: float
    datagrams: float
    bytes: float
    found: float


@dataclass(slots=True)
class Part:
    """What one part of a bench found.

    `series` are curves by name; `missing` says who was not measured, and why: "moka-py: not
    installed".
    """

    rows: list[Row] = field(default_factory=list)
    series: dict[str, list[float]] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def add(self, *rows: Row) -> None:
        """Take rows, in the order of the table."""
        self.rows += rows

    def as_json(self) -> dict[str, Any]:
        """Return all of it, rounded to what it is worth."""
        said = {
            "rows": [row.as_json() for row in self.rows],
            "costs": [asdict(cost) for cost in self.costs],
            "series": self.series,
            "missing": sorted(self.missing),
        }
        return dict(rounded(said))


def rounded(value: Any) -> Any:
    """Round every float to four digits, however deep it is."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
