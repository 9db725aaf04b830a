"""What is asked of the ledger's due times, so that 1,000,000 rows answer from an index.

Nothing here touches the disk: these are the questions as SQL, and how their answers are read.
"""

import asyncio
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from dhtmeta.const import MAX_HOLDERS_BYTES, VERIFIED_AT_ONCE
from dhtmeta.errors import CallerError, InvalidItem
from dhtmeta.store import tables
from dhtmeta.store.entry import LedgerEntry, read_entry
from dhtmeta.store.tables import DAMAGED, NEVER, State

Key = tuple[float, bytes]  # next_due (Unix s) and target: the order in which rows are due

FIRST: Final[Key] = (-math.inf, b"")  # before every row
_NOTED: Final = ("copies", "holders", "next_due", "last_ok", "last_error")
_LATEST: Final = sys.float_info.max  # Unix s, the last time before NEVER

_ledger = tables.ledger
_c = _ledger.c


@dataclass(frozen=True, slots=True)
class DuePage:
    """Some of the rows that are due, those due longest first.

    `damaged` lists the target of each row that does not verify any more, and why. `after` is the
    key to go on from, None where nothing further is due.
    """

    entries: list[LedgerEntry]
    damaged: list[tuple[bytes, str]]
    after: Key | None


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a kept item found: `seq` is that of the item, times are Unix s.

    `holders` is at most MAX_HOLDERS_BYTES long, else CallerError. `last_ok` None leaves the time
    of the last look that went well; all else replaces what the row said.
    """

    target: bytes
    seq: int
    copies: int
    holders: bytes | None
    next_due: float
    last_ok: float | None
    last_error: str | None

    def __post_init__(self) -> None:
        check_holders(self.holders)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many rows there are of each kind.

    `kept`: stored and kept alive; of these `due` and `late`, and `for_http` that visitors asked
    for. `damaged`: set aside, or with a state or due time that is none, so that they never come
    up. `unfinished`: reserved, not confirmed.
    """

    kept: int
    due: int
    late: int
    damaged: int
    unfinished: int
    for_http: int


def check_holders(holders: bytes | None) -> None:
    """Raise CallerError where `holders` is too long for its column."""
    if holders is not None and len(holders) > MAX_HOLDERS_BYTES:
        raise CallerError(f"holders has {len(holders)} bytes; at most {MAX_HOLDERS_BYTES} are kept")


def rows_in_state(state: State, after: Key, limit: int) -> Select[Any]:
    """Select next_due and target of at most `limit` rows, in that order, beyond the key `after`.

    What has no target is left out, see `set_aside_without_target`.
    """
    order = (_c.next_due, _c.target)
    wanted = and_(_c.state == state, _beyond(after), func.typeof(_c.target) == "blob")
    return select(*order).where(wanted).order_by(*order).limit(limit)


def due_keys(before: float, limit: int, after: Key) -> Select[Any]:
    """Select the same of stored rows that are due until `before` (Unix s; NEVER: all kept)."""
    stored = rows_in_state(State.STORED, after, limit)
    return stored.where(_c.next_due <= min(before, _LATEST))


def due_rows(before: float, limit: int, after: Key) -> Select[Any]:
    """Select all columns of the rows of `due_keys`."""
    return due_keys(before, limit, after).with_only_columns(*_c)


def _beyond(key: Key) -> ColumnElement[bool]:
    return tuple_(_c.next_due, _c.target) > key


async def read_page(rows: Sequence[Any], limit: int) -> DuePage:
    """Verify what `due_rows` found, and let others have their turn meanwhile."""
    page = DuePage([], [], None)
    for n, row in enumerate(rows, 1):
        try:
            page.entries.append(read_entry(row.target, row))
        except (InvalidItem, TypeError, ValueError) as error:
            page.damaged.append((row.target, str(error)))
        if n % VERIFIED_AT_ONCE == 0:
            await asyncio.sleep(0)
    if len(rows) < limit:
        return page
    return replace(page, after=(rows[-1].next_due, rows[-1].target))


