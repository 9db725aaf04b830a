"""How an older store becomes one of this schema: backed up first, then changed all at once.

Whoever is here holds SQLite's write lock. A crash at any point leaves the old version as it was,
with at most a backup beside it.
"""

import contextlib
import itertools
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

import aiosqlite
from sqlalchemy import Connection, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dhtmeta.errors import StoreError
from dhtmeta.store import tables
from dhtmeta.store.tables import SCHEMA_VERSION

log = logging.getLogger(__name__)


async def bring_up_to_date(connection: AsyncConnection, url: str) -> None:
    """Make the tables, or change those of an older dhtmeta; `connection` is in a transaction.

    Raises StoreError where the store is newer than this code, or cannot be backed up.
    """
    await connection.run_sync(tables.schema.create, checkfirst=True)
    version = (await connection.execute(select(func.max(tables.schema.c.version)))).scalar()
    if version is None:
        await connection.run_sync(tables.metadata.create_all)
        await connection.execute(tables.schema.insert().values(version=SCHEMA_VERSION))
    elif not isinstance(version, int) or version < 1:
        raise StoreError(
            f"the store {url} is damaged (schema {version!r}): restore it from a backup, or move "
            f"it aside (with its -wal and -shm files) to start afresh"
        )
    elif version > SCHEMA_VERSION:
        raise StoreError(
            f"the store {url} was written by a newer dhtmeta (schema {version}, this "
            f"one reads up to {SCHEMA_VERSION}): upgrade, or use another --store"
        )
    elif version < SCHEMA_VERSION:
        await _migrate(connection, url, version)


async def _migrate(connection: AsyncConnection, url: str, version: int) -> None:
    backup = await _back_up(connection, url, version)
    for older in range(version, SCHEMA_VERSION):
        await connection.run_sync(STEPS[older])
    await connection.execute(update(tables.schema).values(version=SCHEMA_VERSION))
    log.warning(
        "the store %s is upgraded from schema %d to %d; as it was before, it is kept in %s",
        *(url, version, SCHEMA_VERSION, backup),
    )


async def _back_up(connection: AsyncConnection, url: str, version: int) -> Path:
    """Copy the store beside itself, on disk when this returns; an older backup stays."""
    path = await _path_of(connection)
    partial = path.with_name(f"{path.name}.schema-{version}.partial")
    try:
        _forget(partial)  # of a start that was killed
        await _copy(path, partial)
        return _named(partial, path, version)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            _forget(partial)
        raise StoreError(
            f"the store {url} is of an older dhtmeta (schema {version}) and has to be backed up "
            f"before it is upgraded, but {path.parent} does not take a copy ({error}): make room "
            f"there, or see that you may write; nothing was changed"
        ) from error


async def _path_of(connection: AsyncConnection) -> Path:
    """Return where the store is; a name need not be UTF-8, so as bytes."""
    name = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
    return Path(os.fsdecode((await connection.exec_driver_sql(name)).scalar_one()))


def _forget(partial: Path) -> None:
    """Delete a copy that did not come to its end, and what SQLite may have left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _named(partial: Path, path: Path, version: int) -> Path:
    """Have a complete copy on disk under its name."""
    shutil.copymode(path, partial)
    _sync(partial)
    backup = partial.rename(_free_name(path, version))
    _sync(path.parent)
    return backup


async def _copy(path: Path, to: Path) -> None:
    """Copy what is committed, the write-ahead log included.

    SQLite copies through no connection that is writing, so through one of its own.
    """
    async with aiosqlite.connect(path) as source, aiosqlite.connect(to) as target:
        await source.backup(target)


def _free_name(path: Path, version: int) -> Path:
    """Return the first name that is free; nobody else looks for one while we hold the store."""
    name = f"{path.name}.schema-{version}.backup"
    names = itertools.chain([name], (f"{name}.{n}" for n in itertools.count(2)))
    return next(one for name in names if not (one := path.with_name(name)).exists())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _from_1(connection: Connection) -> None:
    """Add who held a row at the last look, and who asked for it; index what a republisher asks."""
    connection.exec_driver_sql("ALTER TABLE ledger ADD COLUMN holders BLOB")
    connection.exec_driver_sql(
        "ALTER TABLE ledger ADD COLUMN origin VARCHAR DEFAULT 'local' NOT NULL"
    )
    connection.exec_driver_sql("DROP INDEX ledger_next_due")
    for index in tables.ledger.indexes:
        index.create(connection)


def _from_2(connection: Connection) -> None:
    """Add where a known peer's exchange was."""
    connection.exec_driver_sql(
        "ALTER TABLE known_peers ADD COLUMN exchange VARCHAR DEFAULT '' NOT NULL"
    )


STEPS: Final[dict[int, Callable[[Connection], None]]] = {  # by the version they change
    1: _from_1,
    2: _from_2,
}
