"""The page of results: it holds all it shows, escapes all it is told, and names what is missing."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.page import write_page
from bench.report import Bar, Cost, Part, Row
from bench.results import keep, run_of
from bench.scenario import Options
from dhtmeta.errors import CallerError
from tests.bench.rows import RATIO, SLOWER, run

PNG = b"\x89PNG\r\n\x1a\n and so on"
EVIL = "<script>alert('&')</script>\""
VOID = {"meta", "link", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """Every tag with its attributes, all text, and whether what opens is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[str]:
        """Return what these attributes are, wherever they are."""
        return [value for _, attrs in self.tags for name, value in attrs.items() if name in names]


def written(directory: Path) -> Page:
    write_page(directory)
    return Page((directory / "index.html").read_text(encoding="utf-8"))


def test_the_page_asks_for_nothing_that_is_not_in_it(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO), tmp_path)
    (tmp_path / "bulk.png").write_bytes(PNG)
    page = written(tmp_path)
    asked = page.values("src", "href", "srcset", "action", "data", "poster")
    assert all(re.match("data:|#", one) for one in asked), asked
    assert "data:image/png;base64,iVBORw0K" in (tmp_path / "index.html").read_text()
    style = (tmp_path / "index.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|//", style)


def test_the_page_forbids_browsers_to_ask_for_anything(tmp_path: Path) -> None:
    (policy,) = (attrs["content"] for _, attrs in written(tmp_path).tags if "http-equiv" in attrs)
    rules = [rule.strip() for rule in policy.split(";")]
    assert rules == ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"]


def test_every_link_leads_somewhere_and_every_place_is_one(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO, SLOWER), tmp_path)
    keep("convergence", "fifty", run(SLOWER), tmp_path)
    page = written(tmp_path)
    places = page.values("id", "name")
    links = [one[1:] for one in page.values("href", "aria-labelledby") if one[:1] == "#"]
    assert set(links) <= set(places)
    assert len(page.values("id")) == len(set(page.values("id")))
    assert "bulk-bulk-1" in links  # the row that does not hold


def test_all_that_is_told_is_escaped(tmp_path: Path) -> None:
    evil = Row(EVIL, 1.0, EVIL, 0.5, 2.0, Bar("<=", 1.0), EVIL)
    cost = Cost(EVIL, 0.05, 10, 1.0, 2.0, 3.0, 4.0, 5.0, 1.0)
    part = Part([evil], {EVIL: [1.0]}, [cost], [EVIL])
    told = run_of(part, Options(values={EVIL: 1}), 1.0)
    told |= {"when": EVIL, "versions": {EVIL: EVIL}, "machine": {"cpu": EVIL}}
    keep("bulk", EVIL, told, tmp_path)
    (tmp_path / "bulk.png").write_bytes(PNG)
    page = written(tmp_path)
    assert "script" not in [tag for tag, _ in page.tags]
    assert page.text.count(EVIL) >= 8


def test_the_top_counts_the_bars_and_names_those_that_do_not_hold(tmp_path: Path) -> None:
    lost, unmeasured = replace(SLOWER, what="lost"), replace(RATIO, what="absent", figure=None)
    keep("bulk", "bulk", run(RATIO, lost, unmeasured, Row("no bar", 1.0)), tmp_path)
    top = written(tmp_path).text.partition("lookup-at-scale")[0]
    assert "1 of 3 bars hold" in top
    assert "What does not hold\n\nlost bulk: 0.9x, bar ≤ 0.6x" in top
    assert "What was not measured\n\nabsent bulk: not measured" in top


def test_rows_say_in_words_whether_their_bars_hold(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO, replace(SLOWER, what="lost")), tmp_path)
    page = written(tmp_path)
    marks = [attrs["class"] for _, attrs in page.tags if "mark" in attrs.get("class", "")]
    assert marks == ["mark yes", "mark no"]
    assert re.search(r"ours / theirs0\.5x\s*≤ 0\.6xyes", page.text)


@pytest.mark.parametrize(
    "row",
    [
        Row("zero", 0.0, bar=Bar("<=", 0)),
        Row("above zero", 3.0, bar=Bar("<=", 0)),
        Row("far beyond", 1e9, "x", 1.0, 2e9, Bar(">=", 1e6)),
        Row("within a share", 1.1, "x", bar=Bar("~", 1.0, 0.15)),
        Row("no bar, a spread of nothing", 0.0, " s", 0.0, 0.0),
        Row("below zero", -1.0, "x", -2.0, 0.0),
    ],
    ids=lambda row: row.what,
)
def test_every_spread_is_drawn_within_its_picture(row: Row, tmp_path: Path) -> None:
    keep("bulk", "bulk", run(row), tmp_path)
    page = written(tmp_path)
    drawn = [float(one) for one in page.values("cx")]
    for path in page.values("d"):
        drawn += [float(one) for one in re.findall(r"[MH](-?[\d.]+)", path)]
    assert drawn
    assert all(0 <= one <= 120 for one in drawn)


def test_a_figure_of_just_its_bar_lies_on_the_tick(tmp_path: Path) -> None:
    rows = (Row("zero", 0.0, bar=Bar("<=", 0)), Row("one", 1.0, bar=Bar(">=", 1)))
    keep("bulk", "bulk", run(*rows), tmp_path)
    assert written(tmp_path).values("cx") == ["60.0", "60.0"]


def test_costs_what_was_missing_and_how_to_run_it_again_are_there(tmp_path: Path) -> None:
    cost = Cost("get", 0.05, 5000, 1.0, 2.0, 3.0, 4.0, 5.0, 1.0)
    part = Part(costs=[cost], missing=["theirs: not installed"])
    options = Options(quick=True, seed=7, values={"nodes": 20})
    keep("bulk", "bulk", run_of(part, options, 1.0), tmp_path)
    text = written(tmp_path).text
    assert "5,000" in text
    assert "theirs: not installed" in text
    assert "dhtmeta bench bulk --part bulk --quick --seed 7 --nodes 20" in text


def test_older_runs_without_versions_or_time_are_shown(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO) | {"versions": {}, "took_s": None}, tmp_path)
    assert "versions not kept" in written(tmp_path).text


def test_what_was_never_run_is_named(tmp_path: Path) -> None:
    text = written(tmp_path).text
    assert "0 of 0 bars hold" in text
    assert "Not run here: law, fast, outage." in text


def test_the_same_results_make_the_same_page(tmp_path: Path) -> None:
    keep("bulk", "bulk", run(RATIO), tmp_path)
    write_page(tmp_path)
    first = (tmp_path / "index.html").read_bytes()
    write_page(tmp_path)
    assert (tmp_path / "index.html").read_bytes() == first


def test_results_that_are_broken_are_named(tmp_path: Path) -> None:
    (tmp_path / "bulk.json").write_text("{")
    with pytest.raises(CallerError, match=r"bulk\.json holds no results"):
        write_page(tmp_path)
