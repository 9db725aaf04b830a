"""One message of each kind of the exchange, with every field filled in."""

from typing import Final

from dhtmeta.krpc import exchange as wire

KEY, NONCE, SIG, PEER = b"k" * 32, b"n" * 32, b"s" * 64, b"p" * 20

WRITTEN: Final[list[wire.Message]] = [
    wire.Hello(k=KEY, n=NONCE, topics=[PEER], dht=30609),
    wire.Welcome(k=KEY, n=NONCE, sig=SIG, you=b"\x7f\0\0\1\x78\xba", topics=[PEER], dht=30609),
    wire.Proof(sig=SIG),
    wire.Hints(peers=[wire.Hint(KEY, 7), wire.Hint(NONCE, 2**63 - 1)]),
    wire.Ask(salt=7, have=b"abcd"),
    wire.Want(keys=[KEY, NONCE]),
    wire.Items(items=[wire.Item(KEY, 7, b"1:x", SIG)], none=[NONCE]),
    wire.Ping(r=1),
    wire.Pong(r=1, sessions=2, capacity=50),
    wire.Attach(r=2, id=b"session"),
    wire.Attached(r=2, id=b"session", lifetime=60, address=b"192.0.2.1:30906"),
    wire.Held(r=3, peers=[PEER]),
    wire.Holding(r=3, peers=[PEER]),
    wire.Probe(r=4, p=PEER, n=NONCE),
    wire.Probed(r=4, sig=SIG, id=b"session"),
    wire.Dial(r=5, port=30906),
    wire.Dialled(r=5, ok=1),
    wire.Refused(r=6, why=b"this is no relay"),
]
