"""When a check fails: a ratio that is worse twice, and nothing that a peer's absence makes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.check import check
from bench.report import Bar, Part, Row
from bench.results import keep, path_of, read
from bench.runner import run_one
from bench.scenario import Bench, Options
from dhtmeta.errors import CallerError, LocalError
from tests.bench.rows import RATIO, SECONDS, SLOWER, run

Measure = Callable[..., None]


class Drawn:
    """A figure that writes a word."""

    def savefig(self, path: Path, **given: Any) -> None:
        path.write_text("drawn")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Return what sets the parts that the only bench there is finds, one after the other."""

    def finds(*parts: Part) -> None:
        left: Iterator[Part] = iter(parts)

        def measure(options: Options) -> Part:
            assert options.quick
            return next(left)

        tiny = Bench("tiny", "A tiny one.", {"part": measure, "slow": measure}, ("part",))
        monkeypatch.setattr("bench.check.BENCHES", {"tiny": tiny})

    return finds


def found(*rows: Row, missing: str = "") -> Part:
    return Part(rows=list(rows), missing=[missing] if missing else [])


@pytest.fixture
def baseline(finds: Measure, tmp_path: Path) -> Path:
    """Keep a baseline of one ratio and one time."""
    finds(found(RATIO, SECONDS))
    directory = tmp_path / "quick"
    assert check(directory, tmp_path, keep=True, as_json=False) is False
    return directory


def fails(baseline: Path, *, as_json: bool = False) -> bool:
    return check(baseline, baseline.parent / "fresh", keep=False, as_json=as_json)


def test_without_a_baseline_it_says_how_to_make_one(finds: Measure, tmp_path: Path) -> None:
    finds()
    with pytest.raises(CallerError, match="dhtmeta bench check --keep"):
        fails(tmp_path)


def test_the_baseline_is_kept_anew_as_a_whole(finds: Measure, baseline: Path) -> None:
    path = path_of("tiny", baseline)
    path.write_text(path.read_text().replace('"part": {', '"stale": {', 1))
    finds(found(SLOWER))
    check(baseline, baseline.parent, keep=True, as_json=False)
    (kept,) = read(path).items()
    assert kept[0] == "part"
    assert [row["figure"] for row in kept[1]["rows"]] == [SLOWER.figure]


