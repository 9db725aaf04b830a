"""The `query-load` bench: what its clients are asked, what they answer, and what comes of it."""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from bench.direct.swarms import direct_beside, libtorrent_node
from bench.load import driven
from bench.load.bare import VALUE, Bare, Heard
from bench.load.carriers import ignore, row_of
from bench.load.client import Asked
from bench.load.driven import (
    BARE,
    FOREIGN,
    LIBRARY,
    OURS,
    Clients,
    Round,
    clients,
    opened,
    run,
    warm_up,
)
from bench.load.figures import ANSWERED, CPU, END, FIRST, P99S, curves, percentile, plain, ratios
from bench.load.loops import OnFirst, Order, closed_loop, right, schedule
from bench.load.network import DOOMED, Network
from bench.load.told import Told
from bench.report import STEP
from tests.conftest import missing

NODES, KEYS, WINDOW, LIMIT = 12, 8, 4, 30.0
ROUNDS = 32  # with keys of their own: what was looked up once is in a cache
NOBODYS = bytes(32)  # a key that nothing is stored under


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(ROUNDS * KEYS, seed=1, living=NODES - DOOMED) as running:
        yield running


@pytest.fixture(scope="module")
def unasked(network: Network) -> Iterator[bytes]:
    return iter(network.keys)


@pytest.fixture
def keys(unasked: Iterator[bytes]) -> list[bytes]:
    return list(islice(unasked, KEYS))


@pytest.fixture(scope="module")
def everybody(network: Network) -> Iterator[Clients]:
    with clients(network) as running:
        for name, client in running.items():
            warm_up(name, client, Order(network.keys[-KEYS:], WINDOW, LIMIT))
        yield running


@pytest.fixture(params=[*OURS, BARE, FOREIGN])
def client(request: pytest.FixtureRequest, everybody: Clients) -> Told:
    if request.param not in everybody:
        missing(driven.foreign_missing()[0])
    return everybody[request.param]


def test_the_swarm_is_as_large_as_it_says(network: Network) -> None:
    assert len(set(network.addresses)) == NODES
    assert len(set(network.keys)) == ROUNDS * KEYS


def test_a_closed_loop_finds_all_that_is_stored_and_nothing_else(
    client: Told, keys: list[bytes]
) -> None:
    found = run(client, Order([*keys, NOBODYS], WINDOW, LIMIT))
    for times in told(found):
        assert all(one is not None and one > 0 for one in times[:-1])
        assert times[-1] is None
    assert found.answered == KEYS
    assert found.cpu > 0
    # the first of those that hold it answers; to the end as many as hold it are asked, and answer
    assert found.datagrams > (8 if found.end else 1)


def test_an_open_loop_finds_all_that_is_stored_and_nothing_else(
    client: Told, keys: list[bytes]
) -> None:
    found = opened(client, [NOBODYS, *keys], schedule(200.0, 1 + KEYS, seed=1), limit=5.0)
    for times in told(found):
        assert times[0] is None
        assert all(one is not None for one in times[1:])


def test_in_an_open_loop_time_runs_from_when_a_query_should_have_started(
    client: Told, keys: list[bytes]
) -> None:
    late = 5.0
    order = Order(keys, WINDOW, LIMIT, time.monotonic() - late, [0.0] * KEYS)
    for times in told(run(client, order)):
        assert all(one is not None and one > late for one in times)


def told(found: Round) -> list[Sequence[float | None]]:
    return [times for times in (found.first, found.end) if times]


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        ("direct carrier", (True, True)),
        ("libtorrent carrier", (True, True)),
        ("Node.query", (False, True)),
        ("Node.query, cache-first", (True, False)),
        (BARE, (True, True)),
        (FOREIGN, (False, True)),
    ],
)
def test_a_client_tells_what_it_can_and_the_end_is_not_before_the_first_value(
    everybody: Clients, keys: list[bytes], name: str, tells: tuple[bool, bool]
) -> None:
    if name not in everybody:
        missing(driven.foreign_missing()[0])
    found = run(everybody[name], Order(keys, WINDOW, LIMIT))
    assert (bool(found.first), bool(found.end)) == tells
    for first, end in zip(found.first, found.end, strict=False):
        assert first is not None
        assert end is not None
        assert first <= end


def test_a_bare_lookup_is_heard_of_before_its_end(network: Network, keys: list[bytes]) -> None:
    bare, heard = Bare(network.addresses, serve=False), list[Heard]()
    while not bare.get(keys[:1])[keys[0]]:
        """It does not know the swarm yet."""
    bare.look_up(keys[1:2], lambda one, seconds: heard.append(one))
    assert [one.ended for one in heard][-2:] == [False, True]
    assert {one.value for one in heard} == {VALUE}


