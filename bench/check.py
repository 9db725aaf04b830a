"""When `make bench-check` fails: a ratio that is worse by more than its margin, twice in a row."""

import re
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

CLOSE = (0.1, 0.25, 0.5)  # margins worth telling how many ratios are within


def check(baseline: Path, fresh: Path, *, keep: bool, as_json: bool) -> bool:
    """Measure the ratios of the baseline again, or the baseline itself; True where it failed."""
    if keep:
        _keep(baseline, fresh)
        click.echo(f"kept in {baseline}", err=as_json)
        return False
    old = _baseline(baseline)
    new, broken = _measure(_jobs(old), fresh)
    found = _ratios(old, new)
    twice = sorted({one.part for one in failed(found)})
    if twice:
        again, failures = _measure(_jobs(twice), fresh)
        found = _better_of(found, _ratios({name: old[name] for name in again}, again))
        broken += failures
    show_changes(found, as_json=as_json)
    without = _without(found, old, new)
    said = (*_gone(old, new), *_guarded(found, old, baseline.parent), *_broken(broken), *without)
    for one in (*said, *_verdict(found, twice, baseline)):
        click.echo(one, err=as_json)
    return bool(failed(found) or broken or without) or not _compared(found)


def failed(found: Iterable[Change]) -> list[Change]:
    """Return what is worse by more than its margin, and what lost a bar for good.

    A bar alone fails nothing that has a direction while the spreads overlap: a ratio just beside
    its bar would fail now and then for nothing but noise.
    """
    return [one for one in worse(found) if one.verdict == "worse" or one.apart or not one.better]


def _without(found: Iterable[Change], old: Results, new: Results) -> list[str]:
    """Name the ratios that have no figure any more, though their peer is not missing.

    What those of a part that broke are nobody knows.
    """
    unknown = {_name(job) for job in _jobs(old)} - new.keys()
    missing = {part: run["missing"] for part, run in new.items()}
    return [
        f"failed: there is no figure any more of {one.part}: {one.what}"
        for one in found
        if one.old is not None
        and one.new is None
        and one.part not in unknown
        and not _excused(one.what, missing.get(one.part, ()))
    ]


def _broken(broken: Iterable[str]) -> list[str]:
    return [f"failed: {one}" for one in broken]


def _excused(what: str, missing: Iterable[str]) -> bool:
    """Whether a row is beside one of those that are missing: its name, and no longer one."""
    return any(re.search(rf"(beside|/) {re.escape(_peer(one))}(?![\w.-])", what) for one in missing)


def _quick() -> dict[str, Job]:
    """Return what a quick run runs, by BENCH/PART."""
    jobs = ((one, part) for one in BENCHES.values() for part in one.quick)
    return {_name(job): job for job in jobs}


def _name(job: Job) -> str:
    return f"{job[0].name}/{job[1]}"


def _jobs(names: Iterable[str]) -> list[Job]:
    quick = _quick()
    return [quick[name] for name in names if name in quick]


def _measure(jobs: Iterable[Job], fresh: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the runs by BENCH/PART, and what failed, and how."""
    found = {}

    def on_run(bench: Bench, part: str, run: dict[str, Any]) -> None:
        found[_name((bench, part))] = run
        keep_run(bench, part, run, fresh)

    broken = run_all(list(jobs), Options(quick=True), on_run)
    return found, broken


def _keep(baseline: Path, fresh: Path) -> None:
    """Put what is found in the place of the whole baseline, without parts that have no ratio."""
    found, broken = _measure(_quick().values(), fresh)
    if broken:
        raise LocalError("; ".join(broken))
    for name in BENCHES:
        path_of(name, baseline).unlink(missing_ok=True)
    for name, run in found.items():
        if _has_ratios(run):
            bench, _, part = name.partition("/")
            keep_part(bench, part, run, baseline)


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


def _guarded(found: Iterable[Change], old: Results, full: Path) -> list[str]:
    """Say how many ratios are compared and how closely, and how many the full run has besides."""
    margins = [one.margin for one in found if one.share is not None]
    within = (f"{sum(one <= most for one in margins)} within {most:.0%}" for most in CLOSE)
    runs = {f"{name}/{part}": run for name in BENCHES for part, run in kept(name, full).items()}
    ratios = {name: sum(row["unit"] == RATIO for row in run["rows"]) for name, run in runs.items()}
    besides = sum(count for name, count in ratios.items() if name not in old)
    return [
        f"guarded: {len(margins)} ratios, {', '.join(within)}",
        f"not guarded: {besides} of the {sum(ratios.values())} ratios in {full}: in no quick part",
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
    how = f"{bad} of {count} ratios worse than in {baseline} by more than is allowed"
    return [*said, f"failed: {how}, both times" if bad else f"passed: {how}"]
