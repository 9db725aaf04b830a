"""How the store is opened, what is read from it at start, and how writes go behind in batches.

Only the ledger commits on the answer path (ledger.py); whatever a crash may cost here is cache.
"""

import asyncio
import contextlib
import itertools
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiosqlite
from sqlalchemy import Table, bindparam, delete, event, func, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dhtmeta.const import (
    BUSY_TIMEOUT,
    CACHE_ENTRIES,
    CLEANUP_INTERVAL,
    HTTP_ROWS,
    HTTP_ROWS_DROPPED,
    KNOWN_PEERS,
    MAX_AHEAD,
    POLL_INTERVAL,
    SEQ_FLOOR_KEPT,
    SEQ_FLOORS,
    STORE_CLOSE_DEADLINE,
    WRITE_BEHIND_BUSY,
    WRITE_BEHIND_INTERVAL,
    WRITE_BEHIND_PENDING,
    WRITE_BEHIND_ROWS,
)
from dhtmeta.errors import CallerError, StoreError
from dhtmeta.store import due, migrate, tables
from dhtmeta.values.item import SignedItem
from dhtmeta.values.record import NodeRecord, format_endpoint

log = logging.getLogger(__name__)

DRIVER = "sqlite+aiosqlite"
MEMORY = f"{DRIVER}://"  # a store that ends with the process

Rows = dict[tuple[Table, Any], dict[str, Any] | None]  # by table and key; None: delete the row


class StoredItem(NamedTuple):
    """A row of metadata_cache: not verified yet, since the disk is no safer than the network."""

    public_key: bytes
    salt: bytes
    seq: int
    v: bytes
    sig: bytes
    fetched_at: float


class KnownPeer(NamedTuple):
    """What is known of a peer beside its record: key (32 bytes), topic, "ip:port" of its exchange.

    `exchange` is "" where others cannot dial it. Times are Unix s: when a record of it was first
    seen, and last.
    """

    public_key: bytes
    topic: str = ""
    is_relay: bool = False
    exchange: str = ""
    source: str = ""
    first_seen: float = 0.0
    last_seen: float = 0.0


