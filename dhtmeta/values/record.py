"""What a NodeRecord says and which values its fields may take, and both ways to bencode it.

Field names are those that remote.network nodes publish. Absent means default, defaults are not
written, and keys we do not know survive a read and a write in `extra`. All who
ask for a peer share one record: no field can be assigned to, and nobody changes its lists and
dicts; `msgspec.structs.replace` makes a copy with other fields.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, field

from dhtmeta._fast.bencode import Value
from dhtmeta.const import ENDPOINTS_PARSED, MAX_REPUTATION, MAX_VALUE_DEPTH, NODE_ID_BYTES
from dhtmeta.errors import InvalidRecord
from dhtmeta.values.item import SignedItem
from dhtmeta.values.node_id import peer_id
from dhtmeta.values.wrapping import unwrap

Port = Annotated[int, Meta(ge=1, le=65535)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Score = Annotated[int, Meta(ge=0, le=MAX_REPUTATION)]
_RAW = (bytes, bytearray, memoryview)
_TOO_DEEP = "its lists and dicts are nested too deep"
_HEX_ID = "40 hex digits in lower case"
EXCHANGE_PROTOCOL = "dhtmeta"  # the name under which `protocols` has the exchange's port
TURN_PROTOCOL = "turn"  # and that of a TURN server
Plain = dict[str, Any]  # text where the bytes are UTF-8, else bytes; ints, lists, dicts


class Protocol(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One service a peer offers: its name, port and whatever it says of itself."""

    name: str = ""
    port: Port | None = None
    meta: Plain = field(default_factory=dict)
    extra: Plain = field(default_factory=dict)


