"""Compact addresses and node info: what 6, 18, 26 and 38 bytes stand for, and no other number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhtmeta.const import MAX_CONTACTS
from dhtmeta.krpc.compact import (
    NODE6_BYTES,
    NODE_BYTES,
    Contact,
    Endpoint,
    pack_contacts,
    pack_endpoint,
    unpack_contacts,
    unpack_endpoint,
)
from tests.krpc import strategies

ID = b"abcdefghij0123456789"
ENDPOINTS: list[tuple[Endpoint, bytes]] = [
    (("127.0.0.1", 6881), b"\x7f\x00\x00\x01\x1a\xe1"),
    (("255.255.255.255", 65535), b"\xff" * 6),
    (("0.0.0.0", 1), b"\x00" * 5 + b"\x01"),
    (("::", 256), b"\x00" * 16 + b"\x01\x00"),
    (("2001:db8::1", 6881), b"\x20\x01\x0d\xb8" + b"\x00" * 11 + b"\x01\x1a\xe1"),
    (("::ffff:1.2.3.4", 7), b"\x00" * 10 + b"\xff\xff\x01\x02\x03\x04\x00\x07"),
]


@pytest.mark.parametrize(("endpoint", "packed"), ENDPOINTS)
def test_an_address_and_a_port_travel_in_network_order(endpoint: Endpoint, packed: bytes) -> None:
    assert pack_endpoint(endpoint) == packed
    assert unpack_endpoint(packed) == endpoint


@pytest.mark.parametrize("size", [size for size in range(40) if size not in {6, 18}])
def test_an_address_of_any_other_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"6 or 18 bytes, got {size}"):
        unpack_endpoint(b"\x01" * size)


@pytest.mark.parametrize(
    "endpoint",
    [
        ("localhost", 1),
        ("", 1),
        ("1.2.3", 1),
        ("1.2.3.256", 1),
        ("1.2.3.4:5", 1),
        ("1.2.3.4%lo", 1),
        (":", 1),
        ("1.2.3.4\x00", 1),
        ("1.2.3.4", 65536),
        ("1.2.3.4", -1),
        ("::1", 65536),
    ],
)
def test_what_is_no_endpoint_cannot_be_packed(endpoint: Endpoint) -> None:
    with pytest.raises(ValueError, match=r"no IP address with a UDP port|null character"):
        pack_endpoint(endpoint)


@pytest.mark.parametrize(("endpoint", "packed"), ENDPOINTS)
def test_node_info_is_an_id_with_an_address(endpoint: Endpoint, packed: bytes) -> None:
    size = NODE6_BYTES if ":" in endpoint[0] else NODE_BYTES
    contact = Contact(ID, endpoint)
    assert pack_contacts([contact]) == ID + packed
    assert len(ID + packed) == size
    assert unpack_contacts(ID + packed, size) == [contact]


def test_the_zone_of_an_address_does_not_travel() -> None:
    assert pack_endpoint(("fe80::1%lo", 7)) == pack_endpoint(("fe80::1", 7))


def test_node_info_takes_26_bytes_and_38() -> None:
    assert (NODE_BYTES, NODE6_BYTES) == (26, 38)  # BEP 5 and BEP 32


@given(st.lists(strategies.contacts, max_size=MAX_CONTACTS))
@settings(deadline=None)
def test_ipv4_node_info_comes_back_as_it_went(contacts: list[Contact]) -> None:
    assert unpack_contacts(pack_contacts(contacts)) == contacts


@given(st.lists(strategies.contacts6, max_size=MAX_CONTACTS))
@settings(deadline=None)
def test_ipv6_node_info_comes_back_as_it_went(contacts: list[Contact]) -> None:
    assert unpack_contacts(pack_contacts(contacts), NODE6_BYTES) == contacts


def test_contacts_are_contacts_with_names() -> None:
    (contact,) = unpack_contacts(ID + b"axje.u")
    assert isinstance(contact, Contact)
    assert (contact.node_id, contact.endpoint) == (ID, ("97.120.106.101", 11893))


@pytest.mark.parametrize("size", [NODE_BYTES, NODE6_BYTES])
def test_nodes_with_port_0_are_left_out(size: int) -> None:
    dead = ID + b"\x01" * (size - 22) + b"\x00\x00"
    low, high = dead[:-2] + b"\x00\x01", dead[:-2] + b"\x01\x00"
    found = unpack_contacts(dead + low + dead + high + dead, size)
    assert [one.endpoint[1] for one in found] == [1, 256]


@pytest.mark.parametrize("size", [NODE_BYTES, NODE6_BYTES])
def test_node_info_that_is_not_whole_is_refused(size: int) -> None:
    for length in range(1, 2 * size):
        if length != size:
            with pytest.raises(ValueError, match=f"{length} bytes is no multiple of {size}"):
                unpack_contacts(b"\x01" * length, size)
