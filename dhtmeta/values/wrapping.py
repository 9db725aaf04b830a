"""How a value travels where only byte strings can be put (the libtorrent binding): inside one.

`unwrap(wrap(x)) == x` for every value but an empty list or dict; readers take wrapped and plain.
"""

from typing import Any

from dhtmeta._fast.bencode import Value
from dhtmeta.errors import InvalidValue
from dhtmeta.values.item import decode_value, encode_value


def wrap(value: Any) -> bytes:
    """Return the byte string that stands for `value`: itself if it is one that reads as itself."""
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        raw = _raw(value)
        return raw if unwrap(raw) == raw else encode_value(raw)
    return encode_value(value)


def unwrap(value: Value) -> Value:
    """Return what a byte string stands for: the bencoded value in it, if that is what it holds.

    Text such as "le" or "de", an empty list or dict to bencode, stays text.
    """
    if not isinstance(value, bytes):
        return value
    inner = innermost = _inside(value)
    while isinstance(innermost, bytes):
        innermost = _inside(innermost)
    if inner is None or innermost is None:
        return value  # text, or text in strings: a string is wrapped only where it had to be
    return inner


def _inside(raw: bytes) -> Value | None:
    try:
        return None if raw in (b"le", b"de") else decode_value(raw)
    except InvalidValue:
        return None


def _raw(text: str | bytes | bytearray | memoryview) -> bytes:
    try:
        return text.encode() if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"this text has no UTF-8: {error.reason}") from error
