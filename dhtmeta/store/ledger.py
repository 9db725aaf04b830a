"""The durable memory of every seq and signed byte this installation published.

A row is written and on disk (fsync) before a publish is reported done; its seq never falls.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from dhtmeta.errors import InvalidItem, StoreError
from dhtmeta.store import tables
from dhtmeta.store.store import Store
from dhtmeta.values.item import SignedItem


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The newest item published here for its target, and when it is due again (Unix s)."""

    item: SignedItem
    copies: int
    next_due: float


class Ledger:
    """The ledger table of an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def newest(self, target: bytes) -> LedgerEntry | None:
        """Return what was last published for `target` (20 bytes), None if nothing ever was.

        A row that no longer verifies is a StoreError: to guess a seq would risk lowering it.
        """
        c = tables.ledger.c
        columns = (c.public_key, c.salt, c.seq, c.v, c.sig, c.copies, c.next_due)
        async with self._store.begin() as connection:
            rows = await connection.execute(select(*columns).where(c.target == target))
            row = rows.one_or_none()
        if row is None:
            return None
        try:
            item = SignedItem.verified(target, *row[:5])
        except (InvalidItem, TypeError) as error:
            raise StoreError(
                f"the ledger row of target {target.hex()} in {self._store.url} is damaged "
                f"({error}): restore the store from a backup, or delete that row to start anew"
            ) from error
        return LedgerEntry(item, row.copies, row.next_due)

    async def confirm(self, item: SignedItem, copies: int, next_due: float, now: float) -> None:
        """Write what was stored on `copies` nodes; a higher seq that is there already stays."""
        values = tables.item_row(item.target, item) | {
            "state": "stored",
            "copies": copies,
            "next_due": next_due,
            "last_ok": now,
            "last_error": None,
        }
        statement = insert(tables.ledger).values(values)
        newer = statement.on_conflict_do_update(
            index_elements=[tables.ledger.c.target],
            set_={name: statement.excluded[name] for name in values if name != "target"},
            where=tables.ledger.c.seq <= statement.excluded.seq,
        )
        async with self._store.begin() as connection:
            await connection.execute(newer)
