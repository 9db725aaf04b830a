"""What of a DHT node outlives its process: node id, port, routing table, who answered our lookups.

A put leaves its sender in other nodes' tables. If it comes back with the same id on the same
port, they go on with a live node; else a dead one costs everybody's lookups 15 s (FACTS). Of a
network on loopback only id and port are kept, since its nodes rarely outlive it.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dhtmeta._fast import bencode
from dhtmeta.const import SAVED_CONTACTS
from dhtmeta.dht.address import any_local, parse_address
from dhtmeta.krpc.compact import (
    NODE6_BYTES,
    NODE_BYTES,
    Contact,
    pack_contacts,
    unpack_contacts,
)

_SIZES = {b"contacts": NODE_BYTES, b"contacts6": NODE6_BYTES}


@dataclass(frozen=True, slots=True)
class Saved:
    """libtorrent's own bencoded state, the UDP port (0: nobody has to find us again), contacts.

    `contacts` are those that answered our own lookups, those that did last at the end.
    """

    state: bytes = b""
    port: int = 0
    contacts: tuple[Contact, ...] = ()


def saved_path(directory: Path, bootstrap: Sequence[str]) -> Path:
    """Return the file of the network that these bootstrap nodes ("HOST:PORT") belong to."""
    if any_local([parse_address(one) for one in bootstrap]):
        return directory / "loopback.dht"
    network = hashlib.sha256("\n".join(sorted(bootstrap)).encode()).hexdigest()[:8]
    return directory / f"{network}.dht"


def read_saved(path: Path) -> Saved:
    """Return what was saved; what is missing or damaged costs a slower start, nothing worse."""
    try:
        raw = bencode.decode(path.read_bytes())
    except (OSError, ValueError):
        return Saved()
    if not isinstance(raw, dict):
        return Saved()
    state, port = raw.get(b"state"), raw.get(b"port")
    if not isinstance(state, bytes) or not isinstance(port, int) or not 0 <= port <= 65535:
        return Saved()
    return Saved(state, port, tuple(_contacts(raw)))


def _contacts(raw: dict[bytes, bencode.Value]) -> Iterator[Contact]:
    """Yield the contacts that were saved, in both address families; damaged ones are left out."""
    for name, size in _SIZES.items():
        packed = raw.get(name)
        if isinstance(packed, bytes):
            for at in range(0, len(packed) - size + 1, size):
                yield from unpack_contacts(packed[at : at + size], size)


def claim(path: Path) -> IO[bytes] | None:
    """Return a lock on this network's file, held until it is closed; None if somebody has it.

    Two processes with one node id would be two nodes under one name.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("ab")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def write_saved(path: Path, saved: Saved) -> None:
    """Replace the file so that a crash leaves the old one or the new one; OSError if it cannot."""
    kept = path.name != "loopback.dht"
    state = saved.state if kept else _without_nodes(saved.state)
    contacts = _packed(saved.contacts[-SAVED_CONTACTS:]) if kept else {}
    new = path.with_suffix(".new")  # only who has the claim writes
    with new.open("wb") as file:
        file.write(bencode.encode({b"state": state, b"port": saved.port} | contacts))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _packed(contacts: Sequence[Contact]) -> dict[bytes, bytes]:
    v6 = {True: b"contacts6", False: b"contacts"}
    return {
        name: pack_contacts(one for one in contacts if (":" in one.endpoint[0]) == is_v6)
        for is_v6, name in v6.items()
    }


def _without_nodes(state: bytes) -> bytes:
    decoded = bencode.decode(state, canonical=False)
    if isinstance(decoded, dict) and isinstance(table := decoded.get(b"dht state"), dict):
        for nodes in (b"nodes", b"nodes6"):
            table.pop(nodes, None)
    return bencode.encode(decoded)