class Store:
    """The open store. `items`, `floors` and `peers` are what it held at start, for the engine."""

    def __init__(
        self, engine: AsyncEngine, url: str, clock: Callable[[], float], cleanup_interval: float
    ) -> None:
        self.engine = engine
        self.url = url
        self._clock = clock
        self._cleanup_interval = cleanup_interval
        self.items: dict[bytes, StoredItem] = {}  # by target
        self.floors: dict[bytes, int] = {}  # by target
        self.peers: dict[bytes, KnownPeer] = {}  # by peer id, seen last at the end
        self.failure: str | None = None  # why the last write failed, None once one worked
        self._rows: Rows = {}
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # one write at a time
        self._wake = asyncio.Event()  # something waits to be written
        self._full = asyncio.Event()  # a whole batch does
        self._closing = False  # the writer shall write what waits, and end
        self._closed = False

    @classmethod
    async def open(
        cls, url: str, clock: Callable[[], float], *, cleanup_interval: float = CLEANUP_INTERVAL
    ) -> Self:
        """Open or make the store at `url` (SQLAlchemy URL or path); `clock` gives Unix s.

        What expired is deleted every `cleanup_interval` seconds.
        Raises StoreError where it cannot be written, is damaged, or is newer than this code.
        """
        store = cls(_engine(url), url, clock, cleanup_interval)
        try:
            await store._prepare()
            await store.clean_up()
            await store._drop_damaged()
            await store._load()
        except SQLAlchemyError as error:
            await store.engine.dispose()
            raise _explained(url, error) from error
        except BaseException:
            await store.engine.dispose()
            raise
        store._writer = asyncio.create_task(store._write_behind())
        return store

    async def _prepare(self) -> None:
        async with self.begin() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")  # of two starts one waits
            await migrate.bring_up_to_date(connection, self.url)

    async def check(self) -> None:
        """Read the whole file; StoreError if any of it is damaged."""
        async with self.begin() as connection:
            found = (await connection.exec_driver_sql("PRAGMA quick_check(1)")).scalar()
        if found != "ok":
            raise _explained(self.url, SQLAlchemyError(f"malformed: {found}"))

    async def clean_up(self, busy: float = BUSY_TIMEOUT) -> None:
        """Delete what expired or is from the future, and of what has a cap the oldest beyond it.

        `busy` is how many seconds another process may hold the store.
        """
        now, cache, floor = self._clock(), tables.metadata_cache.c, tables.seq_floor.c
        wrong = or_(cache.expires_at <= now, cache.fetched_at > now + MAX_AHEAD)
        async with self.write(busy) as connection:
            await connection.execute(delete(tables.metadata_cache).where(wrong))
            await connection.execute(
                delete(tables.seq_floor).where(floor.seen_at <= now - SEQ_FLOOR_KEPT)
            )
            await connection.execute(_beyond(tables.seq_floor, floor.seen_at, SEQ_FLOORS))
            seen = tables.known_peers.c.last_seen
            await connection.execute(_beyond(tables.known_peers, seen, KNOWN_PEERS))
            lost = (await connection.execute(due.set_aside_without_target())).rowcount
        if lost:
            log.error("%d rows of the ledger in %s have no target: not kept", lost, self.url)

    async def forget_passing(self, busy: float = BUSY_TIMEOUT) -> None:
        """Delete what visitors put and nobody keeps, once it is old, and the oldest beyond a cap.

        That may be much, so others have their turn now and then. `busy` as in `clean_up`.
        """
        more = True
        while more and not self._closing:
            async with self.write(busy) as connection:
                old = due.forget_old(self._clock() - SEQ_FLOOR_KEPT, HTTP_ROWS_DROPPED)
                beyond = due.forget_beyond(HTTP_ROWS, HTTP_ROWS_DROPPED)
                gone = [(await connection.execute(one)).rowcount for one in (old, beyond)]
            more = HTTP_ROWS_DROPPED in gone

    async def _drop_damaged(self) -> None:
        """Delete rows of cache that are not what their columns say: no reader has to look."""
        dropped = 0
        async with self.write() as connection:
            for table in (tables.metadata_cache, tables.seq_floor, tables.known_peers):
                wrong = delete(table).where(tables.is_damaged(table))
                dropped += (await connection.execute(wrong)).rowcount
        if dropped:
            log.warning("dropped %d damaged rows of cache in %s", dropped, self.url)

    async def _load(self) -> None:
        cache, peer = tables.metadata_cache.c, tables.known_peers.c
        async with self.begin() as connection:
            items = select(
                cache.target,
                cache.public_key,
                cache.salt,
                cache.seq,
                cache.v,
                cache.sig,
                cache.fetched_at,
            )
            newest = items.order_by(cache.fetched_at.desc()).limit(CACHE_ENTRIES)
            self.items = {row[0]: StoredItem(*row[1:]) for row in await connection.execute(newest)}
            await self._load_floors(connection)
            columns = [peer[name] for name in KnownPeer._fields]
            peers = select(peer.peer_id, *columns).order_by(peer.last_seen)
            for row in await connection.execute(peers):
                self.peers[bytes.fromhex(row[0])] = KnownPeer(*row[1:])

    async def _load_floors(self, connection: AsyncConnection) -> None:
        """Load what was seen, and last, to be kept longest, what was stored: no crash lowers that.

        Of either the newest, SEQ_FLOORS in all; who publishes asks the ledger itself. A seq that is
        only reserved is no floor: nobody may ever have seen it.
        """
        floor, own, damaged = tables.seq_floor.c, tables.ledger.c, 0
        seen = select(floor.target, floor.seq).order_by(floor.seen_at.desc())
        stored = select(own.target, own.seq).where(own.state == tables.State.STORED)
        for newest in (seen, stored.order_by(own.last_ok.desc())):
            rows = (await connection.execute(newest.limit(SEQ_FLOORS))).all()
            for target, seq in reversed(rows):  # the oldest first
                if isinstance(target, bytes) and isinstance(seq, int):
                    self.floors[target] = max(seq, self.floors.pop(target, seq))
                else:
                    damaged += 1
        if damaged:
            log.warning("%d damaged rows of the ledger in %s set no floor", damaged, self.url)
        excess = max(0, len(self.floors) - SEQ_FLOORS)
        self.floors = dict(itertools.islice(self.floors.items(), excess, None))

    @contextlib.asynccontextmanager
    async def begin(self, busy: float = BUSY_TIMEOUT) -> AsyncIterator[AsyncConnection]:
        """Run one transaction; StoreError, with what to do, if the disk does not take it.

        Another process may hold the store for `busy` seconds before that is an error.
        """
        if self._closed:
            raise StoreError(f"the store {self.url} is closed")
        try:
            async with self.engine.begin() as connection:
                await connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(busy * 1000)}")
                yield connection
        except SQLAlchemyError as error:
            raise _explained(self.url, error) from error

    @contextlib.asynccontextmanager
    async def write(self, busy: float = BUSY_TIMEOUT) -> AsyncIterator[AsyncConnection]:
        """Run one transaction as `begin` does, and have `failure` say whether the disk took it.

        Ours wait for each other here: SQLite would let them fight, and some starve.
        """
        try:
            async with self._turn, self.begin(busy) as connection:
                if self.failure is not None:
                    await _ask_the_disk(connection)
                yield connection
        except StoreError as error:
            if self.failure is None:
                log.warning("%s", error)
            self.failure = str(error)
            self._wake.set()  # the writer goes on trying
            raise
        if self.failure is not None:
            log.warning("the store %s can be written again", self.url)
            self.failure = None

    async def _try_again(self) -> None:
        """Clear `failure` if the disk takes writes by now, though nobody has any."""
        async with self.write(WRITE_BEHIND_BUSY):
            pass

    # written behind

    def keep_item(
        self, target: bytes, item: SignedItem, fetched_at: float, expires_at: float
    ) -> None:
        """Remember a verified item of somebody, until `expires_at` (Unix s)."""
        row = tables.item_row(target, item) | {"fetched_at": fetched_at, "expires_at": expires_at}
        self._later(tables.metadata_cache, target, row)

    def drop_item(self, target: bytes) -> None:
        """Forget what was cached for `target`."""
        self._later(tables.metadata_cache, target, None)

    def keep_floor(self, target: bytes, seq: int, now: float) -> None:
        """Remember the highest seq seen for `target`."""
        self._later(tables.seq_floor, target, {"target": target, "seq": seq, "seen_at": now})

    def keep_peer(self, public_key: bytes, record: NodeRecord, source: str, now: float) -> None:
        """Remember whose key we know, from a verified record of theirs; who told first stays."""
        peer_id = bytes.fromhex(record.peer_id)
        met = self.peers.pop(peer_id, None)
        peer = KnownPeer(
            public_key,
            record.topic,
            record.network_info.is_relay,
            format_endpoint(record.exchange),
            met.source if met else source,
            met.first_seen if met else now,
            now,
        )
        self.peers[peer_id] = peer
        while len(self.peers) > KNOWN_PEERS:
            del self.peers[next(iter(self.peers))]
        row = peer._asdict() | {"peer_id": record.peer_id, "dht_node_id": record.node_id}
        self._later(tables.known_peers, record.peer_id, row | {"is_relay": int(peer.is_relay)})

    def drop_peer(self, peer_id: bytes) -> None:
        """Forget a known peer (20 bytes), of whom no record can be found any more."""
        self.peers.pop(peer_id, None)
        self._later(tables.known_peers, peer_id.hex(), None)

    def _later(self, table: Table, key: Any, row: dict[str, Any] | None) -> None:
        self._rows.pop((table, key), None)
        self._rows[table, key] = row
        while len(self._rows) > WRITE_BEHIND_PENDING:
            del self._rows[next(iter(self._rows))]
        self._wake.set()
        if len(self._rows) >= WRITE_BEHIND_ROWS:
            self._full.set()

    async def _write_behind(self) -> None:
        cleaned = self._clock()
        while not self._closing:
            await self._something_waits(cleaned + self._cleanup_interval - self._clock())
            try:
                await self.flush()
                if self.failure is not None:
                    await self._try_again()
                if self._clock() >= cleaned + self._cleanup_interval:
                    cleaned = self._clock()
                    await self.clean_up(WRITE_BEHIND_BUSY)
                    await self.forget_passing(WRITE_BEHIND_BUSY)
            except StoreError:
                pass  # kept in `failure`, and tried again
            except Exception:
                log.exception("unexpected, while the store %s was tended", self.url)
        with contextlib.suppress(StoreError):
            await self.flush()  # what came during the round above

    async def _something_waits(self, longest: float) -> None:
        """Return when a batch is full, a while after its first row, or after `longest` seconds."""
        if not self._rows and self.failure is None:
            await _wait(self._wake, min(max(longest, 0.0), self._cleanup_interval))
        if (self._rows or self.failure is not None) and not self._closing:
            await _wait(self._full, WRITE_BEHIND_INTERVAL)
        self._wake.clear()
        self._full.clear()

    async def flush(self) -> None:
        """Write what waits, in batches; on StoreError it keeps waiting.

        A batch that fails otherwise is logged and dropped: it would hold up all others for good.
        """
        while self._rows and not self._closed:
            batch = dict(itertools.islice(self._rows.items(), WRITE_BEHIND_ROWS))
            try:
                await self._write(batch)
            except StoreError:
                raise
            except Exception:
                log.exception("%d rows that %s cannot take are lost", len(batch), self.url)
            self._settle(batch)

    def _settle(self, batch: Rows) -> None:
        """Let go of a batch, but for rows that were replaced or pushed out meanwhile."""
        for key, row in batch.items():
            if key in self._rows and self._rows[key] is row:
                del self._rows[key]

    async def _write(self, batch: Rows) -> None:
        async with self.write(WRITE_BEHIND_BUSY) as connection:
            for table in {table for table, _ in batch}:
                (key,) = table.primary_key.columns
                gone = [{"gone": k} for (t, k), row in batch.items() if t is table and row is None]
                rows = [row for (t, _), row in batch.items() if t is table and row is not None]
                if gone:
                    await connection.execute(delete(table).where(key == bindparam("gone")), gone)
                if rows:
                    await connection.execute(_upsert(table), rows)

    async def close(self) -> None:
        """Write what waits and close; what cannot be written in time is logged and lost (cache).

        Takes at most STORE_CLOSE_DEADLINE and WRITE_BEHIND_BUSY, whoever holds the store.
        """
        self._closing = True
        self._wake.set()
        self._full.set()
        ending = asyncio.create_task(self._end())
        await asyncio.wait({ending}, timeout=STORE_CLOSE_DEADLINE)
        self._closed = True  # no further batch begins; one under way is not cut off
        await asyncio.wait({ending}, timeout=WRITE_BEHIND_BUSY)
        if self._rows:
            log.warning("%d rows of cache were not written to %s", len(self._rows), self.url)
            self._rows.clear()

    async def _end(self) -> None:
        if self._writer is not None:
            await self._writer
        self._closed = True
        await self.engine.dispose()


