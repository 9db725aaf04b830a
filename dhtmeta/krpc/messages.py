"""What can be said on the DHT: one type for each query, one response, one error (BEP 5, 44).

Absent is None. `t` is the transaction id, `node_id` the sender's own id (20 bytes), `read_only`
that it wants to be in no routing table (BEP 43).
"""

from typing import ClassVar, TypeAlias

from msgspec import Struct

from dhtmeta.krpc.compact import NODE6_BYTES, Contact, Endpoint, unpack_contacts


class Query(Struct, frozen=True, gc=False, kw_only=True):
    """What all queries have."""

    q: ClassVar[bytes] = b""  # the query's name on the wire
    t: bytes
    node_id: bytes
    read_only: bool = False


class Ping(Query, frozen=True, gc=False, kw_only=True):
    """Ask whether a node is there."""

    q = b"ping"


class FindNode(Query, frozen=True, gc=False, kw_only=True):
    """Ask for the nodes that are known near `target` (20 bytes)."""

    q = b"find_node"
    target: bytes


class GetPeers(Query, frozen=True, gc=False, kw_only=True):
    """Ask who announced a port under `info_hash` (20 bytes)."""

    q = b"get_peers"
    info_hash: bytes


class AnnouncePeer(Query, frozen=True, gc=False, kw_only=True):
    """I have a port under `info_hash`; None: the one this datagram came from (implied_port)."""

    q = b"announce_peer"
    info_hash: bytes
    port: int | None
    token: bytes


class Get(Query, frozen=True, gc=False, kw_only=True):
    """Which item is stored at `target`? With `seq`: only one with a higher seq (BEP 44)."""

    q = b"get"
    target: bytes
    seq: int | None = None


class Put(Query, frozen=True, gc=False, kw_only=True):
    """Store this mutable item; with `cas` only over an item of that seq (BEP 44). v is raw."""

    q = b"put"
    token: bytes
    k: bytes
    salt: bytes
    seq: int
    v: bytes
    sig: bytes
    cas: int | None = None


class PutImmutable(Query, frozen=True, gc=False, kw_only=True):
    """Store the raw value v at SHA1(v) (BEP 44)."""

    q = b"put"
    token: bytes
    v: bytes


class UnknownQuery(Query, frozen=True, gc=False, kw_only=True):
    """A query of a kind that is not one of the above."""

    name: bytes


class Response(Struct, frozen=True, gc=False, kw_only=True):
    """An answer. Which fields it has depends on the query; an item's are as received, unverified.

    `nodes` and `nodes6` are compact node info, whole; `contacts` is what they say. `seq` without
    `v` says that the node holds no newer one than was asked for.
    """

    t: bytes
    node_id: bytes
    token: bytes | None = None
    nodes: bytes = b""
    nodes6: bytes = b""
    peers: list[Endpoint] = []
    k: bytes | None = None
    seq: int | None = None
    v: bytes | None = None
    sig: bytes | None = None

    @property
    def contacts(self) -> list[Contact]:
        """The nodes it names, without those at port 0, where nobody can answer."""
        return unpack_contacts(self.nodes) + unpack_contacts(self.nodes6, NODE6_BYTES)


class Error(Struct, frozen=True, gc=False, kw_only=True):
    """A refusal: a code of BEP 5 or BEP 44, and what the node says of it."""

    t: bytes
    code: int
    message: str = ""


Message: TypeAlias = Query | Response | Error
