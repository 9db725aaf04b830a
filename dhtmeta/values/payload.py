"""What v says of what is to be published: a record completed, and strings that read as they are.

Where a carrier can put anything, a dict is put as it is; only text that would read as something
else ("i5e") is still put into a string.
"""

from dhtmeta._fast.bencode import Value
from dhtmeta.values.item import encode_value
from dhtmeta.values.record import NodeRecord
from dhtmeta.values.wrapping import wrap


def payload(
    published: NodeRecord | Value, public_key: bytes, now: float, *, only_strings: bool
) -> bytes:
    """Return the raw v, at most 1,000 bytes; `now` (Unix s) is for a record without timestamp.

    `only_strings` wraps whatever is no byte string into one. Raises ValueTooLarge, InvalidValue,
    and InvalidRecord where peer_id is not SHA1 of `public_key`.
    """
    value = published
    if isinstance(value, NodeRecord):
        value = value.completed(public_key, int(now)).to_value()
    text = isinstance(value, (str, bytes, bytearray, memoryview))
    return encode_value(wrap(value) if only_strings or text else value)
