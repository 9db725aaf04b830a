"""What a record says about reaching its peer: every branch, and both sides of every edge."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhtmeta.engine.connectability import Connectability, Judge, Verdict
from dhtmeta.values.record import NetworkInfo, NodeRecord, split_endpoint

NOW = 1_800_000_000
RELAY_ID, OTHER_ID = "ab" * 20, "cd" * 20
PUBLIC: dict[str, Any] = {"node_type": "public", "public_ip": "8.8.8.8", "public_port": 30906}
RELAYED: dict[str, Any] = {
    "node_type": "private",
    "using_relay": True,
    "connected_relay": RELAY_ID,
    "relay_session_id": "session",
    "relay_address": "8.8.4.4:30907",
}
DIRECT, VIA_RELAY, UNREACHABLE, STALE = Verdict
LIMIT = 3 * 3600  # s; STALE_AFTER_INTERVALS x REPUBLISH_INTERVAL
JUDGE = Judge()


def peer(age: int = 0, **info: Any) -> NodeRecord:
    return NodeRecord(timestamp=NOW - age, network_info=NetworkInfo(**info))


RELAY = peer(is_relay=True)


def judged(record: NodeRecord, relay: NodeRecord | None = RELAY, **rules: Any) -> Connectability:
    return Judge(**rules).judge(record, relay, NOW)


@pytest.mark.parametrize(
    ("info", "verdict", "reason", "address"),
    [
        (PUBLIC, DIRECT, "public node at 8.8.8.8:30906", "8.8.8.8:30906"),
        (
            PUBLIC | {"public_ip": "2606:4700::1111"},
            DIRECT,
            "public node at [2606:4700::1111]:30906",
            "[2606:4700::1111]:30906",
        ),
        (PUBLIC | {"using_relay": True}, DIRECT, "public node at 8.8.8.8:30906", "8.8.8.8:30906"),
        (PUBLIC | {"public_ip": ""}, UNREACHABLE, "no public address", ""),
        (PUBLIC | {"public_port": None}, UNREACHABLE, "no public address", ""),
        (PUBLIC | {"node_type": ""}, UNREACHABLE, "no node_type", ""),
        (RELAYED | {"node_type": ""}, UNREACHABLE, "no node_type", ""),
        ({}, UNREACHABLE, "no node_type", ""),
        (
            RELAYED,
            VIA_RELAY,
            f"relay {RELAY_ID} at 8.8.4.4:30907",
            "8.8.4.4:30907",
        ),
        (
            RELAYED | {"relay_address": "[2606:4700::1]:1"},
            VIA_RELAY,
            f"relay {RELAY_ID} at [2606:4700::1]:1",
            "[2606:4700::1]:1",
        ),
        (PUBLIC | RELAYED, VIA_RELAY, f"relay {RELAY_ID} at 8.8.4.4:30907", "8.8.4.4:30907"),
        ({"node_type": "private"}, UNREACHABLE, "no relay", ""),
        (PUBLIC | {"node_type": "private"}, UNREACHABLE, "no relay", ""),
        (RELAYED | {"using_relay": False}, UNREACHABLE, "no relay", ""),
        (RELAYED | {"connected_relay": ""}, UNREACHABLE, "incomplete relay", ""),
        (RELAYED | {"relay_session_id": ""}, UNREACHABLE, "incomplete relay", ""),
        (RELAYED | {"relay_address": ""}, UNREACHABLE, "incomplete relay", ""),
        (
            {"node_type": "private", "using_relay": True},
            UNREACHABLE,
            "incomplete relay",
            "",
        ),
    ],
)
def test_a_fresh_record_is_judged(
    info: dict[str, Any], verdict: Verdict, reason: str, address: str
) -> None:
    found = judged(peer(**info))
    assert found == Connectability(verdict, reason, address)
    assert found.connectable == (verdict in (DIRECT, VIA_RELAY))
    assert bool(found.address) == found.connectable


@pytest.mark.parametrize("info", [PUBLIC, RELAYED, {}, {"node_type": "private"}])
@pytest.mark.parametrize(
    ("age", "stale"),
    [
        (0, ""),
        (1, ""),
        (LIMIT, ""),
        (LIMIT + 1, "published 10,801 s ago, more than 10,800 s"),
        (NOW - 1, "published 1,799,999,999 s ago, more than 10,800 s"),
        (NOW, "no timestamp"),
        (-1, ""),
        (-300, ""),
        (-301, "timestamp 301 s ahead of our clock"),
        (-(2**40), "timestamp 1,099,511,627,776 s ahead of our clock"),
    ],
)
def test_a_record_is_stale_past_three_intervals_and_past_300_s_ahead(
    info: dict[str, Any], age: int, stale: str
) -> None:
    found = judged(peer(age, **info))
    assert (found.verdict is STALE) == bool(stale)
    if stale:
        assert found == Connectability(STALE, stale)
    assert JUDGE.staleness(peer(age, **info), NOW) == stale


@pytest.mark.parametrize("interval", [0.5, 60.0, 86_400.0])
def test_staleness_follows_the_republish_interval_to_the_fraction(interval: float) -> None:
    judge, record = Judge(republish_interval=interval), peer(**PUBLIC)
    assert judge.judge(record, None, NOW + 3 * interval).verdict is DIRECT
    assert judge.judge(record, None, NOW + 3 * interval + 0.25).verdict is STALE
    assert judge.judge(record, None, NOW - 300.0).verdict is DIRECT
    assert judge.judge(record, None, NOW - 300.25).verdict is STALE


@pytest.mark.parametrize(
    ("relay", "reason"),
    [
        (None, f"relay {RELAY_ID} is not known"),
        (peer(LIMIT + 1, is_relay=True), f"relay {RELAY_ID} is stale: published 10,801 s ago"),
        (peer(-301, is_relay=True), f"relay {RELAY_ID} is stale: timestamp 301 s ahead"),
        (NodeRecord(network_info=NetworkInfo(is_relay=True)), f"relay {RELAY_ID} is stale: no t"),
        (peer(), f"relay {RELAY_ID} does not relay"),
        (peer(**PUBLIC), f"relay {RELAY_ID} does not relay"),
        (peer(relay_endpoint="8.8.4.4:30907"), f"relay {RELAY_ID} does not relay"),
    ],
)
def test_a_peer_is_unreachable_through_a_relay_that_is_none(
    relay: NodeRecord | None, reason: str
) -> None:
    found = judged(peer(**RELAYED), relay)
    assert found.verdict is UNREACHABLE
    assert found.reason.startswith(reason)
    assert (found.address, found.connectable) == ("", False)


@pytest.mark.parametrize("age", [LIMIT, 0, -300])
def test_a_relay_is_fresh_as_long_as_a_peer(age: int) -> None:
    assert judged(peer(**RELAYED), peer(age, is_relay=True)).verdict is VIA_RELAY


def test_a_public_peer_needs_no_relay() -> None:
    assert judged(peer(**PUBLIC), None).verdict is DIRECT


GLOBAL = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "2606:4700::1", "2a00:1450::1"]
NOT_GLOBAL = [
    "0.0.0.0",  # this host
    "10.0.0.1",  # RFC 1918
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",  # carrier-grade NAT, RFC 6598
    "100.127.255.255",
    "127.0.0.1",  # loopback
    "127.255.255.255",
    "169.254.1.1",  # link-local
    "192.0.2.1",  # TEST-NET-1 to 3, RFC 5737
    "198.51.100.1",
    "203.0.113.1",
    "198.18.0.1",  # benchmarks, RFC 2544
    "224.0.0.1",  # multicast
    "239.255.255.250",
    "240.0.0.1",  # reserved
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",  # link-local
    "fec0::1",  # site-local, RFC 3879
    "fc00::1",  # unique local
    "fd00::1",
    "2001:db8::1",  # documentation, RFC 3849
    "ff02::1",  # multicast
    "ff0e::1",
    "::ffff:127.0.0.1",  # mapped IPv4
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
]


def joined(host: str) -> str:
    return f"[{host}]:30906" if ":" in host else f"{host}:30906"


@pytest.mark.parametrize("host", GLOBAL)
def test_global_addresses_are_connectable(host: str) -> None:
    assert judged(peer(**PUBLIC | {"public_ip": host})).address == joined(host)
    assert judged(peer(**RELAYED | {"relay_address": joined(host)})).address == joined(host)


@pytest.mark.parametrize("host", NOT_GLOBAL)
def test_other_addresses_are_connectable_only_where_that_is_allowed(host: str) -> None:
    for info, verdict in (
        (PUBLIC | {"public_ip": host}, DIRECT),
        (RELAYED | {"relay_address": joined(host)}, VIA_RELAY),
    ):
        refused = judged(peer(**info))
        assert refused.verdict is UNREACHABLE
        assert refused.reason == f"{ipaddress.ip_address(host)} is not a global address"
        assert (refused.address, refused.connectable) == ("", False)
        allowed = judged(peer(**info), allow_non_global=True)
        assert (allowed.verdict, allowed.address) == (verdict, joined(host))


def test_staleness_is_not_lifted_where_any_address_is_allowed() -> None:
    record = peer(LIMIT + 1, **PUBLIC | {"public_ip": "127.0.0.1"})
    assert judged(record, allow_non_global=True).verdict is STALE


def test_a_verdict_reads_as_its_words() -> None:
    assert [str(one) for one in Verdict] == ["direct", "via-relay", "unreachable", "stale"]


IPS = st.ip_addresses().map(str) | st.sampled_from(["", *GLOBAL, *NOT_GLOBAL])
PORTS = st.integers(1, 65535)
INFOS = st.builds(
    NetworkInfo,
    node_type=st.sampled_from(["", "public", "private"]),
    public_ip=IPS,
    public_port=st.none() | PORTS,
    is_relay=st.booleans(),
    using_relay=st.booleans(),
    connected_relay=st.sampled_from(["", RELAY_ID]),
    relay_session_id=st.text(max_size=3),
    relay_address=st.just("")
    | st.builds(lambda host, port: joined(host or "::1")[:-5] + str(port), IPS, PORTS),
)
TIMESTAMPS = st.integers(0, 2**63 - 1) | st.integers(NOW - LIMIT - 5, NOW + 305)
RECORDS = st.builds(NodeRecord, timestamp=TIMESTAMPS, network_info=INFOS)


@given(
    RECORDS,
    st.none() | RECORDS,
    st.floats(0, 1e12) | st.integers(0, 2**63),
    st.booleans(),
    st.floats(0.001, 31_536_000),
)
def test_every_valid_record_gets_a_verdict_with_its_reason(
    record: NodeRecord, relay: NodeRecord | None, now: float, allow: bool, interval: float
) -> None:
    record = NodeRecord.from_value(record.to_value())  # valid, as it would come from the network
    found = Judge(republish_interval=interval, allow_non_global=allow).judge(record, relay, now)
    assert found.reason
    assert found.connectable == (found.verdict in (DIRECT, VIA_RELAY)) == bool(found.address)
    if found.connectable:
        host, port = split_endpoint(found.address)
        assert 1 <= port <= 65535
        assert allow or ipaddress.ip_address(host).is_global
        assert -300 <= now - record.timestamp <= 3 * interval


@given(RECORDS, st.none() | RECORDS)
def test_a_verdict_is_a_pure_function(record: NodeRecord, relay: NodeRecord | None) -> None:
    before = record.to_value()
    assert JUDGE.judge(record, relay, NOW) == JUDGE.judge(record, relay, NOW)
    assert record.to_value() == before
