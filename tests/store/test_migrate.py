"""Stores of older schemas: real files by the old DDL, backed up before anything is changed."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from dhtmeta.errors import StoreError
from dhtmeta.store import migrate
from dhtmeta.store.ledger import AT_ONCE, Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.tables import SCHEMA_VERSION, State
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NOW = 1_800_000_000.0
ALICE = Identity(b"a" * 32)
STORED = SignedItem.sign(ALICE, encode_value(b"stored"), 7, b"one")
RESERVED = SignedItem.sign(ALICE, encode_value(b"reserved"), 8, b"two")

# What dhtmeta 0.1 wrote, to the letter.
VERSION_1 = """
CREATE TABLE schema (version INTEGER NOT NULL);
CREATE TABLE known_peers (
    peer_id VARCHAR(40) NOT NULL, public_key BLOB NOT NULL, topic VARCHAR NOT NULL,
    dht_node_id VARCHAR(40) NOT NULL, is_relay INTEGER NOT NULL, source VARCHAR NOT NULL,
    first_seen FLOAT NOT NULL, last_seen FLOAT NOT NULL, PRIMARY KEY (peer_id)
);
CREATE TABLE metadata_cache (
    target BLOB NOT NULL, public_key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL,
    v BLOB NOT NULL, sig BLOB NOT NULL, fetched_at FLOAT NOT NULL, expires_at FLOAT NOT NULL,
    PRIMARY KEY (target)
);
CREATE INDEX metadata_cache_expires ON metadata_cache (expires_at);
CREATE TABLE ledger (
    target BLOB NOT NULL, public_key BLOB NOT NULL, salt BLOB NOT NULL, seq INTEGER NOT NULL,
    v BLOB NOT NULL, sig BLOB NOT NULL, state VARCHAR NOT NULL, copies INTEGER NOT NULL,
    next_due FLOAT NOT NULL, last_ok FLOAT, last_error VARCHAR, PRIMARY KEY (target)
);
CREATE INDEX ledger_next_due ON ledger (next_due);
CREATE TABLE seq_floor (
    target BLOB NOT NULL, seq INTEGER NOT NULL, seen_at FLOAT NOT NULL, PRIMARY KEY (target)
);
CREATE INDEX seq_floor_seen ON seq_floor (seen_at);
INSERT INTO schema VALUES (1);
"""


def row(item: SignedItem, *rest: object) -> tuple[object, ...]:
    return (item.target, item.public_key, item.salt, item.seq, item.v, item.sig, *rest)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store as the first version left it, in WAL mode, with two rows of ledger."""
    path = tmp_path / "store.db"
    rows = [
        row(STORED, "stored", 20, NOW + 5, NOW - 5, None),
        row(RESERVED, "reserved", 0, 0.0, None, "no node accepted it"),
    ]
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode=WAL")
        old.executescript(VERSION_1)
        with old:
            old.executemany(f"INSERT INTO ledger VALUES ({','.join('?' * 11)})", rows)
    path.chmod(0o600)
    return path


