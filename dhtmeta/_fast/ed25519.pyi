from collections.abc import Sequence

def signable(seq: int, v: bytes, salt: bytes = b"") -> bytes:
    """Return the bytes that a mutable item's signature covers (BEP 44, signature verification).

    v is the raw bencoded value as it was received, of any size; salt at most 64 bytes, and an
    empty one is no salt. Distinct (salt, seq, v) never give the same bytes.
    Raises ValueError where seq is not 0 ... 2^63-1 or salt is longer than 64 bytes.
    """

def target(public_key: bytes, salt: bytes = b"") -> bytes:
    """Return the 20 bytes under which a mutable item lives: SHA1(public_key + salt) (BEP 44).

    Raises ValueError where public_key is not 32 bytes.
    """

def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether signature is public_key's Ed25519 signature of message (RFC 8032).

    What counts at the edges is libsodium's choice. The GIL is released while it works.
    Raises ValueError where public_key is not 32 bytes or signature is not 64.
    """

def verify_many(checks: Sequence[tuple[bytes, bytes, bytes]], *, threads: int = 1) -> list[bool]:
    """Return what verify says of each (public_key, signature, message), in their order.

    The calling thread and up to threads - 1 others share the work without the GIL; the others
    have ended when this returns.
    Raises ValueError, before anything is verified, where threads < 1 or a size is wrong.
    """
