"""The parts of `query-load`: closed and open loops; datagrams that get lost, and dead nodes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.load.driven import (
    BARE,
    FOREIGN,
    Clients,
    Round,
    clients,
    foreign_missing,
    opened,
    run,
)
from bench.load.figures import (
    ANSWERED,
    CPU,
    DATAGRAMS,
    IN_TIME,
    P99,
    RATE,
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
FEW_ROUNDS, FEW_QUERIES = 3, 96  # where libtorrent takes 15 s for 32 of them
RATES = (100, 500, 1000)  # queries a second
OPEN_ROUNDS, OPEN_QUERIES, OPEN_SECONDS = 3, 1000, 2  # at most so many, for so long
WINDOW = 32
LIMIT = 60.0  # s from the start of a round, or from that of an open loop's last query
WARM = 64  # queries before anything is measured
# bittorrent-dht's datagrams in flight: its own figure, with which it is fastest while everybody
# answers, and what keeps lookups from waiting for those of others where not everybody does.
CONCURRENCY, HURT_CONCURRENCY = 16, 512
Turns = Sequence[Sequence[str]]


def closed(options: Options) -> Part:
    """Keep a window of lookups in flight, nobody dead and nothing lost."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    queries = options.value("queries", QUERIES, QUICK_QUERIES)
    with _scene(options, rounds * queries, CONCURRENCY) as (network, running):
        found = _rounds(options, network, running, [[name] for name in running], rounds, queries)
    return _closed_part("closed", found)


def _closed_part(name: str, found: Rounds) -> Part:
    figures = (RATE, P99, CPU, DATAGRAMS, ANSWERED)
    rows = ratios(name, found, figures) + plain(name, found, figures)
    return Part(rows, curves(found), missing=foreign_missing())


def open_loop(options: Options) -> Part:
    """Start lookups at times that were fixed before, whether the others have ended or not."""
    each = options.value("queries", OPEN_QUERIES, OPEN_QUERIES // 2)
    part = Part(missing=foreign_missing())
    with _scene(options, OPEN_ROUNDS * each, CONCURRENCY) as (network, running):
        for rate in RATES:
            count = min(each, rate * OPEN_SECONDS)
            found: dict[str, list[Round]] = {name: [] for name in running}
            for turn in counted(f"open, {rate}/s", range(OPEN_ROUNDS), OPEN_ROUNDS):
                keys = network.keys[turn * each : turn * each + count]
                at = schedule(rate, count, options.seed + turn)
                for name, client in running.items():
                    found[name].append(opened(client, keys, at, LIMIT))
            name = f"open, {rate}/s"
            part.add(*ratios(name, found, (P99,)), *plain(name, found, (P99, IN_TIME)))
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
    """Measure a closed loop in a swarm that was hurt after all is stored and known.

    Those who wait for seconds wait together: they need no core for that.
    """
    rounds = 1 if options.quick else FEW_ROUNDS
    queries = options.value("queries", FEW_QUERIES, FEW_QUERIES)
    with _scene(options, rounds * queries, HURT_CONCURRENCY, host) as (network, running):
        hurt(network)
        slow = [one for one in running if one in {"libtorrent carrier", BARE, FOREIGN}]
        turns = [*([one] for one in running if one not in slow), slow]
        found = _rounds(options, network, running, turns, rounds, queries)
    return _closed_part(name, found)


@contextmanager
def _scene(
    options: Options, keys: int, concurrency: int, host: Host | None = None
) -> Iterator[tuple[Network, Clients]]:
    """Run swarm and clients, each of which has found some keys already."""
    with (
        Network(keys + WARM, options.seed, host) as network,
        clients(network, concurrency) as running,
    ):
        for client in running.values():
            (warm,) = run([client], Order(network.keys[-WARM:], WINDOW, LIMIT))
            assert warm.answered == WARM
        yield network, running


def _rounds(
    options: Options, network: Network, running: Clients, turns: Turns, rounds: int, queries: int
) -> Rounds:
    """Have all look the same keys up, turn about; other keys in each round."""
    found: dict[str, list[Round]] = {name: [] for name in running}
    for number in counted("rounds", range(rounds), rounds):
        keys = network.keys[number * queries : (number + 1) * queries]
        order = Order(keys, options.value("window", WINDOW, WINDOW), LIMIT)
        for turn in turns:
            took = run([running[name] for name in turn], order)
            for name, one in zip(turn, took, strict=True):
                found[name].append(one)
    return found
