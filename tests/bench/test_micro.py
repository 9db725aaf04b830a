"""Micro benches: what their rows are called, who is missing, and that answers are checked."""

from pathlib import Path
from random import Random

import pytest

from bench.micro.beside import OURS, Beside, rows_of, series_of
from bench.micro.cache_worker import READY, apart
from bench.micro.caches import check, filled, new_keys
from bench.micro.files import run_file
from bench.micro.peers import MODULES, installed, missing
from bench.report import Bar
from bench.scenario import Options


def test_a_run_of_a_file_makes_a_row_for_each_operation_and_peer() -> None:
    found = run_file("bench_bencode.py", Options(quick=True), "-k", "libtorrent and KRPC")
    rows = rows_of(found)
    assert [row.what for row in rows] == [
        "bencode decode, KRPC reply, beside libtorrent",
        "bencode encode, KRPC reply, beside libtorrent",
    ]
    assert all(row.unit == "x" and row.figure and row.direction == "lower" for row in rows)
    assert list(series_of(found)) == [
        f"bencode {verb}, KRPC reply [ns]: {library}"
        for verb in ("decode", "encode")
        for library in (OURS, "libtorrent")
    ]


def test_a_file_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"bench_krpc\.py failed:\n(.|\n)*deselected"):
        run_file("bench_krpc.py", Options(), "-k", "no_such_bench")


def test_a_file_whose_only_peer_does_not_import_finds_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bencode2.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_file("bench_krpc.py", Options(quick=True)) == []


def test_a_row_is_the_median_of_the_runs_with_the_lowest_and_the_highest() -> None:
    runs = [Beside("hit", "dict", [ours], [100.0], bar=Bar("<=", 0.9)) for ours in (70, 90, 80)]
    [row] = rows_of(runs)
    assert (row.figure, row.low, row.high, row.holds) == (0.8, 0.7, 0.9, True)
    assert row.note == "80 ns beside 100 ns"


def test_a_bar_from_below_turns_the_ratio_around() -> None:
    run = Beside("verify_many", "one thread", [50.0], [95.0], bar=Bar(">=", 1.85))
    [row] = rows_of([run])
    assert row.figure == pytest.approx(1.9)
    assert (row.holds, row.direction) == (True, "higher")


def test_a_figure_with_a_bar_of_its_own_has_a_row_of_its_own() -> None:
    runs = [
        Beside("bytes", "dict", [70.0], [140.0], "B", own=Bar("<=", 100), size="10 entries"),
        Beside("bytes", "cachebox", [72.0], [144.0], "B", own=Bar("<=", 100), size="10 entries"),
    ]
    own, *ratios = rows_of(runs)
    assert (own.what, own.figure, own.unit, own.holds) == ("bytes", 71.0, "B", True)
    assert [row.figure for row in ratios] == [0.5, 0.5]
    assert ratios[0].note == "70 B beside 140 B; 10 entries"


def test_the_worst_of_all_runs_counts_where_it_is_asked_for_and_needs_no_bar() -> None:
    runs = [Beside("CPU", "cachebox", [1, 9, 2], [10] * 3, "ms", own=Bar("<=", 5), worst=True)]
    runs += [Beside("clock", "", [3, 30, 4], [], "ms", worst=True, own_note="no bar")]
    cpu, clock, ratio = rows_of(runs)
    assert (cpu.figure, cpu.low, cpu.high, cpu.holds) == (9, 1, 9, False)
    assert (clock.figure, clock.bar, clock.note, clock.told) == (30, None, "no bar", True)
    assert (ratio.what, ratio.figure) == ("CPU, beside cachebox", 0.2)
    assert list(series_of(runs)) == [
        "CPU [ms]: dhtmeta",
        "CPU [ms]: cachebox",
        "clock [ms]: dhtmeta",
    ]


@pytest.mark.parametrize("wrong", [1, 1_234, 1_999])
def test_every_entry_of_a_cache_is_looked_at(wrong: int) -> None:
    keys = new_keys(Random(1), 2_000)
    library = filled(OURS, keys)
    library.put(keys[wrong], b"another")
    with pytest.raises(AssertionError):
        check(library, keys, lambda number: b"%d" % number)


def test_a_peer_that_does_not_import_is_named_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_peer.py").write_text('raise ImportError("libfoo is gone\\nin line 2")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODULES, "theine", "no_such_module")
    monkeypatch.setitem(MODULES, "cachebox", "broken_peer")
    peers = ("dict", "cachebox", "theine")
    assert installed(peers) == ["dict"]
    assert missing(peers) == ["cachebox: does not import: libfoo is gone", "theine: not installed"]


@pytest.mark.parametrize("name", [OURS, "dict", "cachetools"])
def test_a_cache_in_a_process_of_its_own_is_checked_and_does_what_it_is_told(name: str) -> None:
    words = ["put", "hit", "miss", *(["evict"] if name != "dict" else [])]
    with apart(name, 3_000, 100, seed=1) as worker:
        for word in words:
            worker.tell(word)
            worker.hear(READY)
            worker.go()
    assert worker.process.returncode is not None
