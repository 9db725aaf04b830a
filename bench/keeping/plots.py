"""How the kept results look: what stays retrievable, and the memory of the soak, from the JSON."""

from typing import Any

from bench.keeping.soak import SAMPLE
from bench.parts import RESULTS, read

PATH = RESULTS / "keeping.json"
INCHES = (11.0, 4.5)
LABELS = {
    "law": "dying by the law",
    "fast": "dying 3 times as fast, nobody says so",
    "outage": "daemon away for a day",
}


def draw() -> None:
    """Draw what there is beside the JSON; without matplotlib there is no plot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    results = read(PATH)
    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _found(left, results)
    _memory(right, results.get("soak", {"series": {}})["series"].get("rss_mb", []))
    figure.savefig(PATH.with_suffix(".png"), dpi=110)


def _found(axes: Any, results: dict[str, Any]) -> None:
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


def _memory(axes: Any, megabytes: list[float]) -> None:
    axes.plot([i * SAMPLE / 60 for i in range(len(megabytes))], megabytes, lw=0.8)
    axes.set(xlabel="minutes", ylabel="resident MB", title="500 lookups a second")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
