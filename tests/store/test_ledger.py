"""The ledger on real SQLite files: no seq falls or has two values, and kill -9 loses nothing."""

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.errors import Conflict, StoreError
from dhtmeta.store.due import Looked
from dhtmeta.store.ledger import NEVER, Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NOW = 1_800_000_000.0
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
SEQS, VALUES = range(4), (b"one", b"two")


def signed(seq: int, value: bytes = b"x", identity: Identity = ALICE) -> SignedItem:
    return SignedItem.sign(identity, encode_value(value), seq)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as one:
        yield one


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = await Store.open(str(path), lambda: NOW)
    try:
        yield store
    finally:
        await store.close()


async def test_what_was_reserved_is_there_after_a_restart_and_unfinished(path: Path) -> None:
    item = signed(1)
    async with opened(path) as store:
        await Ledger(store).reserve(item)
    async with opened(path) as store:
        entry = await Ledger(store).newest(item.target)
        assert entry is not None
        assert (entry.item, entry.state, entry.copies) == (item, State.RESERVED, 0)
        assert [one async for one in Ledger(store).unfinished()] == [[item.target]]


async def test_what_was_confirmed_is_stored_and_no_longer_unfinished(store: Store) -> None:
    ledger, item = Ledger(store), signed(1)
    await ledger.reserve(item)
    await ledger.confirm(item, 20, NOW + 3600, NOW)
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert (entry.state, entry.copies, entry.next_due) == (State.STORED, 20, NOW + 3600)
    assert [one async for one in ledger.unfinished()] == []


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (signed(4), "seq 5 of target .* was published, above 4"),
        (signed(5, b"other"), "another value under seq 5"),
    ],
)
@pytest.mark.parametrize("state", State)
async def test_a_lower_seq_and_a_second_value_are_refused(
    store: Store, state: State, refused: SignedItem, message: str
) -> None:
    ledger, item = Ledger(store), signed(5)
    await ledger.reserve(item)
    if state is State.STORED:
        await ledger.confirm(item, 8, NOW, NOW)
    if state is State.SUPERSEDED:
        await ledger.supersede(item, "the network is newer")
    with pytest.raises(Conflict, match=message) as no:
        await ledger.reserve(refused)
    assert no.value.ledger_seq == 5
    await ledger.confirm(refused, 8, NOW, NOW)  # what went past the ledger does not go into it
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert (entry.item, entry.state) == (item, state)


async def test_the_same_bytes_may_come_again(store: Store) -> None:
    ledger, item = Ledger(store), signed(5)
    await ledger.reserve(item)
    await ledger.confirm(item, 8, NOW + 9, NOW, holders=b"h")
    await ledger.reserve(item)
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert (entry.item, entry.state, entry.copies, entry.holders) == (item, State.STORED, 8, b"h")
    await ledger.reserve(signed(6))
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert (entry.item.seq, entry.state, entry.copies) == (6, State.RESERVED, 0)


@pytest.mark.parametrize("verb", ["fail", "supersede"])
async def test_what_was_kept_stays_kept_when_a_newer_one_fails(store: Store, verb: str) -> None:
    ledger, old, new = Ledger(store), signed(5), signed(6)
    await ledger.confirm(old, 8, NOW + 9000, NOW)
    await ledger.reserve(new)
    assert await ledger.next_due() is None  # it is under way
    await getattr(ledger, verb)(new, "not now", NOW + 60)
    entry = await ledger.newest(new.target)
    assert entry is not None
    assert (entry.item, entry.state, entry.last_error) == (new, State.STORED, "not now")
    assert await ledger.next_due() == NOW + 60


async def test_a_visitor_changes_nothing_about_what_is_kept(store: Store) -> None:
    ledger, item = Ledger(store), signed(5)
    await ledger.confirm(item, 8, NOW + 900, NOW)
    for due in (NOW + 9000, NOW + 9, NEVER):
        await ledger.reserve(item, origin="http")
        assert await ledger.next_due() == NOW + 900
        await ledger.confirm(item, 8, due, NOW, origin="http")
        assert await ledger.next_due() == NOW + 900
    await ledger.confirm(signed(6), 8, NOW + 9000, NOW, origin="http")  # its owner's, by that way
    assert await ledger.next_due() == NOW + 900


async def test_why_it_failed_is_noted_and_it_stays_unfinished(store: Store) -> None:
    ledger, item = Ledger(store), signed(1)
    await ledger.reserve(item)
    await ledger.fail(item, "no node accepted it")
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert (entry.state, entry.last_error) == (State.RESERVED, "no node accepted it")
    await ledger.confirm(item, 8, NOW, NOW)
    entry = await ledger.newest(item.target)
    assert entry is not None
    assert entry.last_error is None


async def test_what_is_noted_of_one_item_does_not_touch_the_next(store: Store) -> None:
    ledger, first, second = Ledger(store), signed(1), signed(2)
    await ledger.reserve(first)
    await ledger.reserve(second)
    await ledger.supersede(first, "too late")
    await ledger.confirm(second, 8, NOW, NOW)
    await ledger.fail(second, "too late")
    entry = await ledger.newest(second.target)
    assert entry is not None
    assert (entry.item, entry.state, entry.last_error) == (second, State.STORED, None)