async def test_a_direct_carriers_datagrams_are_those_of_both_its_sockets(
    network: Network, keys: list[bytes]
) -> None:
    async def query(key: bytes, on_first: OnFirst) -> bool:
        raise AssertionError("nobody looks anything up here")

    async with libtorrent_node(network.addresses, WINDOW) as node, direct_beside(node) as direct:
        client = Asked(query, direct, ())
        before, own = await client.datagrams(), direct.core.traffic.datagrams_out
        await node.get(keys[0], b"", ignore, LIMIT)
        assert direct.core.traffic.datagrams_out == own
        assert await client.datagrams() > before + 8
        between = await client.datagrams()
        await direct.get(keys[0], b"", ignore, LIMIT)
        assert await client.datagrams() > between + 8


async def test_a_value_that_came_counts_where_the_end_did_not() -> None:
    async def query(key: bytes, on_first: OnFirst) -> bool:
        on_first()
        return False

    times = await closed_loop(query, Order([NOBODYS], WINDOW, LIMIT))
    assert times.first[0] is not None
    assert times.end == [None]


def test_a_wrong_answer_ends_the_round(
    network: Network, keys: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if reasons := driven.foreign_missing():
        missing(reasons[0])
    monkeypatch.setattr(driven, "VALUE", b"something else")  # what bittorrent-dht is told to expect
    monkeypatch.setattr(driven, "OURS", ())
    with clients(network) as others, pytest.raises(RuntimeError, match="it ended"):
        run(others[FOREIGN], Order(keys, WINDOW, LIMIT))


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


def a_round(*end: float | None, first: Sequence[float | None] = ()) -> Round:
    return Round(first, end, LIMIT, cpu=0.001, seconds=0.01, datagrams=16.0)


def test_what_is_not_answered_counts_as_the_limit() -> None:
    half = [a_round(*[0.1] * 50, *[None] * 50, first=[0.05] * 100)]
    assert percentile(half, 50, END) == 0.1
    assert percentile(half, 51, END) == LIMIT
    assert percentile(half, 100, FIRST) == 0.05
    assert curves({BARE: half}) == {
        BARE: [0.1] * (50 // STEP),
        f"{BARE}, first value": [0.05] * (99 // STEP),
    }


def test_a_ratio_is_that_of_rounds_that_followed_each_other() -> None:
    ours, theirs = [a_round(0.1), a_round(0.4)], [a_round(0.2), a_round(0.4)]
    rounds = {**dict.fromkeys(OURS, ours), BARE: theirs}
    rows = {one.what: one for one in ratios("x", rounds, P99S)}
    assert len(rows) == len(OURS)  # bittorrent-dht was not there
    row = rows[f"x: lookup's end, p99, {OURS[0]} / {BARE}"]
    assert (row.low, row.figure, row.high, row.direction) == (0.5, 0.75, 1.0, "lower")


def test_a_peer_that_answered_nothing_is_compared_with_nothing() -> None:
    ours, theirs = [a_round(0.1)], [a_round(None)]
    rows = ratios("x", {**dict.fromkeys(OURS, ours), BARE: theirs}, [ANSWERED])
    assert [(row.figure, row.note) for row in rows] == [
        (None, f"{BARE} answered nothing") for _ in OURS
    ]


def test_a_first_value_is_compared_with_first_values_only() -> None:
    rounds = {
        "direct carrier": [a_round(0.4, first=[0.1])],
        "Node.query": [a_round(0.4)],
        "Node.query, cache-first": [a_round(first=[0.3])],
        BARE: [a_round(0.8, first=[0.2])],
        FOREIGN: [a_round(0.8)],
    }
    rows = {one.what: one.figure for one in ratios("x", rounds, [*P99S, CPU])}
    assert {what: figure for what, figure in rows.items() if "p99" in what} == {
        f"x: first value, p99, direct carrier / {BARE}": 0.5,
        f"x: first value, p99, Node.query, cache-first / {BARE}": pytest.approx(1.5),
        f"x: lookup's end, p99, direct carrier / {BARE}": 0.5,
        f"x: lookup's end, p99, Node.query / {BARE}": 0.5,
        f"x: lookup's end, p99, direct carrier / {FOREIGN}": 0.5,
        f"x: lookup's end, p99, Node.query / {FOREIGN}": 0.5,
    }
    assert f"x: CPU a query, Node.query, cache-first / {BARE}" not in rows  # it waits for no end
    shown = {one.what: one.figure for one in plain("x", rounds, [*P99S, CPU])}
    assert shown["x: CPU a query, Node.query, cache-first"] == 1000
    assert "x: lookup's end, p99, Node.query, cache-first" not in shown


def test_the_spread_of_carriers_is_the_lowest_and_highest() -> None:
    rates = {"ours": [1.0, 2.0, 3.0, 4.0, 9.0], BARE: [1.0] * 5}
    row = row_of("gets", "ours", rates)
    assert (row.low, row.figure, row.high) == (1, 3, 9)
