"""What is reported and kept as JSON: rows with a bar, what operations cost, curves."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STEP = 3  # percentiles from one point of a curve to the next


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
    """One figure (None: not measured, and `note` says why), its spread and its bar."""

    what: str
    figure: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    bar: Bar | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None where there is none, or no figure."""
        return None if self.bar is None or self.figure is None else self.bar.holds(self.figure)


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
class Report:
    """All that was measured; `curves` are each STEP-th percentile of durations in seconds."""

    quick: bool
    rows: list[Row] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def add(self, *rows: Row) -> None:
        """Take rows, in the order of the table."""
        self.rows += rows

    def as_json(self) -> str:
        """Return everything as JSON, rounded to what it is worth."""
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        rows = [asdict(row) | {"bar": _bar(row), "holds": row.holds} for row in self.rows]
        said = {"machine": machine, "quick": self.quick, "rows": rows}
        costs = [asdict(one) for one in self.costs]
        return json.dumps(rounded(said | {"costs": costs, "curves": self.curves}), indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write it where plots are made from it."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.as_json())


def _bar(row: Row) -> str | None:
    return None if row.bar is None else str(row.bar)


def rounded(value: Any) -> Any:
    """Round every float to four digits, however deep it is."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