async def _ask_the_disk(connection: AsyncConnection) -> None:
    """Write a few bytes that nobody reads: SQLite leaves out what changes nothing."""
    count = (await connection.exec_driver_sql("PRAGMA user_version")).scalar_one()
    await connection.exec_driver_sql(f"PRAGMA user_version = {(count + 1) % 2**31}")


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _beyond(table: Table, age: Any, cap: int) -> Any:
    """Delete all rows but the `cap` with the highest `age`; of equal ones as many as need be."""
    (key,) = table.primary_key.columns
    excess = select(func.max(func.count() - cap, 0)).select_from(table).scalar_subquery()
    return delete(table).where(key.in_(select(key).order_by(age).limit(excess)))


def _upsert(table: Table) -> Any:
    """Insert or replace a row; first_seen stays what it was, and a higher seq stays whole.

    Another process on the same store may have written that.
    """
    (key,) = table.primary_key.columns
    statement = insert(table)
    kept = {key.name, "first_seen", "source"}
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in kept}
    newer = statement.excluded.seq >= table.c.seq if "seq" in table.c else None
    return statement.on_conflict_do_update(index_elements=[key], set_=changed, where=newer)


def _engine(url: str) -> AsyncEngine:
    parsed = _parsed(url)
    if parsed.database:
        _make_directory(Path(parsed.database))
    engine = create_async_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT})
    event.listen(engine.sync_engine, "connect", _configure)
    return engine


