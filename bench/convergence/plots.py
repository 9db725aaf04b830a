"""How convergence looks: the share of all lists' entries that are there, by time."""

from typing import Any

from bench.scenario import Results

INCHES = (7.5, 4.2)
LABELS = {
    "fifty": "50 daemons",
    "by-dht": "50 daemons, found by the DHT's topic alone",
    "two-hundred": "200 nodes in 4 processes",
}


def draw(results: Results) -> Any:
    """Draw a line for each fleet."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    for name, part in results.items():
        shares = part["series"].get("right")
        if name in LABELS and shares:
            axes.plot([100 * one for one in shares], label=LABELS[name], lw=1.2)
    axes.set(
        xlabel="seconds since the first was started (two cores for all)",
        ylabel="% of all lists' entries",
        title="Who lists whom: 60 % public, 30 % behind NAT and relay, 10 % behind NAT",
    )
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8, loc="lower right")
    return figure
