"""`python -m bench`: run the micro benches and the carrier, print the ratios, keep them as JSON.

A row is a ratio to its peer: the median over the runs, with the lowest and the highest. Nothing
here passes or fails a test; a row that falls short is shown as such.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

RUNS = {"bench_bencode.py": 5, "bench_krpc.py": 5, "bench_ed25519.py": 3, "bench_ttl_cache.py": 3}
CARRIER_RUNS = 3
CARRIER_BAR = 0.85  # of a bare session's rate; DESIGN, "What fast means"
HERE = Path(__file__).parent
RESULT = HERE / "results" / "main-job.json"


@dataclass(slots=True)
class Row:
    """One figure of ours beside its peer's: a ratio of times (or a rate, or a plain figure)."""

    what: str
    peer: str
    runs: list[float]
    bar: float | None
    unit: str = "x"
    higher_is_better: bool = False

    @property
    def figure(self) -> float:
        """The median over the runs."""
        return median(self.runs)

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None where there is none."""
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.higher_is_better else self.figure <= self.bar


def micro(name: str) -> list[dict[str, Any]]:
    """Run one file of micro benches in a process of its own; return pytest-benchmark's rows."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        words = ["-o", "python_files=bench_*.py", "-o", "python_functions=bench_*", "-q"]
        words += ["--benchmark-only", "--benchmark-max-time=0.3", f"--benchmark-json={out.name}"]
        pytest = [sys.executable, "-m", "pytest", str(HERE / "micro" / name), *words]
        done = subprocess.run(pytest, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name} failed:\n{done.stdout[-3000:]}")
        for line in done.stdout.splitlines():
            if "not measured" in line:
                missing.add(line.split(": ", 1)[1])
        return list(json.load(out)["benchmarks"])


missing: set[str] = set()  # peers that are not installed: named, never left out silently


def rows_of(benchmarks: list[dict[str, Any]], rows: dict[str, Row]) -> None:
    """Add one run's ratios to `rows`."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for one in benchmarks:
        groups.setdefault(one["group"], {})[one["extra_info"]["library"]] = one
    for group, libraries in groups.items():
        ours = libraries["dhtmeta"]
        info = ours["extra_info"]
        if "figure" in info:
            _add_figures(group, info, rows)
        elif info["peer"] in libraries:
            ratio = info.get("ratio") or _time(ours) / _time(libraries[info["peer"]])
            row = rows.setdefault(group, Row(group, info["peer"], [], info.get("bar")))
            row.runs.append(ratio)


def _time(benchmark: dict[str, Any]) -> float:
    return float(benchmark["stats"]["median"])


def _add_figures(group: str, info: dict[str, Any], rows: dict[str, Row]) -> None:
    """Add plain figures: those of every run there was, so that the spread is the whole one."""
    for name in info["figure"]:
        bar = info.get("bar") if name in ("bytes_per_entry", "worst_pause_ms") else None
        row = rows.setdefault(f"{group}: {name}", Row(f"{group}: {name}", "-", [], bar, name))
        row.runs += [run[name] for run in info.get("runs", [info["figure"]])]


def carrier(rows: dict[str, Row]) -> None:
    """Run the carrier bench once, in a process of its own."""
    words = [sys.executable, "-m", "bench.carrier"]
    out = subprocess.run(words, capture_output=True, text=True, check=True, cwd=HERE.parent)
    for what, figures in json.loads(out.stdout).items():
        for name, figure in figures.items():
            if name != "bare libtorrent":
                title = f"{what}/s, {name}"
                bar = None if name == "Node.query" else CARRIER_BAR
                row = rows.setdefault(
                    title, Row(title, "bare libtorrent", [], bar, higher_is_better=True)
                )
                row.runs.append(figure["ratio"])


def readme() -> None:
    """Write the table between the README's markers anew from the kept JSON: it is never typed."""
    rows = [row for row in json.loads(RESULT.read_text())["rows"] if row["bar"] is not None]
    lines = ["| row | beside | measured | bar | holds |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "≥" if row["higher_is_better"] else "≤"
        unit = "x" if row["unit"] == "x" else {"bytes_per_entry": " B"}.get(row["unit"], " ms")
        spread = f"{row['figure']:.3g}{unit} ({min(row['runs']):.3g} … {max(row['runs']):.3g})"
        holds = "yes" if row["holds"] else "**no**"
        lines.append(
            f"| {row['what']} | {row['peer']} | {spread} | {sign} {row['bar']:.3g} | {holds} |"
        )
    page = HERE.parent / "README.md"
    head, start, rest = page.read_text().partition(f"{START}\n")
    _, end, tail = rest.partition(END)
    page.write_text(head + start + "\n".join(lines) + "\n" + end + tail)


START, END = "<!-- bench: python -m bench --readme -->", "<!-- /bench -->"


def main() -> None:
    """Run everything, show progress on stderr, print the table, write the JSON."""
    if sys.argv[1:] == ["--readme"]:
        return readme()
    rows: dict[str, Row] = {}
    jobs = [name for name, runs in RUNS.items() for _ in range(runs)]
    console = Console(stderr=True)
    for name in track([*jobs, *["carrier"] * CARRIER_RUNS], "measuring", console=console):
        if name == "carrier":
            carrier(rows)
        else:
            rows_of(micro(name), rows)
    _print(rows)
    _write(rows)
    return None


def _print(rows: dict[str, Row]) -> None:
    table = Table(title="dhtmeta beside its peers: median ratio of the runs [lowest … highest]")
    for heading in ("row", "peer", "figure", "bar", "holds"):
        table.add_column(heading)
    for row in rows.values():
        spread = f"{row.figure:.3g} [{min(row.runs):.3g} … {max(row.runs):.3g}]"
        mark = {None: "", True: "yes", False: "NO"}[row.holds]
        sign = ">=" if row.higher_is_better else "<="
        bar = "" if row.bar is None else f"{sign} {row.bar:.3g}"
        table.add_row(row.what, row.peer, spread, bar, mark)
    Console().print(table)
    for one in sorted(missing):
        Console(stderr=True).print(one)


def _write(rows: dict[str, Row]) -> None:
    RESULT.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    found = [asdict(row) | {"figure": row.figure, "holds": row.holds} for row in rows.values()]
    RESULT.write_text(
        json.dumps({"machine": machine, "rows": found, "missing": sorted(missing)}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
