"""When our own record goes out: at start, and when its file or our key changes, debounced.

Its hourly renewal is the republisher's. A file that is broken is told of and changes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from dhtmeta.const import DEBOUNCE, MAX_TEXT_BYTES, RECORD_POLL, RETRY_FIRST, RETRY_LAST
from dhtmeta.errors import CallerError, DhtmetaError, NetworkUnreachable
from dhtmeta.values.plain import from_json
from dhtmeta.values.record import NodeRecord

log = logging.getLogger(__name__)

Publish = Callable[[NodeRecord], Awaitable[object]]


class _Said(NamedTuple):
    """What the files say: the record's text, and which file the private key is in, if any yet."""

    text: str
    key: tuple[int, int] | None  # inode and mtime in ns: a rotation puts another file there


class OwnRecord:
    """Watches `path` and publishes the NodeRecord in it, under the key that is in `key`."""

    def __init__(self, path: Path, key: Path, publish: Publish) -> None:
        self._path = path
        self._key = key
        self._publish = publish
        self._published: _Said | None = None  # what went out, or is to blame for that it did not
        self._unreadable: str | None = None
        self._unpublished: str | None = None
        self._retry = RETRY_FIRST / 10  # s until the next try

    @property
    def problem(self) -> str | None:
        """What is wrong with our record, None while it is published as its file says."""
        return self._unreadable or self._unpublished

    async def run(self) -> None:
        """Publish what the file says, each time it says something new, until cancelled."""
        while True:
            said = await self._settled()
            if said is not None and said != self._published:
                await self._try(said)
            await asyncio.sleep(RECORD_POLL)

    async def _settled(self) -> _Said | None:
        """Return what the files say once that has stayed the same for a while."""
        said = self._read()
        while said is not None and said != self._published:
            await asyncio.sleep(DEBOUNCE)
            before, said = said, self._read()
            if said == before:
                break
        return said

    def _read(self) -> _Said | None:
        try:
            with self._path.open(encoding="utf-8") as file:
                text = file.read(MAX_TEXT_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            problem = f"our record cannot be read from {self._path}: {reason}"
            if problem != self._unreadable:
                log.error("%s", problem)
            self._unreadable = problem
            return None
        self._unreadable = None
        return _Said(text, self._key_file())

    def _key_file(self) -> tuple[int, int] | None:
        try:
            found = self._key.stat()
        except OSError:  # not made yet; else whoever publishes says what is wrong with it
            return None
        return found.st_ino, found.st_mtime_ns

    async def _try(self, said: _Said) -> None:
        """Publish it; what the file is to blame for waits for a change, all else for a while."""
        try:
            await self._publish(NodeRecord.from_value(from_json(said.text)))
        except CallerError as error:
            self._published = said
            self._tell(f"our record in {self._path} is not published: {error}")
        except NetworkUnreachable as error:  # heals by itself; to publish waits for the network
            log.info("our record is not published yet: %s", error)
        except DhtmetaError as error:
            self._tell(f"our record is not published yet: {error}")
            await asyncio.sleep(self._retry)
            self._retry = min(2 * self._retry, RETRY_LAST / 10)
        else:
            log.info("our record of %s is published", self._path)
            self._published = said._replace(key=said.key or self._key_file())
            self._unpublished, self._retry = None, RETRY_FIRST / 10

    def _tell(self, problem: str) -> None:
        if problem != self._unpublished:
            log.error("%s", problem)
        self._unpublished = problem
