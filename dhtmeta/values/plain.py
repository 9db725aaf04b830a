"""How a bencodable value looks as JSON, both ways: bytes that are no text become {"hex": "…"}."""

import json
from typing import Any

from dhtmeta._fast.bencode import Value
from dhtmeta.errors import InvalidValue


def from_json(text: str) -> Value:
    """Read JSON text as a bencodable value; InvalidValue names what bencode does not have.

    Strings become UTF-8 bytes, booleans 0/1, {"hex": "…"} the bytes it names.
    """
    try:
        return from_builtins(json.loads(text, object_pairs_hook=_no_duplicates))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidValue(f"not JSON: {error}") from error


def from_builtins(value: Any, path: str = "") -> Value:
    """Turn what `json.loads` gives into a bencodable value; InvalidValue names the path."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):  # a bool is an int
        return int(value)
    if isinstance(value, list):
        return [from_builtins(one, f"{path}[{i}]") for i, one in enumerate(value)]
    if isinstance(value, dict):
        if set(value) == {"hex"} and isinstance(value["hex"], str):
            return _from_hex(value["hex"], path)
        return {_text(key): from_builtins(one, f"{path}.{key}") for key, one in value.items()}
    kind = "null" if value is None else f"{value!r}"
    raise InvalidValue(f"{path.lstrip('.') or 'value'}: bencode has no {kind}; use an int or a str")


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


def _text(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidValue(f"not UTF-8 text: {text!r}") from error


def _from_hex(digits: str, path: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise InvalidValue(f"{path.lstrip('.')}: not hex digits: {digits!r}") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidValue(f"the key {twice!r} is there twice")
    return found
