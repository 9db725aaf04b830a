"""What a signed file is: one signed item as JSON, to be put later, elsewhere, without the key.

    {"public_key": 64 hex digits, "salt": hex, "seq": int, "v": hex, "sig": 128 hex digits,
     "target": 40 hex digits}

`v` is the raw bencoded value, which is what was signed. `target` may be left out. Nothing else
may stand in it, and it is read as an item only if the signature holds.
"""

import json
import re
from typing import Any, NoReturn

from dhtmeta._fast import ed25519
from dhtmeta.const import (
    MAX_SALT_BYTES,
    MAX_VALUE_BYTES,
    NODE_ID_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
)
from dhtmeta.errors import InvalidItem, InvalidValue
from dhtmeta.values.item import SignedItem, check_seq
from dhtmeta.values.plain import parse_json

_SIZES = {  # field -> fewest and most bytes
    "public_key": (PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES),
    "salt": (0, MAX_SALT_BYTES),
    "v": (1, MAX_VALUE_BYTES),
    "sig": (SIGNATURE_BYTES, SIGNATURE_BYTES),
    "target": (NODE_ID_BYTES, NODE_ID_BYTES),
}
_FIELDS = ("public_key", "salt", "seq", "v", "sig", "target")


def to_signed_file(item: SignedItem) -> str:
    """Return the one line of JSON that stands for `item`."""
    fields = {name: getattr(item, name) for name in _FIELDS}
    return json.dumps({k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()})


def from_signed_file(text: str) -> SignedItem:
    """Read and verify a signed file; InvalidValue says which field is wrong, and how."""
    fields = _fields(parse_json(text))
    seq = fields["seq"]
    if not isinstance(seq, int) or isinstance(seq, bool):
        _refuse("seq", f"expected an int, got {_shown(seq)}")
    check_seq(seq)
    public_key, salt, v, sig = (_bytes(fields, name) for name in ("public_key", "salt", "v", "sig"))
    target = ed25519.target(public_key, salt)
    if "target" in fields and _bytes(fields, "target") != target:
        _refuse("target", f"SHA1(public_key + salt) is {target.hex()}")
    try:
        return SignedItem.verified(target, public_key, salt, seq, v, sig)
    except InvalidItem as error:
        raise InvalidValue(str(error)) from error


def _fields(plain: Any) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise InvalidValue(f"a signed file is a JSON object, this is {_shown(plain)}")
    for name in plain:
        if name not in _FIELDS:
            _refuse(_shown(name), f"is no field of a signed file; it has {', '.join(_FIELDS)}")
    for name in _FIELDS[:-1]:
        if name not in plain:
            _refuse(name, "is missing: `dhtmeta sign` writes signed files")
    return plain


def _bytes(fields: dict[str, Any], name: str) -> bytes:
    """Return the bytes that a field gives in hex, if it has as many as it must."""
    digits, (fewest, most) = fields[name], _SIZES[name]
    if not isinstance(digits, str) or not re.fullmatch("([0-9a-fA-F]{2})*", digits):
        _refuse(name, f"expected hex digits, got {_shown(digits)}")
    size = len(digits) // 2
    if not fewest <= size <= most:
        wanted = f"{most}" if fewest == most else f"{fewest} … {most:,}"
        _refuse(name, f"expected {wanted} bytes in hex, got {size:,}")
    return bytes.fromhex(digits)


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:50]}…"


def _refuse(name: str, reason: str) -> NoReturn:
    raise InvalidValue(f"{name}: {reason}")
