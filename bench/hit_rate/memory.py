"""What 1,000 cached records take in memory, in a process of its own: growth per record."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

from bench.hit_rate.policies import no_disk
from bench.hit_rate.trace import EPOCH, HOUR, Law, Trace
from bench.report import Bar, Part, Row
from bench.scenario import Options
from dhtmeta.const import DECODED
from dhtmeta.engine.cache import RecordCache
from dhtmeta.values.item import SignedItem, encode_value

FIRST, MORE = (
    3000,
    20_000,
)  # records before it is measured (some stay decoded), and those that count
LARGE = 596  # bytes of a value that is 600 bytes encoded: FACTS has peer records of 601
ROUNDS = 3


def memory(options: Options) -> Part:
    """Measure records of the trace, and large ones."""
    part, more = Part(), options.value("records", MORE, 5000)
    part.add(_row("records of a mixed network", "mixed", more, Bar("<=", 1.0)))
    part.add(_row("records of 600 bytes", "large", more))
    part.add(_row("records, the list of known peers included", "listed", more))
    return part


def _row(what: str, kind: str, more: int, bar: Bar | None = None) -> Row:
    runs = [_measured(kind, more) for _ in range(ROUNDS)]
    low, middle, high = sorted(run["bytes"] / 1e3 for run in runs)
    note = f"v of {runs[0]['v']:.0f} bytes on average; beside {DECODED:,} that stay decoded"
    what = f"memory of 1,000 {what}"
    return Row(what, middle, " MB", low, high, bar, note, "lower", told=True)


def _measured(kind: str, more: int) -> dict[str, float]:
    words = [sys.executable, "-m", "bench.hit_rate.memory", kind, str(more)]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root)
    said: dict[str, float] = json.loads(done.stdout)
    return said


def main(kind: str, more: int) -> None:
    """Fill a cache and print how much resident memory each record took."""
    cache = RecordCache(no_disk(keeps_peers=kind == "listed"), seed=1)
    trace = Trace(FIRST + more, 1, Law(shares=((1.0, HOUR),)), seconds=1.0, warm_up=0.0)
    before, sizes = 0, 0
    for number, peer in enumerate(trace.peers):
        if number == FIRST:
            before = _resident()
        v = peer.value(0) if kind != "large" else encode_value(bytes(LARGE))
        item = SignedItem.sign(peer.identity, v, 1 + number)
        sizes += len(v)
        assert cache.learn(item.target, _off_the_wire(item), EPOCH) is not None
    print(json.dumps({"bytes": (_resident() - before) / more, "v": sizes / len(trace.peers)}))


def _off_the_wire(item: SignedItem) -> SignedItem:
    """Return the same item in bytes of its own, as a lookup makes it."""
    parts = (bytes(bytearray(one)) for one in (item.v, item.sig))
    key = bytes(bytearray(item.public_key))
    return SignedItem.verified(item.target, key, b"", item.seq, *parts)


def _resident() -> int:
    """Return this process's resident memory in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
