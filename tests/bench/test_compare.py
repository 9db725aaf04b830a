"""What counts as worse from one run to another, and what is only noise."""

import json
from dataclasses import replace

import pytest

from bench.compare import FLOOR, Change, changes, show_changes, worse
from bench.report import MARGIN, Bar, Row
from bench.scenario import Options
from tests.bench.rows import RATIO, run

LOWER = Row("ours / theirs", 1.0, "x", better="lower")
HIGHER = replace(LOWER, better="higher")
EITHER = replace(LOWER, better="")


def change(old: Row | None, new: Row | None) -> Change:
    """Compare one row in two runs of one part."""
    before, after = ([] if row is None else [row] for row in (old, new))
    (found,) = changes({"part": run(*before)}, {"part": run(*after)})
    return found


@pytest.mark.parametrize(
    ("row", "figure", "share", "verdict"),
    [
        (LOWER, 1.5, 0.5, "worse"),
        (LOWER, 0.5, -0.5, "better"),
        (HIGHER, 0.5, 0.5, "worse"),
        (HIGHER, 1.5, -0.5, "better"),
        (EITHER, 9.0, 8.0, "same"),
        (LOWER, 1.25, 0.25, "same"),
        (LOWER, 1.26, 0.26, "worse"),
        (HIGHER, 0.75, 0.25, "same"),
        (LOWER, 1.0, 0.0, "same"),
    ],
)
def test_a_change_beyond_the_margin_is_worse_or_better_as_the_row_says(
    row: Row, figure: float, share: float, verdict: str
) -> None:
    found = change(row, replace(row, figure=figure))
    assert (found.share, found.verdict) == (share, verdict)
    assert bool(worse([found])) == (verdict == "worse")


def test_a_change_of_just_the_margin_is_within_it_whatever_binary_fractions_make_of_it() -> None:
    assert change(replace(LOWER, figure=1.2), replace(LOWER, figure=1.5)).verdict == "same"


def test_each_row_has_the_margin_it_states() -> None:
    seeded = replace(LOWER, margin=0.02)
    assert change(seeded, replace(seeded, figure=1.05)).verdict == "worse"


def test_the_margin_is_that_of_the_run_that_is_judged() -> None:
    wide, narrow = replace(LOWER, margin=0.5), replace(LOWER, margin=0.02)
    assert change(wide, replace(narrow, figure=1.1)).verdict == "worse"
    assert change(narrow, replace(wide, figure=1.1)).verdict == "same"


@pytest.mark.parametrize(
    ("old", "new", "margin"),
    [
        ((1.0, 1.01), (1.0, 1.01), FLOOR),
        ((0.9, 1.0), (1.0, 1.0), 0.15),
        ((1.0, 1.01), (1.0, 1.12), 0.18),
        ((0.5, 1.5), (0.5, 1.5), MARGIN),
        ((1.0, 1.0), (0.9, 1.0), MARGIN),
        ((None, None), (0.9, 1.0), MARGIN),
        ((0.9, 1.0), (None, None), 0.15),
    ],
    ids=["floor", "kept", "wider one", "at most its own", "of nothing", "old none", "new none"],
)
def test_the_margin_is_the_spread_and_a_half_but_at_most_what_the_row_states(
    old: tuple[float | None, float | None], new: tuple[float | None, float | None], margin: float
) -> None:
    before, after = (replace(LOWER, low=low, high=high) for low, high in (old, new))
    assert change(before, after).margin == margin


def test_a_ratio_that_was_steady_and_is_a_quarter_worse_is_told() -> None:
    old = Row("verify", 1.002, "x", 1.0, 1.006, Bar("<=", 1.03))
    assert change(old, replace(old, figure=1.24, low=1.23, high=1.25)).verdict == "worse"


@pytest.mark.parametrize(
    ("low", "high", "apart"), [(1.1, 1.6, False), (1.3, 1.6, True), (None, None, False)]
)
def test_spreads_are_apart_where_both_are_there_and_share_nothing(
    low: float | None, high: float | None, apart: bool
) -> None:
    old, new = replace(LOWER, low=0.9, high=1.2), replace(LOWER, low=low, high=high)
    assert (change(old, new).apart, change(new, old).apart) == (apart, apart)