async def test_unfinished_rows_come_in_bounded_batches_each_once(store: Store) -> None:
    ledger = Ledger(store)
    items = [signed(1, identity=Identity.generate()) for _ in range(7)]
    for item in items:
        await ledger.reserve(item)
    await ledger.confirm(items[0], 8, NOW, NOW)
    await ledger.supersede(items[1], "newer")
    batches = []
    async for batch in ledger.unfinished(2):
        batches.append(batch)
        await ledger.fail(items[2], "still not")  # it stays, and does not come again
    assert [len(batch) for batch in batches] == [2, 2, 1]
    came = [target for batch in batches for target in batch]
    assert sorted(came) == sorted(item.target for item in items[2:])


async def test_a_reserved_seq_is_no_floor_and_a_stored_one_is(path: Path) -> None:
    reserved, kept = signed(7), signed(8, identity=BOB)
    async with opened(path) as store:
        await Ledger(store).reserve(reserved)
        await Ledger(store).confirm(kept, 8, NOW, NOW)
    async with opened(path) as store:
        assert store.floors == {kept.target: 8}


async def test_a_damaged_reserved_row_is_named(store: Store, path: Path) -> None:
    item = signed(1)
    await Ledger(store).reserve(item)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("update ledger set state = 'lost'")
    with pytest.raises(StoreError, match=rf"{item.target.hex()}.*damaged.*'lost'"):
        await Ledger(store).newest(item.target)


Step = tuple[str, int, bytes, Identity, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve", "confirm", "never", "note", "aside", "fail", "supersede", "due", "reopen"]
        ),
        st.sampled_from(SEQS),
        st.sampled_from(VALUES),
        st.sampled_from([ALICE, BOB]),
        st.sampled_from([0, 1]),  # which of two processes on the store
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_sequence_lowers_a_seq_or_changes_the_value_under_one(steps: list[Step]) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_walk(Path(directory) / "store.db", steps))


async def _walk(path: Path, steps: list[Step]) -> None:
    stores = [await Store.open(str(path), lambda: NOW) for _ in range(2)]
    held: dict[bytes, SignedItem] = {}
    try:
        for verb, seq, value, identity, which in steps:
            if verb == "reopen":
                await stores[which].close()
                stores[which] = await Store.open(str(path), lambda: NOW)
                continue
            item = signed(seq, value, identity)
            await _step(Ledger(stores[which]), verb, item, held)
            for store in stores:
                entry = await Ledger(store).newest(item.target)
                assert (entry and entry.item) == held.get(item.target)
                assert entry is None or entry.copies in (0, entry.item.seq)  # of no other item
    finally:
        for store in stores:
            await store.close()


async def _step(ledger: Ledger, verb: str, item: SignedItem, held: dict[bytes, SignedItem]) -> None:
    """Do one thing, and have `held` say what the ledger must hold afterwards."""
    before = held.get(item.target)
    allowed = before is None or item.seq > before.seq or item == before
    if verb == "reserve" and not allowed:
        with pytest.raises(Conflict):
            await ledger.reserve(item)
    else:
        await VERBS[verb](ledger, item)
    if allowed and verb in ("reserve", "confirm", "never"):
        held[item.target] = item


def looked(item: SignedItem) -> Looked:
    return Looked(item.target, item.seq, item.seq, b"h", NOW + 5, NOW, None)


VERBS: dict[str, Callable[[Ledger, SignedItem], Awaitable[object]]] = {
    "reserve": lambda ledger, item: ledger.reserve(item),
    "confirm": lambda ledger, item: ledger.confirm(item, item.seq, NOW, NOW),
    "never": lambda ledger, item: ledger.confirm(item, item.seq, NEVER, NOW, origin="http"),
    "note": lambda ledger, item: ledger.note([looked(item)]),
    "aside": lambda ledger, item: ledger.set_aside(item.target, "as if it were damaged"),
    "fail": lambda ledger, item: ledger.fail(item, "because"),
    "supersede": lambda ledger, item: ledger.supersede(item, "because"),
    "due": lambda ledger, item: ledger.make_due(NOW, NOW + 1),
}


RACE = """
import asyncio, sys
from dhtmeta.errors import Conflict
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

async def main(path, value):
    store = await Store.open(path, lambda: 1.8e9)
    print("ready", flush=True)
    sys.stdin.readline()
    for seq in range(1, 41):
        try:
            await Ledger(store).reserve(
                SignedItem.sign(Identity(b"a" * 32), encode_value(value), seq)
            )
            print(seq, flush=True)
        except Conflict:
            pass
    if value == b"hold":
        print("reserved", flush=True)
        sys.stdin.readline()
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2].encode()))
"""


async def racer(path: Path, value: str) -> asyncio.subprocess.Process:
    """Start a process that will reserve seqs under one key, each with its own value."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RACE, str(path), value), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_two_processes_never_reserve_two_values_under_one_seq(path: Path) -> None:
    racers = [await racer(path, value) for value in ("one", "two")]
    for process in racers:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    won = [set((await process.communicate())[0].split()) for process in racers]
    assert [process.returncode for process in racers] == [0, 0]
    assert not won[0] & won[1]
    assert b"40" in won[0] | won[1]  # somebody got the last one: both refusing would be too strict


async def test_kill_9_loses_nothing_that_was_reserved(path: Path) -> None:
    process = await racer(path, "hold")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"go\n")
    while await process.stdout.readline() != b"reserved\n":
        pass
    process.kill()
    await process.wait()
    process.stdin.close()
    async with opened(path) as store:
        entry = await Ledger(store).newest(ALICE.peer_id)
    assert entry is not None
    assert (entry.item, entry.state) == (signed(40, b"hold"), State.RESERVED)
