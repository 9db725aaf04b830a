"""How nodes and peers travel: compact node info and compact peer addresses (BEP 5 and 32).

26 bytes a node over IPv4 (id, address, port in network order), 38 over IPv6; 6 and 18 a peer.
"""

import socket
from collections.abc import Iterable
from typing import NamedTuple

from dhtmeta.const import NODE_ID_BYTES

Endpoint = tuple[str, int]
"""An IP address as text and a UDP port."""


class Contact(NamedTuple):
    """A DHT node: its 20-byte id and where it is."""

    node_id: bytes
    endpoint: Endpoint


_PORT_BYTES = 2
_FAMILY = {4: socket.AF_INET, 16: socket.AF_INET6}  # by the bytes of an address
NODE_BYTES = NODE_ID_BYTES + 4 + _PORT_BYTES  # compact node info, IPv4 (BEP 5)
NODE6_BYTES = NODE_ID_BYTES + 16 + _PORT_BYTES  # compact node info, IPv6 (BEP 32)


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """Return 6 bytes for an IPv4 endpoint, 18 for an IPv6 one; OSError if it is none."""
    host, port = endpoint
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.inet_pton(family, host) + port.to_bytes(_PORT_BYTES, "big")


def unpack_endpoint(raw: bytes) -> Endpoint:
    """Return the endpoint that 6 or 18 bytes stand for; ValueError for any other length."""
    address = raw[:-_PORT_BYTES]
    family = _FAMILY.get(len(address))
    if family is None:
        raise ValueError(f"a compact address is 6 or 18 bytes, got {len(raw)}")
    return socket.inet_ntop(family, address), int.from_bytes(raw[-_PORT_BYTES:], "big")


def pack_contacts(contacts: Iterable[Contact]) -> bytes:
    """Return the compact node info of contacts of one address family, one after the other."""
    return b"".join(one.node_id + pack_endpoint(one.endpoint) for one in contacts)


def unpack_contacts(raw: bytes, size: int = NODE_BYTES) -> list[Contact]:
    """Return the contacts in compact node info of `size` bytes each.

    Those with port 0 are left out: nobody can answer there. ValueError where `raw` is not whole.
    """
    if len(raw) % size:
        raise ValueError(f"compact node info of {len(raw)} bytes is no multiple of {size}")
    family = _FAMILY[size - NODE_ID_BYTES - _PORT_BYTES]
    end = size - _PORT_BYTES
    return [
        Contact(
            raw[at : at + NODE_ID_BYTES],
            (socket.inet_ntop(family, raw[at + NODE_ID_BYTES : at + end]), port),
        )
        for at in range(0, len(raw), size)
        if (port := raw[at + end] << 8 | raw[at + end + 1])
    ]
