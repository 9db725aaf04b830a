"""Lookups and puts at 10,000,000 nodes: libtorrent's rules, ours cold, warm and in bulk."""

from collections.abc import Sequence

from bench import libtorrent_rules
from bench.direct import figures
from bench.direct.conditions import (
    LOSSES,
    Question,
    Size,
    ask,
    neighbours,
    network,
    new_identity,
    questions,
    random,
    signed,
)
from bench.libtorrent_rules import EXPECTED, LOSS, WITHIN
from bench.report import STEP, Bar, Part, Row
from bench.scenario import counted
from bench.simulated import Client, Run
from dhtmeta.const import CONTACTS, DIRECT_COPIES

BULK_OF = 1_000_000  # keys, of which the neighbouring ones are looked up
RENEW = 50  # lookups after which a warm core starts again from what it is to remember
P50_BAR, P99_BAR, FOUND_BAR = 1.6, 2.6, 0.94  # s, s, share: issue 3, as are the next two
WARM_BAR, BULK_BAR = 0.8, 0.6  # of the datagrams of libtorrent's rules, cold


def by_libtorrent(asked: Sequence[Question], loss: float, seed: int) -> list[Run]:
    """Look all up by libtorrent's rules."""
    net, runs = network(loss, seed), []
    for one in counted(f"libtorrent's rules, {loss:.0%} lost", asked, len(asked)):
        run = libtorrent_rules.measure(net, one.target, one.start)
        runs.append(Run(run.duration, run.datagrams, run.bytes, run.found))
    return runs


def cold(asked: Sequence[Question], loss: float, seed: int) -> list[Run]:
    """Look each up with a core of its own that knows the question's contacts."""
    net, runs = network(loss, seed), []
    for number, one in enumerate(counted(f"direct cold, {loss:.0%} lost", asked, len(asked))):
        client = Client(net, number)
        client.remember(one.start)
        runs.append(_get(client, one.public_key))
    return runs


def warm(asked: Sequence[Question], loss: float, seed: int, renew: int) -> list[Run]:
    """Look all up with CONTACTS random live nodes remembered, renewed after so many lookups.

    What lookups find takes the place of what was remembered, and it stands in clusters.
    """
    net, runs, rng = network(loss, seed), [], random("warm", seed)
    remembered = [net.contact(net.random_live(rng)) for _ in range(CONTACTS)]
    for number, one in enumerate(counted(f"direct warm, {loss:.0%} lost", asked, len(asked))):
        if number % renew == 0:
            client = Client(net, number)
            client.remember(remembered)
        runs.append(_get(client, one.public_key))
    return runs


def bulk(asked: Sequence[Question], keys: Sequence[bytes], loss: float, seed: int) -> list[Run]:
    """Look neighbouring keys up one after the other with one core, which starts cold."""
    client = Client(network(loss, seed), seed)
    client.remember(asked[0].start)
    return [_get(client, key) for key in counted(f"direct bulk, {loss:.0%} lost", keys, len(keys))]


def _get(client: Client, public_key: bytes) -> Run:
    search, run = client.get(public_key)
    assert search.converged
    return run


def puts(count: int, loss: float, seed: int) -> tuple[list[Run], list[float]]:
    """Put an item each, cold; also return which share of the truly closest then holds it."""
    net, rng, runs, shares = network(loss, seed), random("puts", seed), [], []
    for number in counted(f"direct puts, {loss:.0%} lost", range(count), count):
        item = signed(rng, new_identity(rng), 1)
        client = Client(net, number)
        client.remember(ask(net, item.public_key, rng).start)
        put, run = client.put(item, DIRECT_COPIES)
        assert put.outcome.accepted
        assert put.other is None
        holders, closest = net.holders(item.target), net.closest(item.target, DIRECT_COPIES)
        runs.append(run)
        shares.append(sum(i in holders for i in closest) / len(closest))
    return runs, shares


def calibration(part: Part, theirs: Sequence[Run]) -> None:
    """Hold libtorrent's rules to what FACTS.md has of them."""
    statistics = {
        "p50": (figures.p50, " s"),
        "datagrams": (figures.datagrams, ""),
        "found": (figures.found, ""),
    }
    for name, expected in EXPECTED.items():
        statistic, unit = statistics[name]
        bar = Bar("~", expected, WITHIN)
        part.add(
            figures.row(f"calibration: libtorrent's rules, {name}", theirs, statistic, unit, bar)
        )


def bars(
    part: Part, theirs: Sequence[Run], ours: Sequence[Run], remembering: Sequence[Run]
) -> None:
    """Hold single lookups to their bars."""
    part.add(
        figures.ratio(
            "cold: datagrams / libtorrent's", ours, theirs, figures.datagrams, Bar("<=", 1.0)
        ),
        figures.row("cold: p50", ours, figures.p50, " s", Bar("<=", P50_BAR)),
        figures.row("cold: p99", ours, figures.p99, " s", Bar("<=", P99_BAR)),
        figures.row("cold: found", ours, figures.found, "", Bar(">=", FOUND_BAR)),
        figures.ratio(
            "warm: datagrams / cold libtorrent's",
            remembering,
            theirs,
            figures.datagrams,
            Bar("<=", WARM_BAR),
        ),
        figures.ratio("warm: datagrams / cold direct's", remembering, ours, figures.datagrams),
        figures.row("warm: found", remembering, figures.found, ""),
    )


def bulk_bars(part: Part, theirs: Sequence[Run], ours: Sequence[Run]) -> None:
    """Hold bulk lookups to their bars."""
    bar = Bar("<=", BULK_BAR)
    part.add(
        figures.ratio(
            "bulk: datagrams a key / cold libtorrent's", ours, theirs, figures.datagrams, bar
        ),
        figures.row("bulk: found", ours, figures.found, "", Bar(">=", FOUND_BAR)),
    )


def run(part: Part, how_many: Size) -> None:
    """Measure all at each loss; only the first one has bars."""
    asked = questions(how_many.lookups, how_many.seed)
    keys = neighbours(how_many.bulk, BULK_OF, how_many.seed)
    for loss in LOSSES:
        _at(part, loss, asked, keys, how_many)


def _at(
    part: Part,
    loss: float,
    asked: Sequence[Question],
    keys: Sequence[bytes],
    how_many: Size,
) -> None:
    under = loss, how_many.seed
    theirs, ours = by_libtorrent(asked, *under), cold(asked, *under)
    remembering, in_bulk = warm(asked, *under, RENEW), bulk(asked, keys, *under)
    putting, shares = puts(how_many.puts, *under)
    measured = {
        "get, libtorrent's rules": theirs,
        "get, direct cold": ours,
        "get, direct warm": remembering,
        "get, direct warm, one core throughout": warm(asked, *under, len(asked)),
        "get, direct bulk": in_bulk,
        f"put, direct cold, {DIRECT_COPIES} copies": putting,
    }
    for what, runs in measured.items():
        part.costs.append(figures.cost(what, loss, runs))
    if loss == LOSS:
        for what, runs in measured.items():
            part.series[what] = figures.cuts(runs)[STEP - 1 :: STEP]
        calibration(part, theirs)
        bars(part, theirs, ours, remembering)
        bulk_bars(part, theirs, in_bulk)
    what = f"put: share of the {DIRECT_COPIES} closest live nodes that hold it, {loss:.0%} lost"
    part.add(Row(what, sum(shares) / len(shares), low=min(shares), high=max(shares)))
