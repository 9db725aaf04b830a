"""How lookups at scale look: durations, and datagrams by how many are lost."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import STEP
from bench.scenario import Results

QUANTILES = [number / 100 for number in range(STEP, 100, STEP)]
INCHES = (11.0, 4.5)


def draw(results: Results) -> Any:
    """Draw both side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    for part in results.values():
        for what, seconds in part["series"].items():
            left.plot(seconds, QUANTILES, label=what)
    left.set_xscale("log")
    left.set(xlabel="seconds", ylabel="share done", title="10,000,000 nodes, 15 % dead, 5 % loss")
    left.grid(alpha=0.3)
    left.legend(fontsize=7, loc="center right")
    costs = [cost for part in results.values() for cost in part["costs"]]
    _datagrams(right, [one for one in costs if one["what"].startswith("get, ")])
    return figure


def _datagrams(axes: Any, gets: Sequence[Mapping[str, Any]]) -> None:
    kinds = list(dict.fromkeys(one["what"] for one in gets))
    losses = sorted({one["loss"] for one in gets})
    width = 0.8 / max(1, len(kinds))
    for at, kind in enumerate(kinds):
        counts = {one["loss"]: one["datagrams"] for one in gets if one["what"] == kind}
        places = [i + at * width for i in range(len(losses))]
        axes.bar(places, [counts.get(loss, 0) for loss in losses], width, label=kind)
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(losses))])
    axes.set_xticklabels([f"{loss:.0%}" for loss in losses])
    axes.set(xlabel="datagrams lost", ylabel="datagrams a get", title="both directions, mean")
    axes.set_ylim(top=1.4 * max((one["datagrams"] for one in gets), default=1))
    axes.legend(fontsize=7)
