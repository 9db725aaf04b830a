"""The store on real SQLite files: what survives, what is refused, and what a bad disk costs."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from dhtmeta.const import MAX_AHEAD, SEQ_FLOOR_KEPT
from dhtmeta.errors import CallerError, StoreError
from dhtmeta.store.ledger import NEVER, Ledger
from dhtmeta.store.store import MEMORY, Store
from dhtmeta.store.tables import SCHEMA_VERSION
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NetworkInfo, NodeRecord

NOW = 1_800_000_000.0


def signed(value: bytes = b"x", seq: int = 1, identity: Identity | None = None) -> SignedItem:
    return SignedItem.sign(identity or Identity.generate(), encode_value(value), seq)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(str(path), lambda: NOW)
    yield opened
    await opened.close()


@contextlib.contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Hold the write lock of SQLite, as another process would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


def stored(path: Path, query: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def reopened(path: Path, now: float = NOW) -> Store:
    store = await Store.open(str(path), lambda: now)
    await store.close()
    return store


async def test_what_was_kept_is_there_after_a_restart(store: Store, path: Path) -> None:
    item = signed(b"kept", 7)
    store.keep_item(item.target, item, NOW - 5, NOW + 100)
    store.keep_floor(item.target, 7, NOW)
    record = NodeRecord(network_info=NetworkInfo(is_relay=True)).completed(item.public_key, 1)
    store.keep_peer(item.public_key, record, "query", NOW)
    await store.close()
    again = await reopened(path)
    row = again.items[item.target]
    assert SignedItem.verified(item.target, *row[:5]) == item
    assert row.fetched_at == NOW - 5
    assert again.floors == {item.target: 7}
    assert {peer: known.public_key for peer, known in again.peers.items()} == {
        item.target: item.public_key
    }


async def test_what_expired_is_not_loaded_and_old_floors_end(store: Store, path: Path) -> None:
    item, other = signed(), signed()
    store.keep_item(item.target, item, NOW, NOW + 10)
    store.keep_item(other.target, other, NOW, NOW + 1000)
    store.keep_floor(item.target, 1, NOW - SEQ_FLOOR_KEPT)
    store.keep_floor(other.target, 1, NOW)
    await store.close()
    again = await reopened(path, NOW + 11)
    assert list(again.items) == [other.target]
    assert list(again.floors) == [other.target]


async def test_the_last_word_on_a_key_wins(store: Store, path: Path) -> None:
    item = signed()
    store.keep_item(item.target, item, NOW, NOW + 10)
    await store.flush()
    store.drop_item(item.target)
    store.keep_floor(item.target, 1, NOW)
    store.keep_floor(item.target, 9, NOW)
    await store.close()
    again = await reopened(path)
    assert again.items == {}
    assert again.floors == {item.target: 9}


async def test_a_peer_keeps_the_time_it_was_first_seen(store: Store, path: Path) -> None:
    item = signed()
    record = NodeRecord().completed(item.public_key, 1)
    for now in (NOW, NOW + 50):
        store.keep_peer(item.public_key, record, "query", now)
        await store.flush()
    await store.close()
    with sqlite3.connect(path) as connection:
        seen = connection.execute("select first_seen, last_seen from known_peers").fetchall()
    connection.close()
    assert seen == [(NOW, NOW + 50)]


async def test_thousands_of_rows_go_in_batches(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.STORE_CLOSE_DEADLINE", 60.0)  # the disk may be busy
    targets = [os.urandom(20) for _ in range(2500)]
    for seq, target in enumerate(targets):
        store.keep_floor(target, seq, NOW)
    await store.close()
    assert len((await reopened(path)).floors) == 2500


async def test_a_store_in_memory_touches_no_file(tmp_path: Path) -> None:
    store = await Store.open(MEMORY, lambda: NOW)
    await Ledger(store).confirm(signed(), 8, NOW, NOW)
    await store.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but long enough to look like one " * 20)
    with pytest.raises(StoreError, match=rf"{path}.*damaged.*move it aside"):
        await Store.open(str(path), lambda: NOW)
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot make .*file/deep"):
        await Store.open(str(tmp_path / "file" / "deep" / "store.db"), lambda: NOW)


async def test_a_path_that_is_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"unable to open.*may write"):
        await Store.open(str(tmp_path), lambda: NOW)


async def test_a_newer_schema_is_refused_and_left_as_it_was(store: Store, path: Path) -> None:
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("update schema set version = ?", (SCHEMA_VERSION + 1,))
    connection.close()
    with pytest.raises(StoreError, match=rf"newer dhtmeta .schema {SCHEMA_VERSION + 1}.*upgrade"):
        await Store.open(str(path), lambda: NOW)


@pytest.mark.parametrize("url", ["postgresql+asyncpg://host/db", "mysql://host/db", "://"])
async def test_other_databases_are_refused_by_name(url: str) -> None:
    with pytest.raises(CallerError, match=r"sqlite|is no store"):
        await Store.open(url, lambda: NOW)


async def test_rows_wait_while_the_disk_fails_and_are_written_after(
    store: Store, path: Path
) -> None:
    item = signed()
    store.keep_item(item.target, item, NOW, NOW + 10)
    with held_by_another(path), pytest.raises(StoreError, match="another process holds it"):
        await store.flush()
    failure = store.failure
    await store.flush()
    assert failure is not None
    assert store.failure is None
    await store.close()
    assert item.target in (await reopened(path)).items


async def test_the_ledger_remembers_the_newest_and_never_a_lower_seq(
    store: Store, path: Path
) -> None:
    identity = Identity.generate()
    ledger = Ledger(store)
    assert await ledger.newest(identity.peer_id) is None
    newer, older = signed(b"new", 5, identity), signed(b"old", 4, identity)
    await ledger.confirm(newer, 8, NOW + 3600, NOW)
    await ledger.confirm(older, 20, NOW, NOW)
    await store.close()
    again = await Store.open(str(path), lambda: NOW)
    entry = await Ledger(again).newest(identity.peer_id)
    await again.close()
    assert entry is not None
    assert (entry.item, entry.copies, entry.next_due) == (newer, 8, NOW + 3600)


async def test_a_ledger_commit_is_on_disk_when_it_returns(store: Store, path: Path) -> None:
    item = signed()
    await Ledger(store).confirm(item, 8, NOW, NOW)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as other:
        assert other.execute("select seq from ledger").fetchall() == [(1,)]
    other.close()
    async with store.engine.connect() as connection:
        mode = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
        journal = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
    assert (mode, journal) == (2, "wal")  # FULL: fsync at every commit


@pytest.mark.parametrize("damage", ["seq = seq + 1", "v = x'00'", "sig = x''", "public_key = null"])
async def test_a_damaged_ledger_row_is_named_and_no_seq_is_guessed(
    store: Store, path: Path, damage: str
) -> None:
    item = signed()
    await Ledger(store).confirm(item, 8, NOW, NOW)
    with sqlite3.connect(path) as connection:
        connection.execute("pragma ignore_check_constraints = 1")
        try:
            connection.execute(f"update ledger set {damage}")
        except sqlite3.IntegrityError:
            connection.execute("update ledger set public_key = ''")
    connection.close()
    with pytest.raises(StoreError, match=rf"{item.target.hex()}.*damaged.*backup"):
        await Ledger(store).newest(item.target)


async def test_what_has_a_cap_keeps_only_the_newest(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.SEQ_FLOORS", 3)
    store = await Store.open(str(path), lambda: NOW)
    targets = [os.urandom(20) for _ in range(5)]
    for i, target in enumerate(targets):
        store.keep_floor(target, i, NOW + i)
    await store.flush()
    await store.clean_up()
    await store.close()
    assert list((await reopened(path)).floors) == targets[2:]


async def test_of_equal_ages_the_cap_still_keeps_as_many_as_it_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.SEQ_FLOORS", 3)
    store = await Store.open(str(path), lambda: NOW)
    for seq in range(5):
        store.keep_floor(os.urandom(20), seq, NOW)
    await store.flush()
    await store.clean_up()
    await store.close()
    assert stored(path, "select count(*) from seq_floor") == [(3,)]


async def test_first_starts_at_the_same_time_all_open_the_store(tmp_path: Path) -> None:
    for n in range(5):
        path = tmp_path / f"{n}.db"
        stores = await asyncio.gather(*(Store.open(str(path), lambda: NOW) for _ in range(4)))
        await asyncio.gather(*(store.close() for store in stores))
        assert stored(path, "select version from schema") == [(SCHEMA_VERSION,)]


async def test_another_process_does_not_lower_a_floor_or_a_cached_item(
    store: Store, path: Path
) -> None:
    identity = Identity.generate()
    other = await Store.open(str(path), lambda: NOW)
    for one, seq in ((other, 5), (store, 4)):
        item = signed(b"%d" % seq, seq, identity)
        one.keep_item(item.target, item, NOW, NOW + 100)
        one.keep_floor(item.target, seq, NOW)
        await one.close()
    again = await reopened(path)
    assert again.floors == {identity.peer_id: 5}
    assert again.items[identity.peer_id].seq == 5


async def test_closing_waits_for_nobody_and_says_what_is_lost(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep_floor(bytes(20), 1, NOW)
    with held_by_another(path):
        async with asyncio.timeout(2.5):  # neither BUSY_TIMEOUT nor STORE_CLOSE_DEADLINE
            await store.close()
    assert f"1 rows of cache were not written to {path}" in caplog.text
    assert (await reopened(path)).floors == {}


async def test_a_row_pushed_out_while_it_is_deleted_harms_nothing(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.WRITE_BEHIND_PENDING", 1)
    store.drop_item(bytes(20))
    flushing = asyncio.create_task(store.flush())
    await asyncio.sleep(0)  # the batch is under way
    store.keep_floor(bytes(20), 1, NOW)
    await flushing
    await store.close()
    assert (await reopened(path)).floors == {bytes(20): 1}


async def test_rows_that_sqlite_cannot_take_do_not_end_the_writing(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.WRITE_BEHIND_ROWS", 1)  # each wakes the writer
    store.keep_floor(bytes(20), 2**64, NOW)
    store.keep_floor(b"b" * 20, 1, NOW)
    async with asyncio.timeout(5):
        while not stored(path, "select seq from seq_floor"):
            await asyncio.sleep(0.01)
    assert "1 rows that" in caplog.text
    await store.close()
    assert (await reopened(path)).floors == {b"b" * 20: 1}


async def test_a_floor_lost_in_a_crash_is_that_of_the_ledger(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, foreign = signed(b"own", 2), signed(b"seen above", 3)
    store.keep_floor(item.target, 1, NOW - 50)
    store.keep_floor(foreign.target, 9, NOW - 40)
    store.keep_floor(b"later" * 4, 1, NOW)
    for own, now in ((item, NOW), (foreign, NOW - 5)):
        await Ledger(store).confirm(own, 8, NOW, now)
    await store.close()
    again = await reopened(path)
    assert again.floors == {b"later" * 4: 1, item.target: 2, foreign.target: 9}
    assert next(iter(again.floors)) == b"later" * 4  # what is published is forgotten last
    monkeypatch.setattr("dhtmeta.store.store.SEQ_FLOORS", 1)
    assert (await reopened(path)).floors == {item.target: 2}  # the newest of them


async def test_a_row_from_the_future_is_dropped(store: Store, path: Path) -> None:
    nearly, wrong = signed(), signed()
    store.keep_item(nearly.target, nearly, NOW + MAX_AHEAD, NOW + 9000)
    store.keep_item(wrong.target, wrong, NOW + MAX_AHEAD + 1, NOW + 9000)
    await store.close()
    assert list((await reopened(path)).items) == [nearly.target]


@pytest.mark.parametrize("name", ["a?b.db", "a%20b.db", "a#b.db", "a b.db", "?mode=ro"])
async def test_a_path_is_taken_as_it_stands(tmp_path: Path, name: str) -> None:
    await reopened(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("url", ["a.db", MEMORY])
async def test_a_closed_store_stays_closed(tmp_path: Path, url: str) -> None:
    store = await Store.open(url if url == MEMORY else str(tmp_path / url), lambda: NOW)
    await store.close()
    with pytest.raises(StoreError, match="is closed"):
        await Ledger(store).newest(bytes(20))
    with pytest.raises(StoreError, match="is closed"):
        await Ledger(store).confirm(signed(), 8, NOW, NOW)
    await store.close()


def damage(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        assert other.execute(statement).rowcount == 1


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("metadata_cache", "target = 'text'"),
        ("metadata_cache", "seq = 'abc'"),
        ("metadata_cache", "seq = x'00'"),
        ("metadata_cache", "v = 'abc'"),
        ("metadata_cache", "v = cast(x'ff' as text)"),
        ("metadata_cache", "salt = 7"),
        ("metadata_cache", "expires_at = 'late'"),
        ("seq_floor", "target = 'text'"),
        ("seq_floor", "seq = 'abc'"),
        ("seq_floor", "seq = x'00'"),
        ("seq_floor", "seq = 1.5"),
        ("known_peers", "peer_id = 'zz'"),
        ("known_peers", "peer_id = 'z' || substr(peer_id, 2)"),
        ("known_peers", "peer_id = peer_id || char(0) || 'zz'"),
        ("known_peers", "peer_id = cast(x'ff' as text)"),
        ("known_peers", "public_key = 'abc'"),
    ],
)
async def test_a_damaged_row_of_cache_is_dropped_and_all_others_are_there(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture, table: str, change: str
) -> None:
    items = sorted((signed(seq=3), signed(seq=3)), key=lambda item: item.target)
    for item in items:
        store.keep_item(item.target, item, NOW, NOW + 100)
        store.keep_floor(item.target, 3, NOW)
        store.keep_peer(item.public_key, NodeRecord().completed(item.public_key, 1), "query", NOW)
    await store.close()
    key = "peer_id" if table == "known_peers" else "target"
    damage(path, f"update {table} set {change} where {key} = (select min({key}) from {table})")
    again = await reopened(path)
    held: dict[str, Iterable[bytes]] = {
        "metadata_cache": again.items,
        "seq_floor": again.floors,
        "known_peers": again.peers,
    }
    both = {item.target for item in items}
    assert {name: set(there) for name, there in held.items()} == {
        name: {items[1].target} if name == table else both for name in held
    }
    assert caplog.messages == [f"dropped 1 damaged rows of cache in {path}"]
    assert stored(path, f"select count(*) from {table}") == [(1,)]
    await reopened(path)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("change", ["seq = 'abc'", "seq = x'00'", "seq = 1.5", "target = 'text'"])
async def test_a_damaged_row_of_the_ledger_sets_no_floor_and_stays(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    items = signed(seq=3), signed(seq=4)
    for item in items:
        await Ledger(store).confirm(item, 8, NOW, NOW)
    store.keep_floor(items[0].target, 2, NOW)
    await store.close()
    damage(path, f"update ledger set {change} where seq = 3")
    again = await reopened(path)
    assert again.floors == {items[0].target: 2, items[1].target: 4}
    assert f"1 damaged rows of the ledger in {path} set no floor" in caplog.messages
    assert stored(path, "select count(*) from ledger") == [(2,)]


@pytest.mark.parametrize("version", ["'two'", "x'02'", "0"])
async def test_a_schema_that_is_none_is_said(store: Store, path: Path, version: str) -> None:
    await store.close()
    damage(path, f"update schema set version = {version}")
    with pytest.raises(StoreError, match=r"is damaged .schema .*backup"):
        await Store.open(str(path), lambda: NOW)


async def put_by_a_visitor(ledger: Ledger, last_ok: float | None, due: float = NEVER) -> bytes:
    item = signed()
    await ledger.reserve(item, origin="http")
    if last_ok is not None:
        await ledger.confirm(item, 8, due, last_ok, origin="http")
    return item.target


async def targets(ledger: Ledger, of: list[bytes]) -> list[bytes]:
    return [target for target in of if await ledger.newest(target) is not None]


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_what_visitors_put_and_nobody_keeps_is_let_go_when_it_is_old(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.HTTP_ROWS_DROPPED", batch)
    ledger, old = Ledger(store), NOW - SEQ_FLOOR_KEPT
    own, mend = signed(), signed()
    await ledger.confirm(own, 8, NEVER, old)
    await ledger.confirm(mend, 8, NOW, old, origin="http")
    await ledger.set_aside(mend.target, "because")
    stay = [
        await put_by_a_visitor(ledger, old + 1),
        await put_by_a_visitor(ledger, old, NOW),
        await put_by_a_visitor(ledger, None),
        own.target,
        mend.target,
    ]
    go = [await put_by_a_visitor(ledger, old - n) for n in range(3)]
    await store.forget_passing()
    assert await targets(ledger, stay + go) == stay


@pytest.mark.parametrize("batch", [1, 2, 1000])
async def test_beyond_a_cap_what_visitors_put_goes_the_oldest_first(
    store: Store, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.HTTP_ROWS", 2)
    monkeypatch.setattr("dhtmeta.store.store.HTTP_ROWS_DROPPED", batch)
    ledger, own = Ledger(store), signed()
    await ledger.confirm(own, 8, NEVER, NOW - 99)
    passing = [await put_by_a_visitor(ledger, NOW - n) for n in range(4)]
    passing.append(await put_by_a_visitor(ledger, None))
    kept = await put_by_a_visitor(ledger, NOW - 99, NOW + 9)
    await store.forget_passing()
    assert await targets(ledger, [own.target, kept, *passing]) == [own.target, kept, *passing[:2]]


async def test_an_open_store_lets_go_by_itself(path: Path) -> None:
    now = NOW
    store = await Store.open(str(path), lambda: now, cleanup_interval=0.01)
    target = await put_by_a_visitor(Ledger(store), NOW)
    now += SEQ_FLOOR_KEPT
    async with asyncio.timeout(10):
        while await Ledger(store).newest(target) is not None:
            await asyncio.sleep(0.01)
    await store.close()


async def test_known_peers_stand_in_the_order_they_were_seen_whoever_lists_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.store.KNOWN_PEERS", 3)
    first, second, third, fourth = (Identity.generate() for _ in range(4))
    for one in (first, second, third, first):
        record = NodeRecord().completed(one.public_key, 1)
        store.keep_peer(one.public_key, record, "query", NOW)
    assert list(store.peers) == [second.peer_id, third.peer_id, first.peer_id]
    assert store.peers.get(second.peer_id) is not None  # to look is not to see
    store.keep_peer(fourth.public_key, NodeRecord().completed(fourth.public_key, 1), "query", NOW)
    assert list(store.peers) == [third.peer_id, first.peer_id, fourth.peer_id]
