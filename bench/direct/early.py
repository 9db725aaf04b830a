"""Gets that stop at the first verified item, beside full lookups of the same keys."""

from bench.direct import figures
from bench.direct.conditions import Size, ask, network, new_identity, random, signed
from bench.libtorrent_rules import LOSS
from bench.report import STEP, Bar, Part
from bench.scenario import counted
from bench.simulated import Client, Run
from dhtmeta.const import DIRECT_COPIES

EARLY_BAR = 0.6  # of a full lookup's p50; issue 3
FLOOR = 5  # the highest seq we have seen, which the network holds


def run(part: Part, how_many: Size) -> None:
    """Plant an item on the closest live nodes for each key, then look it up both ways."""
    first, full = measure(how_many.lookups, how_many.seed)
    part.add(
        figures.ratio(
            "cache-first: p50 / full lookup's", first, full, figures.p50, Bar("<=", EARLY_BAR)
        )
    )
    part.add(
        figures.ratio("cache-first: datagrams / full lookup's", first, full, figures.datagrams)
    )
    for what, runs in {"get of an item, cache-first": first, "get of an item, full": full}.items():
        part.costs.append(figures.cost(what, LOSS, runs))
        part.series[what] = figures.cuts(runs)[STEP - 1 :: STEP]


def measure(count: int, seed: int) -> tuple[list[Run], list[Run]]:
    """Return the runs that stopped at the first item, and the full ones."""
    net, rng = network(seed=seed), random("early", seed)
    runs: dict[int | None, list[Run]] = {FLOOR: [], None: []}
    for number in counted("cache-first", range(count), count):
        item = signed(rng, new_identity(rng), FLOOR)
        net.store(item, net.closest(item.target, DIRECT_COPIES))
        question = ask(net, item.public_key, rng)
        for enough, kept in runs.items():
            client = Client(net, number)
            client.remember(question.start)
            search, run = client.get(item.public_key, enough=enough)
            assert search.best == item
            kept.append(run)
    return runs[FLOOR], runs[None]
