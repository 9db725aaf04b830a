"""`python -m bench.direct`: which parts there are, in what order, and where the results go."""

import argparse
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from bench.direct import (
    calm,
    conflicts,
    cpu,
    dead_node,
    early,
    liars,
    lookups,
    plots,
    readme,
    syscalls,
)
from bench.direct.conditions import PROGRESS, QUICK, Size
from bench.direct.report import Report
from bench.direct.tables import show

RESULT = Path(__file__).parents[1] / "results" / "direct-lookups.json"
PARTS: dict[str, Callable[[Report, Size], None]] = {
    "cpu": cpu.run,  # first, while the process is small
    "calm": calm.run,
    "lookups": lookups.run,
    "early": early.run,
    "liars": liars.run,
    "conflicts": conflicts.run,
    "dead-node": dead_node.run,
    "syscalls": syscalls.run,
}


def main() -> None:
    """Run all parts and keep the results; a quick run, or some parts, are only shown."""
    said = _arguments()
    if said.readme:
        return readme.write(RESULT)
    report = Report(said.quick)
    for name in said.only or PARTS:
        start = monotonic()
        PARTS[name](report, QUICK if said.quick else Size())
        PROGRESS.print(f"{name}: {monotonic() - start:.0f} s")
    report.rows.sort(key=lambda row: not row.what.startswith("calibration"))
    show(report)
    if not said.quick and not said.only:
        report.write(RESULT)
        plots.draw(RESULT)
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.direct", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--readme", action="store_true", help="write the README's table anew")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    main()
