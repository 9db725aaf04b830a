"""What a BEP 44 mutable item is: a SignedItem exists only by signing it or by verifying it.

Whatever decides whether an item is valid lives here: sizes, target, canonical v, signature.
"""

from collections.abc import Callable
from typing import Any, NoReturn, Self

from dhtmeta._fast import bencode, ed25519
from dhtmeta.const import (
    MAX_SALT_BYTES,
    MAX_SEQ,
    MAX_VALUE_BYTES,
    MAX_VALUE_DEPTH,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
)
from dhtmeta.errors import InvalidItem, InvalidSalt, InvalidValue, ValueTooLarge
from dhtmeta.values.keys import Identity


class SignedItem:
    """A mutable item whose signature holds: public_key (32 bytes), salt, seq, v (raw), sig.

    Made by `sign` or `verified` alone, so an unverified one cannot be represented.
    """

    __slots__ = ("public_key", "salt", "seq", "sig", "v")

    public_key: bytes
    salt: bytes
    seq: int
    v: bytes
    sig: bytes

    def __init__(self) -> None:
        raise TypeError("a SignedItem is made by SignedItem.sign or SignedItem.verified")

    @classmethod
    def sign(cls, identity: Identity, v: bytes, seq: int, salt: bytes = b"") -> Self:
        """Sign the raw value `v`; InvalidSalt, ValueTooLarge or InvalidValue for bad input."""
        check_salt(salt)
        check_seq(seq)
        check_size(v)
        decode_value(v)
        sig = identity.sign(ed25519.signable(seq, v, salt))
        return cls._make(identity.public_key, salt, seq, v, sig)

    @classmethod
    def verified(
        cls, target: bytes, public_key: bytes, salt: bytes, seq: int, v: bytes, sig: bytes
    ) -> Self:
        """Verify what a node sent for `target`, or raise InvalidItem that says what is wrong.

        The signature is checked over `v` as received (BEP 44), after everything cheaper.
        """
        if len(public_key) != PUBLIC_KEY_BYTES or len(sig) != SIGNATURE_BYTES:
            raise InvalidItem("k is not 32 bytes or sig is not 64 bytes")
        if len(salt) > MAX_SALT_BYTES or len(v) > MAX_VALUE_BYTES or not 0 <= seq <= MAX_SEQ:
            raise InvalidItem("salt, v or seq is outside the limits of BEP 44")
        if ed25519.target(public_key, salt) != target:
            raise InvalidItem("SHA1(k + salt) is not the target asked for")
        try:
            decode_value(v)
        except InvalidValue as error:
            raise InvalidItem(f"v is not canonical bencode: {error}") from error
        if not ed25519.verify(public_key, sig, ed25519.signable(seq, v, salt)):
            raise InvalidItem("the signature does not hold")
        return cls._make(public_key, salt, seq, v, sig)

    @classmethod
    def _make(cls, public_key: bytes, salt: bytes, seq: int, v: bytes, sig: bytes) -> Self:
        item = cls.__new__(cls)
        for name, value in zip(
            ("public_key", "salt", "seq", "v", "sig"), (public_key, salt, seq, v, sig), strict=True
        ):
            object.__setattr__(item, name, value)
        return item

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a SignedItem does not change: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a SignedItem does not change: {name}")

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        """Copy and unpickle by verifying anew: bytes that were tampered with are an InvalidItem."""
        parts = (self.target, self.public_key, self.salt, self.seq, self.v, self.sig)
        return type(self).verified, parts

    @property
    def target(self) -> bytes:
        """SHA1(public key + salt), 20 bytes: where the item lives."""
        return ed25519.target(self.public_key, self.salt)

    @property
    def value(self) -> bencode.Value:
        """The decoded v, made anew each time."""
        return decode_value(self.v)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SignedItem):
            return NotImplemented
        return self.sig == other.sig and self.v == other.v and self.public_key == other.public_key

    def __hash__(self) -> int:
        return hash(self.sig)

    def __repr__(self) -> str:
        return f"SignedItem({self.public_key.hex()}, salt={self.salt!r}, seq={self.seq})"


def better(held: SignedItem | None, found: SignedItem) -> bool:
    """Whether `found` replaces `held`: a higher seq does; an equal one only with smaller bytes.

    The rule for equal seqs makes readers that meet both copies agree (DESIGN, "Query").
    """
    if held is None or found.seq > held.seq:
        return True
    return found.seq == held.seq and found.v < held.v


def encode_value(value: Any) -> bytes:
    """Bencode `value` canonically; InvalidValue for what bencode cannot say or BEP 44 not hold."""
    try:
        v = bencode.encode(value, max_depth=MAX_VALUE_DEPTH)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"this value cannot be bencoded: {error}") from error
    check_size(v)
    return v


def decode_value(v: bytes) -> bencode.Value:
    """Decode a raw v, strictly canonical; InvalidValue with the offset of what is wrong."""
    try:
        return bencode.decode(v, max_depth=MAX_VALUE_DEPTH)
    except ValueError as error:
        raise InvalidValue(str(error)) from error


def check_size(v: bytes) -> None:
    """Raise ValueTooLarge, naming what costs most, if `v` takes more than 1,000 bytes."""
    if len(v) > MAX_VALUE_BYTES:
        raise ValueTooLarge(len(v), MAX_VALUE_BYTES, _costs(v))


def check_salt(salt: bytes) -> None:
    """Raise InvalidSalt if `salt` takes more than 64 bytes."""
    if len(salt) > MAX_SALT_BYTES:
        raise InvalidSalt(
            f"a salt is at most {MAX_SALT_BYTES} bytes (BEP 44), this one takes {len(salt)}"
        )


def check_seq(seq: int) -> None:
    """Raise InvalidValue if `seq` is not in 0 … 2^63-1."""
    if not 0 <= seq <= MAX_SEQ:
        raise InvalidValue(f"a seq is 0 … 2^63-1 (BEP 44), got {seq}")


def _costs(v: bytes) -> list[tuple[str, int]]:
    try:
        value = bencode.decode(v, max_depth=MAX_VALUE_DEPTH)
    except ValueError:
        return []
    if isinstance(value, bytes) and value.startswith(b"d"):  # a dict that travels in a string
        return _costs(value) or _fields(value, "")
    return sorted(_fields(value, ""), key=lambda cost: -cost[1])


def _fields(value: bencode.Value, path: str) -> list[tuple[str, int]]:
    """Split a dict into its fields, and network_info into its own, each with its encoded size."""
    if not isinstance(value, dict):
        return [(path or "value", len(bencode.encode(value)))]
    costs: list[tuple[str, int]] = []
    for key, field in value.items():
        name = f"{path}{key.decode('utf-8', 'backslashreplace')}"
        if isinstance(field, dict) and not path:
            costs += _fields(field, f"{name}.")
        else:
            costs.append((name, len(bencode.encode(key)) + len(bencode.encode(field))))
    return costs
