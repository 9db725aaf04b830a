"""How the hit rate looks: what each policy costs, and how right and how quick its answers are."""

from collections.abc import Mapping
from typing import Any

from bench.scenario import Results

INCHES = (11.0, 4.5)
PART = "peers-200"
COLOURS = {
    "no cache": "0.6",
    "plain TTL": "tab:red",
    "dhtmeta": "tab:blue",
    "with hints": "tab:green",
}


def draw(results: Results) -> Any:
    """Draw, of the trace of 200 peers, answers that were out of date by minute, and all sizes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _minutes(left, results.get(PART, {"series": {}})["series"])
    _sizes(right, results)
    return figure


def _minutes(axes: Any, series: Mapping[str, list[float]]) -> None:
    for name, colour in COLOURS.items():
        shares = series.get(f"{name}: out of date")
        if shares and name != "no cache":
            axes.plot([100 * one for one in shares], label=name, color=colour, lw=1.2)
    axes.set(xlabel="minutes", ylabel="% of answers", title="200 peers: out of date when given")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _sizes(axes: Any, results: Results) -> None:
    sizes = sorted(int(name.removeprefix("peers-")) for name in results if name[:6] == "peers-")
    for at, (name, colour) in enumerate(COLOURS.items()):
        costs = [
            results[f"peers-{size}"]["series"][f"{name}: datagrams a second"] for size in sizes
        ]
        places = [i + 0.2 * at for i in range(len(sizes))]
        axes.bar(places, [one[0] for one in costs], 0.2, label=name, color=colour)
    axes.set_yscale("log")
    axes.set_xticks([i + 0.3 for i in range(len(sizes))], [f"{size:,}" for size in sizes])
    axes.set(xlabel="known peers", ylabel="datagrams a second", title="hints and lookups together")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
