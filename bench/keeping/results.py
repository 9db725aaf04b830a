"""What the parts of this bench report, and how each keeps its rows in one small file."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.direct.report import Row, rounded

PATH = Path(__file__).parents[1] / "results" / "keeping.json"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows, and series to be drawn: one value an hour, or a minute."""

    rows: list[Row]
    series: dict[str, list[float]] = field(default_factory=dict)


def as_json(part: Part, seconds: float) -> dict[str, Any]:
    """Return one part's results, rounded to what they are worth."""
    rows = [asdict(row) | {"bar": _bar(row), "holds": row.holds} for row in part.rows]
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    took = {"machine": machine, "took_s": seconds}
    said: dict[str, Any] = rounded(took | {"rows": rows, "series": part.series})
    return said


def keep(name: str, said: dict[str, Any]) -> None:
    """Put one part's results in the place of its older ones."""
    results = read()
    results[name] = said
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def read() -> dict[str, Any]:
    """Return the results of all parts that were measured."""
    results: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
    return results


def rows() -> list[dict[str, Any]]:
    """Return the rows of all parts."""
    return [row for part in read().values() for row in part["rows"]]


def _bar(row: Row) -> str | None:
    return None if row.bar is None else str(row.bar)
