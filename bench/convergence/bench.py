"""`convergence`: which parts there are."""

from bench.convergence import parts, plots, survivors
from bench.scenario import Bench
from dhtmeta.testing.netns import why_not

BENCH = Bench(
    "convergence",
    "Who lists whom, and how soon: daemons in network namespaces, four in ten behind a NAT.",
    {
        "fifty": parts.fifty,
        "liars": survivors.liars,
        "survivors": survivors.survivors,
        "by-dht": parts.by_dht,
        "two-hundred": parts.two_hundred,
    },
    ("survivors",),
    plots.draw,
    why_not=why_not,
)
