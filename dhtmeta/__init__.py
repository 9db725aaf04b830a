"""Signed, tamper-proof metadata on the BitTorrent mainline DHT: the public names, nothing else.

Each is imported when it is first used, so that `dhtmeta --help` does not pay for libtorrent.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dhtmeta.discovery.peer import Peer
    from dhtmeta.engine.connectability import Connectability, Verdict
    from dhtmeta.engine.publish import Published
    from dhtmeta.engine.resolve import Answer, Policy, Source
    from dhtmeta.errors import (
        CallerError,
        ConfigError,
        Conflict,
        DeadlineExceeded,
        DhtmetaError,
        InvalidItem,
        InvalidKey,
        InvalidRecord,
        InvalidSalt,
        InvalidValue,
        KeyFileError,
        LocalError,
        MalformedMessage,
        NetworkUnreachable,
        NotFound,
        NotProven,
        NotStored,
        PortError,
        RemoteError,
        StoreError,
        ValueTooLarge,
    )
    from dhtmeta.node import Node
    from dhtmeta.values.item import SignedItem
    from dhtmeta.values.keys import Identity
    from dhtmeta.values.record import NetworkInfo, NodeRecord, Protocol

__all__ = [
    "Answer",
    "CallerError",
    "ConfigError",
    "Conflict",
    "Connectability",
    "DeadlineExceeded",
    "DhtmetaError",
    "Identity",
    "InvalidItem",
    "InvalidKey",
    "InvalidRecord",
    "InvalidSalt",
    "InvalidValue",
    "KeyFileError",
    "LocalError",
    "MalformedMessage",
    "NetworkInfo",
    "NetworkUnreachable",
    "Node",
    "NodeRecord",
    "NotFound",
    "NotProven",
    "NotStored",
    "Peer",
    "Policy",
    "PortError",
    "Protocol",
    "Published",
    "RemoteError",
    "SignedItem",
    "Source",
    "StoreError",
    "ValueTooLarge",
    "Verdict",
]

# whatever is not named here is an error
_ROOMS = {
    "discovery.peer": ("Peer",),
    "engine.connectability": ("Connectability", "Verdict"),
    "engine.publish": ("Published",),
    "engine.resolve": ("Answer", "Policy", "Source"),
    "node": ("Node",),
    "values.item": ("SignedItem",),
    "values.keys": ("Identity",),
    "values.record": ("NetworkInfo", "NodeRecord", "Protocol"),
}
_HOMES = dict.fromkeys(__all__, "dhtmeta.errors")
_HOMES |= {name: f"dhtmeta.{room}" for room, names in _ROOMS.items() for name in names}


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOMES.keys())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"dhtmeta has no {name!r}")
    return getattr(import_module(_HOMES[name]), name)
