"""What simulated nodes keep and answer: the rules for tokens and puts, as libtorrent has them.

Tokens are for one target and one address, and good for 5 to 10 minutes. The checks come in
libtorrent's order (node.cpp, incoming_request). An equal seq is answered like a higher one, but
the old value stays.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    MAX_SALT_BYTES,
    MAX_VALUE_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SIM_ITEMS,
    SIM_TOKEN_STEP,
)
from dhtmeta.errors import InvalidItem, InvalidValue
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import (
    Error,
    FindNode,
    Get,
    GetPeers,
    Ping,
    Put,
    PutImmutable,
    Query,
    Response,
)
from dhtmeta.values.item import SignedItem, decode_value
from dhtmeta.values.node_id import peer_id

PROTOCOL_ERROR, TOO_BIG, BAD_SIGNATURE, SALT_TOO_BIG = 203, 205, 206, 207
CAS_MISMATCH, OLD_SEQ = 301, 302
METHOD_UNKNOWN = 204
_TOKEN_BYTES = 4  # libtorrent's


class Refused(Exception):
    """A put that is answered with an error; the first argument is its KRPC code."""


@dataclass(slots=True)
class Shelf:
    """What one node holds, by target. It is lost when the next generation moves in."""

    generation: int
    items: dict[bytes, SignedItem] = field(default_factory=dict)
    values: dict[bytes, bytes] = field(default_factory=dict)  # immutable ones


class Nodes:
    """All nodes' shelves, and what each of them answers to a query."""

    def __init__(
        self,
        seed: int,
        generation: Callable[[int], int],
        contact: Callable[[int], Contact],
        nearest: Callable[[int, bytes], list[Contact]],
        now: Callable[[], float],
    ) -> None:
        """Take how to find who lives in a slot, its contact, what its table gives, and seconds."""
        self.known: dict[bytes, SignedItem] = {}  # the item seen last for each target
        self._seed = struct.pack("<Q", seed % 2**64)
        self._shelves: dict[int, Shelf] = {}
        self._where: dict[bytes, set[int]] = {}  # who may hold a target: all that ever did
        self._generation = generation
        self._contact = contact
        self._nearest = nearest
        self._now = now

    def shelf(self, i: int) -> Shelf:
        """Return what node i holds; a new node's is empty."""
        generation = self._generation(i)
        shelf = self._shelves.get(i)
        if shelf is None or shelf.generation != generation:
            shelf = self._shelves[i] = Shelf(generation)
        return shelf

    def store(self, i: int, item: SignedItem) -> None:
        """Put an item on node i's shelf, whatever it held; the oldest goes where there is no room.

        libtorrent drops the one farthest from the node instead, which no test is near to.
        """
        items = self.shelf(i).items
        if item.target not in items and len(items) >= SIM_ITEMS:
            del items[next(iter(items))]
        items[item.target] = item
        self.known[item.target] = item
        self._where.setdefault(item.target, set()).add(i)

    def holders(self, target: bytes) -> dict[int, SignedItem]:
        """Return who holds what at `target`, by index."""
        held = {i: self.shelf(i).items.get(target) for i in self._where.get(target, ())}
        return {i: item for i, item in sorted(held.items()) if item is not None}

    def answer(self, i: int, query: Query, host: str) -> Response | Error:
        """Return what an honest node i says to a query from the address `host`."""
        if isinstance(query, Put | PutImmutable):
            return self._answer_put(i, query, host)
        if isinstance(query, Get):
            return self._answer_get(i, query, host)
        if isinstance(query, FindNode):
            return self._response(i, query, contacts=self._nearest(i, query.target))
        if isinstance(query, GetPeers):
            token = self.token(i, query.info_hash, host)
            contacts = self._nearest(i, query.info_hash)
            return self._response(i, query, token=token, contacts=contacts)
        if isinstance(query, Ping):
            return self._response(i, query)
        return Error(t=query.t, code=METHOD_UNKNOWN, message="unknown message")

    def token(self, i: int, target: bytes, host: str, ago: int = 0) -> bytes:
        """Return the write token of node i for a target and an address, now or steps `ago`."""
        step = int(self._now() // SIM_TOKEN_STEP) - ago
        said = struct.pack("<IIq", i, self._generation(i), step) + target + host.encode()
        return hashlib.blake2s(said, key=self._seed, digest_size=_TOKEN_BYTES).digest()

    def _response(
        self,
        i: int,
        query: Query,
        token: bytes | None = None,
        contacts: list[Contact] | None = None,
    ) -> Response:
        node_id = self._contact(i).node_id
        return Response(t=query.t, node_id=node_id, token=token, **split_contacts(contacts or []))

    def _answer_get(self, i: int, query: Get, host: str) -> Response:
        target = query.target
        token = self.token(i, target, host)
        said = self._response(i, query, token=token, contacts=self._nearest(i, target))
        shelf = self._shelves.get(i)
        if shelf is None or shelf.generation != self._generation(i):
            return said
        if query.seq is None and target in shelf.values:
            return replace(said, v=shelf.values[target])
        item = shelf.items.get(target)
        if item is None:
            return said
        if query.seq is not None and not 0 <= query.seq < item.seq:
            return replace(said, seq=item.seq)
        return replace(said, k=item.public_key, seq=item.seq, v=item.v, sig=item.sig)

    def _answer_put(self, i: int, query: Put | PutImmutable, host: str) -> Response | Error:
        try:
            if isinstance(query, Put):
                self._put(i, query, host)
            else:
                self._put_immutable(i, query, host)
        except Refused as refusal:
            return Error(t=query.t, code=refusal.args[0], message=refusal.args[1])
        return self._response(i, query)

    def _put_immutable(self, i: int, query: PutImmutable, host: str) -> None:
        _check_sizes(query.v, b"")
        target = peer_id(query.v)  # SHA1(v)
        self._check_token(i, target, query.token, host)
        values = self.shelf(i).values
        if target not in values and len(values) >= SIM_ITEMS:
            del values[next(iter(values))]
        values[target] = query.v

    def _put(self, i: int, query: Put, host: str) -> None:
        item = self._checked(i, query, host)
        held = self.shelf(i).items.get(item.target)
        if held is None:
            return self.store(i, item)
        if query.cas is not None and query.cas != held.seq:
            raise Refused(CAS_MISMATCH, "CAS mismatch")
        if held.seq > item.seq:
            raise Refused(OLD_SEQ, "old sequence number")
        if held.seq < item.seq:
            self.store(i, item)
        return None

    def _checked(self, i: int, query: Put, host: str) -> SignedItem:
        _check_sizes(query.v, query.salt)
        if len(query.k) != PUBLIC_KEY_BYTES or len(query.sig) != SIGNATURE_BYTES:
            raise Refused(PROTOCOL_ERROR, "k or sig of a wrong length")
        target = ed25519.target(query.k, query.salt)
        self._check_token(i, target, query.token, host)
        if query.seq < 0:
            raise Refused(PROTOCOL_ERROR, "invalid (negative) sequence number")
        return self._verified(target, query)

    def _verified(self, target: bytes, query: Put) -> SignedItem:
        """Return the item, verified once for all the nodes that it is sent to."""
        known = self.known.get(target)
        if known and (known.sig, known.v, known.seq) == (query.sig, query.v, query.seq):
            return known
        try:
            decode_value(query.v)
        except InvalidValue as error:
            raise Refused(PROTOCOL_ERROR, "v is not canonical") from error
        try:
            return SignedItem.verified(target, query.k, query.salt, query.seq, query.v, query.sig)
        except InvalidItem as error:
            raise Refused(BAD_SIGNATURE, "invalid signature") from error

    def _check_token(self, i: int, target: bytes, token: bytes, host: str) -> None:
        if token not in (self.token(i, target, host), self.token(i, target, host, ago=1)):
            raise Refused(PROTOCOL_ERROR, "invalid token")


def _check_sizes(v: bytes, salt: bytes) -> None:
    if len(v) > MAX_VALUE_BYTES:
        raise Refused(TOO_BIG, "message too big")
    if len(salt) > MAX_SALT_BYTES:
        raise Refused(SALT_TOO_BIG, "salt too big")
