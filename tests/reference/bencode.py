"""The plain-Python twin of dhtmeta._fast.bencode: same functions, same answers, same errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from dhtmeta._fast.bencode import Encodable, Value

MAX_DEPTH = 256
LENGTH_DIGITS = 18
INT_DIGITS = 19
INT64 = range(-(2**63), 2**63)

Span = tuple[int, int]


@dataclass
class Spans:
    t: Span | None = None
    y: Span | None = None
    q: Span | None = None
    e: Span | None = None
    id: Span | None = None
    token: Span | None = None
    nodes: Span | None = None
    nodes6: Span | None = None
    values: Span | None = None
    target: Span | None = None
    info_hash: Span | None = None
    k: Span | None = None
    salt: Span | None = None
    sig: Span | None = None
    v: Span | None = None
    seq: int | None = None
    cas: int | None = None

    def cut(self, data: bytes) -> tuple[bytes | None, ...]:
        names = ("t", "y", "id", "token", "nodes", "nodes6", "values", "k", "sig", "v")
        spans = [getattr(self, name) for name in names]
        if any(span is not None and span[1] > len(data) for span in spans):
            raise ValueError("these spans are of other data")
        return tuple(None if span is None else data[span[0] : span[1]] for span in spans)


TOP = ("t", "y", "q", "e")
INSIDE = (
    *("id", "token", "nodes", "nodes6", "values", "target", "info_hash"),
    *("k", "salt", "sig", "v", "seq", "cas"),
)


def decode(data: Buffer, *, canonical: bool = True, max_depth: int = 32) -> Value:
    return Reader(data, canonical, max_depth).whole()


def scan(data: Buffer, *, max_depth: int = 32) -> Spans:
    return Scanner(data, False, max_depth).spans_of_all()


class Reader:
    unique = True

    def __init__(self, data: Buffer, canonical: bool, max_depth: int) -> None:
        self.data = contiguous(data)
        self.at = 0
        self.depth = check_depth(max_depth)
        self.canonical = canonical

    def fail(self, wrong: str, where: int) -> NoReturn:
        raise ValueError(f"{wrong} at byte {where}")

    def head(self) -> bytes:
        """Take the next byte."""
        if self.at == len(self.data):
            self.fail("truncated", self.at)
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def whole(self) -> Value:
        value = self.read_value(self.head())
        self.end()
        return value

    def end(self) -> None:
        if self.at < len(self.data):
            self.fail("trailing bytes", self.at)

    def read_value(self, head: bytes) -> Value:
        if head.isdigit():
            return self.read_string(head)
        if head == b"i":
            return self.read_int()
        self.enter(head)
        return self.read_list() if head == b"l" else self.read_dict()

    def enter(self, head: bytes) -> None:
        if head not in {b"l", b"d"}:
            self.fail("not a value", self.at - 1)
        if self.depth == 0:
            self.fail("nested too deep", self.at - 1)
        self.depth -= 1

    def digits(self, first: bytes, end: bytes, most: int, too_many: str, where: int) -> int:
        start = self.at - 1
        digits = first
        while (byte := self.head()).isdigit():
            if digits == b"0":
                self.fail("leading zero", start)
            if len(digits) == most:
                self.fail(too_many, where)
            digits += byte
        if byte != end:
            self.fail("not a digit", self.at - 1)
        return int(digits)

    def read_string(self, first: bytes) -> bytes:
        start = self.at - 1
        too_long = "string longer than the data"
        size = self.digits(first, b":", LENGTH_DIGITS, too_long, start)
        if size > len(self.data) - self.at:
            self.fail(too_long, start)
        self.at += size
        return self.data[self.at - size : self.at]

    def read_int(self) -> int:
        start = self.at - 1
        too_large = "int outside 64 bits"
        first = self.head()
        sign = 1
        if first == b"-":
            first = self.head()
            sign = -1
        if not first.isdigit():
            self.fail("not a digit", self.at - 1)
        if sign < 0 and first == b"0":
            self.fail("negative zero", start)
        number = sign * self.digits(first, b"e", INT_DIGITS, too_large, start)
        if number not in INT64:
            self.fail(too_large, start)
        return number

    def read_list(self) -> list[Value]:
        items = []
        while (head := self.head()) != b"e":
            items.append(self.read_value(head))
        self.depth += 1
        return items

    def read_dict(self) -> dict[bytes, Value]:
        items: dict[bytes, Value] = {}
        for key, start in self.keys():
            if self.unique and key in items:
                self.fail("duplicate key", start)
            items[key] = self.read_value(self.head())
        return items

    def keys(self) -> Iterator[tuple[bytes, int]]:
        """Each key and where it starts; whoever takes one must read the value behind it."""
        last: bytes | None = None
        while (head := self.head()) != b"e":
            start = self.at - 1
            if not head.isdigit():
                self.fail("key is not a string", start)
            key = self.read_string(head)
            if key == last:
                self.fail("duplicate key", start)
            if self.canonical and last is not None and key < last:
                self.fail("unsorted key", start)
            yield key, start
            last = key
        self.depth += 1


class Scanner(Reader):
    unique = False

    def spans_of_all(self) -> Spans:
        spans = Spans()
        self.open_dict()
        seen: set[str] = set()
        for key, start in self.keys():
            name = key.decode("latin-1")
            if name in {"a", "r"}:
                self.note("a or r", start, seen)
                self.open_dict()
                self.fields(INSIDE, spans)
            elif name in TOP:
                self.note(name, start, seen)
                setattr(spans, name, self.field(name))
            else:
                self.read_value(self.head())
        self.end()
        return spans

    def open_dict(self) -> None:
        head = self.head()
        if head != b"d":
            self.fail("not a dict", self.at - 1)
        self.enter(head)

    def note(self, name: str, start: int, seen: set[str]) -> None:
        if name in seen:
            self.fail("duplicate key", start)
        seen.add(name)

    def fields(self, names: tuple[str, ...], spans: Spans) -> None:
        seen: set[str] = set()
        for key, start in self.keys():
            name = key.decode("latin-1")
            if name in names:
                self.note(name, start, seen)
                setattr(spans, name, self.field(name))
            else:
                self.read_value(self.head())

    def field(self, name: str) -> Span | int:
        head = self.head()
        start = self.at - 1
        if name in {"seq", "cas"}:
            if head != b"i":
                self.fail("not an int", start)
            return self.read_int()
        if name in {"e", "values", "v"}:
            if name != "v" and head != b"l":
                self.fail("not a list", start)
            self.read_value(head)
            return start, self.at
        if not head.isdigit():
            self.fail("not a string", start)
        size = len(self.read_string(head))
        return self.at - size, self.at


def contiguous(data: Buffer) -> bytes:
    view = memoryview(data)
    if not view.c_contiguous:
        raise TypeError("data must be contiguous bytes")
    return bytes(view)


def check_depth(max_depth: int) -> int:
    if not 0 <= max_depth <= MAX_DEPTH:
        raise ValueError(f"max_depth must be 0 to {MAX_DEPTH}, not {max_depth}")
    return max_depth


def encode(value: Encodable, *, max_depth: int = 32) -> bytes:
    return encoded(value, check_depth(max_depth))


def encoded(value: Any, depth: int) -> bytes:
    if isinstance(value, int):
        return encoded_int(int(value))
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        payload = bytes(value)
        return b"%d:%b" % (len(payload), payload)
    if not isinstance(value, list | tuple | dict):
        raise TypeError(f"{type(value).__name__} cannot be bencoded")
    if depth == 0:
        raise ValueError("nested too deep")
    if isinstance(value, dict):
        return encoded_dict(value, depth - 1)
    return b"l%be" % b"".join([encoded(item, depth - 1) for item in value])


def encoded_int(number: int) -> bytes:
    if number not in INT64:
        raise ValueError("int outside 64 bits")
    return b"i%de" % number


def encoded_dict(items: dict[Any, Any], depth: int) -> bytes:
    by_key = {key_bytes(key): value for key, value in items.items()}
    if len(by_key) < len(items):
        raise ValueError("the same key as str and as bytes")
    pairs = [encoded(key, 0) + encoded(by_key[key], depth) for key in sorted(by_key)]
    return b"d%be" % b"".join(pairs)


def key_bytes(key: Any) -> bytes:
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    raise TypeError(f"a dict key must be bytes or str, not {type(key).__name__}")
