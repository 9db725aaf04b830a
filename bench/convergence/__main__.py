"""`python -m bench.convergence`: which parts there are."""

import sys

from bench.convergence import parts, plots, survivors
from bench.parts import Bench
from dhtmeta.testing.netns import why_not

BENCH = Bench(
    "convergence",
    {
        "fifty": parts.fifty,
        "by-dht": parts.by_dht,
        "two-hundred": parts.two_hundred,
        "survivors": survivors.survivors,
        "liars": survivors.liars,
    },
    plots.draw,
)

if __name__ == "__main__":
    if reason := why_not():
        sys.exit(f"not measured: {reason}")
    BENCH.main()
