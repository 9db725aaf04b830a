"""The whole error tree of dhtmeta: who erred decides the branch, what to do is in the message.

DhtmetaError
├── CallerError         you asked wrongly; nothing was sent or written
│   ├── InvalidKey          a public key, peer id or seed that is none
│   ├── InvalidSalt         more than 64 bytes
│   ├── InvalidValue        something that bencode or BEP 44 cannot hold
│   │   └── ValueTooLarge       more than 1,000 bytes; names the largest fields
│   ├── InvalidRecord       a NodeRecord with a wrong field; names the field
│   └── ConfigError         an unknown key, a wrong type, a file that does not parse
├── LocalError          this machine's disk, key files, ports or network
│   ├── KeyFileError        missing, unreadable, unsafe or damaged key files
│   ├── StoreError          cannot be opened, written or understood
│   ├── PortError           the address to listen on cannot be had
│   └── NetworkUnreachable  no DHT node answered
├── RemoteError         another node, or the network, said something
│   ├── MalformedMessage    a datagram that is no KRPC message
│   ├── InvalidItem         an item that does not verify, of whatever kind
│   ├── NotProven           a peer that does not hold the key it gave, or breaks the rules
│   ├── NotFound            nobody holds it
│   ├── NotStored           nobody accepted it
│   └── Conflict            ledger, network and what is to be put disagree on the newest seq
└── DeadlineExceeded    it took longer than it was allowed to
"""

from typing import Any


class DhtmetaError(Exception):
    """Whatever dhtmeta raises on purpose. Every one of them can be pickled and copied."""

    def __reduce__(self) -> tuple[Any, ...]:
        # without __init__: it may take other arguments than the message that `args` holds
        return _restored, (type(self), *self.args), self.__dict__


def _restored(kind: type[DhtmetaError], *args: object) -> DhtmetaError:
    return kind.__new__(kind, *args)


class CallerError(DhtmetaError, ValueError):
    """The caller asked wrongly: nothing was sent or written."""


class InvalidKey(CallerError):
    """A public key, peer id or seed that is none."""


class InvalidSalt(CallerError):
    """A salt of more than 64 bytes (BEP 44)."""


class InvalidValue(CallerError):
    """Something that bencode or BEP 44 cannot hold."""


class ValueTooLarge(InvalidValue):
    """An encoded value of more than 1,000 bytes (BEP 44).

    `costs` lists (field, bytes) with the most expensive first.
    """

    def __init__(self, size: int, limit: int, costs: list[tuple[str, int]]) -> None:
        self.size = size
        self.limit = limit
        self.costs = costs
        largest = ", ".join(f"{field} {cost:,} bytes" for field, cost in costs[:4])
        super().__init__(
            f"the value takes {size:,} bytes encoded, {size - limit:,} more than the {limit:,} "
            f"that BEP 44 allows" + (f"; the largest fields: {largest}" if largest else "")
        )


class InvalidRecord(CallerError):
    """A NodeRecord with a wrong field. `field` is its dotted path, `reason` what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}" if field else reason)


class ConfigError(CallerError):
    """A setting that is unknown, of a wrong type or out of range."""


class LocalError(DhtmetaError):
    """Something on this machine is in the way: disk, key files, ports, network."""


class KeyFileError(LocalError):
    """Key files that are missing, unreadable, readable by others, or damaged."""


class StoreError(LocalError):
    """A store that cannot be opened, written or understood."""


class PortError(LocalError):
    """The address to listen on cannot be had."""


class NetworkUnreachable(LocalError):
    """No DHT node answered. `silent` names the bootstrap nodes that were asked."""

    def __init__(self, message: str, silent: tuple[str, ...] = ()) -> None:
        self.silent = silent
        super().__init__(message)


class RemoteError(DhtmetaError):
    """Another node, or the network as a whole, said something."""


class MalformedMessage(RemoteError):
    """A datagram that is no complete KRPC message."""


class InvalidItem(RemoteError):
    """An item that does not verify: wrong lengths, target, encoding or signature."""


class NotProven(RemoteError):
    """A peer that does not prove to hold the key it gave, or does not keep to the exchange."""


class NotFound(RemoteError):
    """Nobody holds the item asked for."""


class NotStored(RemoteError):
    """Nobody accepted the item."""


class Conflict(RemoteError):
    """What is to be published, the ledger and the network disagree on the newest seq or its value.

    `ledger_seq` and `network_seq` are None where there is none, or where it was not looked at.
    `outcome` is the `dht.carrier.PutOutcome` of a put that reached nodes all the same, None where
    nothing was sent.
    """

    def __init__(
        self,
        message: str,
        ledger_seq: int | None,
        network_seq: int | None,
        outcome: Any = None,
    ) -> None:
        self.ledger_seq = ledger_seq
        self.network_seq = network_seq
        self.outcome = outcome  # Any: the carriers are above this file in the house
        super().__init__(message)


class DeadlineExceeded(DhtmetaError):
    """It took longer than it was allowed to; what was done so far is in the message."""
