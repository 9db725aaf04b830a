"""A bench in parts: what each reports, and how it is run and kept by itself, in one small file.

So hours of work need not be done at once.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console

from bench.direct.conditions import PROGRESS
from bench.direct.readme import put_table
from bench.direct.report import Row, rounded
from bench.direct.tables import WIDTH, table_of_rows

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows, and series to be drawn."""

    rows: list[Row]
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench by name: its parts, each told whether to be quick, and who draws the results."""

    name: str
    parts: Mapping[str, Callable[[bool], Part]]
    draw: Callable[[], None]

    @property
    def path(self) -> Path:
        """Where the results are kept."""
        return RESULTS / f"{self.name}.json"

    def main(self) -> None:
        """Run all parts and keep the results; a quick run is only shown."""
        said = self._arguments()
        if said.readme:
            start = f"<!-- {self.name}: python -m bench.{self.name} --readme -->"
            return put_table(self._rows(), start, f"<!-- /{self.name} -->")
        for name in said.only or self.parts:
            self._run(name, said.quick)
        return None

    def _arguments(self) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"python -m bench.{self.name}", description=Bench.main.__doc__
        )
        parser.add_argument("--quick", action="store_true", help="fewer of everything")
        parser.add_argument("--readme", action="store_true", help="write the README's table anew")
        parser.add_argument("--only", action="append", choices=self.parts, help="repeatable")
        return parser.parse_args()

    def _run(self, name: str, quick: bool) -> None:
        start = monotonic()
        PROGRESS.print(f"{name} …")
        part = self.parts[name](quick)
        seconds = monotonic() - start
        PROGRESS.print(f"{name}: {seconds:.0f} s")
        Console(width=WIDTH).print(table_of_rows(part.rows))
        if not quick:
            self._keep(name, _as_json(part, seconds))
            self.draw()

    def _keep(self, name: str, said: dict[str, Any]) -> None:
        """Put one part's results in the place of its older ones."""
        results = read(self.path)
        results[name] = said
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")

    def _rows(self) -> list[dict[str, Any]]:
        return [row for part in read(self.path).values() for row in part["rows"]]


def read(path: Path) -> dict[str, Any]:
    """Return the results of all parts that were measured."""
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return results


def _as_json(part: Part, seconds: float) -> dict[str, Any]:
    """Return one part's results, rounded to what they are worth."""
    rows = [asdict(row) | {"bar": _bar(row), "holds": row.holds} for row in part.rows]
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    took = {"machine": machine, "took_s": seconds}
    said: dict[str, Any] = rounded(took | {"rows": rows, "series": part.series})
    return said


def _bar(row: Row) -> str | None:
    return None if row.bar is None else str(row.bar)
