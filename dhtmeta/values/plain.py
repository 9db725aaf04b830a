"""How a bencodable value looks as JSON, both ways: bytes that are no text become {"hex": "…"}."""

import json
from typing import Any

from dhtmeta._fast.bencode import Value
from dhtmeta.const import MAX_VALUE_DEPTH
from dhtmeta.errors import InvalidValue


def from_json(text: str) -> Value:
    """Read JSON text as a bencodable value; InvalidValue names what bencode does not have.

    Strings become UTF-8 bytes, booleans 0/1, {"hex": "…"} the bytes it names.
    """
    return from_builtins(parse_json(text))


def parse_json(text: str) -> Any:
    """Read JSON text; InvalidValue for what is none, a key that is there twice, a huge int."""
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_int=_int)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidValue(f"not JSON: {error}") from error


def from_builtins(value: Any, path: str = "") -> Value:
    """Turn what `json.loads` gives into a bencodable value; InvalidValue names the path."""
    return _bencodable(value, path, MAX_VALUE_DEPTH)


def _bencodable(value: Any, path: str, levels: int) -> Value:
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):  # a bool is an int
        if not -(2**63) <= value < 2**63:
            raise _invalid(path, "an int of bencode has 64 bits")
        return int(value)
    if isinstance(value, dict) and set(value) == {"hex"} and isinstance(value["hex"], str):
        return _from_hex(value["hex"], path)
    if isinstance(value, (list, dict)) and not levels:
        raise _invalid("", f"more than {MAX_VALUE_DEPTH} lists and dicts are in each other")
    if isinstance(value, list):
        return [_bencodable(one, f"{path}[{i}]", levels - 1) for i, one in enumerate(value)]
    if isinstance(value, dict):
        return _dict(value, path, levels - 1)
    kind = "null" if value is None else f"{value!r}"
    raise _invalid(path, f"bencode has no {kind}; use an int or a str")


def _dict(value: dict[str, Any], path: str, levels: int) -> Value:
    found = {
        _text(key, path): _bencodable(one, f"{path}.{key}", levels) for key, one in value.items()
    }
    if len(found) != len(value):
        raise _invalid(path, "two of its keys are the same bytes")
    return found


def to_builtins(value: Value) -> Any:
    """Turn a bencoded value into what `json.dumps` takes; `from_builtins` gives it back."""
    if isinstance(value, bytes):
        return _to_text(value)
    if isinstance(value, list):
        return [to_builtins(one) for one in value]
    if isinstance(value, dict):
        plain = {k.decode("utf-8", "surrogateescape"): to_builtins(v) for k, v in value.items()}
        if set(plain) == {"hex"} and isinstance(value[b"hex"], bytes):
            return {"hex": {"hex": value[b"hex"].hex()}}  # a real dict with the one key "hex"
        return plain
    return value


def _to_text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"hex": raw.hex()}


def _text(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _invalid(path, f"not UTF-8 text: {text!r}") from error


def _from_hex(digits: str, path: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise _invalid(path, f"not hex digits: {digits!r}") from error


def _int(digits: str) -> int:
    if len(digits) > 20:  # "-9223372036854775808"; Python reads only 4,300 digits
        raise InvalidValue(f"an int of bencode has 64 bits, this one has {len(digits)} digits")
    return int(digits)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidValue(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _invalid(path: str, reason: str) -> InvalidValue:
    return InvalidValue(f"{path.lstrip('.') or 'value'}: {reason}")
