"""When our own record goes out: at start, when its file changes, debounced; not when it is the same.

Its hourly renewal is the republisher's. A file that is broken is told of and changes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from dhtmeta.const import DEBOUNCE, MAX_TEXT_BYTES, RECORD_POLL, RETRY_FIRST, RETRY_LAST
from dhtmeta.errors import CallerError, DhtmetaError
from dhtmeta.values.plain import from_json
from dhtmeta.values.record import NodeRecord

log = logging.getLogger(__name__)

Publish = Callable[[NodeRecord], Awaitable[object]]


class OwnRecord:
    """Watches `path` and publishes the NodeRecord in it; `problem` says what is wrong with it."""

    def __init__(self, path: Path, publish: Publish) -> None:
        self.problem: str | None = None
        self._path = path
        self._publish = publish
        self._published: str | None = None  # the text that went out
        self._retries = 0

    async def run(self) -> None:
        """Publish what the file says, each time it says something new, until cancelled."""
        while True:
            text = await self._settled()
            if text is not None and text != self._published:
                await self._try(text)
            await asyncio.sleep(RECORD_POLL)

    async def _settled(self) -> str | None:
        """Return the file's text once it has stayed the same for a while."""
        text = self._read()
        while text is not None and text != self._published:
            await asyncio.sleep(DEBOUNCE)
            before, text = text, self._read()
            if text == before:
                break
        return text

    def _read(self) -> str | None:
        try:
            with self._path.open(encoding="utf-8") as file:
                return file.read(MAX_TEXT_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self._tell(f"our record cannot be read from {self._path}: {reason}")
            return None

    async def _try(self, text: str) -> None:
        """Publish it; what the file is to blame for waits for a change, all else for a while."""
        try:
            await self._publish(NodeRecord.from_value(from_json(text)))
        except CallerError as error:
            self._published = text
            self._tell(f"our record in {self._path} is not published: {error}")
        except DhtmetaError as error:
            self._tell(f"our record is not published yet: {error}")
            await asyncio.sleep(min(RETRY_FIRST * 2**self._retries, RETRY_LAST) / 10)
            self._retries += 1
        else:
            log.info("our record of %s is published", self._path)
            self._published, self._retries, self.problem = text, 0, None

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
