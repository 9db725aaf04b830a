"""How rounds become rows: each client's figures, and ours over those of both peers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from bench.load.driven import BARE, FOREIGN, OURS, Round
from bench.report import MARGIN, RATIO, STEP, Row

AT_ONCE = 1.0  # s; who answers later does not keep up
Rounds = Mapping[str, Sequence[Round]]
"""What each client did, round by round: those of the same number followed each other."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a round, in `unit`; `better` and `margin` are those of its ratios."""

    what: str
    of: Callable[[Round], float]
    unit: str
    better: str
    margin: float = MARGIN


def percentile(rounds: Iterable[Round], percent: int) -> float:
    """Return how long so many of a hundred took at most (s); no answer counts as the limit."""
    times = sorted(one.limit if time is None else time for one in rounds for time in one.times)
    return times[max(0, ceil(percent / 100 * len(times)) - 1)]


# Margins are how far quick runs were apart while other work kept both cores busy. The p99 has the
# few datagrams of a run that were asked for twice: what is to be noticed there is a stall.
RATE = Figure("queries a second", lambda one: 1 / one.seconds, "/s", "higher", margin=0.4)
P99 = Figure("p99", lambda one: 1e3 * percentile([one], 99), " ms", "lower", margin=4.0)
CPU = Figure("CPU a query", lambda one: 1e6 * one.cpu, " us", "lower", margin=0.35)
DATAGRAMS = Figure("datagrams a query", lambda one: one.datagrams, "", "lower", margin=0.05)
ANSWERED = Figure(
    "answered", lambda one: 100 * one.answered / len(one.times), " %", "higher", margin=0.02
)
IN_TIME = Figure(
    f"answered within {AT_ONCE:g} s",
    lambda one: 100 * sum(t is not None and t <= AT_ONCE for t in one.times) / len(one.times),
    " %",
    "higher",
)


def ratios(name: str, rounds: Rounds, figures: Sequence[Figure]) -> list[Row]:
    """Return the rows of ours over those of each peer."""
    return [
        _ratio(name, figure, rounds, ours, theirs)
        for figure in figures
        for theirs in (BARE, FOREIGN)
        if theirs in rounds
        for ours in OURS
    ]


def plain(name: str, rounds: Rounds, figures: Sequence[Figure]) -> list[Row]:
    """Return the rows of each client."""
    return [
        _plain(name, figure, client, own) for figure in figures for client, own in rounds.items()
    ]


def curves(rounds: Rounds) -> dict[str, list[float]]:
    """Return how long each STEP of a hundred took (s), as far as there were answers."""
    return {client: list(_curve(own)) for client, own in rounds.items()}


def _curve(rounds: Sequence[Round]) -> Iterable[float]:
    asked = sum(len(one.times) for one in rounds)
    answered = sum(one.answered for one in rounds)
    for percent in range(STEP, 100, STEP):
        if percent * asked <= 100 * answered:
            yield percentile(rounds, percent)


def _ratio(name: str, figure: Figure, rounds: Rounds, ours: str, theirs: str) -> Row:
    """Return the median ratio of rounds that follow each other, with the lowest and highest."""
    own, peers = ([figure.of(one) for one in rounds[client]] for client in (ours, theirs))
    what = f"{name}: {figure.what}, {ours} / {theirs}"
    if not all(peers):
        return Row(what, None, note=f"{theirs} answered nothing")
    ratios = [one / other for one, other in zip(own, peers, strict=True)]
    return Row(
        what,
        median(ratios),
        RATIO,
        min(ratios),
        max(ratios),
        note=f"{median(own):,.4g} and {median(peers):,.4g}{figure.unit}",
        better=figure.better,
        margin=figure.margin,
    )


def _plain(name: str, figure: Figure, client: str, rounds: Sequence[Round]) -> Row:
    """Return the median figure of one client's rounds, with the lowest and highest."""
    each = [figure.of(one) for one in rounds]
    note = _percentiles(rounds) if figure is P99 else ""
    what = f"{name}: {figure.what}, {client}"
    return Row(what, median(each), figure.unit, min(each), max(each), note=note)


def _percentiles(rounds: Sequence[Round]) -> str:
    """Return what the percentiles of all rounds are, and whether all queries are in them."""
    p50, p95, p99 = (f"{1e3 * percentile(rounds, share):,.3g}" for share in (50, 95, 99))
    missing = sum(len(one.times) - one.answered for one in rounds)
    rest = f"; {missing:,} without a right answer count {rounds[0].limit:g} s" if missing else ""
    return f"all rounds: p50 {p50}, p95 {p95}, p99 {p99} ms{rest}"
