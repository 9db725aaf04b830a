"""A plain KRPC client over UDP: what any program with a socket sees, apart from all of dhtmeta.

Values go out and come back as raw bencode, so that bytes which no encoder would make can be put.
It answers queries, since nodes that count it among theirs would wait for it: with its id, no nodes,
no token (so nothing is put here), and whatever item it was told to hold.
"""

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

from nacl.signing import SigningKey, VerifyKey

from tests.reference import bencode

Endpoint = tuple[str, int]

TIMEOUT = 3.0  # s; a node on loopback answers in a millisecond, a busy machine in some more


class KrpcError(Exception):
    """What a node answered with y = e."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(f"{code} {message}")


class Item(NamedTuple):
    """A mutable item as it is on the wire; v is raw bencode of whatever kind."""

    k: bytes
    seq: int
    v: bytes
    sig: bytes
    salt: bytes = b""

    @property
    def target(self) -> bytes:
        return target_of(self.k, self.salt)


class Got(NamedTuple):
    """The answer to a get; k, seq, sig and v are None where the node sent none."""

    token: bytes
    k: bytes | None
    seq: int | None
    sig: bytes | None
    v: bytes | None

    def verify(self, salt: bytes = b"") -> None:
        """Check the signature over v as received; BadSignatureError where it does not hold."""
        assert self.k is not None
        assert self.seq is not None
        assert self.v is not None
        VerifyKey(self.k).verify(signed_bytes(self.seq, self.v, salt), self.sig)


@dataclass
class Stored:
    """What each node said to a put: accepted, refused (with its KRPC code), or nothing."""

    accepted: list[Endpoint] = field(default_factory=list)
    refused: dict[Endpoint, int] = field(default_factory=dict)
    silent: list[Endpoint] = field(default_factory=list)

    @property
    def codes(self) -> set[int]:
        return set(self.refused.values())


def signed_bytes(seq: int, v: bytes, salt: bytes = b"") -> bytes:
    """Return what BEP 44 signs, over the raw `v`."""
    salted = b"4:salt%d:%b" % (len(salt), salt) if salt else b""
    return salted + b"3:seqi%de1:v" % seq + v


def target_of(public_key: bytes, salt: bytes = b"") -> bytes:
    """Return where BEP 44 keeps the item."""
    return hashlib.sha1(public_key + salt, usedforsecurity=False).digest()


def sign(seed: bytes, v: bytes, seq: int, salt: bytes = b"") -> Item:
    """Sign the raw `v`, whatever it is, with PyNaCl."""
    key = SigningKey(seed)
    signature = key.sign(signed_bytes(seq, v, salt)).signature
    return Item(bytes(key.verify_key), seq, v, signature, salt)


def seed_near(node_id: bytes, others: Iterable[bytes], salt: bytes = b"") -> bytes:
    """Return a seed whose target `node_id` is closer to than any of `others`: all will ask it."""
    rivals = [int.from_bytes(one) for one in others]
    while True:
        seed = secrets.token_bytes(32)
        target = int.from_bytes(target_of(bytes(SigningKey(seed).verify_key), salt))
        if all(int.from_bytes(node_id) ^ target < one ^ target for one in rivals):
            return seed


def endpoint_of(address: str) -> Endpoint:
    host, _, port = address.rpartition(":")
    return host, int(port)


class PlainClient(asyncio.DatagramProtocol):
    """`async with PlainClient() as client`: one socket on 127.0.0.1."""

    def __init__(self) -> None:
        self.node_id = secrets.token_bytes(20)
        self.served = 0  # gets answered with an item that is held here
        self._held: dict[bytes, Item] = {}
        self._unheard: Counter[bytes] = Counter()
        self._transport: asyncio.DatagramTransport | None = None
        self._asked: dict[tuple[bytes, Endpoint], asyncio.Future[bytes]] = {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    async def get(self, node: Endpoint, target: bytes, *, seq: int | None = None) -> Got:
        """Ask one node for `target`; with `seq` it sends v only if its own is higher (BEP 44)."""
        given = {b"target": bencode.encode(target)}
        if seq is not None:
            given[b"seq"] = bencode.encode(seq)
        data = await self.query(node, b"get", given)
        spans = bencode.scan(data)
        token, k, sig, v = (
            None if span is None else data[span[0] : span[1]]
            for span in (spans.token, spans.k, spans.sig, spans.v)
        )
        assert token is not None, f"{node} gave no token"
        return Got(token, k, spans.seq, sig, v)

    async def put(
        self, node: Endpoint, token: bytes, item: Item, *, cas: int | None = None
    ) -> None:
        """Put an item as it is; KrpcError where it is refused, TimeoutError without an answer."""
        given = {b"token": bencode.encode(token), **_fields(item)}
        if item.salt:
            given[b"salt"] = bencode.encode(item.salt)
        if cas is not None:
            given[b"cas"] = bencode.encode(cas)
        await self.query(node, b"put", given)

    async def store(
        self, nodes: Iterable[Endpoint], item: Item, *, cas: int | None = None
    ) -> Stored:
        """Get a token from each node, then put the item there."""
        stored = Stored()
        await asyncio.gather(*(self._store(node, item, cas, stored) for node in nodes))
        return stored

    async def _store(self, node: Endpoint, item: Item, cas: int | None, stored: Stored) -> None:
        try:
            token = (await self.get(node, item.target)).token
            await self.put(node, token, item, cas=cas)
        except KrpcError as error:
            stored.refused[node] = error.code
        except TimeoutError:
            stored.silent.append(node)
        else:
            stored.accepted.append(node)

    async def answers(self, node: Endpoint, item: Item) -> bool:
        """Whether one node answers a put of `item` at all: it answers in order, so a ping tells."""
        token = (await self.get(node, item.target)).token
        put = asyncio.create_task(self.put(node, token, item))
        await asyncio.sleep(0)  # lets the put go out first
        await self.query(node, b"ping", {})
        answered = put.done()
        put.cancel()
        await asyncio.wait([put])
        return answered

    async def holders(self, nodes: Iterable[Endpoint], target: bytes) -> list[Got]:
        """Return the answers of those nodes that hold a value for `target`."""
        answers = await asyncio.gather(*(self.get(node, target) for node in nodes))
        return [one for one in answers if one.v is not None]

    def hold(self, item: Item, *, unheard: int = 0) -> None:
        """Hand this item, as it is, to whoever asks for its target, but for the first queries."""
        self._held[item.target] = item
        self._unheard[item.target] = unheard

    async def query(self, node: Endpoint, q: bytes, given: Mapping[bytes, bytes]) -> bytes:
        """Send a query with these arguments, already bencoded, and return the whole response."""
        assert self._transport is not None
        transaction = secrets.token_bytes(4)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[transaction, node] = answer
        try:
            self._transport.sendto(self._query(transaction, q, given), node)
            async with asyncio.timeout(TIMEOUT):
                data = await answer
        finally:
            del self._asked[transaction, node]
        return _response(data)

    def _query(self, transaction: bytes, q: bytes, given: Mapping[bytes, bytes]) -> bytes:
        arguments = {b"id": bencode.encode(self.node_id), **given}
        body = b"".join(bencode.encode(key) + arguments[key] for key in sorted(arguments))
        name, number = bencode.encode(q), bencode.encode(transaction)
        return b"d1:ad" + body + b"e1:q" + name + b"1:t" + number + b"1:y1:qe"

    def datagram_received(self, data: bytes, addr: Endpoint) -> None:
        """Hand an answer to who waits for it; answer a query."""
        try:
            spans = bencode.scan(data)
        except ValueError:
            return
        if spans.t is None:
            return
        transaction = data[slice(*spans.t)]
        if spans.q is None:
            waiting = self._asked.get((transaction, addr))
            if waiting is not None and not waiting.done():
                waiting.set_result(data)
            return
        self._answer(transaction, data[slice(*spans.target)] if spans.target else b"", addr)

    def _answer(self, transaction: bytes, target: bytes, addr: Endpoint) -> None:
        said = {b"id": bencode.encode(self.node_id), b"nodes": b"0:"}
        if self._unheard[target]:
            self._unheard[target] -= 1
            return
        if (held := self._held.get(target)) is not None:
            self.served += 1
            said |= _fields(held)
        body = b"".join(bencode.encode(key) + said[key] for key in sorted(said))
        answer = b"d1:rd" + body + b"e1:t" + bencode.encode(transaction) + b"1:y1:re"
        assert self._transport is not None
        self._transport.sendto(answer, addr)


def _fields(item: Item) -> dict[bytes, bytes]:
    fields = {b"k": bencode.encode(item.k), b"seq": b"i%de" % item.seq, b"v": item.v}
    return fields | ({b"sig": bencode.encode(item.sig)} if item.sig else {})


def _response(data: bytes) -> bytes:
    spans = bencode.scan(data)
    if spans.e is not None:
        said: Any = bencode.decode(data[slice(*spans.e)])
        raise KrpcError(said[0], said[1].decode())
    return data
