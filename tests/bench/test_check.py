"""When a check fails: a ratio that is worse twice, and nothing that a peer's absence makes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.check import check
from bench.report import Part, Row
from bench.results import path_of, read
from bench.scenario import Bench, Options
from dhtmeta.errors import CallerError
from tests.bench.rows import RATIO, SECONDS, SLOWER

Measure = Callable[..., None]


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


def test_a_peer_that_is_missing_now_is_named(
    finds: Measure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(RATIO, what="ours / of another")
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
