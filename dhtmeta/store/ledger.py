"""The durable memory of every seq and signed byte this installation published.

A seq is reserved on disk (fsync) before anything is sent under it, and confirmed before a publish
is reported done. A row's seq never falls, and there is never a second value under one seq: one
SQL statement decides that, so two processes on one store cannot do it either.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, or_, select, true, update
from sqlalchemy.dialects.sqlite import insert

from dhtmeta.const import BUSY_TIMEOUT, DUE_ROWS, DUE_ROWS_CHANGED, UNFINISHED_ROWS
from dhtmeta.errors import Conflict, InvalidItem, StoreError
from dhtmeta.store import due, tables
from dhtmeta.store.due import DuePage, Key, Looked, Totals
from dhtmeta.store.entry import LedgerEntry, read_entry
from dhtmeta.store.store import Store
from dhtmeta.store.tables import AT_ONCE, DAMAGED, NEVER, Origin, State
from dhtmeta.values.item import SignedItem

__all__ = ["AT_ONCE", "NEVER", "Ledger", "LedgerEntry", "refusal"]


class Ledger:
    """The ledger table of an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_reserved: Callable[[SignedItem], None] = lambda item: None
        """Called with each item once it is on disk: from then on it may be shown to anybody."""

    @property
    def failure(self) -> str | None:
        """Why the store took no write the last time; None if it did."""
        return self._store.failure

    async def newest(self, target: bytes) -> LedgerEntry | None:
        """Return what was last reserved for `target` (20 bytes), None if nothing ever was.

        A row that no longer verifies is a StoreError: to guess a seq would risk lowering it.
        """
        async with self._store.begin() as connection:
            mine = select(tables.ledger).where(tables.ledger.c.target == target)
            row = (await connection.execute(mine)).one_or_none()
        try:
            return None if row is None else read_entry(target, row)
        except (InvalidItem, TypeError, ValueError) as error:
            raise StoreError(
                f"the ledger row of target {target.hex()} in {self._store.url} is damaged "
                f"({error}): restore the store from a backup, or delete that row to start anew"
            ) from error

    async def reserve(self, item: SignedItem, *, origin: str = Origin.LOCAL) -> None:
        """Have the item on disk before anything of it is sent; the same bytes may come again.

        What was kept stays due when it was, and what is stored already stays so. Until it is
        confirmed, what is new here is to be kept (AT_ONCE) where its owner asked, not (NEVER)
        where a visitor did.
        Conflict, with `ledger_seq`, where a higher seq or another value under this one is there.
        """
        values = tables.item_row(item.target, item) | {
            "state": State.RESERVED,
            "copies": 0,
            "next_due": AT_ONCE if origin == Origin.LOCAL else NEVER,
            "last_error": None,
            "holders": None,
            "origin": Origin(origin),
        }
        if not await self._write(values, tables.ledger.c.next_due < NEVER, again=True):
            held = await self.newest(item.target)
            raise refusal(item, held.item if held else None)
        self.on_reserved(item)

    async def confirm(
        self,
        item: SignedItem,
        copies: int,
        next_due: float,
        now: float,
        *,
        holders: bytes | None = None,
        origin: str = Origin.LOCAL,
    ) -> None:
        """Write what was stored on `copies` nodes, due again at `next_due` (both Unix s).

        NEVER asks for nothing, and takes nothing away: what was kept stays due when it was, and
        a visitor never changes when that is. What was only to be kept (AT_ONCE) is given up by
        its owner alone. `origin` counts for a new
        row; later a visitor's becomes its owner's, never the reverse. `holders` as in Looked.
        A higher seq that is there already stays, and so does another value under the same.
        """
        due.check_holders(holders)
        values = tables.item_row(item.target, item) | {
            "state": State.STORED,
            "copies": copies,
            "next_due": next_due,
            "last_ok": now,
            "last_error": None,
            "holders": holders,
            "origin": Origin(origin),
        }
        await self._write(values, _stays(next_due, origin))

    async def _write(
        self, values: dict[str, Any], stays: ColumnElement[bool], *, again: bool = False
    ) -> bool:
        """Insert or replace a row, unless that lowers its seq or changes a value under a seq.

        `stays` says whether a row that is there keeps its due time; `again`, whether one that
        has stored this very value keeps all else, too.
        """
        c, statement = tables.ledger.c, insert(tables.ledger).values(values)
        new = statement.excluded
        set_: dict[str, Any] = {name: new[name] for name in values if name != "target"}
        if again:
            same = and_(c.seq == new.seq, c.state == State.STORED)
            for name in ("state", "copies", "holders", "last_error"):
                set_[name] = case((same, c[name]), else_=new[name])
        set_["next_due"] = case((stays, c.next_due), else_=new.next_due)
        set_["origin"] = case((new.origin == Origin.LOCAL, new.origin), else_=c.origin)
        newer = statement.on_conflict_do_update(
            index_elements=[c.target],
            set_=set_,
            where=or_(c.seq < new.seq, and_(c.seq == new.seq, c.v == new.v)),
        )
        async with self._store.write() as connection:
            return bool((await connection.execute(newer)).rowcount)

    async def fail(self, item: SignedItem, error: str, again: float = AT_ONCE) -> None:
        """Note why a reserved item could not be stored; it stays unfinished.

        What was kept before is kept on: it is looked at, or signed anew, at `again` (Unix s).
        """
        await self._note(item, State.RESERVED, error, again)

    async def supersede(self, item: SignedItem, error: str, again: float = AT_ONCE) -> None:
        """Note that the network holds something newer: a reserved item is not finished then.

        What was kept before is kept on: a look at `again` (Unix s) takes the newer one over.
        """
        await self._note(item, State.SUPERSEDED, error, again)

    async def _note(self, item: SignedItem, state: State, error: str, again: float) -> None:
        """Change the row of a reserved item, if it is still that one."""
        c = tables.ledger.c
        same = and_(c.target == item.target, c.seq == item.seq, c.v == item.v)
        kept = and_(c.next_due > AT_ONCE, c.next_due < NEVER)
        values = {
            "last_error": error,
            "state": case((kept, State.STORED), else_=state),
            "next_due": case((kept, again), else_=c.next_due),
        }
        async with self._store.write() as connection:
            await connection.execute(
                update(tables.ledger).where(same, c.state == State.RESERVED).values(values)
            )

    async def unfinished(self, rows: int = UNFINISHED_ROWS) -> AsyncIterator[list[bytes]]:
        """Yield the targets of what is reserved and not confirmed, at most `rows` at a time.

        What is reserved while this goes on may or may not come; nothing comes twice.
        """
        after = due.FIRST
        while True:
            async with self._store.begin() as connection:
                waiting = due.rows_in_state(State.RESERVED, after, rows)
                found = (await connection.execute(waiting)).all()
            if not found:
                return
            yield [target for _, target in found]
            after = found[-1].next_due, found[-1].target

    async def due(self, before: float, limit: int, after: Key | None = None) -> DuePage:
        """Return stored rows that are due until `before` (Unix s; NEVER: all that is kept).

        Those due longest come first, at most `limit` and DUE_ROWS of them, beyond the key `after`.
        """
        limit = min(limit, DUE_ROWS)
        async with self._store.begin() as connection:
            rows = await connection.execute(due.due_rows(before, limit, after or due.FIRST))
            found = rows.all()
        return await due.read_page(found, limit)

    async def next_due(self) -> float | None:
        """Return when (Unix s) the first of the kept rows is due, None if none is kept."""
        async with self._store.begin() as connection:
            first: float | None = (await connection.execute(due.earliest())).scalar()
        return first

    async def set_aside(self, target: bytes, error: str) -> None:
        """Have a damaged row never be due again; whatever else it says stays for who mends it."""
        aside = {"next_due": NEVER, "last_error": f"{DAMAGED}{error}"}
        async with self._store.write() as connection:
            row = update(tables.ledger).where(tables.ledger.c.target == target)
            await connection.execute(row.values(aside))

    async def note(self, looked: Sequence[Looked], busy: float = BUSY_TIMEOUT) -> None:
        """Write what looks at stored items found, all or nothing.

        A row that has another seq by now, or is not stored any more, stays as it is. Another
        process may hold the store for `busy` seconds.
        """
        if looked:
            async with self._store.write(busy) as connection:
                await connection.execute(due.noting(), due.notes(looked))

    async def totals(self, now: float, late_before: float) -> Totals:
        """Count the rows of each kind: due until `now`, late until `late_before` (Unix s)."""
        async with self._store.begin() as connection:
            return Totals(*(await connection.execute(due.counts(now, late_before))).one())

    async def make_due(
        self, now: float, looked_before: float, due_after: float | None = None
    ) -> int:
        """Have all that is kept and had no good look since `looked_before` be due until `now`.

        All in Unix s; of what is due already, or not after `due_after`, nothing changes. Returns
        how many rows did. Each batch is written for good, so an interrupted call can be made again.
        """
        changed, after = 0, (now if due_after is None else due_after, b"\xff" * 21)
        while True:
            async with self._store.write() as connection:
                rows = due.due_keys(NEVER, DUE_ROWS_CHANGED, after)
                found = (await connection.execute(rows)).all()
                if not found:
                    return changed
                until = (found[-1].next_due, found[-1].target)
                batch = due.made_due(now, looked_before, after, until)
                changed += (await connection.execute(batch)).rowcount
            after = until


def _stays(next_due: float, origin: str) -> ColumnElement[bool]:
    """Whether a row keeps its due time when it is confirmed with this one."""
    if next_due < NEVER:
        return false() if origin == Origin.LOCAL else tables.ledger.c.next_due < NEVER
    return tables.ledger.c.next_due > AT_ONCE if origin == Origin.LOCAL else true()


def refusal(item: SignedItem, held: SignedItem | None) -> Conflict:
    """Return what to raise where the ledger holds `held`, which `item` must not replace."""
    if held is None or held.seq == item.seq:
        return Conflict(
            f"the ledger holds another value under seq {item.seq} of target {item.target.hex()}: "
            f"readers would meet either; take a higher seq",
            item.seq,
            None,
        )
    return Conflict(
        f"the ledger says seq {held.seq} of target {item.target.hex()} was published, above "
        f"{item.seq}: readers who saw that would refuse it",
        held.seq,
        None,
    )
