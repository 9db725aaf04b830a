"""Messages of the exchange at random, and frames that somebody damaged."""

from hypothesis import strategies as st

from dhtmeta.const import MAX_SEQ, MAX_SHARED, MAX_TOPICS, MAX_VALUE_BYTES
from dhtmeta.krpc import exchange as wire

keys = nonces = st.binary(min_size=32, max_size=32)
sigs = st.binary(min_size=64, max_size=64)
hashes = st.binary(min_size=20, max_size=20)
topics = st.lists(hashes, max_size=MAX_TOPICS)
seqs = st.integers(0, MAX_SEQ)
ports = st.integers(0, 65535)
counts = st.integers(0, 2**31)
numbers = st.integers(0, 2**32)
sessions = st.binary(max_size=32)
texts = st.binary(max_size=200)
hints = st.builds(wire.Hint, keys, seqs)
values = st.binary(min_size=1, max_size=40) | st.just(bytes(MAX_VALUE_BYTES))
items = st.builds(wire.Item, keys, seqs, values, sigs)
some_keys = st.lists(keys, max_size=MAX_SHARED)

messages: st.SearchStrategy[wire.Message] = st.one_of(
    st.builds(wire.Hello, k=keys, n=nonces, topics=topics, dht=ports),
    st.builds(
        wire.Welcome,
        k=keys,
        n=nonces,
        sig=sigs,
        you=st.binary(min_size=6, max_size=18),
        topics=topics,
        dht=ports,
    ),
    st.builds(wire.Proof, sig=sigs),
    st.builds(wire.Hints, peers=st.lists(hints, max_size=MAX_SHARED)),
    st.builds(wire.Ask, salt=st.integers(0, 2**32 - 1), have=st.binary(max_size=80)),
    st.builds(wire.Want, keys=some_keys),
    st.builds(wire.Items, items=st.lists(items, max_size=8), none=some_keys),
    st.builds(wire.Ping, r=numbers),
    st.builds(wire.Pong, r=numbers, sessions=counts, capacity=counts),
    st.builds(wire.Attach, r=numbers, id=sessions),
    st.builds(wire.Attached, r=numbers, id=sessions, lifetime=counts, address=texts),
    st.builds(wire.Held, r=numbers, peers=st.lists(hashes, max_size=50)),
    st.builds(wire.Holding, r=numbers, peers=st.lists(hashes, max_size=50)),
    st.builds(wire.Probe, r=numbers, p=hashes, n=nonces),
    st.builds(wire.Probed, r=numbers, sig=sigs, id=sessions),
    st.builds(wire.Dial, r=numbers, port=st.integers(1, 65535)),
    st.builds(wire.Dialled, r=numbers, ok=st.integers(0, 1)),
    st.builds(wire.Refused, r=numbers, why=texts),
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A stream with some bytes changed, left out or put in."""
    data = bytearray(b"".join(map(wire.encode, draw(st.lists(messages, min_size=1, max_size=3)))))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 3))
        data[place : place + length] = draw(st.binary(max_size=3))
    return bytes(data)


streams = _damaged() | st.binary(max_size=200)
