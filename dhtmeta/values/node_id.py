"""What a 160-bit id is (node id, target or peer id, in one space) and how far two are apart."""

import hashlib
from collections.abc import Iterable

from dhtmeta.const import NODE_ID_BYTES, PUBLIC_KEY_BYTES
from dhtmeta.errors import InvalidKey


def parse_id(text: str) -> bytes:
    """Return the 20 bytes that 40 hex digits stand for; InvalidKey for anything else."""
    return parse_hex(text, NODE_ID_BYTES, "an id")


def parse_public_key(text: str) -> bytes:
    """Return the 32 bytes that 64 hex digits stand for; InvalidKey for anything else."""
    return parse_hex(text, PUBLIC_KEY_BYTES, "a public key")


def parse_hex(text: str, size: int, what: str) -> bytes:
    """Return the `size` bytes that `text` gives in hex; InvalidKey, saying what was expected."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size or len(text) != 2 * size:
        shown = text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
        raise InvalidKey(f"{what} is {2 * size} hex digits ({size} bytes), got {shown!r}")
    return raw


def peer_id(public_key: bytes) -> bytes:
    """Return SHA1(public key), 20 bytes: the name of the identity, and its unsalted target."""
    return hashlib.sha1(public_key, usedforsecurity=False).digest()


def distance(one: bytes, other: bytes) -> int:
    """Return the XOR metric of BEP 5 between two 20-byte ids."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


def closest(ids: Iterable[bytes], target: bytes, count: int) -> list[bytes]:
    """Return the `count` of `ids` nearest to `target`, nearest first."""
    return sorted(ids, key=lambda node_id: distance(node_id, target))[:count]
