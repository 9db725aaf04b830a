"""What a candidate is, and what a source of candidates does: nothing else is asked of one."""

import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from dhtmeta.const import LOWEST_PORT
from dhtmeta.engine.connectability import is_global
from dhtmeta.krpc.compact import Endpoint


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be a peer: a public key (32 bytes), an exchange (ip, UDP port), or both.

    `source` names who says so. `seq` is that of the record they saw last: a hint to look again.
    """

    source: str
    public_key: bytes | None = None
    endpoint: Endpoint | None = None
    seq: int | None = None


class Source(Protocol):
    """A place to hear of candidates; the ladder asks one after the other."""

    name: str

    def candidates(self) -> AsyncIterator[Candidate]:
        """Yield whoever can be found now; raises a DhtmetaError where it cannot be asked."""


def may_be_dialled(endpoint: Endpoint, *, allow_non_global: bool) -> bool:
    """Whether an address that a stranger named may be dialled: one host's, at no service's port."""
    host, port = endpoint
    try:
        usable = is_global(host) or (allow_non_global and _is_one_host(host))
    except ValueError:
        return False
    return usable and port >= LOWEST_PORT


def _is_one_host(host: str) -> bool:
    address = ipaddress.ip_address(host)
    nobody = address.is_multicast or address.is_unspecified or address.is_reserved
    return address.is_loopback or not nobody  # ::1 counts as reserved
