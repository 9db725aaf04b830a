"""What bytes mean on a connection of the exchange: one frame, one typed message, or one error.

A frame is its length (4 bytes, network order) and a canonical bencoded dict, whose `t` names the
message. Items are those of BEP 44 without a salt, as [k, seq, v, sig]. A request has an id `r`,
which its answer repeats.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from dhtmeta._fast import bencode
from dhtmeta.const import (
    ATTACHED_AT_ONCE,
    EXCHANGE_DEPTH,
    EXCHANGE_MESSAGE_BYTES,
    FINGERPRINT_BYTES,
    FINGERPRINTS,
    MAX_SEQ,
    MAX_SHARED,
    MAX_TOPICS,
    MAX_VALUE_BYTES,
)
from dhtmeta.errors import MalformedMessage

PublicKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
Nonce = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Hash = Annotated[bytes, Meta(min_length=20, max_length=20)]
Topics = Annotated[list[Hash], Meta(max_length=MAX_TOPICS)]
PeerIds = Annotated[list[Hash], Meta(max_length=ATTACHED_AT_ONCE)]
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: none
Count = Annotated[int, Meta(ge=0, le=2**31)]
Id = Annotated[int, Meta(ge=0, le=2**32)]
Text = Annotated[bytes, Meta(max_length=200)]
SessionId = Annotated[bytes, Meta(max_length=32)]


class Message(Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What all messages are; `t` names the kind."""

    t: ClassVar[str]


class Hint(Struct, frozen=True, array_like=True):
    """Somebody's public key, and the seq of their record that was seen last."""

    k: PublicKey
    seq: Seq


class Item(Struct, frozen=True, array_like=True):
    """A signed item as it travels: nothing of it is believed before it is verified."""

    k: PublicKey
    seq: Seq
    v: Annotated[bytes, Meta(min_length=1, max_length=MAX_VALUE_BYTES)]
    sig: Signature


class Hello(Message, frozen=True, kw_only=True):
    """The client's first words: its key, a nonce, and where it can be asked for DHT nodes."""

    t = "hello"
    k: PublicKey
    n: Nonce
    topics: Topics = []
    dht: Port = 0


class Welcome(Message, frozen=True, kw_only=True):
    """The server's answer and proof: its key, a nonce, a signature, and who it takes us for."""

    t = "welcome"
    k: PublicKey
    n: Nonce
    sig: Signature
    you: Annotated[bytes, Meta(min_length=6, max_length=18)]  # the client's address, compact
    topics: Topics = []
    dht: Port = 0


class Proof(Message, frozen=True, kw_only=True):
    """The client's proof."""

    t = "proof"
    sig: Signature


class Hints(Message, frozen=True, kw_only=True):
    """Known peers: whom to ask for, and from which seq on."""

    t = "hints"
    peers: Annotated[list[Hint], Meta(max_length=MAX_SHARED)] = []


class Ask(Message, frozen=True, kw_only=True):
    """A request for hints of what the asker does not have: it has what these fingerprints are of.

    A fingerprint is 4 bytes: BLAKE2b with `salt` as its key (4 bytes), of a key and its seq (8).
    """

    t = "ask"
    salt: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    have: Annotated[bytes, Meta(max_length=FINGERPRINT_BYTES * FINGERPRINTS)] = b""


class Want(Message, frozen=True, kw_only=True):
    """A request for the items under some keys."""

    t = "want"
    keys: Annotated[list[PublicKey], Meta(max_length=MAX_SHARED)]


class Items(Message, frozen=True, kw_only=True):
    """Signed items, and keys of which none is held."""

    t = "items"
    items: Annotated[list[Item], Meta(max_length=MAX_SHARED)] = []
    none: Annotated[list[PublicKey], Meta(max_length=MAX_SHARED)] = []


class Ping(Message, frozen=True, kw_only=True):
    """A question whether anybody is there, and how much is going on."""

    t = "ping"
    r: Id


class Pong(Message, frozen=True, kw_only=True):
    """The answer: how many peers are attached, of how many there may be; 0 for no relay."""

    t = "pong"
    r: Id
    sessions: Count = 0
    capacity: Count = 0


