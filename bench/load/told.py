"""A process that is told what to do: one JSON value a line on its stdin, one answer on stdout."""

import asyncio
import json
import select
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from bench.tables import ROOT
from dhtmeta.testing.netns import Host

MAX_LINE = 1 << 24  # bytes: thousands of keys
CLOSE_DEADLINE = 5.0  # s to end by itself before it is killed


class Told:
    """`with Told(argv) as process:` runs it, in `host` if that is given, and ends it."""

    def __init__(self, argv: Sequence[str], host: Host | None = None) -> None:
        self._argv = list(argv) if host is None else host.command(argv)

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(  # Ctrl-C is for us alone, who end it then
            self._argv, stdin=pipe, stdout=pipe, cwd=ROOT, process_group=0
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process as process:  # which waits, and closes its pipes
            try:
                process.communicate(timeout=CLOSE_DEADLINE)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                process.kill()

    def say(self, what: Any) -> None:
        """Tell it something."""
        self._write(json.dumps(what).encode() + b"\n")

    def tick(self) -> None:
        """Send an empty line."""
        self._write(b"\n")

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def hear(self, within: float) -> Any:
        """Return its next answer; RuntimeError where none comes."""
        assert self._process.stdout is not None
        there, _, _ = select.select([self._process.stdout], [], [], within)
        line = self._process.stdout.readline() if there else b""
        if not line:
            why = "it ended" if there else f"nothing within {within:.0f} s"
            raise RuntimeError(f"no answer from {' '.join(self._argv)}: {why}")
        return json.loads(line)

    def kill(self) -> None:
        """End it without a word to anybody."""
        self._process.kill()
        self._process.wait()


# the other end


async def stdin() -> asyncio.StreamReader:
    """Return what this process is told, line by line."""
    reader = asyncio.StreamReader(limit=MAX_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def heard(lines: asyncio.StreamReader) -> Any:
    """Return the next thing that it is told; None if that was all. Late ticks are none."""
    while (line := await lines.readline()) == b"\n":
        pass
    return json.loads(line or b"null")


def answer(what: Any) -> None:
    """Answer."""
    print(json.dumps(what), flush=True)
