"""When `make bench-check` fails: a ratio that is worse by more than its margin, twice in a row."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench.catalogue import BENCHES
from bench.compare import Change, changes, show_changes, worse
from bench.report import RATIO
from bench.results import keep as keep_part
from bench.results import kept, path_of
from bench.runner import Job, keep_run, run_all
from bench.scenario import Bench, Options, Results
from dhtmeta.errors import CallerError, LocalError


def check(baseline: Path, fresh: Path, *, keep: bool, as_json: bool) -> bool:
    """Measure the ratios of the baseline again, or the baseline itself; True where it failed."""
    if keep:
        _keep(baseline, _measure(_quick().values(), fresh))
        click.echo(f"kept in {baseline}", err=as_json)
        return False
    old = _baseline(baseline)
    new = _measure(_jobs(old), fresh)
    found = _ratios(old, new)
    twice = sorted({one.part for one in failed(found)})
    if twice:
        part = {name: old[name] for name in twice}
        found = _better_of(found, _ratios(part, _measure(_jobs(twice), fresh)))
    show_changes(found, as_json=as_json)
    without = lost(found, (one for run in new.values() for one in run["missing"]))
    for said in (*_gone(old, new), *_verdict(found, twice, baseline)):
        click.echo(said, err=as_json)
    for one in without:
        click.echo(f"failed: there is no figure any more of {one}", err=as_json)
    return bool(failed(found) or without) or not _compared(found)


def failed(found: Iterable[Change]) -> list[Change]:
    """Return what is worse by more than its margin; without a direction the bar decides.

    A bar alone fails nothing that has a margin: a ratio just beside its bar would fail now and
    then for nothing but noise.
    """
    return [one for one in worse(found) if one.verdict == "worse" or not one.better]


def lost(found: Iterable[Change], missing: Iterable[str]) -> list[str]:
    """Name the ratios that have no figure any more, though no peer that they name is missing."""
    peers = [_peer(one) for one in missing]
    return [
        f"{one.part}: {one.what}"
        for one in found
        if one.old is not None and one.new is None and not any(peer in one.what for peer in peers)
    ]


def _quick() -> dict[str, Job]:
    """Return what a quick run runs, by BENCH/PART."""
    return {f"{one.name}/{part}": (one, part) for one in BENCHES.values() for part in one.quick}


def _jobs(names: Iterable[str]) -> list[Job]:
    quick = _quick()
    return [quick[name] for name in names if name in quick]


def _measure(jobs: Iterable[Job], fresh: Path) -> dict[str, Any]:
    found = {}

    def on_run(bench: Bench, part: str, run: dict[str, Any]) -> None:
        found[f"{bench.name}/{part}"] = run
        keep_run(bench, part, run, fresh)

    broken = run_all(list(jobs), Options(quick=True), on_run)
    if broken:
        raise LocalError("; ".join(broken))
    return found


def _keep(baseline: Path, found: Results) -> None:
    """Put what was found in the place of the whole baseline, without parts that have no ratio."""
    for name in BENCHES:
        path_of(name, baseline).unlink(missing_ok=True)
    for name, run in found.items():
        if _has_ratios(run):
            bench, _, part = name.partition("/")
            keep_part(bench, part, dict(run), baseline)


def _baseline(directory: Path) -> Results:
    """Return the kept parts that have ratios, by BENCH/PART."""
    found = {
        f"{name}/{part}": run
        for name in BENCHES
        for part, run in kept(name, directory).items()
        if _has_ratios(run)
    }
    if not found:
        raise CallerError(
            f"there is nothing to compare with in {directory}: "
            "`dhtmeta bench check --keep` measures it"
        )
    return found


def _has_ratios(run: Mapping[str, Any]) -> bool:
    return any(row["unit"] == RATIO for row in run["rows"])


def _ratios(old: Results, new: Results) -> list[Change]:
    return [one for one in changes(old, new) if one.unit == RATIO]


def _better_of(first: Sequence[Change], second: Iterable[Change]) -> list[Change]:
    """Return the first changes, and the second ones of those that failed."""
    again = {(one.part, one.what): one for one in second}
    once = failed(first)
    return [again.get((one.part, one.what), one) if one in once else one for one in first]


def _gone(old: Results, new: Results) -> list[str]:
    """Name who was measured in the baseline and is missing now."""
    return [
        f"measured in the baseline, missing now: {name}: {who}"
        for name, run in new.items()
        for who in run["missing"]
        if _peer(who) not in map(_peer, old[name]["missing"])
    ]


def _peer(missing: str) -> str:
    return missing.partition(":")[0]


def _compared(found: Iterable[Change]) -> int:
    return sum(one.share is not None for one in found)


def _verdict(found: Sequence[Change], twice: Sequence[str], baseline: Path) -> list[str]:
    said = [f"measured twice: {', '.join(twice)}"] if twice else []
    count = _compared(found)
    if not count:
        return [*said, f"failed: none of the ratios in {baseline} was measured"]
    bad = len(failed(found))
    how = f"{bad} of {count} ratios worse than in {baseline} by more than their margins"
    return [*said, f"failed: {how}, both times" if bad else f"passed: {how}"]