def noting() -> Update:
    """Update a stored row by a Looked, if its seq is still that one; its parameters are `notes`."""
    new: dict[str, Any] = {column: bindparam(f"new_{column}") for column in _NOTED}
    new["last_ok"] = func.coalesce(new["last_ok"], _c.last_ok)
    same = and_(_c.target == bindparam("of"), _c.seq == bindparam("at"), _c.state == State.STORED)
    return update(_ledger).where(same).values(new)


def notes(looked: Iterable[Looked]) -> list[dict[str, Any]]:
    """Return the parameters of `noting`, for all of them at once."""
    return [
        {"of": one.target, "at": one.seq} | {f"new_{name}": getattr(one, name) for name in _NOTED}
        for one in looked
    ]


def set_aside_without_target() -> Update:
    """Update rows whose target is no bytes: nobody can ask for them, so they are never due.

    They come before all others in the index of targets. `last_error` shows what is there, in hex.
    """
    what = func.typeof(_c.target) + literal(" ") + func.substr(func.hex(_c.target), 1, 100)
    why = literal(f"{DAMAGED}target is ") + what
    wrong = and_(_c.target < b"", _c.next_due < NEVER)
    return update(_ledger).where(wrong).values(next_due=NEVER, last_error=why)


def forget_old(before: float, most: int) -> Delete:
    """Delete at most so many rows that visitors put, nobody keeps, and that went well by then."""
    return _forget(_c.last_ok <= before, limit=most)


def forget_beyond(cap: int, most: int) -> Delete:
    """Delete at most so many of these beyond `cap`: what never went well, then the oldest."""
    excess = select(func.min(func.max(func.count() - cap, 0), most)).select_from(_ledger)
    return _forget(limit=excess.where(tables.IS_PASSING).scalar_subquery())


def _forget(*where: ColumnElement[bool], limit: Any) -> Delete:
    oldest = select(_c.target).where(tables.IS_PASSING, *where).order_by(_c.last_ok).limit(limit)
    return delete(_ledger).where(_c.target.in_(oldest))


def earliest() -> Select[Any]:
    """Select the next_due of the kept row that is due first."""
    return select(func.min(_c.next_due)).where(_kept())


def counts(now: float, late_before: float) -> Select[Any]:
    """Select what Totals counts, in its order; each number from an index."""
    due, late = (min(time, _LATEST) for time in (now, late_before))
    return select(
        _count(_kept()),
        _count(_c.state == State.STORED, _c.next_due <= due),
        _count(_c.state == State.STORED, _c.next_due <= late),
        _count(tables.IS_SET_ASIDE) + _count(_is_odd()),
        _count(_c.state == State.RESERVED),
        _count(tables.IS_FOR_HTTP, _kept()),
    )


def _count(*where: Any) -> Any:
    return select(func.count()).select_from(_ledger).where(*where).scalar_subquery()


def _kept() -> ColumnElement[bool]:
    return and_(_c.state == State.STORED, _c.next_due < NEVER)


def _is_odd() -> ColumnElement[bool]:
    """Whether a row never comes up, since its state or due time is none."""
    known = sorted(State)
    between = [and_(_c.state > one, _c.state < other) for one, other in pairwise(known)]
    late = [and_(_c.state == state, _c.next_due > NEVER) for state in known]  # text, or bytes
    return or_(_c.state < known[0], *between, _c.state > known[-1], *late)


def made_due(now: float, looked_before: float, after: Key, until: Key) -> Update:
    """Update kept rows between two keys that nobody looked at since: they are due `now`."""
    seldom = or_(_c.last_ok.is_(None), _c.last_ok < looked_before)
    between = and_(_beyond(after), tuple_(_c.next_due, _c.target) <= until)
    return update(_ledger).where(_kept(), between, seldom).values(next_due=now)
