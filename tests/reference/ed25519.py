"""The plain twin of dhtmeta._fast.ed25519, on PyNaCl's public API: what is right, slowly."""

import hashlib
import operator
from collections.abc import Sequence

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError


def signable(seq: int, v: bytes, salt: bytes = b"") -> bytes:
    _require_bytes(v, salt)
    if not 0 <= operator.index(seq) < 2**63:
        raise ValueError(f"seq must be 0 ... 2^63-1, not {seq}")
    if len(salt) > 64:
        raise ValueError(f"salt must be at most 64 bytes, not {len(salt)}")
    salted = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return salted + b"3:seqi%de1:v" % seq + v


def target(public_key: bytes, salt: bytes = b"") -> bytes:
    _require_bytes(public_key, salt)
    _require_size("public_key", public_key, 32)
    return hashlib.sha1(public_key + salt, usedforsecurity=False).digest()


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    _require_well_formed(public_key, signature, message)
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def verify_many(checks: Sequence[tuple[bytes, bytes, bytes]], *, threads: int = 1) -> list[bool]:
    """Promise the same answers; more threads would only be faster, so one does it all."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    for public_key, signature, message in checks:
        _require_well_formed(public_key, signature, message)
    return [verify(*check) for check in checks]


def _require_well_formed(public_key: bytes, signature: bytes, message: bytes) -> None:
    _require_bytes(public_key, signature, message)
    _require_size("public_key", public_key, 32)
    _require_size("signature", signature, 64)


def _require_bytes(*values: object) -> None:
    for value in values:
        if not isinstance(value, bytes):
            raise TypeError(f"expected bytes, got {type(value).__name__}")


def _require_size(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"{name} must be {size} bytes, not {len(value)}")