class NetworkInfo(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
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
            _check(name, getattr(self, name), _ip_address, "an IP address")
        for name in ("relay_endpoint", "relay_address"):
            _check(name, getattr(self, name), split_endpoint, "ip:port")
        if not isinstance(self.relay_endpoints, list):
            raise InvalidRecord("relay_endpoints", "expected a list")
        for i, endpoint in enumerate(self.relay_endpoints):
            _check(f"relay_endpoints[{i}]", endpoint, split_endpoint, "ip:port", empty=False)
        _check("connected_relay", self.connected_relay, _hex_id, f"a peer id: {_HEX_ID}")


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
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
        _check("peer_id", self.peer_id, _hex_id, _HEX_ID)
        _check("node_id", self.node_id, _hex_id, _HEX_ID)

    @property
    def exchange(self) -> tuple[str, int] | None:
        """Where others can dial this node's exchange: (ip, UDP port); None if they cannot.

        That is the port of the protocol "dhtmeta" where it names one, else its public port.
        """
        info = self.network_info
        ports = [one.port for one in info.protocols if one.name == EXCHANGE_PROTOCOL]
        port = ports[0] if ports else info.public_port
        if info.node_type != "public" or not info.public_ip or not port:
            return None
        return info.public_ip, port

    @property
    def turn(self) -> tuple[str, int] | None:
        """Where a public node's TURN server is: (ip, UDP port); None where it names none."""
        info = self.network_info
        port = next((one.port for one in info.protocols if one.name == TURN_PROTOCOL), None)
        if info.node_type != "public" or not info.public_ip or not port:
            return None
        return info.public_ip, port

    @property
    def serves_others(self) -> bool:
        """Whether nodes of other topics have a use for it: it is a relay, or a TURN host."""
        return self.network_info.is_relay or self.turn is not None

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
            raise _invalid(error) from error
        except RecursionError as error:
            raise InvalidRecord("", _TOO_DEEP) from error
        if public_key is not None and record.peer_id != peer_id(public_key).hex():
            raise InvalidRecord("peer_id", f"{record.peer_id!r} is not SHA1 of the public key")
        return record

    def to_value(self) -> dict[bytes, Value]:
        """Return the bencodable dict without defaults; InvalidRecord if a field is wrong."""
        value = _bencodable(self.to_plain(), "", MAX_VALUE_DEPTH)
        assert isinstance(value, dict)
        NodeRecord.from_value(value)  # a Struct does not check what it is given in Python
        return value

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as text, ints, bools, bytes, lists and dicts, without defaults.

        Raises InvalidRecord where `extra` names a field, or something has no such form.
        """
        try:
            plain = _flat(msgspec.to_builtins(self, builtin_types=_RAW), NodeRecord, "")
        except (TypeError, RecursionError) as error:  # of what was put in in Python
            raise InvalidRecord("", str(error)) from error
        assert isinstance(plain, dict)
        return plain

    def completed(self, public_key: bytes, timestamp: int) -> Self:
        """Return a copy with `peer_id` filled in, and `timestamp` where there was none."""
        own = peer_id(public_key).hex()
        if self.peer_id not in ("", own):
            raise InvalidRecord("peer_id", f"{self.peer_id!r} is not SHA1 of the public key")
        return msgspec.structs.replace(self, peer_id=own, timestamp=self.timestamp or timestamp)


def record_in(item: SignedItem) -> NodeRecord | None:
    """Return the NodeRecord that an item holds, None for a plain value or a broken one."""
    value = record_value(item.value)
    try:
        return None if value is None else NodeRecord.from_value(value, item.public_key)
    except InvalidRecord:
        return None


def record_value(value: Value) -> dict[bytes, Value] | None:
    """Return the dict of the NodeRecord that `value` is or, as a byte string, holds; else None."""
    value = unwrap(value)
    return value if isinstance(value, dict) and b"peer_id" in value else None


def format_endpoint(endpoint: tuple[str, int] | None) -> str:
    """Write what `split_endpoint` reads; "" for None."""
    if endpoint is None:
        return ""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(ENDPOINTS_PARSED)  # every verdict on a peer behind a relay needs one: 50 us
def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Split "ip:port" or "[ipv6]:port"; ValueError for anything else."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError("no port of 1 … 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    address = _ip_address(host[1:-1] if bracketed else host)
    if bracketed != (address.version == 6):
        raise ValueError("an IPv6 address stands in brackets")
    return str(address), int(port)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if "%" in text:
        raise ValueError("a zone (%eth0) means nothing on another machine")
    return ipaddress.ip_address(text)


def _hex_id(text: str) -> None:
    if not re.fullmatch(f"[0-9a-f]{{{2 * NODE_ID_BYTES}}}", text):
        raise ValueError("not hex")


def _check(name: str, text: str, parse: Any, expected: str, *, empty: bool = True) -> None:
    """Raise InvalidRecord unless `text` parses, or is empty (absent) where it may be."""
    if empty and text == "":
        return
    if not isinstance(text, str):
        raise InvalidRecord(name, f"expected a str, got {type(text).__name__}")
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
        return {_key(key): _plain(one) for key, one in value.items()}
    return value


def _key(key: bytes) -> str:
    if not isinstance(key, bytes):
        raise InvalidRecord("", f"the key {key!r} is not bytes")
    return key.decode("utf-8", "surrogateescape")


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


def _flat(plain: Any, struct: type[msgspec.Struct], path: str) -> Any:
    """Undo `_known`: what was in `extra` goes back among the fields."""
    if not isinstance(plain, dict):
        return plain  # a wrong type: from_value names it
    extra = _checked_extra(plain.pop("extra", {}), struct, path)
    for key, nested in _NESTED[struct].items():
        inner = plain.get(key)
        if isinstance(inner, list):
            plain[key] = [_flat(one, nested, f"{path}{key}[{i}].") for i, one in enumerate(inner)]
        elif inner is not None:
            plain[key] = _flat(inner, nested, f"{path}{key}.")
    if plain.get("network_info") == {}:
        del plain["network_info"]
    return {**plain, **extra}


def _checked_extra(extra: Any, struct: type[msgspec.Struct], path: str) -> dict[str, Any]:
    if not isinstance(extra, dict):
        raise InvalidRecord(f"{path}extra", f"expected a dict, got {type(extra).__name__}")
    for key in extra.keys() & _FIELDS[struct]:
        raise InvalidRecord(f"{path}extra.{key}", "this is a field and goes there")
    return extra


def _bencodable(plain: Any, path: str, levels: int) -> Value:
    if isinstance(plain, str):
        return _raw(plain, path)
    if isinstance(plain, int):
        if not -(2**63) <= plain < 2**63:
            raise InvalidRecord(path, "an int of bencode has 64 bits")
        return int(plain)
    if isinstance(plain, _RAW):
        return bytes(plain)
    if isinstance(plain, (list, tuple, dict)) and not levels:
        raise InvalidRecord("", _TOO_DEEP)
    if isinstance(plain, (list, tuple)):
        return [_bencodable(one, f"{path}[{i}]", levels - 1) for i, one in enumerate(plain)]
    if isinstance(plain, dict):
        return {
            _raw(key, path): _bencodable(one, f"{path}.{key}" if path else str(key), levels - 1)
            for key, one in plain.items()
        }
    raise InvalidRecord(path, f"{type(plain).__name__} cannot be bencoded")


def _raw(text: str, path: str) -> bytes:
    """Undo `_plain` for a str, which is a key where it has surrogates."""
    if not isinstance(text, str):
        raise InvalidRecord(path, f"the key {text!r} is not a str")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidRecord(path, f"{text!r} has no UTF-8") from error


def _invalid(error: msgspec.ValidationError) -> InvalidRecord:
    """Turn msgspec's "reason - at `$.path`" into an InvalidRecord that names the field."""
    reason, _, path = str(error).rpartition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    cause = error.__cause__
    if not isinstance(cause, InvalidRecord):
        return InvalidRecord(path, reason)
    # raised by a __post_init__, which knows the field; at the top msgspec adds no path
    at_top = str(error) == str(cause)
    return InvalidRecord(cause.field if at_top else f"{path}.{cause.field}", cause.reason)


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
