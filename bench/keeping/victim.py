"""The process that `crashes` kills: it publishes and republishes under several keys, always on.

Each seq and value that it reports done is one line of JSON on stdout, flushed. What was signed
anew by the republisher is reported as the ledger has it. `python -m bench.keeping.victim HOME
FIRST_SEQ PASSES BOOTSTRAP...`: FIRST_SEQ has to be above all earlier runs'.
"""

import asyncio
import json
import secrets
import sqlite3
import sys
from pathlib import Path
from random import SystemRandom

import uvloop

from bench.direct.conditions import new_identity, random, signed
from dhtmeta.config import Settings
from dhtmeta.errors import DhtmetaError
from dhtmeta.node import Node
from dhtmeta.store.tables import State
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord

SALTS = (b"", b"plain", b"other")  # of our own items; the first is a NodeRecord
OTHERS = 4  # keys whose items come signed
PACKETS = 100_000.0  # datagrams a second to keep records: as fast as it goes


def others() -> list[Identity]:
    """Return the identities whose items come signed, the same each time."""
    return [new_identity(random(f"victim {n}")) for n in range(OTHERS)]


def node_at(home: Path, bootstrap: list[str]) -> Node:
    """Return the node whose keys, store and state are kept in `home`."""
    settings = Settings()
    settings.republish.packets_per_second = PACKETS
    return Node(
        keys=home / "keys",
        store=str(home / "store.db"),
        state=home / "dht",
        bootstrap=bootstrap,
        settings=settings,
    )


def report(target: bytes, seq: int, v: bytes) -> None:
    """Say that this was done; it must never be lost from here on."""
    said = {"target": target.hex(), "seq": seq, "v": v.hex()}
    print(json.dumps(said), flush=True)


class Victim:
    """What one process does, until it is killed or all its `passes` are done."""

    def __init__(self, home: Path, first_seq: int, passes: int, bootstrap: list[str]) -> None:
        self._node = node_at(home, bootstrap)
        self._store = home / "store.db"
        self._first_seq = first_seq
        self._passes = passes

    async def run(self) -> None:
        """Publish under all keys and republish, all at the same time."""
        async with self._node as node, asyncio.TaskGroup() as tasks:
            await node.carrier.ready()
            for salt in SALTS:
                tasks.create_task(self._publish(salt))
            for identity in others():
                tasks.create_task(self._put(identity))
            tasks.create_task(self._republish())

    async def _publish(self, salt: bytes) -> None:
        for _ in range(self._passes):
            value = secrets.token_hex(8)
            record = value.encode() if salt else NodeRecord(topic=value)
            self._reported((await self._node.publish(record, salt=salt)).item)

    async def _put(self, identity: Identity) -> None:
        rng = SystemRandom()  # values differ from run to run, or two would be one
        for n in range(self._passes):
            item = signed(rng, identity, self._first_seq + n)
            self._reported((await self._node.put(item)).item)

    @staticmethod
    def _reported(item: SignedItem) -> None:
        report(item.target, item.seq, item.v)

    async def _republish(self) -> None:
        """Look at all that is kept, and sign our NodeRecord anew, again and again."""
        for _ in range(self._passes):
            await self._node.due_at_once()
            await self._node.republisher.run_once()
            for row in stored(self._store):
                report(*row)


def stored(store: Path) -> list[tuple[bytes, int, bytes]]:
    """Return target, seq and v of all that the ledger says is stored."""
    return rows(store, State.STORED)


def rows(store: Path, state: State) -> list[tuple[bytes, int, bytes]]:
    """Return target, seq and v of the ledger's rows in that state, read beside whoever writes."""
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        asked = "SELECT target, seq, v FROM ledger WHERE state = ?"
        return connection.execute(asked, (str(state),)).fetchall()
    finally:
        connection.close()


def main(home: str, first_seq: str, passes: str, *bootstrap: str) -> None:
    """Do it."""
    victim = Victim(Path(home), int(first_seq), int(passes), list(bootstrap))
    uvloop.run(victim.run())


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except* DhtmetaError as group:
        sys.exit("; ".join(map(str, group.exceptions)))
