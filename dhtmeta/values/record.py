"""What a NodeRecord says and which values its fields may take, and both ways to bencode it.

Field names are those that remote.network nodes publish. Absent means default, defaults are not
written, and keys we do not know survive a read and a write in `extra`.
"""

import ipaddress
import re
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, field

from dhtmeta._fast.bencode import Value
from dhtmeta.const import MAX_REPUTATION, NODE_ID_BYTES
from dhtmeta.errors import InvalidRecord
from dhtmeta.values.node_id import peer_id
from dhtmeta.values.wrapping import unwrap

Port = Annotated[int, Meta(ge=1, le=65535)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Score = Annotated[int, Meta(ge=0, le=MAX_REPUTATION)]
Plain = dict[str, Any]  # text where the bytes are UTF-8, else bytes; ints, lists, dicts


class Protocol(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One service a peer offers: its name, port and whatever it says of itself."""

    name: str = ""
    port: Port | None = None
    meta: Plain = field(default_factory=dict)
    extra: Plain = field(default_factory=dict)


class NetworkInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """How a peer can be reached; "" and None mean that it does not say.

    Prices are per GB times 10^6, reputation is 0 … 10,000, endpoints are "ip:port".
    """

    public_ip: str = ""
    public_port: Port | None = None
    private_ip: str = ""
    private_port: Port | None = None
    node_type: Literal["", "public", "private"] = ""
    nat_type: str = ""
    supports_upnp: bool = False
    relay_endpoints: list[str] = field(default_factory=list)
    is_relay: bool = False
    relay_endpoint: str = ""
    relay_pricing: Count = 0
    relay_capacity: Count = 0
    reputation_score: Score = 0
    using_relay: bool = False
    connected_relay: str = ""
    relay_session_id: str = ""
    relay_address: str = ""
    protocols: list[Protocol] = field(default_factory=list)
    extra: Plain = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("public_ip", "private_ip"):
            _check(name, getattr(self, name), ipaddress.ip_address, "an IP address")
        for name in ("relay_endpoint", "relay_address"):
            _check(name, getattr(self, name), split_endpoint, "ip:port")
        for endpoint in self.relay_endpoints:
            _check("relay_endpoints", endpoint, split_endpoint, "ip:port")
        _check("connected_relay", self.connected_relay, _hex_id, "a peer id of 40 hex digits")


class NodeRecord(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a node publishes about itself; `timestamp` in Unix seconds, ids in hex."""

    peer_id: str = ""
    node_id: str = ""
    topic: str = ""
    version: Int64 = 0
    timestamp: Count = 0
    capabilities: list[str] = field(default_factory=list)
    files_count: Count = 0
    apps_count: Count = 0
    extensions: Plain = field(default_factory=dict)
    network_info: NetworkInfo = field(default_factory=NetworkInfo)
    extra: Plain = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("peer_id", self.peer_id, _hex_id, "40 hex digits")
        _check("node_id", self.node_id, _hex_id, "40 hex digits")

    @classmethod
    def from_value(cls, value: Value, public_key: bytes | None = None) -> Self:
        """Read a bencoded dict; InvalidRecord names the field that is wrong.

        With `public_key` (32 bytes), peer_id must be SHA1 of it.
        """
        if not isinstance(value, dict):
            raise InvalidRecord("", f"a NodeRecord is a dict, this is {type(value).__name__}")
        try:
            record = msgspec.convert(_known(cls, _plain(value)), cls)
        except msgspec.ValidationError as error:
            raise _invalid(str(error)) from error
        if public_key is not None and record.peer_id != peer_id(public_key).hex():
            raise InvalidRecord("peer_id", f"{record.peer_id!r} is not SHA1 of the public key")
        return record

    def to_value(self) -> dict[bytes, Value]:
        """Return the bencodable dict without defaults; InvalidRecord if a field is wrong."""
        value = {key.encode(): _bencodable(one, key) for key, one in self.to_plain().items()}
        NodeRecord.from_value(value)  # a Struct does not check what it is given in Python
        return value

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as text, ints, bools, bytes, lists and dicts, without defaults."""
        plain = _flat(msgspec.to_builtins(self, builtin_types=(bytes,)))
        assert isinstance(plain, dict)
        return plain

    def completed(self, public_key: bytes, timestamp: int) -> Self:
        """Return a copy with `peer_id` filled in, and `timestamp` where there was none."""
        own = peer_id(public_key).hex()
        if self.peer_id not in ("", own):
            raise InvalidRecord("peer_id", f"{self.peer_id!r} is not SHA1 of the public key")
        return msgspec.structs.replace(self, peer_id=own, timestamp=self.timestamp or timestamp)


def record_value(value: Value) -> dict[bytes, Value] | None:
    """Return the dict of the NodeRecord that `value` is or, as a byte string, holds; else None."""
    value = unwrap(value)
    return value if isinstance(value, dict) and b"peer_id" in value else None


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Split "ip:port" or "[ipv6]:port"; ValueError for anything else."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("no port of 1 … 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6):
        raise ValueError("an IPv6 address stands in brackets")
    return str(address), int(port)


def _hex_id(text: str) -> None:
    if not re.fullmatch(f"[0-9a-f]{{{2 * NODE_ID_BYTES}}}", text):
        raise ValueError("not hex")


def _check(name: str, text: str, parse: Any, expected: str) -> None:
    """Raise InvalidRecord unless `text` is empty (absent) or parses."""
    if not text:
        return
    try:
        parse(text)
    except ValueError as error:
        raise InvalidRecord(name, f"{text!r} is not {expected}") from error


def _plain(value: Value) -> Any:
    """Bytes that are UTF-8 as str; the other way round gives the very same bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key.decode("utf-8", "surrogateescape"): _plain(one) for key, one in value.items()}
    return value


def _known(struct: type[msgspec.Struct], plain: Any) -> Any:
    """Arrange `plain` for `struct`: 0/1 as bool where it has a bool, unknown keys in `extra`."""
    if not isinstance(plain, dict):
        return plain
    known = {key: one for key, one in plain.items() if key in _FIELDS[struct]}
    extra = {key: one for key, one in plain.items() if key not in _FIELDS[struct]}
    for key in _BOOLS[struct] & known.keys():
        if known[key] in (0, 1) and isinstance(known[key], int):
            known[key] = bool(known[key])
    for key, inner in _NESTED[struct].items():
        if key in known:
            known[key] = _each(known[key], inner)
    return {**known, "extra": extra}


def _each(plain: Any, struct: type[msgspec.Struct]) -> Any:
    return (
        [_known(struct, one) for one in plain] if isinstance(plain, list) else _known(struct, plain)
    )


def _flat(plain: Any) -> Any:
    """Undo `_known`: what was in `extra` goes back among the fields."""
    extra = plain.pop("extra", {})
    for key in plain.keys() & {"network_info", "protocols"}:
        inner = plain[key]
        plain[key] = [_flat(one) for one in inner] if isinstance(inner, list) else _flat(inner)
    if plain.get("network_info") == {}:
        del plain["network_info"]
    return {**plain, **extra}


def _bencodable(plain: Any, path: str) -> Value:
    if isinstance(plain, str):
        return plain.encode()
    if isinstance(plain, (int, bytes)):
        return int(plain) if isinstance(plain, int) else plain
    if isinstance(plain, list):
        return [_bencodable(one, path) for one in plain]
    if isinstance(plain, dict):
        return {
            key.encode("utf-8", "surrogateescape"): _bencodable(one, f"{path}.{key}")
            for key, one in plain.items()
        }
    raise InvalidRecord(path.lstrip("."), f"{type(plain).__name__} cannot be bencoded")


def _invalid(message: str) -> InvalidRecord:
    """Turn msgspec's "reason - at `$.path`" into an InvalidRecord that names the field."""
    reason, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    name, colon, rest = reason.partition(": ")
    if colon and name.isidentifier():  # raised by a __post_init__, which knows the field
        path, reason = f"{path}.{name}".lstrip("."), rest
    return InvalidRecord(path, reason)


_FIELDS: dict[type[msgspec.Struct], set[str]] = {
    struct: set(struct.__struct_fields__) - {"extra"}
    for struct in (Protocol, NetworkInfo, NodeRecord)
}
_BOOLS: dict[type[msgspec.Struct], set[str]] = {
    Protocol: set(),
    NetworkInfo: {"supports_upnp", "is_relay", "using_relay"},
    NodeRecord: set(),
}
_NESTED: dict[type[msgspec.Struct], dict[str, type[msgspec.Struct]]] = {
    Protocol: {},
    NetworkInfo: {"protocols": Protocol},
    NodeRecord: {"network_info": NetworkInfo},
}
