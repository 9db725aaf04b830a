"""HOST:PORT is read in one way, and which networks are on this machine is known."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta.dht.address import (
    any_local,
    format_address,
    is_local,
    parse_address,
    parse_listen,
    resolve,
)
from dhtmeta.errors import CallerError
from dhtmeta.krpc.compact import Endpoint

HOSTS = st.ip_addresses().map(str) | st.from_regex(
    r"[a-z][a-z0-9-]{0,8}(\.[a-z]{1,4})?", fullmatch=True
)


@given(HOSTS, st.integers(1, 65535))
def test_what_is_written_is_read(host: str, port: int) -> None:
    assert parse_address(format_address((host, port))) == (host, port)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("router.bittorrent.com:65535", ("router.bittorrent.com", 65535)),
        ("host:0080", ("host", 80)),
        ("host:" + "0" * 5000 + "80", ("host", 80)),
        ("[::1]:6881", ("::1", 6881)),
        ("[fe80::1%eth0]:6881", ("fe80::1%eth0", 6881)),
        ("_under-score.example.:1", ("_under-score.example.", 1)),
    ],
)
def test_an_address_is_split(text: str, endpoint: Endpoint) -> None:
    assert parse_address(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "host",
        "host:",
        "host:x",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:1 ",
        "host:1\n",
        "host:\uff11",
        "host:\u00b2",
        "host:0x50",
        "::1",
        "::1:80",
        "1.2.3.4:5:6",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "[[::1]]:80",
        "[1.2.3.4]:80",
        "[host]:80",
        "[zz]:80",
        "a b:80",
        " host:80",
        "ho\tst:80",
        "h\0:80",
        "http://host:80",
        "host/path:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    for any_port in (False, True):
        with pytest.raises(CallerError, match=r"is not HOST:PORT or \[IPv6\]:PORT"):
            parse_address(text, any_port=any_port)


@pytest.mark.parametrize("port", ["65536", "99999", "100000", "9" * 5000])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(CallerError, match="a port is 1 … 65535"):
        parse_address(f"host:{port}")
    with pytest.raises(CallerError, match="a port is 0 … 65535"):
        parse_address(f"host:{port}", any_port=True)


def test_port_0_is_any_port_where_that_is_allowed() -> None:
    for text in ("host:0", "host:000"):
        assert parse_address(text, any_port=True) == ("host", 0)
        with pytest.raises(CallerError, match="a port is 1 … 65535"):
            parse_address(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("127.0.0.1:30609", ("127.0.0.1", 30609)),
        ("[::]:0", ("::", 0)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("LocalHost.:5", ("127.0.0.1", 5)),
    ],
)
def test_an_address_to_listen_on_is_an_ip(text: str, endpoint: Endpoint) -> None:
    assert parse_listen(text) == endpoint


@pytest.mark.parametrize("host", ["example.org", "host", "1.2.3", "1.2.3.256", "localhost.example"])
def test_nobody_can_listen_on_a_name(host: str) -> None:
    with pytest.raises(CallerError, match=f"'{host}:0': an address to listen on is IP:PORT"):
        parse_listen(f"{host}:0")


@given(st.text(max_size=20) | st.text("[]:0123456789abcdef.%", max_size=20))
def test_any_text_is_an_address_or_a_caller_error(text: str) -> None:
    try:
        endpoint = parse_address(text)
    except CallerError:
        return
    assert parse_address(format_address(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("localhost", True),
        ("LocalHost", True),
        ("localhost.", True),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        ("router.bittorrent.com", False),
        ("", False),
    ],
)
def test_this_machine_is_known(host: str, local: bool) -> None:
    assert is_local(host) == local


@pytest.mark.parametrize(
    ("endpoints", "local"),
    [
        ([], False),
        ([("127.0.0.1", 1)], True),
        ([("127.0.0.1", 1), ("localhost", 2), ("::1", 3)], True),
        ([("127.0.0.1", 1), ("nosuch.invalid", 2)], True),
        ([("8.8.8.8", 2)], False),
    ],
)
def test_a_swarm_has_a_bootstrap_node_here(endpoints: list[Endpoint], local: bool) -> None:
    assert any_local(endpoints) == local


async def test_what_cannot_be_resolved_is_left_out_and_delays_nothing_else() -> None:
    wrong = [("a" * 64 + ".example", 1), ("nul\0", 2), ("", 3), ("a..b", 4)]
    right = [("127.0.0.1", 5), ("127.0.0.1", 6), ("::1", 7)]
    found = await resolve(iter([*wrong, *right, right[0]]))
    assert {key: one for key, one in found.items() if key not in wrong} == {
        endpoint: endpoint for endpoint in right
    }
    assert not found.keys() & {wrong[0], wrong[1], wrong[3]}


async def test_a_name_is_resolved_to_an_address_with_the_same_port() -> None:
    ((host, port),) = (await resolve([("localhost", 6881)])).values()
    assert is_local(host)
    assert port == 6881
    assert (await resolve([])) == {}
    assert socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
