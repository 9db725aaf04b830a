"""What a registration is: what a node tells a bootstrap registry of itself, under its own key.

    {"public_key": 64 hex digits, "registry": host[:port], "nonce": hex, "lifetime": s,
     "topic": 40 hex digits, "ip": text, "port": int, "is_relay": bool, "item": a signed file,
     "sig": 128 hex digits}

The first four and `sig` have to be there. The signature is over `CONTEXT` + all the rest as a
bencoded dict, with bytes for hex, 1 for true, and nothing for what is not said. It names the
registry that was asked, the way its URL does, so that no registry can register a node elsewhere.
Without a port a node says that it is there, and not where: that is how one behind a NAT does it.
"""

import ipaddress
import json
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from dhtmeta._fast import bencode, ed25519
from dhtmeta.const import (
    MAX_LIFETIME,
    MAX_NONCE_BYTES,
    MAX_REGISTRY_NAME,
    MIN_LIFETIME,
    NODE_ID_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
)
from dhtmeta.errors import InvalidValue
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity
from dhtmeta.values.plain import parse_json
from dhtmeta.values.record import NodeRecord, Port, record_value
from dhtmeta.values.signed_file import from_signed_file, to_signed_file

# Fixed, and no beginning of what an item signs ("3:seq…", "4:salt…"): neither passes for the other.
CONTEXT: Final = b"dhtmeta registration 1:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a node says of itself: `lifetime` in s, `topic` as SHA1 (20 bytes), b"" for none.

    One that `from_json` returns is signed by `public_key`, and its item, if any, is a NodeRecord
    of that key.
    """

    public_key: bytes
    registry: str
    nonce: bytes
    lifetime: int
    topic: bytes = b""
    ip: str = ""
    port: int | None = None
    is_relay: bool = False
    item: SignedItem | None = None

    @property
    def record(self) -> NodeRecord | None:
        """The NodeRecord of the item, decoded anew each time; InvalidValue if it is none."""
        if self.item is None:
            return None
        value = record_value(self.item.value)
        if value is None:
            raise InvalidValue("item: it holds no NodeRecord")
        return NodeRecord.from_value(value, self.public_key)

    def statement(self) -> bytes:
        """Return the bytes that are signed."""
        said: dict[str, Any] = {
            "ip": self.ip.encode(),
            "is_relay": int(self.is_relay),
            "item": self.item and {"seq": self.item.seq, "sig": self.item.sig, "v": self.item.v},
            "lifetime": self.lifetime,
            "nonce": self.nonce,
            "port": self.port,
            "public_key": self.public_key,
            "registry": self.registry.encode(),
            "topic": self.topic,
        }
        return CONTEXT + bencode.encode({name: one for name, one in said.items() if one})


def to_json(registration: Registration, identity: Identity) -> str:
    """Return the registration signed, as JSON; InvalidValue where it would not be read."""
    item = registration.item
    said = {
        "public_key": registration.public_key.hex(),
        "registry": registration.registry,
        "nonce": registration.nonce.hex(),
        "lifetime": registration.lifetime,
        "topic": registration.topic.hex(),
        "ip": registration.ip,
        "port": registration.port,
        "is_relay": registration.is_relay,
        "item": None if item is None else json.loads(to_signed_file(item)),
        "sig": identity.sign(registration.statement()).hex(),
    }
    text = json.dumps({name: one for name, one in said.items() if one})
    from_json(text)
    return text


def from_json(text: str) -> Registration:
    """Read and verify a registration; InvalidValue says which field is wrong, and how."""
    try:
        wire = msgspec.convert(parse_json(text), _Wire)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).rpartition(" - at `$")
        raise InvalidValue(f"{path.strip('.`')}: {reason}" if reason else str(error)) from error
    said = _said(wire)
    _refuse_nonsense(said)
    if not ed25519.verify(said.public_key, bytes.fromhex(wire.sig), said.statement()):
        raise InvalidValue("sig: it does not sign what is said here, by public_key")
    return said


def _hex(size: int) -> Meta:
    return Meta(pattern=rf"^[0-9a-f]{{{2 * size}}}\Z")


class _Wire(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The JSON, with what a type can say of its fields."""

    public_key: Annotated[str, _hex(PUBLIC_KEY_BYTES)]
    registry: Annotated[str, Meta(min_length=1, max_length=MAX_REGISTRY_NAME)]
    nonce: Annotated[str, Meta(pattern=rf"^([0-9a-f]{{2}}){{1,{MAX_NONCE_BYTES}}}\Z")]
    lifetime: Annotated[int, Meta(ge=MIN_LIFETIME, le=MAX_LIFETIME)]
    topic: Annotated[str, _hex(NODE_ID_BYTES)] = ""
    ip: str = ""
    port: Port | None = None
    is_relay: bool = False
    item: dict[str, Any] | None = None
    sig: Annotated[str, _hex(SIGNATURE_BYTES)]


def _said(wire: _Wire) -> Registration:
    return Registration(
        public_key=bytes.fromhex(wire.public_key),
        registry=wire.registry,
        nonce=bytes.fromhex(wire.nonce),
        lifetime=wire.lifetime,
        topic=bytes.fromhex(wire.topic),
        ip=wire.ip,
        port=wire.port,
        is_relay=wire.is_relay,
        item=None if wire.item is None else _item(wire.item),
    )


def _item(signed_file: dict[str, Any]) -> SignedItem:
    try:
        return from_signed_file(json.dumps(signed_file))
    except RecursionError as error:
        raise InvalidValue("item: its lists and dicts are nested too deep") from error
    except InvalidValue as error:
        raise InvalidValue(f"item.{error}") from error


def _refuse_nonsense(said: Registration) -> None:
    """Raise InvalidValue or InvalidRecord for fields that do not go together."""
    if not said.registry.isascii() or not said.registry.isprintable():
        raise InvalidValue("registry: expected host[:port] as its URL has it, in ASCII")
    if said.ip and not _is_canonical(said.ip):
        raise InvalidValue(f"ip: {said.ip[:40]!r} is no IP address in its shortest form")
    if said.is_relay and said.port is None:
        raise InvalidValue("is_relay: a relay says its port, or nobody could use it")
    if said.item is None:
        return
    if said.item.public_key != said.public_key or said.item.salt:
        raise InvalidValue("item: expected the record of public_key itself, without salt")
    _ = said.record


def _is_canonical(ip: str) -> bool:
    try:
        return str(ipaddress.ip_address(ip)) == ip and "%" not in ip
    except ValueError:
        return False
