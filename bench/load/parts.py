"""The parts of `query-load`: closed and open loops; datagrams that get lost, and dead nodes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from bench.load.driven import (
    LIBTORRENT,
    Clients,
    Round,
    clients,
    foreign_missing,
    opened,
    run,
    warm_up,
)
from bench.load.figures import (
    CLOSED,
    ENDS_P50,
    HURT,
    IN_TIME,
    P50S,
    P95S,
    P99S,
    Figure,
    Rounds,
    curves,
    plain,
    ratios,
)
from bench.load.loops import Order, schedule
from bench.load.network import Network
from bench.report import Part
from bench.scenario import Options, Run, counted
from dhtmeta.testing.netns import Host, Internet, why_not

ROUNDS, QUICK_ROUNDS = 9, 5
QUERIES, QUICK_QUERIES = 600, 300  # a round
# Where somebody is silent libtorrent takes 15 s for each WINDOW of queries: turn about, two rounds
# of a bare session and its carrier take most of a part's time.
FEW_ROUNDS, FEW_QUERIES, QUICK_FEW = 3, 64, 32
RATES = (100, 500, 1000)  # queries a second
OPEN_ROUNDS, OPEN_QUERIES, OPEN_SECONDS = 3, 1000, 2  # at most so many, for so long
WINDOW = 32
LIMIT = 60.0  # s from the start of a round, or from that of an open loop's last query
WARM = 64  # queries before anything is measured
# bittorrent-dht's datagrams in flight: its own figure, with which it is fastest while everybody
# answers, and what keeps lookups from waiting for those of others where not everybody does.
CONCURRENCY, HURT_CONCURRENCY = 16, 512


def closed(options: Options) -> Part:
    """Keep a window of lookups in flight, nobody dead and nothing lost."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    queries = options.value("queries", QUERIES, QUICK_QUERIES)
    with _scene(options, rounds * queries, CONCURRENCY) as (network, running):
        found = _rounds(options, network, running, rounds, queries)
    return _closed_part("closed", found, _window(options), CLOSED, P95S)


def _closed_part(
    name: str, found: Rounds, window: int, compared: Sequence[Figure], more: Sequence[Figure]
) -> Part:
    """Return the ratios of what is compared, and that and more of each client."""
    asked = next(iter(found.values()))
    load = f"{len(asked)} rounds of {asked[0].asked}, {window} in flight"
    rows = ratios(name, found, compared, load) + plain(name, found, (*compared, *more))
    return Part(rows, curves(found), missing=foreign_missing())


def open_loop(options: Options) -> Part:
    """Start lookups at times that were fixed before, whether the others have ended or not."""
    each = options.value("queries", OPEN_QUERIES, OPEN_QUERIES // 2)
    part = Part(missing=foreign_missing())
    counts = {rate: min(each, rate * OPEN_SECONDS) for rate in RATES}
    with _scene(options, OPEN_ROUNDS * sum(counts.values()), CONCURRENCY) as (network, running):
        unasked = iter(network.keys)
        for rate, count in counts.items():
            found: dict[str, list[Round]] = {name: [] for name in running}
            for turn in counted(f"open, {rate}/s", range(OPEN_ROUNDS), OPEN_ROUNDS):
                keys = list(islice(unasked, count))
                at = schedule(rate, count, options.seed + turn)
                for name, client in running.items():
                    found[name].append(opened(client, keys, at, LIMIT))
            name = f"open, {rate}/s"
            load = f"{OPEN_ROUNDS} rounds of {count}"
            part.add(*ratios(name, found, (*P50S, *P99S), load))
            part.add(*plain(name, found, (*P50S, *P95S, *P99S, IN_TIME)))
            part.series |= {f"{one}, {rate}/s": curve for one, curve in curves(found).items()}
    return part


def losing(percent: int) -> Run:
    """Return the part in which so many of a hundred datagrams are lost."""

    def lossy(options: Options) -> Part:
        if reason := why_not():
            return Part(missing=[f"{percent} % loss: {reason}"])
        with Internet() as net:
            return _hurt(options, f"{percent} % loss", lambda one: one.lose(percent), net.public())

    return lossy


def dead_nodes(options: Options) -> Part:
    """Kill one node in twelve: the others still name them."""
    return _hurt(options, "1 in 12 dead", Network.kill)


def _hurt(
    options: Options, name: str, hurt: Callable[[Network], None], host: Host | None = None
) -> Part:
    """Measure a closed loop in a swarm that was hurt after all is stored and known."""
    rounds = 1 if options.quick else FEW_ROUNDS
    queries = options.value("queries", FEW_QUERIES, QUICK_FEW)
    without = [LIBTORRENT] if options.quick else []  # no time where somebody is silent
    keys = rounds * queries
    with _scene(options, keys, HURT_CONCURRENCY, host, without) as (network, running):
        hurt(network)
        found = _rounds(options, network, running, rounds, queries)
    part = _closed_part(name, found, _window(options), HURT, (ENDS_P50, *P95S))
    part.missing += [f"{one}: whole runs only, it waits as a bare session does" for one in without]
    return part


@contextmanager
def _scene(
    options: Options,
    keys: int,
    concurrency: int,
    host: Host | None = None,
    without: Sequence[str] = (),
) -> Iterator[tuple[Network, Clients]]:
    """Run swarm and clients, each of which has found some keys already."""
    with (
        Network(keys + WARM, options.seed, host) as network,
        clients(network, concurrency, without) as running,
    ):
        for name, client in running.items():
            warm_up(name, client, Order(network.keys[-WARM:], WINDOW, LIMIT))
        yield network, running


def _rounds(
    options: Options, network: Network, running: Clients, rounds: int, queries: int
) -> Rounds:
    """Have all look the same keys up, one client after the other; other keys in each round."""
    found: dict[str, list[Round]] = {name: [] for name in running}
    for number in counted("rounds", range(rounds), rounds):
        keys = network.keys[number * queries : (number + 1) * queries]
        order = Order(keys, _window(options), LIMIT)
        for name, client in running.items():
            found[name].append(run(client, order))
    return found


def _window(options: Options) -> int:
    return options.value("window", WINDOW, WINDOW)
