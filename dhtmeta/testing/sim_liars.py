"""How simulated nodes lie: one kind of liar for each thing that a reader has to see through."""

import enum
from collections.abc import Callable

from msgspec.structs import replace

from dhtmeta.const import MAX_VALUE_BYTES, NODE_ID_BYTES, SIGNATURE_BYTES, SIM_BUCKET
from dhtmeta.krpc.compact import Contact, split_contacts
from dhtmeta.krpc.messages import Error, Get, Query, Response
from dhtmeta.testing.sim_ids import ID_BITS, hashed, mix
from dhtmeta.values.item import SignedItem, encode_value
from dhtmeta.values.keys import Identity

HUGE_SEQ = 2**62
_NOBODY = "11.255.255.{}"  # with port 9, which no simulated node has
_NOBODY_PORT = 9
_FALSE_SIG = b"\x5a" * SIGNATURE_BYTES


class Lie(enum.Enum):
    """What a liar does to get, and a silent one or one with a wrong id to every query."""

    FOREIGN_KEY = "an item with a high seq, well signed by another key"
    HUGE_SEQ = "the owner's key with seq 2^62, which the owner never signed"
    NO_SIGNATURE = "k, seq and v without a sig"
    BAD_SALT = "the same key's item of another salt"
    OVERSIZED = "a v of 1,001 bytes"
    SHADOWING = "an immutable v to a plain get; the real item to one that carries seq"
    WRONG_NODES = "ids next to the target where nobody is, and real ids with wrong endpoints"
    WRONG_ID = "another node id than its own in every response"
    SILENCE = "no answer to anything"


class Liars:
    """What liars make of the honest response. They know every item that is anywhere."""

    def __init__(
        self,
        seed: int,
        known: dict[bytes, SignedItem],
        nearest: Callable[[bytes], list[Contact]],
    ) -> None:
        """Take the items by target, and how to find the real nodes closest to a target."""
        self._key = mix(seed ^ 0x11A2)
        self._identity = Identity(self._key.to_bytes(8, "big") * 4)
        self._known = known
        self._nearest = nearest

    def lie(self, kind: Lie, query: Query, honest: Response | Error) -> Response | Error | None:
        """Return what a liar says instead of the honest response; None is silence."""
        if kind is Lie.SILENCE:
            return None
        if isinstance(honest, Error):
            return honest
        if kind is Lie.WRONG_ID:
            return replace(honest, node_id=_bytes(self._noise(honest.node_id)))
        if not isinstance(query, Get):
            return honest
        if kind is Lie.WRONG_NODES:
            return replace(honest, **split_contacts(self._wrong_nodes(query.target)))
        if kind is Lie.SHADOWING:
            return honest if query.seq is not None else replace(honest, **_shadow())
        return replace(honest, **self._item(kind, query.target))

    def _item(self, kind: Lie, target: bytes) -> dict[str, object]:
        real = self._known.get(target)
        k = real.public_key if real else self._identity.public_key
        v = encode_value(b"a lie")
        if kind is Lie.FOREIGN_KEY:
            return _fields(SignedItem.sign(self._identity, v, HUGE_SEQ))
        if kind is Lie.BAD_SALT:
            return _fields(self._other_salt(k, target))
        seq = real.seq + 1 if real else 1
        if kind is Lie.HUGE_SEQ:
            sig = real.sig if real else _FALSE_SIG
            return {"k": k, "seq": HUGE_SEQ, "v": real.v if real else v, "sig": sig}
        if kind is Lie.OVERSIZED:
            v = _oversized()
        return {"k": k, "seq": seq, "v": v, "sig": None if kind is Lie.NO_SIGNATURE else _FALSE_SIG}

    def _other_salt(self, k: bytes, target: bytes) -> SignedItem:
        """Return an item of that key from elsewhere; the liar's own if the key has but one."""
        for item in self._known.values():
            if item.public_key == k and item.target != target:
                return item
        return SignedItem.sign(self._identity, encode_value(b"a lie"), HUGE_SEQ, b"other")

    def _wrong_nodes(self, target: bytes) -> list[Contact]:
        """Return four ids next to the target, and the next four nodes, all where nobody is."""
        half = SIM_BUCKET // 2
        near = int.from_bytes(target, "big")
        ids = [_bytes(near ^ one + 1) for one in range(half)]
        ids += [one.node_id for one in self._nearest(target)[:half]]
        return [
            Contact(node_id, (_NOBODY.format(one), _NOBODY_PORT)) for one, node_id in enumerate(ids)
        ]

    def _noise(self, node_id: bytes) -> int:
        """Return an id that depends on the liar alone."""
        word = hashed(self._key, int.from_bytes(node_id[:8], "big"))
        return (word << 96 | word << 32 | word >> 32) % (1 << ID_BITS)


def _fields(item: SignedItem) -> dict[str, object]:
    return {"k": item.public_key, "seq": item.seq, "v": item.v, "sig": item.sig}


def _shadow() -> dict[str, object]:
    return {"k": None, "seq": None, "v": encode_value(b"a shadow"), "sig": None}


def _oversized() -> bytes:
    """Return a v that is one byte too long."""
    head = b"997:"
    return head + bytes(MAX_VALUE_BYTES + 1 - len(head))


def _bytes(number: int) -> bytes:
    return number.to_bytes(NODE_ID_BYTES, "big")
