"""How rounds become rows: each client's figures, and ours over those of both peers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from statistics import median

from bench.load.driven import BARE, FOREIGN, LIBTORRENT, OURS, Round
from bench.report import MARGIN, RATIO, STEP, Row

AT_ONCE = 1.0  # s; who answers later does not keep up
FIRST, END = "first", "end"
TIMES = {FIRST: "first value", END: "lookup's end"}
SLOWEST = 100
Rounds = Mapping[str, Sequence[Round]]
"""What each client did, round by round: those of the same number followed each other."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a round, in `unit`; `better` and `margin` are those of its ratios.

    Compared are clients that tell `of_times`; `told`: pages show our own lookups beside a bare
    session.
    """

    what: str
    of: Callable[[Round], float]
    unit: str
    better: str
    margin: float = MARGIN
    of_times: str = END
    told: bool = False

    def told_by(self, rounds: Sequence[Round]) -> bool:
        """Whether a client's rounds have it."""
        return all(getattr(one, self.of_times) for one in rounds)


def percentile(rounds: Iterable[Round], percent: int, times: str = END) -> float:
    """Return how long so many of a hundred took at most (s); no answer counts as the limit."""
    took = sorted(
        one.limit if time is None else time for one in rounds for time in getattr(one, times)
    )
    return took[max(0, ceil(percent / 100 * len(took)) - 1)]


def time_figure(times: str, percent: int, margin: float = MARGIN, *, told: bool = False) -> Figure:
    """Return the figure of how long so many of a hundred lookups took at most."""
    what = "slowest" if percent == SLOWEST else f"p{percent}"
    return Figure(
        f"{TIMES[times]}, {what}",
        lambda one: 1e3 * percentile([one], percent, times),
        " ms",
        "lower",
        margin,
        times,
        told,
    )


# Margins are how far quick runs were apart while other work kept both cores busy. The tail has the
# few datagrams of a run that were asked for twice: what is to be noticed there is a stall.
MIDDLE, TAIL = 1.0, 4.0
RATE = Figure("queries a second", lambda one: 1 / one.seconds, "/s", "higher", 0.4, told=True)
P50S = [time_figure(times, 50, MIDDLE, told=True) for times in TIMES]
ENDS_P50 = P50S[-1]
P95S = [time_figure(times, 95, TAIL) for times in TIMES]
P99S = [time_figure(times, 99, TAIL, told=times == END) for times in TIMES]
CPU = Figure("CPU a query", lambda one: 1e6 * one.cpu, " us", "lower", 0.35, told=True)
DATAGRAMS = Figure("datagrams a query", lambda one: one.datagrams, "", "lower", 0.05, told=True)
ANSWERED = Figure("answered", lambda one: 100 * one.answered / one.asked, " %", "higher", 0.02)
IN_TIME = Figure(
    f"answered within {AT_ONCE:g} s",
    lambda one: 100 * sum(t is not None and t <= AT_ONCE for t in one.end or one.first) / one.asked,
    " %",
    "higher",
)
CLOSED = (RATE, *P50S, *P99S, CPU, DATAGRAMS, ANSWERED)
# Where somebody is silent a quick run is one short round: a burst, whose first values are as late
# as the machine is busy. What is to be noticed is that ours wait for the silent. The p50 of ends is
# compared with nothing: about half of libtorrent's lookups meet a dead node, and wait 15 s.
BURST = 99.0
HURT = (
    replace(RATE, margin=0.9),
    time_figure(FIRST, 50, BURST, told=True),
    time_figure(FIRST, SLOWEST, BURST, told=True),
    time_figure(END, SLOWEST, 9.0, told=True),
    replace(CPU, margin=1.0, told=False),
    replace(DATAGRAMS, margin=0.25, told=False),
    ANSWERED,
)


def ratios(name: str, rounds: Rounds, figures: Sequence[Figure], load: str = "") -> list[Row]:
    """Return the rows of ours over those of each peer, where both tell; `load` is for the notes."""
    return [
        _ratio(name, figure, rounds, (ours, theirs), load)
        for figure in figures
        for theirs in (BARE, FOREIGN)
        for ours in OURS
        if {ours, theirs} <= rounds.keys()
        and figure.told_by(rounds[ours])
        and figure.told_by(rounds[theirs])
    ]


def plain(name: str, rounds: Rounds, figures: Sequence[Figure]) -> list[Row]:
    """Return the rows of each client; what is no time, also of one that tells no lookup's end."""
    return [
        _plain(name, figure, client, own)
        for figure in figures
        for client, own in rounds.items()
        if figure.told_by(own) or not figure.what.startswith(tuple(TIMES.values()))
    ]


def curves(rounds: Rounds) -> dict[str, list[float]]:
    """Return how long each STEP of a hundred took (s), as far as there were answers.

    Named are those to the lookup's end as their client, and "CLIENT, first value".
    """
    return {
        client if times == END else f"{client}, {TIMES[times]}": list(_curve(own, times))
        for client, own in rounds.items()
        for times in (END, FIRST)
        if all(getattr(one, times) for one in own)
    }


def _curve(rounds: Sequence[Round], times: str) -> Iterable[float]:
    took = [time for one in rounds for time in getattr(one, times)]
    answered = len(took) - took.count(None)
    for percent in range(STEP, 100, STEP):
        if percent * len(took) <= 100 * answered:
            yield percentile(rounds, percent, times)


def _ratio(name: str, figure: Figure, rounds: Rounds, pair: tuple[str, str], load: str) -> Row:
    """Return the median ratio of rounds that follow each other, with the lowest and highest."""
    own, peers = ([figure.of(one) for one in rounds[client]] for client in pair)
    what = f"{name}: {figure.what}, {' / '.join(pair)}"
    if not all(peers):
        return Row(what, None, note=f"{pair[1]} answered nothing")
    ratios = [one / other for one, other in zip(own, peers, strict=True)]
    figures = f"{median(own):,.4g} and {median(peers):,.4g}{figure.unit}"
    return Row(
        what,
        median(ratios),
        RATIO,
        min(ratios),
        max(ratios),
        note=f"{figures}; {load}" if load else figures,
        better=figure.better,
        margin=figure.margin,
        told=figure.told and pair[1] == BARE and pair[0] != LIBTORRENT,
    )


def _plain(name: str, figure: Figure, client: str, rounds: Sequence[Round]) -> Row:
    """Return the median figure of one client's rounds, with the lowest and highest."""
    each = [figure.of(one) for one in rounds]
    missing = sum(one.asked - one.answered for one in rounds)
    late = f"{missing:,} without a right answer count {rounds[0].limit:g} s" if missing else ""
    note = late if figure.unit == " ms" else ""
    what = f"{name}: {figure.what}, {client}"
    return Row(what, median(each), figure.unit, min(each), max(each), note=note)