def _parsed(url: str) -> URL:
    if "://" not in url:  # a path, in which "?" and "%" mean nothing
        return URL.create(DRIVER, database=str(Path(url).expanduser().absolute()))
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise CallerError(f"{url!r} is no store: give a path or an SQLAlchemy URL") from error
    if parsed.drivername not in ("sqlite", DRIVER):
        raise CallerError(f"a store of kind {parsed.drivername!r} is not supported yet; use sqlite")
    return parsed.set(drivername=DRIVER)


def _make_directory(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {path.parent} for the store: {error.strerror}; choose another with "
            f"--store, or set XDG_DATA_HOME"
        ) from error


def _configure(connection: Any, _: object) -> None:
    connection.run_async(_use_wal)
    connection.driver_connection.text_factory = _text
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")  # a ledger commit is on disk when it returns
    cursor.close()


def _text(raw: bytes) -> str:
    """Read what a damaged disk made of a text, too: one row shall not hide all others."""
    return raw.decode(errors="replace")


async def _use_wal(connection: aiosqlite.Connection) -> None:
    """Wait for other first starts, too: for this one lock SQLite does not wait by itself."""
    now = asyncio.get_running_loop().time
    end = now() + BUSY_TIMEOUT
    while True:
        try:
            return await (await connection.execute("PRAGMA journal_mode=WAL")).close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now() >= end:
                raise
        await asyncio.sleep(POLL_INTERVAL)


def _explained(url: str, error: SQLAlchemyError) -> StoreError:
    reason = str(getattr(error, "orig", None) or error)
    if "readonly" in reason or "unable to open" in reason:
        advice = "check that you may write the file and its directory, or use another --store"
    elif "not a database" in reason or "malformed" in reason:
        advice = (
            "it is damaged: move it aside (with its -wal and -shm files) and restore a backup, or "
            "start afresh; keys are kept elsewhere, but the ledger of published seqs is in it"
        )
    elif "full" in reason:
        advice = "free some space; nothing that was reported done is lost"
    elif "disk I/O error" in reason:
        advice = (
            "the disk does not take it: see whether it is full, read-only or broken; nothing that "
            "was reported done is lost"
        )
    elif "locked" in reason:
        advice = "another process holds it; wait for it to finish"
    else:
        advice = "see the reason; another --store can be used meanwhile"
    return StoreError(f"the store {url} cannot be used ({reason}): {advice}")
