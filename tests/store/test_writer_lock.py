"""Who may publish now: one process, in which all share the lock, and each waits its own time."""

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhtmeta.errors import DeadlineExceeded, KeyFileError
from dhtmeta.store.writer_lock import WriterLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(b"")
    return tmp_path / "key"


@contextlib.contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Hold the lock as another process would: it belongs to the opened file."""
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        yield


async def hold(lock: WriterLock, deadline: float) -> None:
    async with lock.held(deadline):
        pass


async def test_every_waiter_ends_at_its_own_deadline(path: Path) -> None:
    lock = WriterLock(path)
    with held_by_another(path):
        async with asyncio.timeout(5.0):  # one after the other they would take 6 s
            waiting = (hold(lock, 2.0) for _ in range(3))
            ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [DeadlineExceeded] * 3


async def test_those_who_waited_share_the_lock_and_free_it_at_the_end(path: Path) -> None:
    lock = WriterLock(path)
    together = asyncio.Barrier(3)

    async def meet() -> None:
        async with lock.held(5):
            await together.wait()

    with held_by_another(path):
        waiting = [asyncio.create_task(meet()) for _ in range(3)]
        with pytest.raises(DeadlineExceeded):
            await hold(lock, 0)
    await asyncio.gather(*waiting)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_two_locks_on_one_file_exclude_each_other(path: Path) -> None:
    async with WriterLock(path).held(1):
        with pytest.raises(DeadlineExceeded, match="another process publishes"):
            await hold(WriterLock(path), 0)
    await hold(WriterLock(path), 0)


async def test_a_key_file_that_is_gone_is_named(path: Path) -> None:
    path.unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        await hold(WriterLock(path), 1)
