"""Who may publish with these key files now: one process at a time, as two would split the nodes.

Both would be told seq n + 1 and success, and readers would meet either value (FACTS, "Puts").
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from dhtmeta.const import POLL_INTERVAL
from dhtmeta.errors import DeadlineExceeded, KeyFileError


class WriterLock:
    """A lock on a file, shared by everything that this object guards at one time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._holders = 0
        self._alone = False  # whether who holds it shares it with nobody

    @contextlib.asynccontextmanager
    async def held(self, deadline: float, *, alone: bool = False) -> AsyncIterator[None]:
        """Hold the lock, `alone` or with others of this process.

        DeadlineExceeded if another process, or who is alone, has it for `deadline` seconds.
        """
        await self._wait(deadline, alone=alone)
        self._holders += 1
        self._alone = alone
        try:
            yield
        finally:
            self._holders -= 1
            self._alone = False
            if not self._holders and self._file is not None:
                self._file.close()
                self._file = None

    async def _wait(self, deadline: float, *, alone: bool) -> None:
        """Wait until this object has the lock, whichever of its waiters got it."""
        now = asyncio.get_running_loop().time
        end = now() + deadline
        while self._alone or (alone and self._holders) or not self._has_it():
            if now() >= end:
                raise DeadlineExceeded(f"another process publishes with {self._path} all the time")
            await asyncio.sleep(POLL_INTERVAL)

    def _has_it(self) -> bool:
        if self._file is None:
            self._file = self._locked()
        return self._file is not None

    def _locked(self) -> IO[bytes] | None:
        """Open the file and lock it; None while somebody else has it, or replaced it meanwhile."""
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise KeyFileError(f"cannot read {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if not _is_same(file, self._path):  # keys were rotated: the lock is on a file that is gone
            file.close()
            return None
        return file


def _is_same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
