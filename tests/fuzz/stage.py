"""Who and what a script may choose from: nodes, ids, items signed well and badly, tokens, codes."""

import hashlib

from dhtmeta.krpc.compact import Contact, Endpoint
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from tests.reference import bencode

Fields = dict[str, bytes | int | None]

OURS = Identity(b"o" * 32)
THEIRS = Identity(b"t" * 32)
SALTS = [b"", b"salt"]
TARGETS = {salt: hashlib.sha1(OURS.public_key + salt).digest() for salt in SALTS}
NODE_ID = hashlib.sha1(b"us").digest()

ENDPOINTS: list[Endpoint] = [(f"10.0.{i}.1", 1000 + i) for i in range(12)]
ENDPOINTS += [("10.0.0.2", 1000), ("10.0.0.1", 1001), ("2001:db8::1", 1000), ("fe80::2%lo", 1)]
# Ids from anywhere, and ever nearer to a target.
IDS = [hashlib.sha1(bytes([i])).digest() for i in range(8)]
IDS += [TARGETS[b""][:-1] + bytes([TARGETS[b""][-1] ^ i]) for i in range(8)]
IDS += [TARGETS[b"salt"][:-1] + bytes([i]) for i in range(8)]
IDS += [NODE_ID, bytes(20), b"\xff" * 20]
CONTACTS = [Contact(one, ENDPOINTS[i % len(ENDPOINTS)]) for i, one in enumerate(IDS)]
CONTACTS += [Contact(one, ENDPOINTS[(i + 5) % len(ENDPOINTS)]) for i, one in enumerate(IDS)]

VALUES = [b"5:hello", b"5:jello", b"d1:a5:hello1:bi7ee"]
ITEMS = [
    SignedItem.sign(OURS, v, seq, salt)
    for salt in SALTS
    for seq in (0, 1, 2, 2**63 - 1)
    for v in VALUES
]
_FOREIGN = SignedItem.sign(THEIRS, b"5:hello", 9)


def shown(item: SignedItem) -> Fields:
    """Return the fields of a response that hold this item."""
    return {"k": item.public_key, "seq": item.seq, "v": item.v, "sig": item.sig}


_GOOD = shown(ITEMS[0])
LIES: list[Fields] = [
    {},
    {"seq": 1},
    {"v": b"5:hello"},
    shown(_FOREIGN),
    _GOOD | {"seq": 2**62},
    _GOOD | {"seq": -1},
    _GOOD | {"seq": None},
    _GOOD | {"sig": None},
    _GOOD | {"sig": bytes(64)},
    _GOOD | {"sig": b""},
    _GOOD | {"k": None},
    _GOOD | {"k": b"k"},
    _GOOD | {"v": bencode.encode(bytes(1000))},
    _GOOD | {"v": b"d1:bi1e1:ai2ee"},
    _GOOD | {"v": b"d1:ai1e1:ai2ee"},
]
TOKENS = [b"token", b"", b"t" * 256, None]
CODES = [203, 301, 302, 204, 205, 206, 207, 0, -1, 2**63 - 1]
