"""`python -m bench.keeping`: which parts there are."""

from bench.keeping import bulk, crashes, http, lifecycle, memory, plots, soak, survival
from bench.parts import Bench

BENCH = Bench(
    "keeping",
    {
        "law": survival.law,
        "fast": survival.fast,
        "outage": survival.outage,
        "crashes": crashes.crashes,
        "bulk": bulk.bulk,
        "memory": memory.memory,
        "lifecycle": lifecycle.lifecycle,
        "http": http.http,
        "soak": soak.soak,
    },
    plots.draw,
)

if __name__ == "__main__":
    BENCH.main()
