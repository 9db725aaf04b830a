"""What lying nodes say in the tests of carriers: raw bytes that were signed as they are."""

from dhtmeta._fast import bencode
from dhtmeta.testing.liar import Fields
from dhtmeta.values.item import SignedItem
from dhtmeta.values.keys import Identity


def signed(raw: bytes, seq: int = 1, *, said_seq: int | None = None) -> tuple[Identity, Fields]:
    """Sign raw bytes as they are, whatever they are, as a node would serve them."""
    identity = Identity.generate()
    prefix = b"3:seqi%de1:v" % seq
    return identity, {
        b"k": bencode.encode(identity.public_key),
        b"sig": bencode.encode(identity.sign(prefix + raw)),
        b"seq": b"i%de" % (seq if said_seq is None else said_seq),
        b"v": raw,
    }


def fields(item: SignedItem) -> Fields:
    """Return what an honest node serves."""
    return {
        b"k": bencode.encode(item.public_key),
        b"sig": bencode.encode(item.sig),
        b"seq": b"i%de" % item.seq,
        b"v": item.v,
    }


LIES: dict[str, tuple[Identity, Fields]] = {
    "minus zero": signed(b"i-0e"),
    "leading zeros in an int": signed(b"i007e"),
    "leading zero in a length": signed(b"05:hello"),
    "unsorted keys": signed(b"d1:b1:x1:a1:ye"),
    "duplicate keys": signed(b"d1:a1:x1:a1:ye"),
    "an int of more than 64 bits": signed(b"i9223372036854775808e"),
    "1,001 bytes": signed(b"997:" + b"x" * 997),
    "a negative seq": signed(b"1:x", -1),
    "another seq than was signed": signed(b"1:x", 1, said_seq=2**62),
}