def test_the_same_ratio_passes_and_is_measured_once(
    finds: Measure, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(found(RATIO, replace(SECONDS, figure=99.0)))
    assert not fails(baseline)
    said = capsys.readouterr().out
    assert "25%" in said
    assert "passed: 0 of 1 ratios worse" in said


def test_a_ratio_that_is_worse_both_times_fails(
    finds: Measure, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(found(SLOWER), found(SLOWER))
    assert fails(baseline)
    said = capsys.readouterr().out
    assert "measured twice: tiny/part" in said
    assert "failed: 1 of 1 ratios worse" in said


def test_what_was_worse_before_its_part_broke_stays_so(
    finds: Measure, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finds(found(SLOWER))  # and nothing the second time
    assert fails(baseline)
    said = capsys.readouterr().out
    assert "failed: tiny/part: StopIteration" in said
    assert "failed: 1 of 1 ratios worse" in said


def test_a_ratio_that_is_worse_only_the_first_time_passes(finds: Measure, baseline: Path) -> None:
    finds(found(SLOWER), found(RATIO))
    assert not fails(baseline)


def test_a_ratio_that_is_worse_only_the_second_time_passes(finds: Measure, tmp_path: Path) -> None:
    other, slower = replace(RATIO, what="other"), replace(SLOWER, what="other")
    finds(found(RATIO, other))
    check(tmp_path, tmp_path / "fresh", keep=True, as_json=False)
    finds(found(SLOWER, other), found(RATIO, slower))
    assert not fails(tmp_path)


def test_a_bar_that_falls_within_the_margin_is_no_failure(finds: Measure, baseline: Path) -> None:
    finds(found(replace(RATIO, figure=0.61)))
    assert not fails(baseline)


@pytest.mark.parametrize(("low", "failing"), [(0.605, True), (0.59, False)])
def test_a_bar_that_falls_fails_where_the_spreads_are_apart(
    low: float, failing: bool, finds: Measure, tmp_path: Path
) -> None:
    held = replace(RATIO, figure=0.595, low=0.59, high=0.6)
    fallen = replace(RATIO, figure=0.61, low=low, high=0.62)
    finds(found(held))
    check(tmp_path / "quick", tmp_path, keep=True, as_json=False)
    finds(found(fallen), found(fallen))
    assert fails(tmp_path / "quick") == failing


def test_a_bar_decides_where_neither_way_is_better(finds: Measure, tmp_path: Path) -> None:
    like = Row("virtual / real", 1.0, "x", bar=Bar("~", 1.0, 0.1))
    far = replace(like, figure=1.2)
    finds(found(like))
    check(tmp_path / "quick", tmp_path, keep=True, as_json=False)
    finds(found(far), found(far))
    assert fails(tmp_path / "quick")


def test_it_says_how_closely_ratios_are_guarded_and_how_many_are_not(
    finds: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steady = replace(RATIO, what="steady", low=0.499, high=0.501)
    keep("tiny", "slow", run(RATIO, SLOWER, SECONDS), tmp_path)
    keep("tiny", "part", run(RATIO), tmp_path)
    finds(found(RATIO, steady))
    check(tmp_path / "quick", tmp_path / "fresh", keep=True, as_json=False)
    finds(found(RATIO, steady))
    assert not fails(tmp_path / "quick")
    said = capsys.readouterr().out
    assert "guarded: 2 ratios, 1 within 10%, 2 within 25%" in said
    assert "not guarded: 2 of the 3 ratios" in said


def test_parts_without_ratios_are_no_part_of_the_baseline(finds: Measure, tmp_path: Path) -> None:
    finds(found(SECONDS))
    check(tmp_path / "quick", tmp_path, keep=True, as_json=False)
    assert not path_of("tiny", tmp_path / "quick").exists()


def test_what_is_measured_is_kept_and_drawn_beside_the_fresh_results(
    monkeypatch: pytest.MonkeyPatch, baseline: Path
) -> None:
    tiny = Bench("tiny", "", {"part": lambda _: found(RATIO)}, ("part",), draw=lambda _: Drawn())
    monkeypatch.setattr("bench.check.BENCHES", {"tiny": tiny})
    assert not fails(baseline)
    fresh = path_of("tiny", baseline.parent / "fresh")
    assert list(read(fresh)) == ["part"]
    assert fresh.with_suffix(".png").read_text() == "drawn"


def test_what_the_machine_lacks_is_named_and_nothing_is_run() -> None:
    lacking = Bench("tiny", "", {"part": lambda _: found(RATIO)}, why_not=lambda: "nft: not here")
    said = run_one(lacking, "part", Options())
    assert (said["missing"], said["rows"]) == (["nft: not here"], [])


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Part, Part | None], bool]:
    """Return what checks a bench of two parts; None is one that breaks."""

    def measured(part: Part | None) -> Callable[[Options], Part]:
        def measure(options: Options) -> Part:
            if part is None:
                raise ZeroDivisionError("a defect")
            return part

        return measure

    def check_two(one: Part, other: Part | None, *, keep: bool = False) -> bool:
        parts = {"one": measured(one), "other": measured(other)}
        monkeypatch.setattr("bench.check.BENCHES", {"tiny": Bench("tiny", "", parts, (*parts,))})
        return check(tmp_path / "quick", tmp_path / "fresh", keep=keep, as_json=False)

    check_two(found(RATIO), found(RATIO), keep=True)
    return check_two


def test_a_part_that_breaks_fails_and_hides_nothing_of_the_others(
    two: Callable[..., bool], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert two(found(SLOWER), None)
    said = capsys.readouterr().out
    assert "failed: tiny/other: ZeroDivisionError: a defect" in said
    assert "failed: 1 of 1 ratios" in said
    assert "no figure any more" not in said
    assert two(found(RATIO), None)


def test_a_baseline_is_kept_of_all_parts_or_not_at_all(
    two: Callable[..., bool], tmp_path: Path
) -> None:
    before = path_of("tiny", tmp_path / "quick").read_text()
    with pytest.raises(LocalError, match="tiny/other: ZeroDivisionError"):
        two(found(SLOWER), None, keep=True)
    assert path_of("tiny", tmp_path / "quick").read_text() == before


def test_a_peer_of_a_longer_name_or_of_another_part_excuses_nothing(
    two: Callable[..., bool], capsys: pytest.CaptureFixture[str]
) -> None:
    beside = replace(RATIO, what="decode, beside bencode2 decode")
    two(found(RATIO, beside), found(RATIO), keep=True)
    assert two(found(RATIO, missing="bencode: not installed"), found(RATIO))
    assert two(found(RATIO), found(RATIO, missing="bencode2: not installed"))
    assert "no figure any more of tiny/one: decode" in capsys.readouterr().out
    assert not two(found(RATIO, missing="bencode2: not installed"), found(RATIO))


def test_a_peer_that_is_missing_now_is_named(
    finds: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(RATIO, what="ours / another")
    finds(found(RATIO, other))
    check(tmp_path, tmp_path / "fresh", keep=True, as_json=False)
    finds(found(RATIO, missing="another: not installed"))
    assert not fails(tmp_path)
    said = capsys.readouterr().out
    assert "missing now: tiny/part: another: not installed" in said
    assert "gone" in said


def test_a_check_that_compared_nothing_fails(finds: Measure, baseline: Path) -> None:
    finds(found(missing="theirs: not installed"))
    assert fails(baseline)


def test_json_is_one_object_a_ratio_and_nothing_else(
    finds: Measure, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    finds(found(RATIO, SECONDS))
    fails(baseline, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["part"] == "tiny/part"


def test_a_ratio_that_has_no_figure_any_more_fails(
    finds: Measure, baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(RATIO, what="another")
    finds(found(other))
    assert fails(baseline)
    assert f"no figure any more of tiny/part: {RATIO.what}" in capsys.readouterr().out
    finds(found(replace(RATIO, figure=None), other))
    assert fails(baseline)


def test_a_ratio_to_a_peer_that_is_missing_now_does_not(finds: Measure, tmp_path: Path) -> None:
    beside = replace(RATIO, what="decode, beside fastbencode")
    finds(found(RATIO, beside))
    check(tmp_path / "quick", tmp_path, keep=True, as_json=False)
    finds(found(RATIO, missing="fastbencode: not installed"))
    assert not fails(tmp_path / "quick")
    finds(found(RATIO))
    assert fails(tmp_path / "quick")
