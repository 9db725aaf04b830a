"""How keeping looks: what stays retrievable, and a daemon's memory during the soak."""

from typing import Any

from bench.keeping.soak import SAMPLE
from bench.scenario import Results

INCHES = (7.5, 4.2)
LABELS = {
    "law": "dying by the law",
    "fast": "dying 3 times as fast, nobody says so",
    "outage": "daemon away for a day",
}


def survival(results: Results) -> Any:
    """Draw what is found, hour by hour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    for name, label in LABELS.items():
        if name in results:
            found = [100 * one for one in results[name]["series"]["found"]]
            axes.plot([hour / 24 for hour in range(len(found))], found, label=label, lw=0.8)
    axes.axhline(99.9, color="grey", lw=0.8, ls="--")
    axes.set(xlabel="days", ylabel="% found among the 8 closest", title="2,000 records kept alive")
    axes.set_ylim(bottom=94)
    axes.grid(alpha=0.3)
    if axes.lines[1:]:
        axes.legend(fontsize=7, loc="lower right")
    return figure


def daemon(results: Results) -> Any:
    """Draw the memory of the soak, minute by minute."""
    from matplotlib.figure import Figure

    megabytes = results.get("soak", {"series": {}})["series"].get("rss_mb", [])
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    axes.plot([i * SAMPLE / 60 for i in range(len(megabytes))], megabytes, lw=0.8)
    axes.set(xlabel="minutes", ylabel="resident MB", title="500 lookups a second")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure
