"""kill -9 at random points of publishing and republishing, and what is true afterwards.

One process after the other works on one store, one set of keys and one swarm, and is killed. After
each, every node of the swarm is asked what it holds, by a plain socket, and the ledger is read:
nothing that was reported done may be missing, no seq may fall, and no seq may ever have two values.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.direct.swarms import swarm_process
from bench.keeping import victim
from bench.keeping.holdings import held
from bench.report import Bar, Part, Row
from bench.scenario import PROGRESS, Options, counted
from dhtmeta._fast import ed25519
from dhtmeta.store.tables import State
from dhtmeta.values.keys import read_identity

SWARM = 20  # nodes
ROUNDS = 300
SEQS = 10_000  # a process's own seqs of what comes signed
EARLY = 0.2  # of the kills come at any time after the start, the others after the first report
KILL_AFTER = 0.05, 1.5  # s


@dataclass(slots=True)
class Witness:
    """All that was ever reported, met on nodes or read in the ledger, and what is wrong with it."""

    values: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    reported: dict[bytes, int] = field(default_factory=dict)  # highest seq by target
    seen: dict[bytes, int] = field(default_factory=dict)  # the same, on the nodes
    lost: set[tuple[bytes, int]] = field(default_factory=set)
    lowered: set[tuple[bytes, int]] = field(default_factory=set)
    doubled: set[tuple[bytes, int]] = field(default_factory=set)

    def meet(self, target: bytes, seq: int, v: bytes) -> None:
        """Take note of a value under a seq, wherever it was."""
        if self.values.setdefault((target, seq), v) != v:
            self.doubled.add((target, seq))

    def report(self, target: bytes, seq: int, v: bytes) -> None:
        """Take note of what was reported done."""
        self.meet(target, seq, v)
        self._never_falls(self.reported, target, seq)

    def ask(self, bootstrap: list[str], items: Iterable[tuple[bytes, bytes]]) -> None:
        """Ask all nodes for the items of these public keys and salts."""
        for public_key, salt in items:
            target = ed25519.target(public_key, salt)
            found = held(bootstrap, public_key, salt)
            for item in found:
                self.meet(target, item.seq, item.v)
            newest = max((item.seq for item in found), default=-1)
            if newest < self.reported.get(target, -1):
                self.lost.add((target, self.reported[target]))
            self._never_falls(self.seen, target, newest)

    def read(self, store: Path) -> int:
        """Read the ledger of a process that is gone; returns how many rows are unfinished."""
        reserved = victim.rows(store, State.RESERVED)
        for target, seq, v in [*reserved, *victim.stored(store)]:
            self.meet(target, seq, v)
            if seq < max(self.reported.get(target, -1), self.seen.get(target, -1)):
                self.lowered.add((target, seq))
        return len(reserved)

    def _never_falls(self, highest: dict[bytes, int], target: bytes, seq: int) -> None:
        if seq < highest.get(target, -1):
            self.lowered.add((target, seq))
        highest[target] = max(seq, highest.get(target, -1))


@dataclass(slots=True)
class Tally:
    """What the rounds were like."""

    reports: int = 0
    before_any: int = 0  # killed before they reported anything
    unfinished: int = 0  # rows that were reserved and not confirmed when their process was killed
    failed: int = 0  # processes that ended by themselves


def crashes(options: Options) -> Part:
    """Kill one process after the other; the first and the last are let be."""
    rounds = 10 if options.quick else ROUNDS
    rng, witness, tally = Random(options.seed), Witness(), Tally()
    with swarm_process(SWARM) as bootstrap, tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        _round(home, bootstrap, 0, None, witness, tally)
        own = read_identity(home / "keys").public_key
        items = [(own, salt) for salt in victim.SALTS]
        items += [(identity.public_key, b"") for identity in victim.others()]
        for n in counted("kill -9", range(1, rounds + 1), rounds):
            _round(home, bootstrap, n, rng, witness, tally)
            witness.ask(bootstrap, items)
            tally.unfinished += witness.read(home / "store.db")
        _round(home, bootstrap, rounds + 1, None, witness, tally)
        witness.ask(bootstrap, items)
        left = witness.read(home / "store.db")
    return Part(_rows(rounds, witness, tally, left))


def _round(
    home: Path, bootstrap: list[str], n: int, rng: Random | None, witness: Witness, tally: Tally
) -> None:
    """Run one process: without `rng` to its end, else until it is killed."""
    passes = 2 if rng is None else SEQS
    words = [sys.executable, "-m", "bench.keeping.victim", str(home), str(n * SEQS + 1)]
    words += [str(passes), *bootstrap[:3]]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(words, stdout=pipe, stderr=pipe) as process,
        contextlib.ExitStack() as killer,
    ):
        killer.callback(process.kill)  # if this bench is broken off
        if rng is not None and rng.random() < EARLY:
            _kill_later(process, rng, killer)
            rng = None
        assert process.stdout is not None
        assert process.stderr is not None
        reports = 0
        for line in process.stdout:
            if rng is not None and not reports:
                _kill_later(process, rng, killer)
            said = json.loads(line)
            witness.report(bytes.fromhex(said["target"]), said["seq"], bytes.fromhex(said["v"]))
            reports += 1
        complaint = process.stderr.read().decode()
        process.wait()
    tally.reports += reports
    tally.before_any += not reports
    if process.returncode not in (0, -9):
        tally.failed += 1
        PROGRESS.print(f"round {n}: {complaint}")


def _kill_later(
    process: "subprocess.Popen[bytes]", rng: Random, killer: contextlib.ExitStack
) -> None:
    timer = threading.Timer(rng.uniform(*KILL_AFTER), process.kill)
    timer.start()
    killer.callback(timer.cancel)


def _rows(rounds: int, witness: Witness, tally: Tally, left: int) -> list[Row]:
    what, none = f"kill -9, {rounds} rounds", Bar("<=", 0)
    return [
        Row(
            f"{what}: seqs and values reported done",
            tally.reports,
            note=f"{tally.before_any} rounds reported none; {tally.unfinished:,} publishes cut off",
        ),
        Row(f"{what}: reported stored and lost", len(witness.lost), bar=none),
        Row(f"{what}: seqs lowered", len(witness.lowered), bar=none),
        Row(f"{what}: seqs with two values", len(witness.doubled), bar=none),
        Row(f"{what}: unfinished after the last start", left, bar=none),
        Row(f"{what}: processes that failed by themselves", tally.failed, bar=none),
    ]
