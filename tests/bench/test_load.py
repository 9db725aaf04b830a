"""The `query-load` bench: what its clients are asked, what they answer, and what comes of it."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import driven
from bench.load.driven import BARE, FOREIGN, LIBRARY, OURS, Clients, Round, clients, opened, run
from bench.load.figures import ANSWERED, P99, curves, percentile, ratios
from bench.load.loops import Order, right, schedule
from bench.load.network import DOOMED, Network
from bench.load.told import Told
from bench.report import STEP
from tests.conftest import missing

NODES, KEYS, WINDOW, LIMIT = 12, 8, 4, 30.0
NOBODYS = bytes(32)  # a key that nothing is stored under


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(KEYS, seed=1, living=NODES - DOOMED) as running:
        yield running


@pytest.fixture(scope="module")
def everybody(network: Network) -> Iterator[Clients]:
    with clients(network) as running:
        yield running


@pytest.fixture(params=[*OURS, BARE, FOREIGN])
def client(request: pytest.FixtureRequest, everybody: Clients) -> Told:
    if request.param not in everybody:
        missing(driven.foreign_missing()[0])
    return everybody[request.param]


def test_the_swarm_is_as_large_as_it_says(network: Network) -> None:
    assert len(set(network.addresses)) == NODES
    assert len(set(network.keys)) == KEYS


def test_a_closed_loop_finds_all_that_is_stored_and_nothing_else(
    client: Told, network: Network
) -> None:
    (found,) = run([client], Order([*network.keys, NOBODYS], WINDOW, LIMIT))
    assert all(one is not None and one > 0 for one in found.times[:-1])
    assert found.times[-1] is None
    assert found.answered == KEYS
    assert found.cpu > 0
    assert found.datagrams > 8  # as many as hold it are asked, and answer


def test_an_open_loop_finds_all_that_is_stored_and_nothing_else(
    client: Told, network: Network
) -> None:
    keys = [NOBODYS, *network.keys]
    found = opened(client, keys, schedule(200.0, len(keys), seed=1), limit=5.0)
    assert found.times[0] is None
    assert all(one is not None for one in found.times[1:])


def test_in_an_open_loop_time_runs_from_when_a_query_should_have_started(
    client: Told, network: Network
) -> None:
    late = 5.0
    order = Order(network.keys, WINDOW, LIMIT, time.monotonic() - late, [0.0] * KEYS)
    (found,) = run([client], order)
    assert all(one is not None and one > late for one in found.times)


def test_several_clients_run_one_round_together(everybody: Clients, network: Network) -> None:
    both = [everybody[name] for name in OURS[:2]]
    found = run(both, Order(network.keys, WINDOW, LIMIT))
    assert [one.answered for one in found] == [KEYS, KEYS]


def test_a_wrong_answer_ends_the_round(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    if reasons := driven.foreign_missing():
        missing(reasons[0])
    monkeypatch.setattr(driven, "VALUE", b"something else")  # what bittorrent-dht is told to expect
    monkeypatch.setattr(driven, "OURS", ())
    with clients(network) as others, pytest.raises(RuntimeError, match="it ended"):
        run([others[FOREIGN]], Order(network.keys, WINDOW, LIMIT))


@pytest.mark.parametrize(("value", "seq"), [(b"something else", 1), (b"v" * 600, 2), (b"", 1)])
def test_a_wrong_value_or_seq_is_no_answer_to_be_timed(value: bytes, seq: int) -> None:
    with pytest.raises(AssertionError):
        right(value, seq)


def test_a_client_that_ends_is_named() -> None:
    with (
        Told([sys.executable, "-c", "pass"]) as process,
        pytest.raises(RuntimeError, match=r"-c pass: it ended"),
    ):
        process.hear(LIMIT)


def test_a_peer_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driven, "LIBRARY", tmp_path / LIBRARY.name)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert driven.foreign_missing()[0].startswith(f"{FOREIGN}: not installed")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert driven.foreign_missing() == [f"{FOREIGN}: node is missing"]


def test_a_schedule_repeats_for_a_seed_and_keeps_the_rate() -> None:
    at = schedule(100.0, 10_000, seed=1)
    assert at == schedule(100.0, 10_000, seed=1)
    assert at != schedule(100.0, 10_000, seed=2)
    assert at == sorted(at)
    assert at[-1] == pytest.approx(100.0, rel=0.05)


def a_round(*times: float | None) -> Round:
    return Round(times, LIMIT, cpu=0.001, seconds=0.01, datagrams=16.0)


def test_what_is_not_answered_counts_as_the_limit() -> None:
    half = [a_round(*[0.1] * 50, *[None] * 50)]
    assert percentile(half, 50) == 0.1
    assert percentile(half, 51) == LIMIT
    assert curves({BARE: half})[BARE] == [0.1] * (50 // STEP)


def test_a_ratio_is_that_of_rounds_that_followed_each_other() -> None:
    ours, theirs = [a_round(0.1), a_round(0.4)], [a_round(0.2), a_round(0.4)]
    rows = {
        one.what: one for one in ratios("x", {**dict.fromkeys(OURS, ours), BARE: theirs}, [P99])
    }
    assert len(rows) == len(OURS)  # bittorrent-dht was not there
    row = rows[f"x: p99, {OURS[0]} / {BARE}"]
    assert (row.low, row.figure, row.high, row.direction) == (0.5, 0.75, 1.0, "lower")


def test_a_peer_that_answered_nothing_is_compared_with_nothing() -> None:
    ours, theirs = [a_round(0.1)], [a_round(None)]
    rows = ratios("x", {**dict.fromkeys(OURS, ours), BARE: theirs}, [ANSWERED])
    assert [(row.figure, row.note) for row in rows] == [(None, f"{BARE} answered nothing")] * 3
