"""What a carrier is: the protocol that takes items to the DHT and back, and what it reports."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dhtmeta.const import READY_DEADLINE
from dhtmeta.errors import NetworkUnreachable
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity

TopUp = Callable[["Standing"], int]
"""Given where a kept item stands, return on how many of those that lack it to store it."""

Choose = Callable[[SignedItem | None], Awaitable[SignedItem]]
"""Given the newest item that the network holds, return the one to store."""


@dataclass(frozen=True, slots=True)
class GetOutcome:
    """What a lookup found.

    `item` is the newest that verified, None if there was none; `converged` is True where the
    closest nodes have all answered, False where the deadline, or an item that was enough, ended
    the lookup before; `refused` counts answers that did not verify; `conflicts` counts different
    values under one seq, of which the smaller bytes were kept. `queried`, `answered` and `holding`
    count nodes: asked, heard of, and having the item; 0 where the carrier cannot tell.
    """

    item: SignedItem | None
    converged: bool
    refused: int = 0
    conflicts: int = 0
    queried: int = 0
    answered: int = 0
    holding: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """A node that refused a put: the KRPC code, and the seq it holds if it showed that item."""

    code: int
    seq: int | None


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """What a put did: the item that was stored, and what the closest nodes said.

    `accepted` counts those that took it, `rejected` lists those that refused, `silent` counts
    those that never answered. `copies` counts the nodes that hold these very bytes when asked
    afterwards, None where the carrier cannot ask; `holders` are ids of those among the nodes it was
    put to first, closest first. libtorrent counts our own node as accepting where it is one of the
    8 closest: that copy lasts as long as we do.
    """

    item: SignedItem
    accepted: int
    rejected: tuple[Rejection, ...] = ()
    silent: int = 0
    copies: int | None = None
    holders: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a kept item stands: ids of the closest nodes that hold it, and of those that could.

    Closest first, 20 bytes each. `newer` is a verified item above it, None if none was shown;
    `conflicts` counts other values under its seq.
    """

    holding: tuple[bytes, ...]
    lacking: tuple[bytes, ...]
    newer: SignedItem | None
    conflicts: int


@dataclass(frozen=True, slots=True)
class KeepOutcome:
    """What a look at a kept item found, and which nodes (ids) took it afterwards.

    `rejected` lists the KRPC codes of those that refused, `silent` counts those that never
    answered, `sent` the datagrams that all of it took.
    """

    standing: Standing
    stored: tuple[bytes, ...]
    rejected: tuple[int, ...]
    silent: int
    sent: int


class Carrier(Protocol):
    """What the engine needs of the DHT. Deadlines are in seconds from the call."""

    signs_itself: bool
    """Whether only the carrier can sign, choosing the seq, and only byte strings can be put.

    True for the libtorrent binding: there `put_item` is a CallerError, and dicts are wrapped.
    """

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """Return once a node answered; NetworkUnreachable names those that did not."""

    def unreachable(self, deadline: float) -> NetworkUnreachable:
        """Return the error that says that nobody answered within `deadline` seconds."""

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """Look the item up; each verified one goes to `on_item` as it comes, newest last.

        With `enough` the first item whose seq is not below it ends the lookup. Raises
        NetworkUnreachable where no node is known.
        """

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """Sign and store the raw value `v` above whatever seq the network holds.

        Raises NotStored where no node accepted, DeadlineExceeded, NetworkUnreachable.
        """

    async def put_item(
        self,
        public_key: bytes,
        salt: bytes,
        choose: Choose,
        deadline: float,
        *,
        cas: int | None = None,
    ) -> PutOutcome:
        """Look up, ask `choose` what to store given the newest item found, and store that.

        Nothing is stored where `choose` raises. `cas` lets nodes refuse that hold another seq
        (BEP 44). Raises Conflict, with the outcome, where a node holds a newer item or another
        value under the same seq, even if most accepted; else as `put` does.
        """

    async def keep(self, item: SignedItem, top_up: TopUp, deadline: float) -> KeepOutcome:
        """Look which of the k closest nodes hold `item`, and store it where `top_up` says.

        Nothing is stored where a newer item is shown. Raises CallerError where the carrier signs
        itself, DeadlineExceeded where not all of the closest have answered, NetworkUnreachable.
        """

    async def announce(self, info_hash: bytes, port: int) -> None:
        """Announce a port under a 20-byte infohash (BEP 5); there is no completion."""

    async def get_peers(
        self,
        info_hash: bytes,
        wait: float,
        on_peer: Callable[[Endpoint], None] | None = None,
    ) -> list[Endpoint]:
        """Return the peers that were announced under `info_hash`, gathered for `wait` seconds.

        Each goes to `on_peer` as it comes, once.
        """

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
