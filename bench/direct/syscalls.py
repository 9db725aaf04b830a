"""What the kernel saw of one publish: the reservation is on disk before anything is sent."""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.direct.conditions import Size
from bench.direct.swarms import swarm_process
from bench.report import Bar, Part, Row
from dhtmeta._fast import ed25519
from dhtmeta.values.keys import PUBLIC_FILE

NODES = 12
CALLS = "fsync,fdatasync,pwrite64,sendto,sendmsg"
BYTES = 8192  # of each buffer that strace shows: more than a database page
_CALL = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\(\d+<(?P<path>[^>]*)>(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>")
_BUFFER = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: its name, the file it is about, and all bytes in its buffers."""

    name: str
    path: str
    data: bytes


def run(part: Part, how_many: Size) -> None:
    """Trace one publish and say what came in which order."""
    what = "system calls: ledger's fsync before the publish's first datagram and first put"
    if shutil.which("strace") is None:
        part.add(Row(what, None, note="not measured: strace is not installed"))
        return
    with tempfile.TemporaryDirectory() as home, swarm_process(NODES) as bootstrap:
        marker = secrets.token_hex(16)
        calls = list(traced(Path(home), bootstrap, marker))
        target = ed25519.target((Path(home) / "keys" / PUBLIC_FILE).read_bytes())
    holds, note = judged(calls, marker.encode(), target)
    part.add(Row(what, float(holds), bar=Bar(">=", 1.0), note=note))


def traced(home: Path, bootstrap: Sequence[str], marker: str) -> Iterator[Call]:
    """Publish under strace with a store that is there already; yield the calls in order."""
    (home / "value.json").write_text(f'"{marker}"')
    words = [sys.executable, "-m", "dhtmeta", "publish", "--carrier", "direct"]
    words += ["--value", str(home / "value.json"), "--keys", str(home / "keys")]
    words += ["--store", str(home / "store.db"), "--bootstrap", bootstrap[0]]
    out = home / "trace"
    strace = ["strace", "-f", "-y", "-xx", "-s", str(BYTES), "-e", f"trace={CALLS}", "-o", str(out)]
    environment = os.environ | {"XDG_DATA_HOME": str(home)}
    for prefix in ([], strace):  # the first one makes keys and store
        subprocess.run([*prefix, *words], check=True, capture_output=True, env=environment)
    yield from read(out.read_text().splitlines())


def read(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls of a trace: a sync where it ended, everything else where it began."""
    syncing: dict[str, Call] = {}  # by thread
    for line in lines:
        if (end := _RESUMED.match(line)) is not None and end["thread"] in syncing:
            yield syncing.pop(end["thread"])
        elif (said := _CALL.match(line)) is not None:
            data = _bytes("".join(_BUFFER.findall(said["rest"])))
            call = Call(said["name"], _bytes(said["path"]).decode(errors="replace"), data)
            if "sync" in call.name and said["rest"].endswith("<unfinished ...>"):
                syncing[said["thread"]] = call
            else:
                yield call


def _bytes(said: str) -> bytes:
    """Return what strace's -xx stands for; a socket's name is as it is."""
    return bytes.fromhex(said.replace("\\x", "")) if said.startswith("\\x") else said.encode()


def judged(calls: Sequence[Call], marker: bytes, target: bytes) -> tuple[bool, str]:
    """Return whether the order is right, and the order in words."""
    written = _first(calls, lambda one: one.name == "pwrite64" and marker in one.data)
    path = calls[written].path if written < len(calls) else ""
    steps = {
        f"item written to {Path(path).name}": written,
        "that file synced": _first(calls, lambda one: _synced(one, path), written),
        "first datagram with the target": _first(calls, lambda one: _sent(one, target)),
        "first put sent": _first(calls, lambda one: _sent(one, b"1:q3:put")),
        "the end": len(calls),
    }
    order = list(steps.values())
    note = ", ".join(f"{what}: call {at}" for what, at in steps.items())
    return all(one < other for one, other in pairwise(order)), note


def _synced(call: Call, path: str) -> bool:
    return "sync" in call.name and call.path == path


def _sent(call: Call, what: bytes) -> bool:
    return call.name.startswith("send") and what in call.data


def _first(calls: Sequence[Call], wanted: Callable[[Call], bool], after: int = 0) -> int:
    """Return the number of the first call from `after` on that is wanted, else of none."""
    return next((i for i, one in enumerate(calls) if i >= after and wanted(one)), len(calls))
