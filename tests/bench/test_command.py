"""`dhtmeta bench`: what it takes, what it says to who asks wrongly, and what it writes where."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bench.catalogue import BENCHES
from bench.command import FRESH, _command, bench
from bench.report import Part, Row
from bench.results import QUICK, RESULTS, keep, path_of, read
from bench.runner import ENDING, interrupted_by_all
from bench.scenario import SEED, SEEDED, Bench, Options, Run
from bench.tables import END, ROOT, put_tables
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


@pytest.mark.parametrize("directory", [RESULTS, QUICK])
def test_kept_results_are_usual_runs_of_parts_that_there_are(directory: Path) -> None:
    quick = directory == QUICK
    for path in directory.glob("*.json"):
        one = BENCHES[path.stem]
        known = one.quick if quick else one.parts
        for part, said in read(path).items():
            assert part in known
            assert (said["quick"], said["seed"], said["parameters"]) == (quick, SEED, {})


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


TINY = """
import sys, time
from bench import command, page
from bench.report import Part, Row
from bench.scenario import Bench

def good(options):
    return Part([Row("one", 1.0)])

def long(options):
    try:
        print("under way", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("cleared up", file=sys.stderr, flush=True)

tiny = {"tiny": Bench("tiny", "A tiny one.", {"good": good, "long": long})}
command.BENCHES = page.BENCHES = tiny
from dhtmeta.cli.main import main
sys.argv[1:] = ["bench", "all", *sys.argv[1:]]
main()
"""


def started(*words: str | Path) -> subprocess.Popen[str]:
    """Start a process that runs two parts, of which the second one takes long."""
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", TINY, *map(str, words)]
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def test_sigterm_ends_a_run_in_an_orderly_way_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    with started("--to", tmp_path) as process:
        assert process.stderr is not None
        before = list(iter(process.stderr.readline, "under way\n"))
        process.terminate()
        _, after = process.communicate()
    assert process.returncode == 130
    assert list(read(path_of("tiny", tmp_path))) == ["good"]
    assert before[0] == "tiny/good: begun\n"
    assert before[1].startswith("tiny/good: ended after ")
    assert before[2:] == ["tiny/long: begun\n"]
    assert re.fullmatch(r"cleared up\ntiny/long: broken off after .* s\n\n?", after)
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_is_measured_is_kept_though_nobody_reads_what_is_shown(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with started(*words, "--to", tmp_path) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, said = process.communicate()
    assert process.returncode == 1
    assert list(read(path_of("tiny", tmp_path))) == ["good"]
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.fixture
def signals_as_at_first() -> Iterator[None]:
    """Have the signals do what they do by themselves, whatever started the tests."""
    before = {one: signal.signal(one, signal.SIG_DFL) for one in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_at_first")
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])
def test_what_ends_a_process_does_what_ctrl_c_does_and_only_once(
    number: signal.Signals, ctrl_c: Any
) -> None:
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with interrupted_by_all():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            for again in ENDING:
                signal.raise_signal(again)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [signal.getsignal(one) for one in ENDING] == [signal.SIG_DFL] * len(ENDING)


@pytest.mark.usefixtures("signals_as_at_first")
def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with interrupted_by_all():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("hit-rate", "--part", "memory", "--peers", "3", "--minutes", "9"),
            "no part takes --peers, --minutes. What each takes: memory: --records.",
        ),
        (
            ("lookup-at-scale", "--part", "cpu", "--part", "syscalls", "--seed", "7"),
            "no part takes --seed. What each takes: cpu: nothing; syscalls: nothing.",
        ),
    ],
)
def test_what_no_part_takes_is_refused_and_what_each_takes_is_said(
    words: tuple[str, ...], said: str
) -> None:
    error = call(*words).exception
    assert isinstance(error, CallerError)
    assert str(error) == said


def test_each_part_is_given_what_it_takes_and_no_more_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = {}

    def part(name: str) -> Run:
        def run(options: Options) -> Part:
            seen[name] = options
            return Part()

        return run

    taken: dict[str, tuple[str, ...]] = {"nothing": (), "one": ("peers",)}
    parts = {name: part(name) for name in (*taken, "all")}
    about = {"peers": "How many.", "hours": "How long."}
    tiny = Bench("tiny", "A tiny one.", parts, parameters=about, taken=taken)
    monkeypatch.setattr("bench.page.BENCHES", {"tiny": tiny})
    command = _command(tiny)
    words = ["--seed", "7", "--peers", "3", "--hours", "4", "--to", str(tmp_path)]
    assert CliRunner().invoke(command, words).exit_code == 0
    assert seen == {
        "nothing": Options(),
        "one": Options(values={"peers": 3}),
        "all": Options(seed=7, values={"peers": 3, "hours": 4}),
    }
    for name, said in read(path_of("tiny", tmp_path)).items():
        assert (said["seed"], said["parameters"]) == (seen[name].seed, seen[name].values)


@pytest.mark.parametrize("name", BENCHES)
def test_parts_take_only_what_can_be_set(name: str) -> None:
    one = BENCHES[name]
    assert one.taken.keys() <= one.parts.keys()
    assert one.most.keys() <= one.parameters.keys()
    taken = {what for part in one.parts for what in one.takes(part)}
    assert taken == {*one.parameters, SEEDED}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [(name, parameter) for name, one in BENCHES.items() for parameter in (*one.parameters, SEEDED)],
)
def test_a_number_without_measure_is_refused(name: str, parameter: str) -> None:
    result = call(name, f"--{parameter}", str(10**12))
    assert result.exit_code == 2
    assert f"Invalid value for '--{parameter}'" in result.stderr
