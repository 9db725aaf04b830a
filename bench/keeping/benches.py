"""`survival`, `bulk` and `daemon`: which parts there are of keeping records alive."""

from bench.keeping import bulk, crashes, http, lifecycle, memory, plots, soak, survival
from bench.scenario import Bench

SURVIVAL = Bench(
    "survival",
    "What stays retrievable on 20,000 simulated nodes that die, and what that costs.",
    {"law": survival.law, "fast": survival.fast, "outage": survival.outage},
    ("fast",),
    plots.survival,
)
BULK = Bench(
    "bulk",
    "Looks at kept records an hour, beside a bare libtorrent session's puts.",
    {"bulk": bulk.bulk},
    ("bulk",),
)
DAEMON = Bench(
    "daemon",
    "A daemon's life: kill -9, start and stop, an hour's soak, hostile HTTP requests.",
    {
        "crashes": crashes.crashes,
        "memory": memory.memory,
        "lifecycle": lifecycle.lifecycle,
        "http": http.http,
        "soak": soak.soak,
    },
    ("lifecycle",),
    plots.daemon,
    taken={"memory": (), "lifecycle": (), "http": ()},  # nothing there is drawn by a seed
)
