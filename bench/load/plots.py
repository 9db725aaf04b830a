"""How lookups under load look: how long they take, by client, and what they cost."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from bench.load.driven import BARE, FOREIGN, OURS
from bench.load.figures import CPU, FIRST, TIMES
from bench.report import STEP
from bench.scenario import Results

INCHES = (13.0, 7.5)
PERCENT = range(STEP, 100, STEP)
CURVES = {
    "closed": "nothing lost, nobody dead",
    "loss-5": "5 % of datagrams lost",
    "loss-20": "20 % of datagrams lost",
    "dead-nodes": "1 node in 12 dead",
    "open": "1,000 queries a second, whatever is answered",
}
CLIENTS = (*OURS, BARE, FOREIGN)
STYLES = {"": "-", f", {TIMES[FIRST]}": "--"}
COLOURS = {name: f"C{number}" for number, name in enumerate(CLIENTS)}
OPEN = ", 1000/s"  # of the open loop's curves these are drawn


def draw(results: Results) -> Any:
    """Draw a plot of durations for each part, and one of CPU."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    *plots, last = figure.subplots(2, 3).flat
    for axes, (part, title) in zip(plots, CURVES.items(), strict=True):
        _curves(axes, results.get(part, {}).get("series", {}), title)
    figure.legend(
        *plots[0].get_legend_handles_labels(),
        ncols=len(CLIENTS),
        loc="outside lower center",
        title="to the lookup's end; dashed: to the first right value",
    )
    _costs(last, results.get("closed", {}).get("rows", []))
    return figure


def _curves(axes: Any, series: Mapping[str, list[float]], title: str) -> None:
    """Draw the share done by time; a curve ends where answers did."""
    for name, (kind, style) in product(CLIENTS, STYLES.items()):
        seconds = series.get(name + kind) or series.get(name + kind + OPEN, [])
        label = "" if kind else name
        axes.plot(seconds, list(PERCENT)[: len(seconds)], style, label=label, color=COLOURS[name])
    axes.set_xscale("log")
    axes.set(xlabel="seconds", ylabel="% of queries answered", title=title, ylim=(0, 100))
    axes.grid(alpha=0.3)


def _costs(axes: Any, rows: list[dict[str, Any]]) -> None:
    figures = {row["what"]: row["figure"] for row in rows}
    cpu = {name: figures.get(f"closed: {CPU.what}, {name}", 0) for name in CLIENTS}
    bars = axes.barh(list(cpu), list(cpu.values()), color=list(COLOURS.values()))
    axes.bar_label(bars, fmt=" {:,.0f}", fontsize=8)
    axes.margins(x=0.15)
    axes.set(xlabel="us of CPU a query, user and system", title=CURVES["closed"])
    axes.invert_yaxis()
