"""A fleet of daemons, each in a network namespace of its own, and what they told of their lists.

Of ten, six are public, three behind a NAT with relays to choose from, and one behind a NAT that
uses none. Each knows one contact, a public daemon that was there before it: its DHT node and,
where it is known by hand, its exchange.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.convergence.member import Member, ended, fork
from dhtmeta.config import (
    Dht,
    ExchangeSettings,
    IdentitySettings,
    Log,
    PeerDiscovery,
    RelaySettings,
    Settings,
    StoreSettings,
)
from dhtmeta.testing.netns import Host, Internet
from dhtmeta.values.keys import create_identity

TOPIC = "bench"
KINDS = ("public",) * 6 + ("relayed",) * 3 + ("alone",)
INSIDE_EACH = 5  # hosts behind one NAT


@dataclass
class Told:
    """What one daemon told: when it was ready, and (when, listed peer -> relay) at each change."""

    ready: float | None = None
    lists: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    cpu: float = 0.0
    rss: int = 0  # KiB at most
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def listed(self) -> dict[str, str]:
        """Whom it lists now."""
        return self.lists[-1][1] if self.lists else {}


class Fleet:
    """`with Fleet(50) as fleet:` runs 50 daemons; `told` is by peer id (hex)."""

    def __init__(self, size: int, seed: int = 1, *, by_hand: bool = True) -> None:
        self._by_hand = by_hand
        self.members: list[Member] = []
        self.told: dict[str, Told] = {}
        self.pids: dict[str, int] = {}
        self.started = 0.0
        self._size = size
        self._random = random.Random(seed)
        self._until_closed = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:  # who is interrupted here leaves nothing, either
            self.net = stack.enter_context(Internet())
            self.home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(self.stop)
            kinds = [KINDS[i % len(KINDS)] for i in range(self._size)]
            for number, (kind, host) in enumerate(self._hosts(kinds)):
                self.members.append(self._member(number, kind, host))
            self._until_closed = stack.pop_all()
        self._reading, self._writing = os.pipe()
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._until_closed.close()
        os.close(self._writing)

    def _hosts(self, kinds: list[str]) -> Iterator[tuple[str, Host]]:
        lan, inside = None, itertools.count()
        for kind in kinds:
            if kind == "public":
                yield kind, self.net.public()
            else:
                if lan is None or next(inside) % INSIDE_EACH == INSIDE_EACH - 1:
                    lan = self.net.lan(symmetric=self._random.random() < 0.5)
                yield kind, lan.host()

    def _member(self, number: int, kind: str, host: Host) -> Member:
        home = self.home / str(number)
        identity = create_identity(home / "keys")
        publics = [one for one in self.members if one.kind == "public"]
        contact = self._random.choice(publics).host.address if publics else ""
        settings = Settings(
            dht=Dht(bootstrap_nodes=[f"{contact}:30609"] if contact else []),
            identity=IdentitySettings(keys=str(home / "keys")),
            store=StoreSettings(url=str(home / "store.db")),
            peer_discovery=PeerDiscovery(
                topic=TOPIC,
                lan=False,
                contacts=[f"{contact}:30906"] if contact and self._by_hand else [],
            ),
            exchange=ExchangeSettings(),
            relay=RelaySettings(use=kind != "alone"),
            log=Log(level="info", format="json"),
        )
        member = Member(host, settings, identity.peer_id.hex(), kind)
        self.told[member.peer_id] = Told()
        return member

    # running them

    def start(self, *members: Member) -> None:
        """Start these daemons, or all."""
        self.note_start()
        for member in members or self.members:
            os.environ["XDG_DATA_HOME"] = str(self.home / member.peer_id)
            log = self.home / f"{member.peer_id}.log"
            self.pids[member.peer_id] = fork(member, self._writing, log)

    def note_start(self) -> None:
        """Begin to count the time."""
        self.started = time.monotonic()

    def stop(self) -> None:
        """End all that run."""
        ended(sorted(set(self.pids.values())))
        self.pids.clear()

    def kill(self, peer_id: str) -> float:
        """Kill one without a word; returns when (monotonic s)."""
        ended([self.pids.pop(peer_id)], signal.SIGKILL)
        return time.monotonic()

    def _read(self) -> None:
        with os.fdopen(self._reading) as lines:
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        told = self.told[said["who"]]
        if said.get("ready"):
            told.ready = said["at"]
        if "listed" in said:
            told.lists.append((said["at"], said["listed"]))
        told.cpu = max(told.cpu, said.get("cpu", 0.0))
        told.rss = said.get("rss", told.rss)
        told.counts = said.get("counts", told.counts)

    def forget(self) -> None:
        """Forget what was told so far, before a second start."""
        for told in self.told.values():
            told.ready = None
            told.lists.clear()

    # what is to be, and what is

    def connectable(self) -> set[str]:
        """Return the ids of those of whom a connection attempt makes sense."""
        return {
            one.peer_id for one in self.members if one.kind != "alone" and one.peer_id in self.pids
        }

    def wrong(self) -> dict[str, tuple[set[str], set[str]]]:
        """Return by peer id whom it lacks, and whom it lists though it should not."""
        wanted = self.connectable()
        found = {}
        for peer in self.pids:
            listed = set(self.told[peer].listed)
            missing, false = wanted - {peer} - listed, listed - wanted
            if missing or false:
                found[peer] = (missing, false)
        return found

    def wait(self, done: Any, seconds: float) -> bool:
        """Wait until `done()`; False after so many seconds."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def ready(self) -> bool:
        """Whether all that run were ready."""
        return all(self.told[peer].ready is not None for peer in self.pids)

    def cpu(self) -> float:
        """Return the CPU seconds that all have taken so far."""
        return sum(one.cpu for one in self.told.values())

    def listing(self) -> bool:
        """Whether all that run have told of a list."""
        return all(self.told[peer].lists for peer in self.pids)

    def last_ready(self) -> float:
        """Return when the last one was ready (monotonic s)."""
        return max(self.told[peer].ready or 0.0 for peer in self.pids)

    def last_change(self) -> float:
        """Return when a list changed last."""
        return max(self.told[peer].lists[-1][0] for peer in self.pids if self.told[peer].lists)
