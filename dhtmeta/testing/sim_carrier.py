"""The direct carrier on a simulated network: the very same core, beside a node that is simulated.

The node stands in for libtorrent: it knows some live nodes of the network, and nothing else.
"""

import random
from collections.abc import Callable, Sequence

from dhtmeta.const import CLOSEST, READY_DEADLINE, SIM_KNOWN
from dhtmeta.dht.carrier import Choose, GetOutcome, KeepOutcome, PutOutcome, TopUp
from dhtmeta.dht.direct.carrier import DirectCarrier
from dhtmeta.errors import CallerError, NetworkUnreachable
from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.testing.sim_socket import SimSocket
from dhtmeta.testing.simnet import SimNet
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity

US: Endpoint = ("192.0.2.1", 6881)  # an address for documentation (RFC 5737)


async def sim_carrier(net: SimNet, *, seed: int, endpoint: Endpoint = US) -> DirectCarrier:
    """Start a direct carrier on `net`; seeded, all it does is repeatable. Close it at the end."""
    node = SimulatedNode(net, seed)
    carrier = DirectCarrier(node, SimSocket(net, endpoint), seed=seed)
    await carrier.start()
    return carrier


class SimulatedNode:
    """The node beside the direct carrier: always there, knows SIM_KNOWN nodes, stores nothing."""

    signs_itself = True

    def __init__(self, net: SimNet, seed: int) -> None:
        """Take the network, and a seed for whom of it to know."""
        self._net = net
        self._random = random.Random(seed)  # noqa: S311 - repeatable

    async def ready(self, deadline: float = READY_DEADLINE) -> None:
        """See `Carrier.ready`: always."""

    def unreachable(self, deadline: float) -> NetworkUnreachable:
        """See `Carrier.unreachable`."""
        return NetworkUnreachable(f"no simulated node answered within {deadline:g} s")

    async def live_nodes(self) -> list[Contact]:
        """See `Carrier.live_nodes`: some that live now."""
        net, rng = self._net, self._random
        return [net.contact(net.random_live(rng)) for _ in range(max(CLOSEST, SIM_KNOWN))]

    def add_nodes(self, endpoints: Sequence[Endpoint]) -> None:
        """See `Carrier.add_nodes`: it knows enough."""

    async def silent_contacts(self, grace: float) -> list[str]:
        """See `Carrier.silent_contacts`: none."""
        return []

    def saved_state(self) -> bytes:
        """See `Carrier.saved_state`: nothing to save."""
        return b""

    async def close(self) -> None:
        """See `Carrier.close`."""

    async def get(
        self,
        public_key: bytes,
        salt: bytes,
        on_item: Callable[[SignedItem], None],
        deadline: float,
        *,
        enough: int | None = None,
    ) -> GetOutcome:
        """Refuse: lookups are the direct carrier's."""
        raise CallerError("a simulated node looks nothing up")

    async def put(self, identity: Identity, v: bytes, salt: bytes, deadline: float) -> PutOutcome:
        """Refuse: puts are the direct carrier's."""
        raise CallerError("a simulated node stores nothing")

    async def put_item(
        self,
        public_key: bytes,
        salt: bytes,
        choose: Choose,
        deadline: float,
        *,
        cas: int | None = None,
    ) -> PutOutcome:
        """Refuse: puts are the direct carrier's."""
        raise CallerError("a simulated node stores nothing")

    async def keep(self, item: SignedItem, top_up: TopUp, deadline: float) -> KeepOutcome:
        """Refuse: keeping is the direct carrier's."""
        raise CallerError("a simulated node keeps nothing")

    async def announce(self, info_hash: bytes, port: int) -> None:
        """Refuse: simulated nodes keep no peers."""
        raise CallerError("a simulated network keeps no peers")

    async def get_peers(
        self,
        info_hash: bytes,
        wait: float,
        on_peer: Callable[[Endpoint], None] | None = None,
    ) -> list[Endpoint]:
        """Return none: simulated nodes keep no peers."""
        return []
