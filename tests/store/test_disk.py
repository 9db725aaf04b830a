"""Disks that do not take writes any more, really: what is said, what is lost, how it heals."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dhtmeta.errors import StoreError
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

NOW = 1_800_000_000.0
ALICE = Identity(b"a" * 32)

# Works on a store until the disk fails, then until it works again; says what it saw.
SCENARIO = """
import asyncio, json, resource, sys
from pathlib import Path
from dhtmeta.errors import StoreError
from dhtmeta.store.ledger import Ledger
from dhtmeta.store.store import Store
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

directory, how = Path(sys.argv[1]), sys.argv[2]
store_file, ballast = directory / "store.db", directory / "ballast"

def item(n):
    return SignedItem.sign(Identity(b"a" * 32), encode_value(b"x" * 900), 1, b"%d" % n)

def fill():
    if how == "full":
        try:
            ballast.write_bytes(bytes(2**26))
        except OSError:
            return
        raise SystemExit("the disk is larger than thought")
    size = (directory / "store.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def make_room():
    if how == "full":
        ballast.unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

async def main():
    saw = {}
    store = await Store.open(str(store_file), lambda: 1.8e9)
    ledger, done = Ledger(store), 0
    await ledger.confirm(item(0), 8, 1.8e9, 1.8e9)
    while done < 20:
        await ledger.reserve(item(done + 1))
        done += 1
    fill()
    try:
        while True:
            await ledger.reserve(item(done + 1))
            done += 1
    except StoreError as error:
        saw["error"] = str(error)
    saw["failure"] = store.failure
    store.keep_floor(bytes(20), 7, 1.8e9)
    try:
        await store.flush()
    except StoreError as error:
        saw["flush"] = str(error)
    saw["read"] = (await ledger.newest(item(0).target)).copies
    make_room()
    async with asyncio.timeout(10):
        while store.failure is not None:  # nobody writes: the store heals by itself
            await asyncio.sleep(0.01)
    await ledger.reserve(item(done + 1))
    await store.close()
    store = await Store.open(str(store_file), lambda: 1.8e9)
    held = [await Ledger(store).newest(item(n).target) for n in range(done + 2)]
    saw |= {"lost": held.count(None), "floor": store.floors.get(bytes(20))}
    await store.check()
    await store.close()
    print(json.dumps(saw))

asyncio.run(main())
"""


async def ran(*words: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    saw: dict[str, Any] = json.loads(out)
    return saw


def may_mount(path: Path) -> bool:
    words = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(path)]
    return bool(shutil.which("unshare")) and not subprocess.run(words, stderr=-3).returncode


def check(saw: dict[str, Any], why: str) -> None:
    assert why in saw["error"]
    assert "nothing that was reported done is lost" in saw["error"]
    assert saw["failure"] == saw["error"]
    assert why in saw["flush"]
    assert (saw["read"], saw["lost"], saw["floor"]) == (8, 0, 7)


async def test_a_full_disk_is_said_loses_nothing_and_heals(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("a small disk takes the right to mount one")
    mount = 'mount -t tmpfs -o size=1m none "$2" && exec "$0" -c "$1" "$2" full'
    check(
        await ran("unshare", "-m", "sh", "-c", mount, sys.executable, SCENARIO, str(tmp_path)),
        "disk is full): free some space",
    )


async def test_a_file_that_may_not_grow_is_said_loses_nothing_and_heals(tmp_path: Path) -> None:
    saw = await ran(sys.executable, "-c", SCENARIO, str(tmp_path), "limit")
    check(saw, "disk I/O error): the disk does not take it")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(str(path), lambda: NOW)
    yield opened
    await opened.close()


def signed(seq: int) -> SignedItem:
    return SignedItem.sign(ALICE, encode_value(b"x"), seq)


@contextlib.contextmanager
def unchangeable(path: Path) -> Iterator[None]:
    """Have the kernel refuse every write to a file, by root and through open files too."""
    refused = subprocess.run(["chattr", "+i", str(path)], stderr=subprocess.DEVNULL)
    if refused.returncode:
        pytest.skip("only root may, and not on every file system")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


async def test_a_store_that_turns_read_only_is_said_loses_nothing_and_heals(
    store: Store, path: Path
) -> None:
    ledger = Ledger(store)
    await ledger.confirm(signed(1), 8, NOW, NOW)
    with unchangeable(path.with_name("store.db-wal")):
        for writing in (
            ledger.reserve(signed(2)),
            ledger.confirm(signed(2), 8, NOW, NOW),
            ledger.set_aside(signed(1).target, "because"),
            ledger.make_due(NOW + 5, NOW + 5),
            store._try_again(),
        ):
            with pytest.raises(StoreError, match=r"read-only|may write"):
                await writing
            assert store.failure is not None
        entry = await ledger.newest(signed(1).target)  # reading goes on
        assert entry is not None
        assert entry.state is State.STORED
        with pytest.raises(StoreError, match="may write"):
            await Store.open(str(path), lambda: NOW)
    await ledger.reserve(signed(2))
    assert store.failure is None
    entry = await ledger.newest(signed(1).target)
    assert entry is not None
    assert (entry.item, entry.last_error) == (signed(2), None)


async def test_what_asks_nothing_of_the_disk_does_not_say_it_works(
    store: Store, path: Path
) -> None:
    await Ledger(store).confirm(signed(1), 8, NOW, NOW)
    with unchangeable(path.with_name("store.db-wal")):
        with pytest.raises(StoreError):
            await Ledger(store).reserve(signed(2))
        with pytest.raises(StoreError):
            await Ledger(store).fail(signed(9), "no row has that")
        assert store.failure is not None


async def test_a_store_that_nobody_writes_to_finds_out_that_it_works_again(
    store: Store, path: Path
) -> None:
    with unchangeable(path.with_name("store.db-wal")), pytest.raises(StoreError):
        await Ledger(store).reserve(signed(1))
    assert store.failure is not None
    async with asyncio.timeout(10):
        while store.failure is not None:
            await asyncio.sleep(0.01)


async def test_a_failed_write_of_the_ledger_is_said_once(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with unchangeable(path.with_name("store.db-wal")):
        for _ in range(3):
            with pytest.raises(StoreError):
                await Ledger(store).reserve(signed(2))
    await Ledger(store).reserve(signed(2))
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert said[1].endswith("can be written again")