def asked(path: Path, query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as one:
        return one.execute(query).fetchall()


def schema_of(path: Path) -> set[tuple[Any, ...]]:
    """Return tables with their columns, and indexes with the statement that made them."""
    tables = asked(path, "select name from sqlite_master where type = 'table'")
    columns = [(name, *c[1:4]) for (name,) in tables for c in asked(path, _columns(name))]
    return {*columns, *asked(path, "select sql from sqlite_master where type = 'index'")}


def _columns(table: str) -> str:
    return f"PRAGMA table_info({table})"


async def opened(path: Path) -> Store:
    return await Store.open(str(path), lambda: NOW)


async def closed(path: Path) -> None:
    await (await opened(path)).close()


def backups(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if "schema" in one.name)


def is_version_1(path: Path) -> bool:
    columns = [column[1] for column in asked(path, "PRAGMA table_info(ledger)")]
    return asked(path, "select version from schema") == [(1,)] and "origin" not in columns


async def test_an_older_store_is_upgraded_with_all_it_knows(path: Path) -> None:
    store = await opened(path)
    ledger = Ledger(store)
    entry = await ledger.newest(STORED.target)
    assert entry is not None
    assert (entry.item, entry.state, entry.copies, entry.next_due) == (
        STORED,
        State.STORED,
        20,
        NOW + 5,
    )
    assert (entry.last_ok, entry.holders, entry.origin) == (NOW - 5, None, "local")
    waiting = await ledger.newest(RESERVED.target)
    assert waiting is not None
    assert (waiting.item, waiting.next_due) == (RESERVED, AT_ONCE)
    assert [one async for one in ledger.unfinished()] == [[RESERVED.target]]
    assert [one.item for one in (await ledger.due(NOW + 9, 9)).entries] == [STORED]
    await store.close()


async def test_an_upgraded_store_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    await closed(path)
    await closed(tmp_path / "new.db")
    assert schema_of(path) == schema_of(tmp_path / "new.db")
    assert asked(path, "select version from schema") == [(SCHEMA_VERSION,)]


async def test_what_it_was_is_kept_beside_it_and_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = asked(path, "select * from ledger order by target")
    await closed(path)
    backup = path.with_name("store.db.schema-1.backup")
    assert backups(path) == [backup.name]
    assert is_version_1(backup)
    assert asked(backup, "select * from ledger order by target") == rows
    assert backup.stat().st_mode & 0o777 == 0o600
    assert f"upgraded from schema 1 to {SCHEMA_VERSION}" in caplog.text
    assert str(backup) in caplog.text


async def test_what_only_the_log_of_writes_holds_is_in_the_backup(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as old:
        with old:
            old.execute("UPDATE ledger SET copies = 3")
        assert path.with_name("store.db-wal").stat().st_size > 0
        await closed(path)
    backup = path.with_name("store.db.schema-1.backup")
    assert asked(backup, "select distinct copies from ledger") == [(3,)]


async def test_an_older_backup_is_never_overwritten(path: Path) -> None:
    for name in ("store.db.schema-1.backup", "store.db.schema-1.backup.2"):
        path.with_name(name).write_bytes(b"older")
    await closed(path)
    assert path.with_name("store.db.schema-1.backup").read_bytes() == b"older"
    assert path.with_name("store.db.schema-1.backup.2").read_bytes() == b"older"
    assert is_version_1(path.with_name("store.db.schema-1.backup.3"))


async def test_an_upgraded_store_is_not_upgraded_again(path: Path) -> None:
    await closed(path)
    await closed(path)
    assert backups(path) == ["store.db.schema-1.backup"]


async def test_an_upgrade_that_fails_leaves_the_old_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: Connection) -> None:
        migrate._from_1(connection)
        connection.exec_driver_sql("CREATE TABLE nonsense")

    before = asked(path, "select * from ledger order by target")
    with monkeypatch.context() as patched:
        patched.setitem(migrate.STEPS, 1, half)
        with pytest.raises(StoreError):
            await opened(path)
    assert is_version_1(path)
    assert asked(path, "select * from ledger order by target") == before
    await closed(path)
    assert asked(path, "select version from schema") == [(SCHEMA_VERSION,)]


async def test_without_a_backup_nothing_is_changed(path: Path) -> None:
    path.with_name("store.db.schema-1.partial").mkdir()  # in the way
    with pytest.raises(StoreError, match=r"has to be backed up .*nothing was changed"):
        await opened(path)
    assert is_version_1(path)


KILLED = """
import asyncio, os, sys
from dhtmeta.store import migrate
from dhtmeta.store.store import Store

where, store = sys.argv[1:]
if where == "copy":
    async def stop(path, to):
        to.write_bytes(b"half a copy")
        os.kill(os.getpid(), 9)
    migrate._copy = stop
else:
    def stop(connection):
        step(connection)
        os.kill(os.getpid(), 9)
    step, migrate.STEPS[1] = migrate.STEPS[1], stop
asyncio.run(Store.open(store, lambda: 1.8e9))
"""


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("copy", ["store.db.schema-1.backup"]),
        ("change", ["store.db.schema-1.backup", "store.db.schema-1.backup.2"]),
    ],
)
async def test_kill_9_leaves_the_old_version_and_the_next_start_upgrades(
    path: Path, where: str, kept: list[str]
) -> None:
    before = asked(path, "select * from ledger order by target")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, where, str(path))
    assert await process.wait() == -9
    assert is_version_1(path)
    assert asked(path, "select * from ledger order by target") == before
    await closed(path)
    assert asked(path, "select version from schema") == [(SCHEMA_VERSION,)]
    assert backups(path) == kept
    assert all(is_version_1(path.with_name(name)) for name in kept)


async def test_of_two_starts_at_once_one_upgrades(path: Path) -> None:
    start = "import asyncio, sys; from dhtmeta.store.store import Store\n"
    start += "asyncio.run(Store.open(sys.argv[1], lambda: 1.8e9))\n"
    words = (sys.executable, "-c", start + "import os; os._exit(0)", str(path))
    started = [await asyncio.create_subprocess_exec(*words) for _ in range(3)]
    assert [await process.wait() for process in started] == [0, 0, 0]
    assert asked(path, "select version from schema") == [(SCHEMA_VERSION,)]
    assert backups(path) == ["store.db.schema-1.backup"]


async def test_a_store_whose_name_is_no_utf_8_is_backed_up_too(path: Path) -> None:
    path = path.rename(path.with_name(os.fsdecode(b"\xff.db")))
    await closed(path)
    (backup,) = backups(path)
    assert is_version_1(path.with_name(backup))
