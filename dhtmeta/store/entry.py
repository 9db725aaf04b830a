"""How a row of the ledger is read: only what still verifies becomes a LedgerEntry."""

from dataclasses import dataclass
from types import NoneType
from typing import Any, Final

from dhtmeta.store.tables import NEVER, Origin, State
from dhtmeta.values.item import SignedItem

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "copies": (int,),
    "next_due": (float,),
    "last_error": (str, NoneType),
    "holders": (bytes, NoneType),
    "last_ok": (float, NoneType),
}


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The newest item of ours for its target, when it is due again (Unix s), and how it went.

    `next_due` is NEVER where nobody keeps it alive. `holders` says who held it at the last look,
    in whatever form the publisher chose; `last_ok` (Unix s) when that look was.
    """

    item: SignedItem
    state: State
    copies: int
    next_due: float
    last_error: str | None
    holders: bytes | None
    last_ok: float | None
    origin: Origin

    @property
    def is_kept(self) -> bool:
        """Whether it was stored, and is kept alive since then."""
        return self.state is State.STORED and self.next_due < NEVER


def read_entry(target: bytes, row: Any) -> LedgerEntry:
    """Read a row with all its columns; InvalidItem, TypeError, ValueError where it is damaged."""
    for name, kinds in _KINDS.items():
        if not isinstance(getattr(row, name), kinds):
            raise TypeError(f"{name} is {getattr(row, name)!r}")
    return LedgerEntry(
        SignedItem.verified(target, row.public_key, row.salt, row.seq, row.v, row.sig),
        State(row.state),
        row.copies,
        row.next_due,
        row.last_error,
        row.holders,
        row.last_ok,
        Origin(row.origin),
    )
