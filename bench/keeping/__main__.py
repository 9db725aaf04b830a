"""`python -m bench.keeping`: which parts there are, and where the results go.

Each part is kept by itself, so that hours of work need not be done at once.
"""

import argparse
from collections.abc import Callable
from time import monotonic

from bench.direct.conditions import PROGRESS
from bench.keeping import soak, survival
from bench.keeping.results import Part, as_json, keep
from bench.keeping.tables import show

PARTS: dict[str, Callable[[bool], Part]] = {
    "law": survival.law,
    "fast": survival.fast,
    "outage": survival.outage,
    "soak": soak.soak,
}


def main() -> None:
    """Run all parts and keep the results; a quick run is only shown."""
    said = _arguments()
    for name in said.only or PARTS:
        start = monotonic()
        PROGRESS.print(f"{name} …")
        part = PARTS[name](said.quick)
        seconds = monotonic() - start
        PROGRESS.print(f"{name}: {seconds:.0f} s")
        show(part)
        if not said.quick:
            keep(name, as_json(part, seconds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.keeping", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    return parser.parse_args()


if __name__ == "__main__":
    main()
