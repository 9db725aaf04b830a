"""How the micro benches look: for each operation a bar for ours and one for every peer."""

from itertools import chain
from statistics import median
from typing import Any

from bench.micro.beside import OURS, shown
from bench.scenario import Results

COLUMNS = 3
WIDTH, HEIGHT, BAR = 4.6, 0.75, 0.19  # inches: of a panel, of its title and scale, of a bar
OUR_COLOUR, PEER_COLOUR = "tab:blue", "silver"
FAR = 10  # times ours: from there on the scale is logarithmic
LEAST = 0.5  # where a logarithmic one starts
Times = dict[str, float]
"""What each library takes, ours being 1."""


def draw(results: Results) -> Any:
    """Draw a panel for each operation; shorter bars are better."""
    from matplotlib.figure import Figure

    groups = _groups(results)
    ours = _ours(results)
    columns = min(COLUMNS, len(groups)) or 1
    rows = [list(groups)[at : at + columns] for at in range(0, len(groups), columns)]
    heights = [HEIGHT + BAR * max(len(groups[what]) for what in row) for row in rows]
    figure = Figure(figsize=(WIDTH * columns, sum(heights) + HEIGHT), layout="constrained")
    figure.suptitle("time (or bytes) an operation takes, dhtmeta = 1: shorter is better")
    if rows:
        grid = figure.subplots(len(rows), columns, height_ratios=heights, squeeze=False)
        for axes, what in zip(chain(*grid), chain(*rows), strict=False):
            _panel(axes, what, groups[what], ours.get(what, ""))
        for axes in list(chain(*grid))[len(groups) :]:
            axes.set_axis_off()
    return figure


def _groups(results: Results) -> dict[str, Times]:
    groups: dict[str, Times] = {}
    for part in results.values():
        for row in part["rows"]:
            what, beside, peer = row["what"].rpartition(", beside ")
            if beside and row["figure"]:
                times = row["figure"] if row["better"] == "higher" else 1 / row["figure"]
                groups.setdefault(what, {OURS: 1.0})[peer] = times
    return groups


def _ours(results: Results) -> dict[str, str]:
    """Return what ours takes, ready to be read."""
    found = {}
    for part in results.values():
        for name, figures in part["series"].items():
            what, _, rest = name.rpartition(" [")
            unit, _, library = rest.partition("]: ")
            if library == OURS:
                found[what] = shown(median(figures), unit)
    return found


def _panel(axes: Any, what: str, times: Times, ours: str) -> None:
    order = sorted(times, key=lambda library: times[library], reverse=True)  # the least on top
    lengths = [times[library] for library in order]
    colours = [OUR_COLOUR if library == OURS else PEER_COLOUR for library in order]
    bars = axes.barh(order, lengths, color=colours)
    said = [ours if library == OURS else _times(times[library]) for library in order]
    axes.bar_label(bars, said, padding=3, fontsize=7)
    if max(lengths) > FAR:
        axes.set(xscale="log", xlabel="logarithmic", xlim=(LEAST, max(lengths) ** 1.25))
    else:
        axes.set(xlim=(0, max(lengths) * 1.25))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.label.set_size(7)
    axes.set_title(what, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.axvline(1, color=OUR_COLOUR, linewidth=0.5)


def _times(figure: float) -> str:
    return f"{figure:,.0f}x" if figure >= 100 else f"{figure:.3g}x"
