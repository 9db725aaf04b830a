"""What a carrier is: the protocol that takes items to the DHT and back, and what it reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dhtmeta.const import READY_DEADLINE
from dhtmeta.dht.address import Endpoint
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity


@dataclass(frozen=True, slots=True)
class GetOutcome:
    """What a lookup found.

    `item` is the newest that verified, None if there was none; `converged` is False where the
    deadline cut the lookup short; `refused` counts answers that did not verify; `conflicts`
    counts different values under one seq, of which the smaller bytes were kept.
    """

    item: SignedItem | None
    converged: bool
    refused: int = 0
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What a put did: the item as the network holds it, and how many nodes accepted it.

    libtorrent counts our own node where it is one of the 8 closest: that copy lasts as long as
    we do.
    """

    item: SignedItem
    accepted: int


@dataclass(frozen=True, slots=True)
class Contact:
    """A live DHT node: its 20-byte id and where it is."""

    node_id: bytes
    endpoint: Endpoint


class Carrier(Protocol):
    """What the engine needs of the DHT. Deadlines are in seconds from the call."""

    strings_only: bool
    """Whether v can only be a byte string (the libtorrent binding), so dicts are wrapped."""

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """Return once a node answered; NetworkUnreachable names those that did not."""

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
    ) -> GetOutcome:
        """Look the item up; each verified one goes to `on_item` as it comes, newest last.

        Raises NetworkUnreachable where no node is known.
        """

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """Sign and store the raw value `v` above whatever seq the network holds.

        Raises NotStored where no node accepted, DeadlineExceeded, NetworkUnreachable.
        """

    async def announce(self, info_hash: bytes, port: int) -> None:
        """Announce a port under a 20-byte infohash (BEP 5); there is no completion."""

    async def get_peers(self, info_hash: bytes, wait: float) -> list[Endpoint]:
        """Return the peers that were announced under `info_hash`, gathered for `wait` seconds."""

    async def live_nodes(self) -> list[Contact]:
        """Return the nodes in the routing table that answered lately."""

    def add_nodes(self, endpoints: Sequence[Endpoint]) -> None:
        """Tell the routing table of nodes at these (ip, port)."""

    async def silent_contacts(self, grace: float) -> list[str]:
        """Return the bootstrap nodes given as addresses that stay silent for `grace` seconds."""

    def saved_state(self) -> bytes:
        """Return what makes the next start fast; give it to the constructor then."""

    async def close(self) -> None:
        """Stop, within a second, whatever is in flight; what waits gets NetworkUnreachable."""
