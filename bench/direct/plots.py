"""How the kept results look: durations and datagrams, made from the JSON alone."""

import json
from pathlib import Path
from typing import Any

from bench.direct.report import STEP

QUANTILES = [number / 100 for number in range(STEP, 100, STEP)]
INCHES = (11.0, 4.5)


def draw(result: Path) -> None:
    """Draw the plot beside the JSON; without matplotlib there is none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    said = json.loads(result.read_text())
    figure = Figure(figsize=INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    _durations(left, said["curves"])
    _datagrams(right, said["costs"])
    figure.savefig(result.with_suffix(".png"), dpi=110)


def _durations(axes: Any, curves: dict[str, list[float]]) -> None:
    for what, seconds in curves.items():
        axes.plot(seconds, QUANTILES, label=what)
    axes.set_xscale("log")
    axes.set(xlabel="seconds", ylabel="share done", title="10,000,000 nodes, 15 % dead, 5 % loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center right")


def _datagrams(axes: Any, costs: list[dict[str, Any]]) -> None:
    gets = [one for one in costs if one["what"].startswith("get, ")]
    kinds = list(dict.fromkeys(one["what"] for one in gets))
    losses = sorted({one["loss"] for one in gets})
    width = 0.8 / len(kinds)
    for at, kind in enumerate(kinds):
        counts = {one["loss"]: one["datagrams"] for one in gets if one["what"] == kind}
        places = [i + at * width for i in range(len(losses))]
        axes.bar(places, [counts[loss] for loss in losses], width, label=kind)
    axes.set_xticks([i + 0.4 - width / 2 for i in range(len(losses))])
    axes.set_xticklabels([f"{loss:.0%}" for loss in losses])
    axes.set(xlabel="datagrams lost", ylabel="datagrams a get", title="both directions, mean")
    axes.set_ylim(top=1.4 * max(one["datagrams"] for one in gets))
    axes.legend(fontsize=7)
