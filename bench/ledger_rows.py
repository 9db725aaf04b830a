"""The ledger of a republisher with 1,000,000 rows: how long its questions take, and what memory.

`python -m bench.ledger_rows [ROWS]` prints the figures as JSON. All rows are signed, and verified
when they are read; the reader is a process of its own, so that its memory is its own, too.
"""

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from dhtmeta.store import tables
from dhtmeta.store.due import DuePage, Looked
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NOW = 1_800_000_000.0  # Unix s
ROWS = 1_000_000
KEYS = 100  # the keys of the rows, whose salts differ
VALUE = encode_value("v" * 600)  # as large as a NodeRecord with some protocols
HOLDERS = bytes(160)  # of 20 nodes
BATCH = 10_000  # rows an insert
PAGE = 1000  # rows a page and a note
INTERVAL = 3600.0  # s over which the rows are due


def measure(rows: int) -> dict[str, Any]:
    """Fill a ledger with `rows`, all due, and have another process work through it.

    Returns milliseconds of the median, and of the slowest where it says so; MiB.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        asyncio.run(_opened_once(path))
        _fill(path, rows)
        words = [sys.executable, "-m", "bench.ledger_rows", "--read", str(path)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        size = path.stat().st_size / 2**20
        figures: dict[str, Any] = json.loads(done.stdout)
    if figures["paged"] != rows:
        raise AssertionError(f"{figures['paged']} of {rows} rows came up")
    return {"rows": rows, "file_mib": round(size)} | figures


async def _opened_once(path: Path) -> None:
    await (await Store.open(str(path), lambda: NOW)).close()


def _fill(path: Path, rows: int) -> None:
    keys = [Identity(i.to_bytes(32, "big")) for i in range(KEYS)]
    names = [column.name for column in tables.ledger.columns]
    into = f"insert into ledger ({', '.join(names)}) values ({', '.join(':' + n for n in names)})"
    with closing(sqlite3.connect(path)) as connection:
        for first in range(0, rows, BATCH):
            batch = range(first, min(first + BATCH, rows))
            with connection:
                connection.executemany(into, [_row(keys[i % KEYS], i, rows) for i in batch])


def _row(identity: Identity, i: int, rows: int) -> dict[str, Any]:
    item = SignedItem.sign(identity, VALUE, 1, i.to_bytes(4, "big"))
    due = NOW - INTERVAL * ((i * 7919) % rows) / rows  # in no order of insertion
    return tables.item_row(item.target, item) | {
        "state": State.STORED,
        "copies": 20,
        "next_due": due,
        "last_ok": due - 86_400.0,
        "last_error": None,
        "holders": HOLDERS,
        "origin": "local",
    }


async def _read(path: str) -> dict[str, Any]:
    """Do what a republisher does, once over all rows."""
    bare, began = _peak(), time.monotonic()
    store = await Store.open(path, lambda: NOW)
    opened, ledger = time.monotonic() - began, Ledger(store)
    try:
        with _Timed() as totals:
            await ledger.totals(NOW, NOW - INTERVAL / 2)
        with _Timed() as first:
            await ledger.next_due()
        with _Timed() as floor:
            await ledger.newest((await ledger.due(NOW, 1)).entries[0].item.target)
        pages, notes, paged = await _page_through(ledger)
        peak = _peak()
        with _Timed() as due_again:
            changed = await ledger.make_due(NOW, NOW)
    finally:
        await store.close()
    return {
        "open_ms": _ms(opened),
        "totals_ms": _ms(totals.seconds),
        "next_due_ms": _ms(first.seconds),
        "newest_ms": _ms(floor.seconds),
        "page_of_1000_ms": _ms(median(pages)),
        "slowest_page_ms": _ms(max(pages)),
        "note_of_1000_ms": _ms(median(notes)),
        "slowest_note_ms": _ms(max(notes)),
        "paged": paged,
        "make_due_ms": _ms(due_again.seconds),
        "made_due": changed,
        "bare_rss_mib": round(bare),
        "peak_rss_mib": round(peak),
    }


async def _page_through(ledger: Ledger) -> tuple[list[float], list[float], int]:
    pages, notes, paged = [], [], 0
    after = None
    while True:
        with _Timed() as page_time:
            page = await ledger.due(NOW, PAGE, after)
        with _Timed() as note_time:
            await ledger.note(_looked(page))
        paged += len(page.entries)
        pages.append(page_time.seconds)
        notes.append(note_time.seconds)
        if (after := page.after) is None:
            return pages, notes, paged


def _looked(page: DuePage) -> list[Looked]:
    """Return a look at each row that has it due in a day, 1 in 1000 with a failure."""
    return [
        Looked(
            target=entry.item.target,
            seq=entry.item.seq,
            copies=20,
            holders=HOLDERS,
            next_due=entry.next_due + 86_400.0,
            last_ok=NOW - 1 if entry.item.salt[-1] else None,
            last_error=None if entry.item.salt[-1] else "no node answered",
        )
        for entry in page.entries
    ]


class _Timed:
    """Takes the time of a block, in seconds."""

    seconds = 0.0

    def __enter__(self) -> "_Timed":
        self.seconds = -time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _peak() -> float:
    """Return the most memory this process ever had, in MiB; rusage counts its parent's, too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        print(json.dumps(uvloop.run(_read(sys.argv[2]))))
    else:
        print(json.dumps(measure(int(sys.argv[1]) if sys.argv[1:] else ROWS), indent=2))
