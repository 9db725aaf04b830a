"""Tables: which rows and parts they show, in which order, and what is said below them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from bench.report import Row
from bench.tables import END, put_tables, show
from tests.bench.rows import RATIO, SECONDS, run


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what writes the table of some parts' runs into a page, and returns its lines."""

    def table(marker: str, **runs: Any) -> list[str]:
        monkeypatch.setattr("bench.tables.kept", lambda name: runs)
        page = tmp_path / "page.md"
        page.write_text(f"<!-- bench: {marker} -->\n{END}\n")
        put_tables(page, [marker.split()[0]])
        return page.read_text().splitlines()[1:-1]

    return table


def of(commit: str | None) -> Any:
    return run(RATIO) | {"versions": {"commit": commit} if commit else {}}


def test_rows_of_several_parts_say_of_which_in_the_order_of_the_marker(table: Any) -> None:
    lines = table("tiny b a", a=run(RATIO), b=run(RATIO), c=run(RATIO))
    assert lines == [
        "| part | row | measured | bar | holds |",
        "|---|---|---|---|---|",
        "| b | ours / theirs | 0.5x | <= 0.6 | yes |",
        "| a | ours / theirs | 0.5x | <= 0.6 | yes |",
    ]


def test_without_parts_in_the_marker_they_stand_as_the_bench_has_them(table: Any) -> None:
    parts = dict.fromkeys(("fast", "later", "outage", "law"), run(RATIO))
    named = [line.split(" | ")[0] for line in table("survival", **parts)[2:]]
    assert named == ["| law", "| fast", "| outage", "| later"]


def test_rows_to_be_told_stand_beside_those_with_bars(table: Any) -> None:
    told, other = replace(SECONDS, what="told", told=True), replace(SECONDS, what="other")
    lines = table("tiny", a=run(RATIO, told, other))
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ours / theirs", "| told"]


def test_who_was_not_measured_is_named_once_below(table: Any) -> None:
    one, other = (run(RATIO, missing=missing) for missing in (("a: why",), ("a: why", "b: no")))
    assert table("tiny", one=one, other=other)[-2:] == ["", "Not measured: a: why; b: no."]


def test_runs_of_several_commits_are_told_apart_below(table: Any) -> None:
    lines = table("tiny", one=of("abc"), other=of("abc-dirty"), old=of(None), more=of("abc"))
    assert lines[-1] == "Run at: abc (one, more); abc-dirty (other); versions not kept (old)."
    assert table("tiny", one=of(None), other=of(None))[-1] == "Run before versions were kept."
    assert table("tiny", one=of("abc"), other=of("abc"))[-1].startswith("| other |")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fold_to_the_width_of_a_terminal_and_lose_nothing(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    note = "a note of many words " * 20
    show(run(Row("q" * 70, 1234.0, "x", 1000.0, 2000.0, note=note)))
    said = click.unstyle(capsys.readouterr().out)
    assert max(map(len, said.splitlines())) <= width
    assert (said.count("q"), said.count("many")) == (70, 20)
