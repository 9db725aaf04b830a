"""What is kept of a run, how, and that what is no result is named and never a traceback."""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.catalogue import BENCHES
from bench.compare import changes, show_changes
from bench.page import write_page
from bench.report import MARGIN, Bar, Cost, Part, Row
from bench.results import check_directory, keep, kept, path_of, read, run_of
from bench.runner import draw
from bench.scenario import Bench, Options
from bench.tables import show
from dhtmeta.errors import CallerError
from tests.bench.rows import RATIO, SLOWER, run

COST = Cost("get", 0.05, 100, 1.0, 2.0, 3.0, 4.0, 5.0, 1.0)
PART = Part([RATIO, Row("p50", 1.0, " s", 0.5, 2.0)], {"right": [1.0]}, [COST], ["theirs: why"])
OTHERS: tuple[Any, ...] = (None, "zz", 7, 10**400, [], {}, True)


def test_runs_say_of_which_commit_they_are() -> None:
    assert run(RATIO)["versions"]["commit"]


def test_a_bar_holds_up_to_its_share() -> None:
    assert Bar("~", 1.0, 0.5).holds(1.5)


def test_who_reads_while_a_run_is_kept_has_the_whole_of_the_old_one(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO), tmp_path)
    with path_of("bulk", tmp_path).open() as before:
        keep("bulk", "bulk", run(SLOWER), tmp_path)
        (row,) = json.load(before)["parts"]["bulk"]["rows"]
    assert row["figure"] == RATIO.figure
    assert [*tmp_path.iterdir()] == [path_of("bulk", tmp_path)]


def test_older_results_are_read_with_what_they_lack_as_usual(tmp_path: Path) -> None:
    said = run(RATIO)
    for name in ("versions", "took_s", "machine", "parameters", "costs", "series", "missing"):
        del said[name]
    for name in ("margin", "told", "note", "low", "high"):
        del said["rows"][0][name]
    keep("bulk", "bulk", said, tmp_path)
    one = kept("bulk", tmp_path)["bulk"]
    assert (one["versions"], one["took_s"]) == ({}, None)
    assert (one["rows"][0]["margin"], one["rows"][0]["told"]) == (MARGIN, False)
    use(tmp_path)


def test_what_a_newer_checkout_keeps_besides_is_ignored_and_stays(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO) | {"newer": 1}, tmp_path)
    assert "newer" not in kept("bulk", tmp_path)["bulk"]
    keep("bulk", "other", run(RATIO), tmp_path)
    assert json.loads(path_of("bulk", tmp_path).read_text())["parts"]["bulk"]["newer"] == 1


def test_results_that_are_kept_are_read_as_they_were(tmp_path: Path) -> None:
    said = run_of(PART, Options(quick=True, seed=7, values={"nodes": 3}), 1.0)
    keep("bulk", "bulk", said, tmp_path)
    assert kept("bulk", tmp_path) == {"bulk": said}


def test_a_directory_with_results_that_are_broken_is_refused(tmp_path: Path) -> None:
    path_of("bulk", tmp_path).write_text('{"parts": {"bulk": {}}}')
    with pytest.raises(CallerError, match=r"bulk\.json holds no .* part bulk: .* `when`"):
        check_directory(tmp_path, ["bulk"])


def test_what_is_nested_too_deeply_is_no_result(tmp_path: Path) -> None:
    path_of("bulk", tmp_path).write_text("[" * 100_000)
    with pytest.raises(CallerError, match="holds no results"):
        kept("bulk", tmp_path)


def use(directory: Path) -> None:
    """Do with the results of a directory all that is ever done with them."""
    found = read(path_of("bulk", directory))
    show_changes(changes({"bulk": run_of(PART, Options(), 1.0)}, found), as_json=False)
    show_changes(changes(found, found), as_json=True)
    write_page(directory)
    for one in found.values():
        show(one)


def changed(said: Any) -> Iterator[tuple[str, Any]]:
    """Return results with one value taken away or replaced by one of another kind, each in turn."""
    for path in places(said, ()):
        for other in (*OTHERS, ...):
            whole = copy.deepcopy(said)
            inner = whole
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = other
            if other is ...:
                del inner[path[-1]]
            yield f"{path}: {other!r}"[:80], whole


def places(said: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(said, dict | list):
        for step in said if isinstance(said, dict) else range(len(said)):
            yield from places(said[step], (*path, step))


def test_whatever_is_changed_in_results_they_are_used_or_the_file_is_named(tmp_path: Path) -> None:
    keep("bulk", "bulk", run_of(PART, Options(), 1.0), tmp_path)
    path = path_of("bulk", tmp_path)
    refused = []
    for what, whole in changed(json.loads(path.read_text())):
        path.write_text(json.dumps(whole))
        try:
            use(tmp_path)
        except CallerError as error:
            refused.append((what, str(error)))
    assert len(refused) > 100
    named = re.compile(rf"{path} holds no results of `dhtmeta bench`: .")
    assert [one for one in refused if not named.match(one[1])] == []


@pytest.mark.parametrize(
    "bench", [one for one in BENCHES.values() if one.draw], ids=lambda one: one.name
)
def test_every_plot_is_drawn_of_the_kept_results(bench: Bench, tmp_path: Path) -> None:
    shutil.copy(path_of(bench.name), tmp_path)
    draw(bench, path_of(bench.name, tmp_path))
    drawn = path_of(bench.name, tmp_path).with_suffix(".png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
