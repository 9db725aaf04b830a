"""`put --from` and `republish` as a shell sees them: many items, some broken, some interrupted."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dhtmeta.const import DUE_PAGE, MAX_SIGNED_FILE_BYTES
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.testing.swarm import Swarm
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity
from dhtmeta.values.signed_file import to_signed_file
from tests.cli.test_cli import Ran, dhtmeta, silent_address
from tests.conftest import make_node

Words = tuple[str | Path, ...]
PATIENCE = 60.0  # s until a test gives up waiting


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def net(own_swarm: Swarm, store: Path) -> Words:
    """Return the options that lead to a swarm of this test's own."""
    return ("--bootstrap", own_swarm.addresses[0], "--store", store)


def signed(count: int, seq: int = 1) -> list[SignedItem]:
    value = encode_value(b"x")
    return [SignedItem.sign(Identity.generate(), value, seq) for _ in range(count)]


def write_lines(path: Path, lines: Iterable[SignedItem | str]) -> Path:
    texts = (to_signed_file(one) if isinstance(one, SignedItem) else one for one in lines)
    path.write_text("\n".join(texts) + "\n")
    return path


def ledger(store: Path, sql: str, *values: object) -> list[Any]:
    """Ask the store, or change it, as another process would."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        found = connection.execute(sql, values).fetchall()
        connection.commit()
        return found


def summary(stored: int, there: int, failed: int) -> str:
    return f"{stored} stored, {there} were stored already, {failed} failed."


# put --from


async def test_a_file_with_many_items_of_which_some_are_broken(
    net: Words, own_swarm: Swarm, tmp_path: Path
) -> None:
    items = signed(40)
    forged = to_signed_file(items[0]).replace('"seq": 1', '"seq": 2')
    long = "x" * (3 * MAX_SIGNED_FILE_BYTES)
    path = write_lines(tmp_path / "items", [*items[:20], forged, "", long, *items[20:], "{"])
    ran = await dhtmeta("put", "--from", path, *net, "--json")
    assert ran.code == 2
    *named, said = ran.err.splitlines()
    assert [one.partition(": ")[2] for one in sorted(named)] == [
        f"{path}:21: the signature does not hold",
        f"{path}:23: the line is longer than 8,192 bytes",
        f"{path}:44: not JSON: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
    ]
    assert said == summary(40, 0, 3)
    shown = {one["public_key"]: one for one in map(json.loads, ran.out.splitlines())}
    assert shown.keys() == {item.public_key.hex() for item in items}
    assert shown[items[20].public_key.hex()]["from"] == f"{path}:24"
    assert all(one["copies"] >= 8 for one in shown.values())
    async with make_node(own_swarm, tmp_path / "elsewhere") as node:
        for item in random.sample(items, 5):
            assert (await node.query(item.public_key, policy="freshest")).item == item


async def test_a_directory_with_broken_files_and_others_that_are_none_of_ours(
    net: Words, tmp_path: Path
) -> None:
    directory = tmp_path / "items"
    directory.mkdir()
    for n, item in enumerate(signed(3)):
        (directory / f"{n}.json").write_text(to_signed_file(item))
    (directory / "large").write_bytes(b" " * (MAX_SIGNED_FILE_BYTES + 1))
    (directory / "1-latin").write_bytes(b"\xff")
    (directory / "e\x1b[2J").write_text("{}")
    (directory / ".hidden").write_text("not a signed file")
    (directory / "sub").mkdir()
    ran = await dhtmeta("put", "--from", directory, *net)
    assert (ran.code, ran.out) == (2, "")
    assert f"dhtmeta: {directory}/1-latin: {directory}/1-latin is not UTF-8" in ran.err
    assert f"{directory}/large is larger than 8,192 bytes" in ran.err
    assert f"dhtmeta: {directory}/e\\u001b[2J: public_key: is missing" in ran.err
    assert ran.err.splitlines()[-1] == summary(3, 0, 3)


async def test_the_exit_code_is_what_all_failures_have_in_common(
    net: Words, tmp_path: Path
) -> None:
    newer, older = (
        [SignedItem.sign(Identity(bytes([n]) * 32), encode_value(b"v"), seq) for n in range(3)]
        for seq in (5, 4)
    )
    path = tmp_path / "items"
    assert (await dhtmeta("put", "--from", write_lines(path, newer), *net)).code == 0
    ran = await dhtmeta("put", "--from", write_lines(path, [*older, *signed(1)]), *net)
    assert (ran.code, ran.out) == (4, "")
    for n in (1, 2, 3):
        assert f"dhtmeta: {path}:{n}: the ledger says seq 5" in ran.err
    assert ran.err.splitlines()[-1] == summary(1, 0, 3)
    ran = await dhtmeta("put", "--from", write_lines(path, [*older, "broken"]), *net)
    assert ran.code == 1


async def test_a_pipe_is_read_once(net: Words, tmp_path: Path) -> None:
    items = write_lines(tmp_path / "items", signed(3))
    piped = 'items=$1; shift; cat "$items" | "$0" -m dhtmeta put --from /dev/stdin "$@"'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", piped, sys.executable, items, *net), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, summary(3, 0, 0) + "\n")


async def interrupted(words: Words, number: signal.Signals) -> tuple[int, str]:
    """Run the command until it reported some items, then send it a signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            assert await process.stdout.readline()
        process.send_signal(number)
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_what_was_interrupted_goes_on_when_it_is_run_again(
    net: Words, store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    items = signed(150)
    words: Words = ("put", "--from", write_lines(tmp_path / "items", items), *net, "--json")
    code, err = await interrupted(words, number)
    ((before,),) = ledger(store, "SELECT count() FROM ledger WHERE state = 'stored'")
    assert 5 <= before < len(items)
    if number == signal.SIGINT:
        assert code == 130
        assert " 0 failed.\n" in err
        assert "Traceback" not in err
    ran = await dhtmeta(*words)
    assert ran.code == 0
    stored = [json.loads(line)["public_key"] for line in ran.out.splitlines()]
    # what was reserved when it was killed may be finished before its turn comes
    assert Counter(stored).most_common(1)[0][1] == 1
    assert len(stored) <= len(items) - before
    assert ran.err == summary(len(stored), len(items) - len(stored), 0) + "\n"
    assert ledger(store, "SELECT count(), min(state), max(state), min(copies) > 7 FROM ledger") == [
        (len(items), "stored", "stored", 1)
    ]


async def test_of_many_items_a_pipe_is_told_every_ten_percent(
    net: Words, store: Path, tmp_path: Path
) -> None:
    items, now = signed(DUE_PAGE), time.time()
    opened = await Store.open(str(store), lambda: now)
    for item in items:
        await Ledger(opened).confirm(item, 8, now + 1e6, now)
    await opened.close()
    ran = await dhtmeta("put", "--from", write_lines(tmp_path / "items", items), *net)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.splitlines() == [
        *(f"storing: {n:,} of 1,000" for n in range(100, 1001, 100)),
        f"0 stored, {DUE_PAGE:,} were stored already, 0 failed.",
    ]


async def test_a_reader_that_has_seen_enough_is_no_bug(net: Words, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "items", signed(3))
    read, write = os.pipe()
    os.close(read)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", "put", "--from", path, *net, "--json"),
        stdout=write,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(write)
    async with asyncio.timeout(PATIENCE):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"bug" not in err
    assert b"Traceback" not in err


async def test_wrong_words_are_wrong_use_and_nothing_is_sent(
    own_swarm: Swarm, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "items", signed(3))
    wrong: list[tuple[Words, str]] = [
        (("put",), "give signed files, or --from"),
        (("put", path, "--from", path), "give signed files, or --from"),
        (("put", "--from", tmp_path / "missing"), "does not exist"),
        (("put", "--from", path, "--cas", "1"), "--cas is about one item"),
        (("put", "--from", path, "--carrier", "libtorrent"), "--carrier direct"),
        (("put", "--from", "/proc/self/mem"), "cannot read /proc/self/mem: Input/output error"),
        (("republish", "--within", "-1"), "not in the range"),
    ]
    net = ("--bootstrap", own_swarm.addresses[0], "--store", tmp_path / "store.db")
    for words, message in wrong:
        ran = await dhtmeta(*words, *net)
        assert (ran.code, ran.out) == (2, ""), words
        assert message in ran.err, words
        assert ran.err.count("--carrier direct") <= 1
    path = tmp_path / "store.db"
    assert not path.exists() or ledger(path, "SELECT count() FROM ledger") == [(0,)]


# republish


async def republish(net: Words, *words: str | Path) -> dict[str, int]:
    """Republish; returns what it printed."""
    ran = await dhtmeta("republish", *words, *net, "--json")
    assert ran.code == 0, ran.err
    shown: dict[str, int] = ran.json
    return shown


NOTHING = {"looked": 0, "published": 0, "failed": 0, "topped_up": 0, "lost": 0, "adopted": 0}


async def test_republish_works_off_what_is_due(net: Words, store: Path, tmp_path: Path) -> None:
    items = signed(3)
    await dhtmeta("put", "--from", write_lines(tmp_path / "items", items), *net)
    assert await republish(net) == NOTHING
    ledger(store, "UPDATE ledger SET next_due = 1.0 WHERE target != ?", items[0].target)
    assert await republish(net) == NOTHING | {"looked": 2}
    assert await republish(net) == NOTHING
    shown = await dhtmeta("republish", *net)
    assert shown.out == "0 looked at, 0 published anew, 0 copies added, 0 failed\n"


async def test_all_passes_over_what_was_looked_at_lately(
    net: Words, store: Path, tmp_path: Path
) -> None:
    items = signed(3)
    await dhtmeta("put", "--from", write_lines(tmp_path / "items", items), *net)
    assert await republish(net, "--all") == NOTHING
    ledger(store, "UPDATE ledger SET last_ok = last_ok - 3700 WHERE target = ?", items[0].target)
    assert await republish(net, "--all") == NOTHING | {"looked": 1}
    assert await republish(net, "--all", "--within", "0") == NOTHING | {"looked": 3}


async def test_our_own_record_is_signed_anew_where_its_key_is(net: Words, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"topic": "t"}')
    keys = ("--keys", tmp_path / "keys")
    published = (await dhtmeta("publish", *keys, "--record", record, *net, "--json")).json
    elsewhere = ("--keys", tmp_path / "elsewhere")
    assert await republish(net, "--all", "--within", "0", *elsewhere) == NOTHING | {"looked": 1}
    assert not (tmp_path / "elsewhere").exists()
    assert await republish(net, "--all", "--within", "0", *keys) == NOTHING | {"published": 1}
    found = await dhtmeta("query", published["public_key"], "--policy", "freshest", *net, "--json")
    assert found.json["seq"] == 2


async def test_a_copy_that_is_gone_is_put_again_and_a_lost_record_is_told(
    tmp_path: Path, store: Path
) -> None:
    """On another swarm nobody holds what the ledger says was stored."""
    items = write_lines(tmp_path / "items", signed(2))
    async with Swarm(8) as before:
        words: Words = ("--store", store, "--bootstrap", before.addresses[0])
        assert (await dhtmeta("put", "--from", items, *words)).code == 0
    async with Swarm(10) as after:
        words = ("--store", store, "--bootstrap", after.addresses[0])
        shown = await republish(words, "--all", "--within", "0")
    assert shown["topped_up"] >= 16
    assert shown | {"topped_up": 0} == NOTHING | {"looked": 2, "lost": 2}


async def test_a_damaged_row_is_named_and_the_others_are_looked_at(
    net: Words, store: Path, tmp_path: Path
) -> None:
    items = signed(3)
    await dhtmeta("put", "--from", write_lines(tmp_path / "items", items), *net)
    ledger(store, "UPDATE ledger SET next_due = 1.0")
    ledger(store, "UPDATE ledger SET v = '1:y' WHERE target = ?", items[1].target)
    ran = await dhtmeta("republish", *net, "--json")
    assert ran.json == NOTHING | {"looked": 2}
    assert f"the ledger row of target {items[1].target.hex()} is damaged" in ran.err


async def test_without_a_network_both_say_so_and_what_is_due_stays_due(
    net: Words, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_lines(tmp_path / "items", signed(2))
    assert (await dhtmeta("put", "--from", items, *net)).code == 0
    ledger(store, "UPDATE ledger SET next_due = 1.0")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))  # where nobody pings us
    silent = silent_address()
    nobody: Words = ("--bootstrap", silent, "--store", store)
    ran: list[Ran] = [
        await dhtmeta("put", "--from", items, *nobody, "--json"),
        await dhtmeta("republish", *nobody, "--json"),
    ]
    for one in ran:
        assert (one.code, one.out) == (5, "")
        assert f"asked: {silent}" in one.err
    assert ledger(store, "SELECT next_due FROM ledger") == [(1.0,)] * 2
