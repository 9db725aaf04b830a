"""What is due, on real SQLite files: the order, the pages, the counts, and who keeps what."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event

from dhtmeta.const import MAX_HOLDERS_BYTES
from dhtmeta.errors import CallerError, StoreError
from dhtmeta.store.due import Looked, Totals
from dhtmeta.store.ledger import AT_ONCE, NEVER, Ledger, LedgerEntry
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NOW = 1_800_000_000.0
ALICE = Identity(b"a" * 32)


def signed(salt: bytes = b"", seq: int = 1) -> SignedItem:
    return SignedItem.sign(ALICE, encode_value(b"x"), seq, salt)


def looked(item: SignedItem, **values: Any) -> Looked:
    given: dict[str, Any] = {
        "target": item.target,
        "seq": item.seq,
        "copies": 7,
        "holders": b"seven",
        "next_due": NOW + 500,
        "last_ok": NOW + 1,
        "last_error": None,
    }
    return Looked(**(given | values))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(str(path), lambda: NOW)
    yield opened
    await opened.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


async def kept(ledger: Ledger, count: int, first_due: float = NOW) -> list[SignedItem]:
    """Keep so many items, each due a second later than the one before."""
    items = [signed(b"%d" % n) for n in range(count)]
    for n, item in enumerate(items):
        await ledger.confirm(item, 8, first_due + n, NOW - 100)
    return items


async def entry_of(ledger: Ledger, item: SignedItem) -> LedgerEntry:
    entry = await ledger.newest(item.target)
    assert entry is not None
    return entry


def damage(path: Path, item: SignedItem, change: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(f"update ledger set {change} where target = ?", (item.target,))


async def test_what_is_due_comes_in_pages_those_due_longest_first(ledger: Ledger) -> None:
    items = await kept(ledger, 7)
    await ledger.reserve(signed(b"unfinished"))
    came, after = [], None
    sizes = []
    while True:
        page = await ledger.due(NOW + 4, 2, after)
        came += page.entries
        sizes.append(len(page.entries))
        if (after := page.after) is None:
            break
    assert [entry.item for entry in came] == items[:5]
    assert sizes == [2, 2, 1]
    assert came[0] == await entry_of(ledger, items[0])


async def test_rows_due_at_one_time_come_each_once(ledger: Ledger) -> None:
    items = [signed(b"%d" % n) for n in range(5)]
    for item in items:
        await ledger.confirm(item, 8, NOW, NOW)
    first = await ledger.due(NOW, 3)
    second = await ledger.due(NOW, 3, first.after)
    came = [entry.item.target for entry in first.entries + second.entries]
    assert came == sorted(item.target for item in items)


async def test_a_page_is_never_larger_than_a_page(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.ledger.DUE_ROWS", 2)
    await kept(ledger, 3)
    page = await ledger.due(NOW + 9, 1000)
    assert (len(page.entries), page.after is None) == (2, False)


async def test_what_nobody_keeps_is_never_due(ledger: Ledger) -> None:
    await ledger.confirm(signed(), 8, NEVER, NOW)
    assert (await ledger.due(NEVER, 9)).entries == []
    assert await ledger.next_due() is None


async def test_the_first_due_time_is_that_of_a_stored_row(ledger: Ledger) -> None:
    await kept(ledger, 2, NOW + 50)
    await ledger.reserve(signed(b"unfinished"))
    assert await ledger.next_due() == NOW + 50


@pytest.mark.parametrize(
    "change",
    [
        "v = x'00'",
        "seq = seq + 1",
        "sig = 'text'",
        "salt = 7",
        "copies = 'many'",
        "holders = 'text'",
        "last_ok = 'never'",
        "last_error = x'00'",
        "origin = 'moon'",
    ],
)
async def test_a_damaged_row_is_named_and_the_others_come(
    ledger: Ledger, path: Path, change: str
) -> None:
    items = await kept(ledger, 3)
    damage(path, items[1], change)
    page = await ledger.due(NOW + 9, 9)
    assert [entry.item for entry in page.entries] == [items[0], items[2]]
    ((target, why),) = page.damaged
    assert target == items[1].target
    assert why
    with pytest.raises(StoreError, match=f"{target.hex()}.*damaged"):
        await ledger.newest(target)


async def test_a_page_of_damaged_rows_is_gone_on_from(ledger: Ledger, path: Path) -> None:
    items = await kept(ledger, 3)
    for item in items[:2]:
        damage(path, item, "sig = x''")
    page = await ledger.due(NOW + 9, 2)
    assert (page.entries, len(page.damaged)) == ([], 2)
    assert [one.item for one in (await ledger.due(NOW + 9, 2, page.after)).entries] == items[2:]


async def test_a_row_set_aside_is_counted_and_else_as_it_was(ledger: Ledger, path: Path) -> None:
    items = await kept(ledger, 2)
    damage(path, items[0], "sig = x'00'")
    await ledger.set_aside(items[0].target, "the signature does not hold")
    page = await ledger.due(NOW + 9, 9)
    assert ([one.item for one in page.entries], page.damaged) == (items[1:], [])
    assert (await ledger.totals(NOW, NOW)).damaged == 1
    await ledger.make_due(NOW + 50, NOW + 50)
    with contextlib.closing(sqlite3.connect(path)) as other:
        row = other.execute(
            "select seq, v, sig, state, copies, next_due, last_error from ledger where target = ?",
            (items[0].target,),
        ).fetchone()
    why = "damaged: the signature does not hold"
    assert row == (1, items[0].v, b"\0", "stored", 8, NEVER, why)


@pytest.mark.parametrize(
    "change", ["state = 'lost'", "state = x'00'", "next_due = 'soon'", "state = 'a'"]
)
async def test_a_row_that_never_comes_up_is_counted_as_damaged(
    ledger: Ledger, path: Path, change: str
) -> None:
    items = await kept(ledger, 3)
    damage(path, items[0], change)
    totals = await ledger.totals(NOW + 9, NOW)
    assert (totals.kept, totals.damaged) == (2, 1)


async def test_a_note_changes_what_a_look_found(ledger: Ledger) -> None:
    first, second, other = await kept(ledger, 3)
    before = await entry_of(ledger, other)
    failed = looked(second, copies=2, holders=None, last_ok=None, last_error="silent")
    await ledger.note([looked(first), failed])
    entry = await entry_of(ledger, first)
    assert (entry.copies, entry.holders, entry.next_due, entry.last_ok) == (
        7,
        b"seven",
        NOW + 500,
        NOW + 1,
    )
    entry = await entry_of(ledger, second)
    assert (entry.copies, entry.holders, entry.last_ok) == (2, None, NOW - 100)
    assert entry.last_error == "silent"
    assert (await entry_of(ledger, other)) == before


async def test_a_note_of_another_seq_or_of_what_is_not_stored_changes_nothing(
    ledger: Ledger,
) -> None:
    old, new, newer = signed(seq=1), signed(seq=2), signed(seq=3)
    await ledger.confirm(new, 8, NOW + 9, NOW)
    stored = await entry_of(ledger, new)
    await ledger.note([looked(old)])
    assert await entry_of(ledger, new) == stored
    await ledger.reserve(newer)
    reserved = await entry_of(ledger, newer)
    await ledger.note([looked(newer)])
    assert await entry_of(ledger, newer) == reserved
    await ledger.note([looked(signed(b"unknown"))])
    assert await ledger.newest(signed(b"unknown").target) is None
    await ledger.note([])


async def test_notes_are_written_all_or_none(ledger: Ledger, path: Path) -> None:
    items = await kept(ledger, 2)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute(
            "create trigger no before update on ledger when new.copies = 99 "
            "begin select raise(abort, 'no'); end"
        )
    with pytest.raises(StoreError):
        await ledger.note([looked(items[0]), looked(items[1], copies=99)])
    assert (await entry_of(ledger, items[0])).copies == 8


async def test_too_many_holders_are_refused(ledger: Ledger) -> None:
    most = bytes(MAX_HOLDERS_BYTES)
    await ledger.confirm(signed(), 8, NOW, NOW, holders=most)
    assert (await entry_of(ledger, signed())).holders == most
    with pytest.raises(CallerError, match="holders has 257 bytes"):
        await ledger.confirm(signed(), 8, NOW, NOW, holders=most + b"x")
    with pytest.raises(CallerError, match="holders has 257 bytes"):
        looked(signed(), holders=most + b"x")


async def test_what_a_visitor_puts_is_not_kept_unless_he_may(ledger: Ledger) -> None:
    item, may = signed(b"not"), signed(b"may")
    for one, next_due in ((item, NEVER), (may, NOW + 9)):
        await ledger.reserve(one, origin="http")
        assert (await entry_of(ledger, one)).next_due == NEVER
        await ledger.confirm(one, 8, next_due, NOW, origin="http")
        entry = await entry_of(ledger, one)
        assert (entry.next_due, entry.origin) == (next_due, "http")
    assert (await ledger.totals(NOW, NOW)).for_http == 1


@pytest.mark.parametrize("origin", ["local", "http"])
async def test_who_keeps_nothing_takes_nothing_away(ledger: Ledger, origin: str) -> None:
    await ledger.confirm(signed(), 8, NOW + 77, NOW)
    newer = signed(seq=2)
    await ledger.reserve(newer, origin=origin)
    await ledger.confirm(newer, 8, NEVER, NOW, origin=origin)
    entry = await entry_of(ledger, newer)
    assert (entry.state, entry.next_due, entry.origin) == (State.STORED, NOW + 77, "local")


@pytest.mark.parametrize(("origin", "next_due"), [("local", NEVER), ("http", AT_ONCE)])
async def test_what_its_owner_began_only_he_gives_up(
    ledger: Ledger, origin: str, next_due: float
) -> None:
    await ledger.reserve(signed())
    assert (await entry_of(ledger, signed())).next_due == AT_ONCE
    await ledger.reserve(signed(), origin=origin)
    await ledger.confirm(signed(), 8, NEVER, NOW, origin=origin)
    assert (await entry_of(ledger, signed())).next_due == next_due


async def test_a_visitors_row_becomes_its_owners_and_stays_that(ledger: Ledger) -> None:
    await ledger.confirm(signed(), 8, NEVER, NOW, origin="http")
    await ledger.reserve(signed())
    entry = await entry_of(ledger, signed())
    assert (entry.origin, entry.next_due) == ("local", AT_ONCE)
    await ledger.confirm(signed(), 8, NOW, NOW, origin="http")
    assert (await entry_of(ledger, signed())).origin == "local"


async def test_an_unknown_origin_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="moon"):
        await ledger.reserve(signed(), origin="moon")


async def test_totals_count_each_kind(ledger: Ledger) -> None:
    await kept(ledger, 5)
    await ledger.confirm(signed(b"visitor"), 8, NOW + 2, NOW, origin="http")
    await ledger.confirm(signed(b"not kept"), 8, NEVER, NOW, origin="http")
    await ledger.reserve(signed(b"unfinished"))
    await ledger.reserve(signed(b"lost"))
    await ledger.supersede(signed(b"lost"), "the network is newer")
    assert await ledger.totals(NOW + 3, NOW + 1) == Totals(
        kept=6, due=5, late=2, damaged=0, unfinished=1, for_http=1
    )


async def test_what_was_not_looked_at_since_is_made_due(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhtmeta.store.ledger.DUE_ROWS_CHANGED", 2)
    items = await kept(ledger, 7, NOW + 100)
    await ledger.note([looked(item, last_ok=NOW + 5) for item in items[:2]])
    await ledger.confirm(signed(b"not kept"), 8, NEVER, NOW)
    await ledger.confirm(signed(b"due"), 8, NOW - 9, NOW - 100)
    assert await ledger.make_due(NOW, NOW + 5) == 5
    page = await ledger.due(NOW, 99)
    assert page.entries[0].item == signed(b"due")  # in the order it had
    assert {one.item.target for one in page.entries[1:]} == {one.target for one in items[2:]}
    assert await ledger.make_due(NOW, NOW + 5) == 0


@contextlib.contextmanager
def plans(store: Store) -> Iterator[list[str]]:
    """Collect how SQLite goes about every statement that names the ledger."""
    found: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, given: Any, __: Any, many: bool) -> None:
        if "ledger" in statement:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given[0] if many else given)
            found.extend(row[3] for row in cursor.fetchall())

    event.listen(store.engine.sync_engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(store.engine.sync_engine, "before_cursor_execute", explain)


QUESTIONS: dict[str, Callable[[Ledger], Awaitable[Any]]] = {
    "due": lambda ledger: ledger.due(NOW + 9, 9, (NOW, b"")),
    "next_due": lambda ledger: ledger.next_due(),
    "note": lambda ledger: ledger.note([looked(signed())]),
    "set_aside": lambda ledger: ledger.set_aside(signed().target, "because"),
    "totals": lambda ledger: ledger.totals(NOW, NOW),
    "make_due": lambda ledger: ledger.make_due(NOW, NOW),
    "unfinished": lambda ledger: anext(ledger.unfinished(), None),
    "floors": lambda ledger: ledger._store._load(),
    "clean_up": lambda ledger: ledger._store.clean_up(),
    "forget_passing": lambda ledger: ledger._store.forget_passing(),
}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_no_question_reads_the_whole_table(ledger: Ledger, store: Store, name: str) -> None:
    await kept(ledger, 3, NOW + 1)
    with plans(store) as found:
        await QUESTIONS[name](ledger)
    assert found
    for line in found:
        assert "TEMP B-TREE" not in line
        few = (
            "SCAN CONSTANT ROW",
            "SCAN ledger USING INDEX ledger_set_aside",  # a partial one
            "SCAN ledger USING COVERING INDEX ledger_passing",  # another
        )
        assert not line.startswith("SCAN") or line in few


async def test_due_rows_are_found_by_their_due_time(ledger: Ledger, store: Store) -> None:
    with plans(store) as found:
        await ledger.due(NOW + 9, 9, (NOW, b""))
    assert found == [
        "SEARCH ledger USING INDEX ledger_due (state=? AND (next_due,target)>(?,?) AND next_due<?)"
    ]


async def test_a_text_that_is_no_utf_8_hides_no_other_row(ledger: Ledger, path: Path) -> None:
    items = await kept(ledger, 3)
    damage(path, items[0], "v = cast(x'ff' as text)")
    damage(path, items[1], "last_error = cast(x'41ff' as text)")
    page = await ledger.due(NOW + 9, 9)
    assert [target for target, _ in page.damaged] == [items[0].target]
    assert [entry.item for entry in page.entries] == items[1:]
    assert page.entries[0].last_error == "A\ufffd"


@pytest.mark.parametrize(
    ("stored_as", "told"),
    [("'text'", "text 74657874"), ("cast(x'ff' as text)", "text FF"), ("7", "integer 37")],
)
@pytest.mark.parametrize("limit", [1, 9])
async def test_a_row_without_target_hides_no_other_and_is_set_aside(
    ledger: Ledger, store: Store, path: Path, stored_as: str, told: str, limit: int
) -> None:
    items = await kept(ledger, 3)
    damage(path, items[0], f"target = {stored_as}")
    page = await ledger.due(NOW + 9, limit)
    assert [entry.item for entry in page.entries] == items[1 : 1 + limit]
    assert page.damaged == []
    await store.clean_up()
    assert await ledger.next_due() == NOW + 1
    totals = await ledger.totals(NOW + 9, NOW)
    assert (totals.kept, totals.due, totals.damaged) == (2, 2, 1)
    assert await ledger.make_due(NOW, NOW) == 2
    with contextlib.closing(sqlite3.connect(path)) as other:
        query = "select next_due, last_error from ledger where typeof(target) <> 'blob'"
        assert other.execute(query).fetchall() == [(NEVER, f"damaged: target is {told}")]


async def test_an_unfinished_row_without_target_hides_no_other(ledger: Ledger, path: Path) -> None:
    for salt in (b"one", b"two"):
        await ledger.reserve(signed(salt))
    damage(path, signed(b"one"), "target = 'text'")
    assert [page async for page in ledger.unfinished(1)] == [[signed(b"two").target]]


async def test_a_row_without_target_is_said_once(
    ledger: Ledger, store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path, (await kept(ledger, 1))[0], "target = 'text'")
    for _ in range(2):
        await store.clean_up()
    assert caplog.messages == [f"1 rows of the ledger in {path} have no target: not kept"]
