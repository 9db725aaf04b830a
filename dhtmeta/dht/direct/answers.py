"""What we answer to queries: that we live and whom we know, within limits, and never a value.

A node that ignores queries slows others down; one that answers all could be used against others,
so each network of the sender gets few answers, of few times the bytes that came in.
"""

import hashlib
from random import Random

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
from dhtmeta.krpc.compact import NODE6_BYTES, NODE_BYTES, Contact, Endpoint, pack_endpoint
from dhtmeta.krpc.messages import Error, FindNode, Get, GetPeers, Ping, Query, Response

_BARE_BYTES = 100  # a response without nodes: envelope, id, token and a t of 32 bytes at most


class Allowance:
    """`rate` things a second, at most as many at once as come in one second."""

    __slots__ = ("_left", "_rate", "_since")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left = max(1.0, rate)
        self._since = now

    def take(self, now: float) -> bool:
        """Take one if there is one: at the time that `next` told, however it was rounded."""
        due, most = self.next, max(1.0, self._rate)
        self._left = min(most, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1 and now < due:
            return False
        self._left = max(0.0, self._left - 1)
        return True

    @property
    def next(self) -> float:
        """When there will be one."""
        return self._since + max(0.0, 1 - self._left) / self._rate


class Answers:
    """Answers of the node `node_id`, which knows `contacts`."""

    def __init__(self, node_id: bytes, contacts: Contacts, random: Random, now: float) -> None:
        self._node_id = node_id
        self._contacts = contacts
        self._secret = random.randbytes(16)
        self._networks: LRUCache[bytes, Allowance] = LRUCache(ANSWER_NETWORKS)
        self._all = Allowance(ANSWERS_IN_ALL, now)

    def answer(
        self, query: Query, size: int, source: Endpoint, now: float
    ) -> Response | Error | None:
        """Return the answer to a query of `size` bytes, None beyond the limits."""
        if not self._allowed(source, now):
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
            allowance = self._networks[network] = Allowance(ANSWER_RATE, now)
        return allowance.take(now) and self._all.take(now)

    def _nodes(self, query: Query, target: bytes, size: int, source: Endpoint) -> Response:
        each = NODE6_BYTES if ":" in source[0] else NODE_BYTES
        room = max(0, (ANSWER_RATIO * size - _BARE_BYTES) // each)
        found: list[Contact] = self._contacts.closest(target, min(CLOSEST, room)) if room else []
        nodes = [one for one in found if (":" in one.endpoint[0]) == (":" in source[0])]
        token = None if isinstance(query, FindNode) else self._token(source)
        return Response(t=query.t, node_id=self._node_id, token=token, contacts=nodes)

    def _token(self, source: Endpoint) -> bytes:
        """Return a token, which every get must have (BEP 44), though we take no put."""
        return hashlib.blake2s(source[0].encode(), key=self._secret, digest_size=4).digest()
