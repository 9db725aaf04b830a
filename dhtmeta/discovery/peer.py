"""What is told of a peer: who it is, what it says, and whether and how it can be reached now."""

from dataclasses import dataclass

from dhtmeta.engine.connectability import Connectability, Verdict
from dhtmeta.values.node_id import peer_id
from dhtmeta.values.record import NodeRecord, format_endpoint


@dataclass(frozen=True, slots=True)
class Peer:
    """A known peer; `seq`, `age` (s), `record`, `connectability` are None while no record is held.

    `source` says how it was first heard of; times are in Unix s.
    """

    public_key: bytes
    topic: str
    source: str
    first_seen: float
    last_seen: float
    seq: int | None = None
    age: float | None = None
    record: NodeRecord | None = None
    connectability: Connectability | None = None

    @property
    def peer_id(self) -> bytes:
        """SHA1(public key), 20 bytes."""
        return peer_id(self.public_key)

    @property
    def verdict(self) -> Verdict | None:
        """Whether and how it can be reached; None while no record is held."""
        return None if self.connectability is None else self.connectability.verdict

    @property
    def connectable(self) -> bool:
        """Whether a connection attempt makes sense now."""
        return self.connectability is not None and self.connectability.connectable

    @property
    def address(self) -> str:
        """The ip:port to connect to, a relay's where it leads over one; "" where there is none."""
        return self.connectability.address if self.connectability is not None else ""

    @property
    def turn(self) -> str:
        """The ip:port (UDP) of its TURN server, "" where it says none, or cannot be reached."""
        endpoint = self.record.turn if self.record is not None and self.connectable else None
        return format_endpoint(endpoint)
