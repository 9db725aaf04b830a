"""Bencode (BEP 3), strict as BEP 44 needs it: values, canonical bytes, spans of a datagram.

Sizes and offsets are in bytes. max_depth counts lists and dicts in each other: 0 allows none, and
256 is the most that can be asked for (more is a ValueError).
"""

from typing import Any, TypeAlias, final

from typing_extensions import Buffer

Value: TypeAlias = int | bytes | list[Value] | dict[bytes, Value]
Encodable: TypeAlias = (
    int | bytes | bytearray | memoryview | str | list[Any] | tuple[Any, ...] | dict[Any, Any]
)

def decode(data: Buffer, *, canonical: bool = True, max_depth: int = 32) -> Value:
    """Return the one value that all of `data` is the bencoding of.

    Refused are: ints that are empty, have a leading zero, are -0 or do not fit in 64 bits signed;
    string lengths with a leading zero or past the end; keys that are not strings or occur twice;
    more than max_depth lists and dicts in each other; truncated data and trailing bytes. Keys out
    of order (raw bytes, BEP 3) are refused too unless `canonical` is false. What a canonical
    reading accepts, `encode` turns into the very same bytes.

    Raises ValueError "<what is wrong> at byte <offset>", where the offset is that of the string,
    int or key that is wrong, of the byte that is out of place, or len(data) where more must follow;
    TypeError where `data` is not contiguous bytes.
    """

def encode(value: Encodable, *, max_depth: int = 32) -> bytes:
    """Return the canonical bencoding of `value`.

    Takes ints of 64 bits signed, bools (as 0 and 1), bytes, bytearray, memoryview (its bytes in C
    order), str (as UTF-8), lists, tuples, and dicts with keys of bytes or str; their order does not
    matter.

    Raises TypeError that names the type of anything else; ValueError where an int does not fit, a
    key is there both as str and as bytes, a str has no UTF-8, or more than max_depth lists and
    dicts are in each other, as in one that holds itself.
    """

def scan(data: Buffer, *, max_depth: int = 32) -> Spans:
    """Check a whole KRPC datagram (BEP 5) and return where its fields are, without building them.

    As strict as decode(data, canonical=False) but for keys that occur twice: refused are neighbours
    that are equal, in every dict, and any second occurrence of a field of `Spans`, where an a and
    an r dict count as one. A v that will be used must still be decoded. Refused as well are a
    datagram that is not a dict, an a or r that is not one, and a field of a wrong type: e and
    values are lists, seq and cas ints, v anything, all others strings.

    Raises as `decode` does.
    """

Span: TypeAlias = tuple[int, int]

@final
class Spans:
    """Where the fields of a datagram are: (start, end) in bytes, or None for those it lacks.

    t, y, q and e are of the datagram, the others of its a or r dict (BEP 5, 32 and 44). A string's
    span is its payload without the length; those of e, values and v are the bencoded bytes. seq and
    cas are the ints themselves.
    """

    def cut(self, data: bytes) -> tuple[bytes | None, ...]:
        """Return t, y, id, token, nodes, nodes6, values, k, sig and v, cut out of the data scanned.

        Raises ValueError where `data` is too short to be that.
        """

    @property
    def t(self) -> Span | None: ...
    @property
    def y(self) -> Span | None: ...
    @property
    def q(self) -> Span | None: ...
    @property
    def e(self) -> Span | None: ...
    @property
    def id(self) -> Span | None: ...
    @property
    def token(self) -> Span | None: ...
    @property
    def nodes(self) -> Span | None: ...
    @property
    def nodes6(self) -> Span | None: ...
    @property
    def values(self) -> Span | None: ...
    @property
    def target(self) -> Span | None: ...
    @property
    def info_hash(self) -> Span | None: ...
    @property
    def k(self) -> Span | None: ...
    @property
    def salt(self) -> Span | None: ...
    @property
    def sig(self) -> Span | None: ...
    @property
    def v(self) -> Span | None: ...
    @property
    def seq(self) -> int | None: ...
    @property
    def cas(self) -> int | None: ...
