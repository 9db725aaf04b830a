"""The durable memory of every seq and signed byte this installation published.

A seq is reserved on disk (fsync) before anything is sent under it, and confirmed before a publish
is reported done. A row's seq never falls, and there is never a second value under one seq: one
SQL statement decides that, so two processes on one store cannot do it either.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from dhtmeta.const import UNFINISHED_ROWS
from dhtmeta.errors import Conflict, InvalidItem, StoreError
from dhtmeta.store import tables
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem

AT_ONCE = 0.0  # Unix s, `next_due` of what is unfinished: that index finds it among millions


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The newest item of ours for its target, when it is due again (Unix s), and how it went."""

    item: SignedItem
    state: State
    copies: int
    next_due: float
    last_error: str | None


class Ledger:
    """The ledger table of an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def newest(self, target: bytes) -> LedgerEntry | None:
        """Return what was last reserved for `target` (20 bytes), None if nothing ever was.

        A row that no longer verifies is a StoreError: to guess a seq would risk lowering it.
        """
        c = tables.ledger.c
        item = (c.public_key, c.salt, c.seq, c.v, c.sig)
        columns = (*item, c.state, c.copies, c.next_due, c.last_error)
        async with self._store.begin() as connection:
            rows = await connection.execute(select(*columns).where(c.target == target))
            row = rows.one_or_none()
        return None if row is None else self._entry(target, row)

    def _entry(self, target: bytes, row: Any) -> LedgerEntry:
        try:
            item = SignedItem.verified(target, *row[:5])
            return LedgerEntry(item, State(row.state), row.copies, row.next_due, row.last_error)
        except (InvalidItem, TypeError, ValueError) as error:
            raise StoreError(
                f"the ledger row of target {target.hex()} in {self._store.url} is damaged "
                f"({error}): restore the store from a backup, or delete that row to start anew"
            ) from error

    async def reserve(self, item: SignedItem) -> None:
        """Have the item on disk before anything of it is sent; the same bytes may come again.

        Conflict, with `ledger_seq`, where a higher seq or another value under this one is there.
        """
        values = tables.item_row(item.target, item) | {
            "state": State.RESERVED,
            "copies": 0,
            "next_due": AT_ONCE,
            "last_error": None,
        }
        if not await self._write(values):
            held = await self.newest(item.target)
            raise refusal(item, held.item if held else None)

    async def confirm(self, item: SignedItem, copies: int, next_due: float, now: float) -> None:
        """Write what was stored on `copies` nodes, due again at `next_due` (both Unix s).

        A higher seq that is there already stays, and so does another value under the same.
        """
        await self._write(
            tables.item_row(item.target, item)
            | {
                "state": State.STORED,
                "copies": copies,
                "next_due": next_due,
                "last_ok": now,
                "last_error": None,
            }
        )

    async def _write(self, values: dict[str, Any]) -> bool:
        """Insert or replace a row, unless that lowers its seq or changes a value under a seq."""
        c, statement = tables.ledger.c, insert(tables.ledger).values(values)
        new = statement.excluded
        newer = statement.on_conflict_do_update(
            index_elements=[c.target],
            set_={name: new[name] for name in values if name != "target"},
            where=or_(c.seq < new.seq, and_(c.seq == new.seq, c.v == new.v)),
        )
        async with self._store.begin() as connection:
            return bool((await connection.execute(newer)).rowcount)

    async def fail(self, item: SignedItem, error: str) -> None:
        """Note why a reserved item could not be stored; it stays unfinished."""
        await self._note(item, last_error=error)

    async def supersede(self, item: SignedItem, error: str) -> None:
        """Note that the network holds something newer: a reserved item is not finished then."""
        await self._note(item, last_error=error, state=State.SUPERSEDED)

    async def _note(self, item: SignedItem, **values: Any) -> None:
        """Change the row of a reserved item, if it is still that one."""
        c = tables.ledger.c
        same = and_(c.target == item.target, c.seq == item.seq, c.v == item.v)
        async with self._store.begin() as connection:
            await connection.execute(
                update(tables.ledger).where(same, c.state == State.RESERVED).values(values)
            )

    async def unfinished(self, rows: int = UNFINISHED_ROWS) -> AsyncIterator[list[bytes]]:
        """Yield the targets of what is reserved and not confirmed, at most `rows` at a time.

        What is reserved while this goes on may or may not come; nothing comes twice.
        """
        c, after = tables.ledger.c, b""
        waiting = and_(c.next_due == AT_ONCE, c.state == State.RESERVED)
        while True:
            further = select(c.target).where(waiting, c.target > after).order_by(c.target)
            async with self._store.begin() as connection:
                targets = list((await connection.execute(further.limit(rows))).scalars())
            if not targets:
                return
            yield targets
            after = targets[-1]


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
