"""How a value travels where only byte strings can be put (the libtorrent binding): inside one.

`unwrap(wrap(x)) == x` for every value but an empty list or dict; readers take wrapped and plain.
"""

from typing import Any

from dhtmeta._fast.bencode import Value
from dhtmeta.errors import InvalidValue
from dhtmeta.values.item import decode_value, encode_value


def wrap(value: Any) -> bytes:
    """Return the byte string that stands for `value`: itself if it is one that reads as itself."""
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes) and unwrap(value) == value:
        return value
    return encode_value(value)


def unwrap(value: Value) -> Value:
    """Return what a byte string stands for: the bencoded value in it, if that is what it holds.

    Text such as "le" or "de", an empty list or dict to bencode, stays text.
    """
    if not isinstance(value, bytes) or value in (b"le", b"de"):
        return value
    try:
        inner = decode_value(value)
    except InvalidValue:
        return value
    if isinstance(inner, bytes) and unwrap(inner) == inner:
        return value  # a string in a string is wrapped only where it had to be
    return inner
