"""`python -m bench.keeping`: which parts there are, and where the results go.

Each part is kept by itself, so that hours of work need not be done at once.
"""

import argparse
from collections.abc import Callable
from time import monotonic

from bench.direct.conditions import PROGRESS
from bench.direct.readme import put_table
from bench.keeping import bulk, crashes, http, lifecycle, memory, plots, soak, survival
from bench.keeping.results import Part, as_json, keep, rows
from bench.keeping.tables import show

START, END = "<!-- keeping: python -m bench.keeping --readme -->", "<!-- /keeping -->"
PARTS: dict[str, Callable[[bool], Part]] = {
    "law": survival.law,
    "fast": survival.fast,
    "outage": survival.outage,
    "crashes": crashes.crashes,
    "bulk": bulk.bulk,
    "memory": memory.memory,
    "lifecycle": lifecycle.lifecycle,
    "http": http.http,
    "soak": soak.soak,
}


def main() -> None:
    """Run all parts and keep the results; a quick run is only shown."""
    said = _arguments()
    if said.readme:
        return put_table(rows(), START, END)
    for name in said.only or PARTS:
        start = monotonic()
        PROGRESS.print(f"{name} …")
        part = PARTS[name](said.quick)
        seconds = monotonic() - start
        PROGRESS.print(f"{name}: {seconds:.0f} s")
        show(part)
        if not said.quick:
            keep(name, as_json(part, seconds))
            plots.draw()
    return None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.keeping", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--readme", action="store_true", help="write the README's table anew")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    main()
