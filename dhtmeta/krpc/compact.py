"""How nodes and peers travel: compact node info and compact peer addresses (BEP 5 and 32).

26 bytes a node over IPv4 (id, address, port in network order), 38 over IPv6; 6 and 18 a peer.
"""

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, TypedDict

from dhtmeta.const import NODE_ID_BYTES

Endpoint = tuple[str, int]
"""An IP address as text and a UDP port."""


class Contact(NamedTuple):
    """A DHT node: its 20-byte id and where it is."""

    node_id: bytes
    endpoint: Endpoint


_PORT_BYTES = 2
_IPV4, _IPV6 = int(socket.AF_INET), int(socket.AF_INET6)  # an enum's member is slow to pass
_FAMILY = {4: _IPV4, 16: _IPV6}  # by the bytes of an address
_NODE = struct.Struct(f"!{NODE_ID_BYTES}s4sH")
_NODE6 = struct.Struct(f"!{NODE_ID_BYTES}s16sH")
NODE_BYTES = _NODE.size  # compact node info, IPv4 (BEP 5)
NODE6_BYTES = _NODE6.size  # compact node info, IPv6 (BEP 32)


def pack_endpoint(endpoint: Endpoint) -> bytes:
    """Return 6 bytes for an IPv4 endpoint, 18 for an IPv6 one; ValueError if it is none.

    The zone of an IPv6 address (fe80::1%eth0) means something here alone and is left out.
    """
    host, port = endpoint
    try:
        if ":" in host:
            packed = socket.inet_pton(_IPV6, host.partition("%")[0])
        else:
            packed = socket.inet_pton(_IPV4, host)
        return packed + port.to_bytes(_PORT_BYTES, "big")
    except (OSError, OverflowError) as error:
        raise ValueError(f"{host} port {port} is no IP address with a UDP port") from error


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


class CompactNodes(TypedDict):
    """The compact node info of a Response, by address family."""

    nodes: bytes
    nodes6: bytes


def split_contacts(contacts: Iterable[Contact]) -> CompactNodes:
    """Return the compact node info of contacts as a Response has it, by family."""
    contacts = list(contacts)
    v6 = [":" in one.endpoint[0] for one in contacts]
    return {
        "nodes": pack_contacts(one for one, is_v6 in zip(contacts, v6, strict=True) if not is_v6),
        "nodes6": pack_contacts(one for one, is_v6 in zip(contacts, v6, strict=True) if is_v6),
    }


def unpack_contacts(raw: bytes, size: int = NODE_BYTES) -> list[Contact]:
    """Return the contacts in compact node info of NODE_BYTES or NODE6_BYTES each.

    Those with port 0 are left out: nobody can answer there. ValueError where `raw` is not whole.
    """
    if len(raw) % size:
        raise ValueError(f"compact node info of {len(raw)} bytes is no multiple of {size}")
    node, family = (_NODE, _IPV4) if size == NODE_BYTES else (_NODE6, _IPV6)
    return [
        Contact(node_id, (socket.inet_ntop(family, address), port))
        for node_id, address, port in node.iter_unpack(raw)
        if port
    ]
