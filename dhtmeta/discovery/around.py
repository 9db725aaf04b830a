"""What discovery needs of the node it is a part of, and what it asks of it again and again."""

from collections.abc import Callable
from dataclasses import dataclass

from dhtmeta.config import Settings
from dhtmeta.dht.carrier import Carrier
from dhtmeta.dht.mapping import Outside
from dhtmeta.discovery.candidate import may_be_dialled
from dhtmeta.engine.cache import Cached
from dhtmeta.engine.connectability import Verdict
from dhtmeta.engine.resolve import Resolver
from dhtmeta.errors import InvalidRecord
from dhtmeta.krpc.compact import Endpoint
from dhtmeta.store.store import Store
from dhtmeta.values.keys import Identity
from dhtmeta.values.record import NodeRecord


@dataclass(frozen=True, slots=True)
class Around:
    """The node's parts. `clock` gives Unix seconds.

    `dht_port` is that of our DHT node (0: none that others should use), `outside` what gateways
    say. `visiting` is for a short visit: we are not announced, and are no relay.
    """

    settings: Settings
    identity: Callable[[], Identity]
    store: Store
    resolver: Resolver
    carrier: Callable[[], Carrier]
    dht_port: Callable[[], int]
    outside: Callable[[], Outside | None]
    clock: Callable[[], float]
    allow_non_global: bool
    visiting: bool = False

    @property
    def own_id(self) -> bytes:
        """Our peer id, 20 bytes."""
        return self.identity().peer_id

    def held(self, peer_id: bytes) -> Cached | None:
        """Return the item of a peer (20 bytes) that is held and may be used, fresh or stale."""
        return self.resolver.cache.usable(peer_id, self.clock())

    def may_dial(self, endpoint: Endpoint) -> bool:
        """Whether an address that a stranger named may be dialled."""
        return may_be_dialled(endpoint, allow_non_global=self.allow_non_global)

    def is_direct(self, held: Cached) -> bool:
        """Whether a connection to the peer itself makes sense now."""
        try:
            verdict = self.resolver.judge(held)
        except InvalidRecord:
            return False
        return verdict is not None and verdict.verdict is Verdict.DIRECT


def record_of(held: Cached | None) -> NodeRecord | None:
    """Return the NodeRecord that is held, None where there is none, or a broken one."""
    try:
        return None if held is None else held.record()
    except InvalidRecord:
        return None


def exchange_of(held: Cached | None) -> Endpoint | None:
    """Return where the record that is held says its owner's exchange is."""
    record = record_of(held)
    return None if record is None else record.exchange
