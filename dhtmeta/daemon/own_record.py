"""When our own record goes out: as soon as it is known how others reach us, and at each change.

Changes of its file and of our key are debounced; those of how we are reached go out at once. Its
hourly renewal is the republisher's. A file that is broken is told of and changes nothing.
"""

import asyncio
import contextlib
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

Describe = Callable[[NodeRecord], NodeRecord | None]
"""Fills in how we are reached, where the file does not say; None while that is not known yet."""


class _Said(NamedTuple):
    """What the files say: the record's text, and which file the private key is in, if any yet."""

    text: str
    key: tuple[int, int] | None  # inode and mtime in ns: a rotation puts another file there
    record: NodeRecord | None = None  # the whole of it, where the text is one


class OwnRecord:
    """Publishes the NodeRecord in `path` under the key in `key`, completed by `describe`.

    Without a path the record says no more than what `describe` finds.
    """

    def __init__(
        self,
        path: Path | None,
        key: Path,
        publish: Publish,
        describe: Describe = lambda record: record,
    ) -> None:
        self._path = path
        self._key = key
        self._publish = publish
        self._describe = describe
        self._published: _Said | None = None  # what went out, or is to blame for that it did not
        self._unreadable: str | None = None
        self._unpublished: str | None = None
        self._retry = RETRY_FIRST / 10  # s until the next try
        self._woken = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """What is wrong with our record, None while it is published as its file says."""
        return self._unreadable or self._unpublished

    def wake(self) -> None:
        """Look at once: how we are reached may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Publish what is to be said, each time that is something new, until cancelled."""
        while True:
            said = await self._settled()
            if said is not None and said != self._published:
                await self._try(said)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECORD_POLL):
                    await self._woken.wait()
            self._woken.clear()

    async def _settled(self) -> _Said | None:
        """Return what is to be said, once the files have stayed the same for a while."""
        said = self._read()
        while said is not None and not self._has_files_of(said):
            await asyncio.sleep(DEBOUNCE)
            before, said = said, self._read()
            if said is not None and said[:2] == before[:2]:
                break
        return None if said is None else self._described(said)

    def _has_files_of(self, said: _Said) -> bool:
        return self._path is None or (
            self._published is not None and said[:2] == self._published[:2]
        )

    def _described(self, said: _Said) -> _Said | None:
        """Add the whole record; None while it is not known. A broken text stays for who tries."""
        try:
            record = self._describe(NodeRecord.from_value(from_json(said.text)))
        except CallerError:
            return said
        return None if record is None else said._replace(record=record)

    def _read(self) -> _Said | None:
        if self._path is None:
            return _Said("{}", self._key_file())
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
            await self._publish(said.record or NodeRecord.from_value(from_json(said.text)))
        except CallerError as error:
            self._published = said
            where = f" in {self._path}" if self._path else ""
            self._tell(f"our record{where} is not published: {error}")
        except NetworkUnreachable as error:  # heals by itself; to publish waits for the network
            log.info("our record is not published yet: %s", error)
        except DhtmetaError as error:
            self._tell(f"our record is not published yet: {error}")
            await asyncio.sleep(self._retry)
            self._retry = min(2 * self._retry, RETRY_LAST / 10)
        else:
            log.info("our record of %s is published", self._path or "what was found out")
            self._published = said._replace(key=said.key or self._key_file())
            self._unpublished, self._retry = None, RETRY_FIRST / 10

    def _tell(self, problem: str) -> None:
        if problem != self._unpublished:
            log.error("%s", problem)
        self._unpublished = problem
