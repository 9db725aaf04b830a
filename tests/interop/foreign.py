"""Other programs as the tests run them: the bittorrent-dht peer (`peer.mjs`), and `dhtmeta` itself.

Each is ended by its own pid when its block is left, whatever happened in there.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import pytest

from dhtmeta._fast.bencode import Value

HERE = Path(__file__).parent
PEER = HERE / "peer.mjs"
LIBRARY = HERE / "node_modules" / "bittorrent-dht" / "package.json"
ANSWER_DEADLINE = 20.0  # s; a lookup past dead nodes takes bittorrent-dht 2.5 s for each layer
CLOSE_DEADLINE = 3.0  # s to end by itself before it is killed
CLI_DEADLINE = 60.0  # s; what a command may take on a busy machine


class ForeignError(Exception):
    """What bittorrent-dht, or peer.mjs, refused; `code` is that of KRPC where a node gave one."""

    def __init__(self, message: str, code: int | None) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class ForeignItem:
    """What bittorrent-dht read, and verified by itself."""

    k: bytes
    seq: int
    value: Value
    sig: bytes


def require_foreign_peer() -> None:
    """Skip where bittorrent-dht cannot run; with CI set in the environment, fail."""
    if shutil.which("node") is None:
        _missing("node is missing: no foreign peer to test against")
    if not LIBRARY.exists():
        _missing("bittorrent-dht is missing: `make test` installs it with npm")


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class ForeignPeer:
    """`async with ForeignPeer(bootstrap) as peer`: a bittorrent-dht node in its own process."""

    node_id: bytes
    endpoint: tuple[str, int]

    def __init__(self, bootstrap: Sequence[str]) -> None:
        """Take bootstrap nodes as "127.x.y.z:port"."""
        self._bootstrap = list(bootstrap)
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: IO[bytes] | None = None

    async def __aenter__(self) -> Self:
        require_foreign_peer()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __aexit__
        try:
            self._process = await asyncio.create_subprocess_exec(
                "node",
                str(PEER),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
            started = await self._ask("start", bootstrap=self._bootstrap)
        except BaseException:
            await self._end()
            raise
        self.node_id = bytes.fromhex(started["id"])
        self.endpoint = ("127.0.0.1", started["port"])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Close its stdin, which ends it; kill it where it does not end."""
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(CLOSE_DEADLINE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._stderr is not None:
            self._stderr.close()

    async def put(
        self, seed: bytes, value: Value, *, seq: int, salt: bytes = b"", cas: int | None = None
    ) -> int:
        """Sign and put a value; returns how many nodes accepted it."""
        given = {"seed": seed.hex(), "seq": seq, "salt": salt.hex(), "v": tagged(value)}
        if cas is not None:
            given["cas"] = cas
        return int((await self._ask("put", **given))["accepted"])

    async def put_signed(
        self, k: bytes, value: Value, sig: bytes, *, seq: int, salt: bytes = b""
    ) -> int:
        """Put what is signed already; returns how many nodes accepted it."""
        given = {"k": k.hex(), "sig": sig.hex(), "seq": seq, "salt": salt.hex(), "v": tagged(value)}
        return int((await self._ask("put_signed", **given))["accepted"])

    async def get(self, public_key: bytes, salt: bytes = b"") -> ForeignItem | None:
        """Return the newest item that verified, None where there was none."""
        found = await self._ask("get", k=public_key.hex(), salt=salt.hex())
        if not found["found"]:
            return None
        k, sig = bytes.fromhex(found["k"]), bytes.fromhex(found["sig"])
        return ForeignItem(k, found["seq"], untagged(found["v"]), sig)

    async def hold(
        self, k: bytes, value: Value, sig: bytes, *, seq: int, salt: bytes = b""
    ) -> None:
        """Make the node hold these bytes and hand them out, whether they verify or not."""
        given = {"k": k.hex(), "sig": sig.hex(), "seq": seq, "salt": salt.hex(), "v": tagged(value)}
        await self._ask("hold", **given)

    async def gets(self) -> int:
        """Return how many queries it answered with a value."""
        return int((await self._ask("gets"))["gets"])

    async def _ask(self, command: str, **given: Any) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"command": command, **given}).encode() + b"\n"
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_DEADLINE):
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # see below
                        self._process.stdin.write(line)
                        await self._process.stdin.drain()
                    line = await self._process.stdout.readline()
            except TimeoutError as error:
                self._process.kill()  # or its late answer would be taken for that of the next
                raise ForeignError(f"{command}: no answer in {ANSWER_DEADLINE} s", None) from error
        if not line:
            raise ForeignError(f"{command}: the process ended. {self._complaints()}", None)
        answer: dict[str, Any] = json.loads(line)
        if not answer["ok"]:
            raise ForeignError(f"{command}: {answer['error']}", answer["code"])
        return answer

    def _complaints(self) -> str:
        assert self._stderr is not None
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")


def tagged(value: Value) -> dict[str, Any]:
    """Say a value the way peer.mjs reads it."""
    if isinstance(value, int):
        return {"i": str(value)}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, list):
        return {"l": [tagged(one) for one in value]}
    return {"d": [[key.hex(), tagged(one)] for key, one in value.items()]}


def untagged(said: dict[str, Any]) -> Value:
    """Read a value the way peer.mjs says it."""
    ((tag, content),) = said.items()
    match tag:
        case "i":
            return int(content)
        case "b":
            return bytes.fromhex(content)
        case "l":
            return [untagged(one) for one in content]
        case "d":
            return {bytes.fromhex(key): untagged(one) for key, one in content}
    raise ValueError(f"peer.mjs said {said}")


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit code, the JSON objects on stdout, and what stderr said."""

    code: int
    results: list[dict[str, Any]]
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object it printed."""
        assert self.code == 0, f"exit code {self.code}: {self.stderr}"
        (only,) = self.results
        return only


async def run_dhtmeta(home: Path, *arguments: str, stdin: str = "") -> Finished:
    """Run `dhtmeta ARGUMENTS --json` in a process of its own, with keys and store under `home`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DHTMETA_")
    } | {"XDG_DATA_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dhtmeta", *arguments, "--json"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(CLI_DEADLINE):
            out, err = await process.communicate(stdin.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    results = [json.loads(line) for line in out.splitlines()]
    return Finished(process.returncode, results, err.decode())
