"""What a successor record is: a rotated key says which key follows it, and that key agrees.

    {"successor": new public key, 32 bytes, "successor_sig": its signature, 64 bytes}

A plain record, published under the old key without salt, where who asks for that key finds it, and
so in the place of its last NodeRecord. The item's own signature is the old key's. The other one is
the new key's over `CONTEXT` + old public key + new public key: nobody can name as his successor
somebody who did not agree, and what agrees to one pair says nothing of another. Other keys in the
dict are let through, but for `peer_id`, which makes it a NodeRecord. Where one of the two
signatures does not hold it is a plain value.
"""

from typing import Final

from dhtmeta._fast import ed25519
from dhtmeta._fast.bencode import Value
from dhtmeta.const import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from dhtmeta.errors import InvalidKey
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from dhtmeta.values.wrapping import unwrap

# Fixed, and no beginning of what an item signs ("3:seq…", "4:salt…"): neither passes for the other.
CONTEXT: Final = b"dhtmeta successor 1:"
_MARK: Final = b"9:successor"  # that key as bencoded: a v without it needs no decoding


def successor_value(old_key: bytes, new: Identity) -> dict[bytes, Value]:
    """Return what to publish under `old_key` (32 bytes): that `new` follows it, and agrees.

    Raises InvalidKey where `old_key` is none, or is the key of `new` itself.
    """
    if len(old_key) != PUBLIC_KEY_BYTES or old_key == new.public_key:
        raise InvalidKey("a successor follows another public key, of 32 bytes")
    agreed = new.sign(_statement(old_key, new.public_key))
    return {b"successor": new.public_key, b"successor_sig": agreed}


def successor_of(item: SignedItem) -> bytes | None:
    """Return the public key (32 bytes) that follows the one of `item`; None where none does."""
    if item.salt or _MARK not in item.v:
        return None
    value = unwrap(item.value)
    if not isinstance(value, dict) or b"peer_id" in value:
        return None
    key, sig = value.get(b"successor"), value.get(b"successor_sig")
    if not isinstance(key, bytes) or not isinstance(sig, bytes) or key == item.public_key:
        return None
    if (len(key), len(sig)) != (PUBLIC_KEY_BYTES, SIGNATURE_BYTES):
        return None
    return key if ed25519.verify(key, sig, _statement(item.public_key, key)) else None


def _statement(old_key: bytes, new_key: bytes) -> bytes:
    return CONTEXT + old_key + new_key
