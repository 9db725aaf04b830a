"""What every node of a swarm holds under a key: asked one by one, with a socket and no more."""

import socket
from collections.abc import Sequence

from dhtmeta._fast import ed25519
from dhtmeta.const import MAX_DATAGRAM_BYTES, NODE_ID_BYTES
from dhtmeta.dht.address import parse_address
from dhtmeta.krpc.codec import decode, encode
from dhtmeta.krpc.messages import Get, Response
from dhtmeta.values.item import SignedItem

TRIES = 10
WAIT = 0.5  # s for an answer; a busy machine takes longer now and then
US = bytes(NODE_ID_BYTES)


def held(nodes: Sequence[str], public_key: bytes, salt: bytes = b"") -> list[SignedItem]:
    """Return the verified item of each of `nodes` ("IP:PORT") that has one.

    Raises TimeoutError if one of them does not answer at all, InvalidItem.
    """
    target = ed25519.target(public_key, salt)
    waiting = {n.to_bytes(4, "big"): parse_address(node) for n, node in enumerate(nodes)}
    found: list[SignedItem] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(WAIT)
        for _ in range(TRIES):
            for t, endpoint in waiting.items():
                get = Get(t=t, node_id=US, target=target, read_only=True)
                udp.sendto(encode(get), endpoint)
            for answer in _answers(udp, waiting):
                if answer.v is not None and answer.seq is not None:
                    k, sig = answer.k or b"", answer.sig or b""
                    item = SignedItem.verified(target, k, salt, answer.seq, answer.v, sig)
                    found.append(item)
            if not waiting:
                return found
    raise TimeoutError(f"{len(waiting)} of {len(nodes)} nodes do not answer")


def _answers(udp: socket.socket, waiting: dict[bytes, tuple[str, int]]) -> list[Response]:
    """Return what comes of those that are waited for; each is crossed off."""
    answers = []
    while waiting:
        try:
            data, endpoint = udp.recvfrom(MAX_DATAGRAM_BYTES)
        except TimeoutError:
            break
        message = decode(data)
        if isinstance(message, Response) and waiting.get(message.t) == endpoint:
            del waiting[message.t]
            answers.append(message)
    return answers