@pytest.mark.parametrize(
    ("row", "old", "new", "verdict"),
    [
        (LOWER, 0.0, 0.0, "same"),
        (LOWER, 0.0, 0.1, "worse"),
        (HIGHER, 0.0, 0.1, "better"),
        (LOWER, 0.0, -0.1, "better"),
        (LOWER, 0.1, 0.0, "better"),
        (LOWER, -1.0, -2.0, "better"),
        (EITHER, 0.0, 5.0, "same"),
    ],
)
def test_from_and_to_zero_nothing_is_divided(
    row: Row, old: float, new: float, verdict: str
) -> None:
    assert change(replace(row, figure=old), replace(row, figure=new)).verdict == verdict


def test_a_bar_of_zero_that_is_lost_is_worse() -> None:
    lost = Row("lost from the ledger", 0.0, bar=Bar("<=", 0))
    found = change(lost, replace(lost, figure=3.0))
    assert found.lost
    assert worse([found]) == [found]


def test_plain_figures_get_worse_only_where_their_bar_falls() -> None:
    time = Row("p50", 1.0, " s", bar=Bar("<=", 2))
    slower, fallen = replace(time, figure=1.9), replace(time, figure=2.1)
    assert change(time, slower).verdict == "worse"
    assert worse([change(time, slower)]) == []
    assert worse([change(time, fallen)]) == [change(time, fallen)]
    assert worse([change(fallen, replace(time, figure=2.2))]) == []  # it did not hold before


def test_a_bar_that_falls_within_the_margin_is_told_as_well() -> None:
    found = change(RATIO, replace(RATIO, figure=0.61))
    assert (found.verdict, found.lost) == ("same", True)
    assert worse([found]) == [found]


def test_rows_that_only_one_run_has_are_new_or_gone_and_never_worse() -> None:
    found = [change(None, RATIO), change(RATIO, None)]
    assert [one.verdict for one in found] == ["new", "gone"]
    assert worse(found) == []


@pytest.mark.parametrize("figure", [None, float("nan")])
def test_without_a_figure_there_is_nothing_to_compare(figure: float | None) -> None:
    nothing = replace(LOWER, figure=figure)
    for old, new in ((LOWER, nothing), (nothing, LOWER)):
        assert (change(old, new).verdict, change(old, new).share) == ("not measured", None)
        assert worse([change(old, new)]) == []


def test_parts_that_one_file_lacks_are_compared_as_well() -> None:
    found = changes({"one": run(RATIO)}, {"two": run(RATIO)})
    assert [(one.part, one.verdict) for one in found] == [("one", "gone"), ("two", "new")]


def test_the_worst_is_shown_first(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(LOWER, what=name) for name in ("same", "bad", "worst", "better")]
    new = [replace(row, figure=figure) for row, figure in zip(rows, (1, 1.5, 2, 0.1), strict=True)]
    show_changes(changes({"part": run(*rows)}, {"part": run(*new)}), as_json=True)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["what"] for one in shown] == ["worst", "bad", "same", "better"]
    assert shown[0]["share"] == 1.0


def test_what_is_infinite_is_no_number_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_changes([change(replace(LOWER, figure=0.0), LOWER)], as_json=True)
    assert '"share": null' in capsys.readouterr().out


def test_runs_that_are_not_alike_are_told_so_in_the_first_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = run(RATIO)
    new = run(RATIO, options=Options(quick=True, values={"nodes": 7}))
    new["machine"]["cores"] = 999
    show_changes(changes({"a": old, "b": old}, {"a": new, "b": new}), as_json=False)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("The runs are not alike: size full and quick")
    assert "parameters as usual and nodes=7" in first
    assert "cores" in first
    assert first.endswith("999 (a, b).")


def test_runs_that_are_alike_are_not_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    show_changes(changes({"part": run(RATIO)}, {"part": run(RATIO)}), as_json=False)
    said = capsys.readouterr().out
    assert "alike" not in said
    assert "1 rows: 1 same; bars lost: 0" in said


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(LOWER, what="[red]:x:")
    show_changes([change(odd, odd)], as_json=False)
    assert "[red]:x:" in capsys.readouterr().out
