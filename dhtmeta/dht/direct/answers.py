"""What we answer to queries: that we live and whom we know, within limits, and never a value.

A node that ignores queries slows others down; one that answers all could be used against others,
so each network of the sender gets few answers, of few times the bytes that came in. No token is
given, since we take no put: who has none of ours stores on somebody else instead.
"""

from collections import deque

from cachetools import LRUCache

from dhtmeta.const import (
    ANSWER_NETWORKS,
    ANSWER_RATE,
    ANSWER_RATIO,
    ANSWERS_IN_ALL,
    CLOSEST,
    ERROR_UNKNOWN,
)
from dhtmeta.dht.direct.contacts import Contacts
from dhtmeta.krpc.compact import (
    NODE6_BYTES,
    NODE_BYTES,
    Contact,
    Endpoint,
    pack_endpoint,
    split_contacts,
)
from dhtmeta.krpc.messages import Error, FindNode, Get, GetPeers, Ping, Query, Response

_BARE_BYTES = 100  # a response without nodes: envelope, id, token and a t of 32 bytes at most


class Allowance:
    """At most `count` things within any second."""

    __slots__ = ("_times",)

    def __init__(self, count: int) -> None:
        self._times: deque[float] = deque(maxlen=count)

    def take(self, now: float) -> bool:
        """Take one, if the one `count` before it was a second ago."""
        if now < self.next:
            return False
        self._times.append(now)  # and the oldest goes
        return True

    @property
    def next(self) -> float:
        """When there will be one."""
        times = self._times
        return times[0] + 1.0 if len(times) == times.maxlen else float("-inf")


class Answers:
    """Answers of the node `node_id`, which knows `contacts`.

    Without `limited` there are as many as there are queries: in a swarm on loopback all are of one
    network, and who is ignored by one of its nodes waits for that.
    """

    def __init__(self, node_id: bytes, contacts: Contacts, *, limited: bool = True) -> None:
        self._limited = limited
        self._node_id = node_id
        self._contacts = contacts
        self._networks: LRUCache[bytes, Allowance] = LRUCache(ANSWER_NETWORKS)
        self._all = Allowance(ANSWERS_IN_ALL)

    def answer(
        self, query: Query, size: int, source: Endpoint, now: float
    ) -> Response | Error | None:
        """Return the answer to a query of `size` bytes, None beyond the limits."""
        if self._limited and not self._allowed(source, now):
            return None
        if isinstance(query, Ping):
            return Response(t=query.t, node_id=self._node_id)
        if isinstance(query, FindNode | Get):
            return self._nodes(query, query.target, size, source)
        if isinstance(query, GetPeers):
            return self._nodes(query, query.info_hash, size, source)
        return Error(t=query.t, code=ERROR_UNKNOWN, message="this node stores nothing")

    def _allowed(self, source: Endpoint, now: float) -> bool:
        """Whether this sender's /24 (IPv6: /64) and all together are within their limits."""
        packed = pack_endpoint(source)
        network = packed[:3] if len(packed) == 6 else packed[:8]
        allowance = self._networks.get(network)
        if allowance is None:
            allowance = self._networks[network] = Allowance(ANSWER_RATE)
        return allowance.take(now) and self._all.take(now)

    def _nodes(self, query: Query, target: bytes, size: int, source: Endpoint) -> Response:
        each = NODE6_BYTES if ":" in source[0] else NODE_BYTES
        room = max(0, (ANSWER_RATIO * size - _BARE_BYTES) // each)
        found: list[Contact] = self._contacts.closest(target, min(CLOSEST, room)) if room else []
        nodes = [one for one in found if (":" in one.endpoint[0]) == (":" in source[0])]
        return Response(t=query.t, node_id=self._node_id, **split_contacts(nodes))
