"""`query-load`: which parts there are, and what may be set."""

from bench.load import carriers, parts, plots
from bench.scenario import SEEDED, Bench

BENCH = Bench(
    "query-load",
    "Lookups in a real swarm, by our carriers, a bare libtorrent session and bittorrent-dht.",
    {
        "carriers": carriers.carriers,
        "closed": parts.closed,
        "open": parts.open_loop,
        "loss-5": parts.losing(5),
        "loss-20": parts.losing(20),
        "dead-nodes": parts.dead_nodes,
    },
    ("closed", "loss-5", "dead-nodes"),
    plots.draw,
    {
        "queries": "Lookups a round.",
        "window": "Lookups in flight in a closed loop.",
    },
    taken={"carriers": (), "open": ("queries", SEEDED)},
)