class Attach(Message, frozen=True, kw_only=True):
    """A request for a session at a relay, or to renew the one of that id."""

    t = "attach"
    r: Id
    id: SessionId = b""


class Attached(Message, frozen=True, kw_only=True):
    """A session: its id, its lifetime (s), and where others reach the relay (ip:port)."""

    t = "attached"
    r: Id
    id: SessionId
    lifetime: Count
    address: Text


class Held(Message, frozen=True, kw_only=True):
    """A question which of these peers (ids) have a session at this relay."""

    t = "held"
    r: Id
    peers: PeerIds


class Holding(Message, frozen=True, kw_only=True):
    """Those that have one."""

    t = "holding"
    r: Id
    peers: PeerIds = []


class Probe(Message, frozen=True, kw_only=True):
    """Have peer `p`, who is attached to the relay that gets or sends this, sign the nonce."""

    t = "probe"
    r: Id
    p: Hash
    n: Nonce


class Probed(Message, frozen=True, kw_only=True):
    """The signature, and the id of the session over which it came."""

    t = "probed"
    r: Id
    sig: Signature
    id: SessionId = b""


class Dial(Message, frozen=True, kw_only=True):
    """Please dial me at the address you see me at, and this port."""

    t = "dial"
    r: Id
    port: Annotated[int, Meta(ge=1, le=65535)]


class Dialled(Message, frozen=True, kw_only=True):
    """Whether that came through."""

    t = "dialled"
    r: Id
    ok: Annotated[int, Meta(ge=0, le=1)]


class Refused(Message, frozen=True, kw_only=True):
    """Why a request is not answered otherwise."""

    t = "refused"
    r: Id
    why: Text


def fingerprint(key: bytes, seq: int, salt: int) -> bytes:
    """Return what stands for a key at a seq in an `Ask` with that salt: nobody can foresee it."""
    said = key + seq.to_bytes(8, "big")
    salted = salt.to_bytes(FINGERPRINT_BYTES, "big")
    return hashlib.blake2b(said, digest_size=FINGERPRINT_BYTES, key=salted).digest()


_KINDS: dict[bytes, type[Message]] = {
    kind.t.encode(): kind
    for kind in (
        *(Hello, Welcome, Proof, Hints, Ask, Want, Items, Ping, Pong),
        *(Attach, Attached, Held, Holding, Probe, Probed, Dial, Dialled, Refused),
    )
}
_LENGTH = struct.Struct("!I")


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    fields = msgspec.to_builtins(message, builtin_types=(bytes,))
    body = bencode.encode({"t": message.t, **fields}, max_depth=EXCHANGE_DEPTH)
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> Message:
    """Return the message in a frame's body; MalformedMessage says what is wrong with it."""
    try:
        value = bencode.decode(body, max_depth=EXCHANGE_DEPTH)
    except ValueError as error:
        raise MalformedMessage(str(error)) from error
    if not isinstance(value, dict):
        raise MalformedMessage("a message is a dict")
    name = value.pop(b"t", None)
    kind = _KINDS.get(name) if isinstance(name, bytes) else None
    if kind is None:
        raise MalformedMessage(f"t names no message: {repr(name)[:40]}")
    fields: dict[str, Any] = {key.decode("latin-1"): one for key, one in value.items()}
    try:
        return msgspec.convert(fields, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise MalformedMessage(f"{kind.t}: {error}") from error


class Frames:
    """Cuts what comes in on a stream into messages; holds one frame that is not whole at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take `data` in, and yield the messages that are whole now, one by one.

        MalformedMessage comes where one is none, after those before it: a stream means the same
        however it is cut.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > EXCHANGE_MESSAGE_BYTES:
                raise MalformedMessage(f"a message of {size:,} bytes")
            if len(self._buffer) < _LENGTH.size + size:
                break
            body = bytes(self._buffer[_LENGTH.size : _LENGTH.size + size])
            del self._buffer[: _LENGTH.size + size]
            yield decode(body)
