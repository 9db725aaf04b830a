"""What changed from the rows of one run to those of another, and what of it counts as worse."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, isnan
from typing import Any

import click
from rich.table import Table

from bench.report import RATIO
from bench.scenario import Results
from bench.tables import columns, number, screen

VERDICTS = ("worse", "gone", "not measured", "same", "new", "better")  # the worst first
FLOOR = 0.08  # what ratios of quick runs differ by on a machine that has other work as well
SPREADS = 1.5  # by how many spreads the medians of two runs may differ
COLOURS = {"worse": "red", "better": "green"}
Kept = Mapping[str, Any]  # a row, or the run of a part, as it is kept


@dataclass(frozen=True, slots=True)
class Change:
    """A row in two runs; `better` is its direction as in `Row`.

    `share` is by how much it changed, relative and > 0 where that is worse: infinite from an old
    figure of 0, None where one of the two has no figure. `margin` is what it may be without being
    worse. `lost`: its bar held, and holds no longer. `apart`: the spreads of the two runs have
    nothing in common. `unlike` says in what the two runs differ besides.
    """

    part: str
    what: str
    unit: str
    old: float | None
    new: float | None
    share: float | None
    margin: float
    verdict: str
    better: str = ""
    lost: bool = False
    apart: bool = False
    unlike: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it with None for what JSON has no number for."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def changes(old: Results, new: Results) -> list[Change]:
    """Compare what has the same name, part by part."""
    parts = [*old, *(part for part in new if part not in old)]
    return [one for part in parts for one in _part(part, old.get(part), new.get(part))]


def worse(changes: Iterable[Change]) -> list[Change]:
    """Return the ratios that got worse, and whatever no longer holds its bar."""
    return [one for one in changes if one.lost or _ratio_worse(one)]


def show_changes(changes: Sequence[Change], *, as_json: bool) -> None:
    """Print a table on stdout, or one JSON object a row; the worst comes first."""
    ordered = sorted(changes, key=_rank)
    if as_json:
        for one in ordered:
            click.echo(json.dumps(one.as_json()))
        return
    if unlike := _all_unlike(changes):
        click.echo(f"The runs are not alike: {unlike}.")
    screen().print(_table(ordered))
    click.echo(_counted(changes))


def _part(part: str, old: Kept | None, new: Kept | None) -> list[Change]:
    before = {row["what"]: row for row in (old or {"rows": ()})["rows"]}
    after = {row["what"]: row for row in (new or {"rows": ()})["rows"]}
    unlike = _unlike(old, new) if old and new else ""
    return [
        _change(part, before.get(what), after.get(what), unlike) for what in {**before, **after}
    ]


def _change(part: str, old: Kept | None, new: Kept | None, unlike: str) -> Change:
    row, margin = new or old or {}, _margin(old, new)
    share = _share(_figure(old), _figure(new), row["better"])
    return Change(
        part,
        row["what"],
        row["unit"].strip(),
        _figure(old),
        _figure(new),
        share,
        margin,
        _verdict(old, new, share, margin),
        row["better"],
        lost=bool(old and new and old["holds"] and new["holds"] is False),
        apart=old is not None and new is not None and _apart(old, new),
        unlike=unlike,
    )


def _figure(row: Kept | None) -> float | None:
    figure: float | None = row["figure"] if row else None
    return None if figure is None or isnan(figure) else figure


def _share(old: float | None, new: float | None, better: str) -> float | None:
    """Return by how much it changed; rounded, so that a change of just the margin is within it."""
    if old is None or new is None:
        return None
    if old == new:
        return 0.0
    change = round((new - old) / abs(old), 4) if old else inf if new > 0 else -inf
    return -change if better == "higher" else change


def _verdict(old: Kept | None, new: Kept | None, share: float | None, margin: float) -> str:
    if old is None or new is None:
        return "new" if old is None else "gone"
    if share is None:
        return "not measured"
    if not new["better"] or abs(share) <= margin:
        return "same"
    return "worse" if share > 0 else "better"


def _margin(old: Kept | None, new: Kept | None) -> float:
    """Return by what share a row may get worse: as its spread says, and at most what it states.

    The spread is the wider one of both runs: what was disturbed says little. A row that was kept
    without one, or with one of nothing, says nothing of how far runs are apart.
    """
    own: float = (new or old or {})["margin"]
    if old is None or new is None or not _width(old):
        return own
    return min(own, max(FLOOR, round(SPREADS * max(_width(old), _width(new)), 4)))


def _width(row: Kept) -> float:
    """Return the spread as a share of the figure."""
    figure = _figure(row)
    if not figure or row["low"] is None or row["high"] is None:
        return 0.0
    return float(row["high"] - row["low"]) / abs(figure)


def _apart(one: Kept, other: Kept) -> bool:
    """Whether both runs have a spread, and share nothing of it."""
    if None in (one["low"], one["high"], other["low"], other["high"]):
        return False
    return bool(one["low"] > other["high"] or other["low"] > one["high"])


def _ratio_worse(one: Change) -> bool:
    return one.unit == RATIO and one.verdict == "worse"


def _unlike(old: Kept, new: Kept) -> str:
    """Say where machine, size, seed or parameters of two runs differ."""
    was, now = _terms(old), _terms(new)
    differ = [name for name in was if name in now and was[name] != now[name]]
    return ", ".join(f"{name} {was[name]} and {now[name]}" for name in differ)


def _terms(run: Kept) -> dict[str, Any]:
    values = " ".join(f"{name}={value}" for name, value in sorted(run["parameters"].items()))
    size = "quick" if run["quick"] else "full"
    own = {"size": size, "seed": run["seed"], "parameters": values or "as usual"}
    return {**own, **run["machine"]}


def _all_unlike(changes: Iterable[Change]) -> str:
    """Say once what is the same for several parts."""
    parts: dict[str, list[str]] = {}
    for one in changes:
        if one.unlike and one.part not in parts.setdefault(one.unlike, []):
            parts[one.unlike].append(one.part)
    return "; ".join(f"{unlike} ({', '.join(names)})" for unlike, names in parts.items())


def _rank(one: Change) -> tuple[bool, int, float]:
    share = one.share if one.better and one.share is not None else 0.0
    return not (one.lost or _ratio_worse(one)), VERDICTS.index(one.verdict), -share


def _table(changes: Iterable[Change]) -> Table:
    table = columns("part", "row", "old", "new", "worse by", "margin", "verdict")
    for one in changes:
        style = "red" if one.lost else COLOURS.get(one.verdict)
        verdict = f"{one.verdict}, bar lost" if one.lost else one.verdict
        figures = (_said(one.old, one.unit), _said(one.new, one.unit), _by(one))
        table.add_row(one.part, one.what, *figures, f"{one.margin:.0%}", verdict, style=style)
    return table


def _said(figure: float | None, unit: str) -> str:
    return "" if figure is None else number(figure, unit)


def _by(one: Change) -> str:
    """Return the change; in brackets where neither way is better."""
    if one.share is None:
        return ""
    said = f"{one.share:+.1%}" if isfinite(one.share) else "from 0"
    return said if one.better or one.share == 0 else f"({said})"


def _counted(changes: Sequence[Change]) -> str:
    verdicts = [one.verdict for one in changes]
    counts = [f"{verdicts.count(one)} {one}" for one in VERDICTS if one in verdicts]
    bars = sum(one.lost for one in changes)
    return f"{len(changes)} rows: {', '.join(counts)}; bars lost: {bars}"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
