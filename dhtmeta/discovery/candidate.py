"""What a candidate is, and what a source of candidates does: nothing else is asked of one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

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
