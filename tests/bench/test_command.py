"""`dhtmeta bench`: what it takes, what it says to who asks wrongly, and what it writes where."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.catalogue import BENCHES
from bench.command import FRESH, bench
from bench.report import Part, Row
from bench.results import QUICK, RESULTS, keep, path_of, read
from bench.scenario import Bench, Options
from bench.tables import END, put_tables
from dhtmeta.errors import CallerError
from tests.bench.rows import RATIO, SECONDS, SLOWER, run


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(bench, [str(word) for word in words])


def kept(directory: Path, row: Row) -> Path:
    keep("tiny", "part", run(row), directory)
    return path_of("tiny", directory)


def test_an_unknown_bench_is_told_all_that_are_known() -> None:
    result = call("zzz")
    assert result.exit_code == 2
    assert "there is no bench zzz. Known: all," in result.stderr
    assert all(name in result.stderr for name in BENCHES)


def test_a_bench_that_is_nearly_known_is_asked_for() -> None:
    assert "did you mean convergence?" in call("convergance").stderr


def test_an_unknown_parameter_is_told_all_that_are_known() -> None:
    result = call("bulk", "--wat", "1")
    assert result.exit_code == 2
    assert "there is no parameter --wat" in result.stderr
    assert all(name in result.stderr for name in ("--part", "--quick", "--seed", "--json", "--to"))


def test_an_unknown_part_is_told_all_that_are_known() -> None:
    result = call("survival", "--part", "wat")
    assert result.exit_code == 2
    assert all(part in result.stderr for part in BENCHES["survival"].parts)


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_takes_its_parameters_and_what_all_take(name: str) -> None:
    known = [option for one in bench.commands[name].params for option in one.opts]
    own = [f"--{parameter}" for parameter in BENCHES[name].parameters]
    assert {"--part", "--quick", "--seed", "--json", "--to", *own} == set(known)


def test_the_list_is_one_object_a_bench() -> None:
    said = [json.loads(line) for line in call("list", "--json").stdout.splitlines()]
    assert [one["bench"] for one in said] == list(BENCHES)
    assert all(one["about"] and one["parts"] for one in said)


def test_all_keeps_every_quick_part_and_writes_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []

    def part(options: Options) -> Part:
        seen.append(options)
        return Part([RATIO])

    tiny = Bench("tiny", "A tiny one.", {"part": part, "slow": part}, ("part",))
    monkeypatch.setattr("bench.command.BENCHES", {"tiny": tiny})
    monkeypatch.setattr("bench.page.BENCHES", {"tiny": tiny})
    result = call("all", "--quick", "--seed", "7", "--json", "--to", tmp_path)
    assert seen == [Options(quick=True, seed=7)]
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["rows"] == read(path_of("tiny", tmp_path))["part"]["rows"]
    assert "1</strong> of 1 bars hold" in (tmp_path / "index.html").read_text()


def test_quick_results_lie_beside_the_others() -> None:
    assert QUICK == RESULTS / "quick"


@pytest.mark.parametrize(("row", "code"), [(RATIO, 0), (SLOWER, 1)])
def test_compare_ends_with_1_where_something_got_worse(row: Row, code: int, tmp_path: Path) -> None:
    result = call("compare", kept(tmp_path / "old", RATIO), kept(tmp_path / "new", row), "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["new"] == row.figure


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "\x00", '{"parts": []}', '{"parts": {"part": 3}}'),
        *('{"parts": {"part": {"rows": []}}}', '{"rows": []}'),
    ],
)
def test_a_file_that_holds_no_results_is_named(text: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    result = call("compare", kept(tmp_path, RATIO), broken)
    assert isinstance(result.exception, CallerError)
    assert str(result.exception).startswith(f"{broken} holds no results of `dhtmeta bench`")


def test_a_row_without_a_figure_is_no_row(tmp_path: Path) -> None:
    path = kept(tmp_path, RATIO)
    path.write_text(path.read_text().replace('"figure"', '"figures"'))
    with pytest.raises(CallerError, match=f"{path} holds no results"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = call("compare", kept(tmp_path, RATIO), tmp_path / "none.json")
    assert result.exit_code == 2
    assert "none.json" in result.stderr


def test_tables_are_written_between_the_markers_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = replace(RATIO, what="a | b")
    monkeypatch.setattr("bench.tables.kept", lambda name: {"part": run(odd, Row("no bar", 1.0))})
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- bench: tiny -->\nold\n{END}\nafter\n<!-- bench: x -->\n{END}\n")
    put_tables(page, ["tiny", "other"])
    head, _, rest = page.read_text().partition("<!-- bench: tiny -->\n")
    table, _, tail = rest.partition(END)
    assert (head, tail) == ("before\n", f"\nafter\n<!-- bench: x -->\n{END}\n")
    assert table.splitlines() == [
        "| row | measured | bar | holds |",
        "|---|---|---|---|",
        r"| a \| b | 0.5x | <= 0.6 | yes |",
    ]


def test_a_table_may_be_of_some_parts_and_one_without_bars_shows_its_ratios(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = replace(RATIO, what="no bar", bar=None)
    parts = {"a": run(RATIO), "b": run(bare, SECONDS), "c": run(SECONDS)}
    monkeypatch.setattr("bench.tables.kept", lambda name: parts)
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- bench: tiny{part} -->\n{END}\n" for part in (" b c", " a", "")))
    put_tables(page, ["tiny"])
    tables = [one.split(END)[0].count("0.5x") for one in page.read_text().split("<!-- bench: ")]
    assert tables == [0, 1, 1, 2]


@pytest.mark.parametrize("rest", ["all of this\n", f"<!-- bench: x -->\n{END}\n"])
def test_a_page_without_the_second_marker_is_left_alone_and_named(
    rest: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text := f"<!-- bench: bulk -->\n{rest}")
    with pytest.raises(CallerError, match=r"page\.md has no"):
        put_tables(page, ["bulk"])
    assert page.read_text() == text


def test_a_part_that_fails_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: Options) -> Part:
        raise ZeroDivisionError("a defect")

    tiny = Bench("tiny", "A tiny one.", {"bad": fail, "good": lambda options: Part([RATIO])})
    monkeypatch.setattr("bench.command.BENCHES", {"tiny": tiny})
    result = call("all", "--to", tmp_path)
    assert result.exit_code == 1
    assert "failed: tiny/bad: ZeroDivisionError: a defect" in result.stderr
    assert list(read(path_of("tiny", tmp_path))) == ["good"]


def test_where_results_cannot_be_kept_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Options] = []

    def part(options: Options) -> Part:
        measured.append(options)
        return Part([RATIO])

    monkeypatch.setattr("bench.command.BENCHES", {"tiny": Bench("tiny", "", {"part": part})})
    path_of("tiny", tmp_path).write_text('{"x":')
    (tmp_path / "file").touch()
    for directory in (tmp_path, tmp_path / "file" / "below"):
        assert isinstance(call("all", "--to", directory).exception, CallerError)
    assert measured == []


@pytest.mark.parametrize(
    ("words", "directory"),
    [(("--quick",), FRESH), (("--seed", "7"), FRESH), (("--records", "9"), FRESH), ((), RESULTS)],
)
def test_only_usual_runs_are_the_results_of_the_checkout(
    words: tuple[str, ...], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in: list[Path] = []
    monkeypatch.setattr("bench.command.run_all", lambda jobs, options, on_run: [])
    monkeypatch.setattr("bench.command.check_directory", lambda to, names: None)
    monkeypatch.setattr("bench.command.write_page", kept_in.append)
    assert call("hit-rate", *words).exit_code == 0
    assert kept_in == [directory]
