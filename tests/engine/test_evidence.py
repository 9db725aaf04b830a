"""What attempts have shown beside what records say: on a clock that the test moves."""

import pytest

from dhtmeta.const import RELAYS_WATCHED, SESSION_LIFETIME, SILENT_AFTER, SILENT_PEERS
from dhtmeta.engine.evidence import Evidence
from dhtmeta.values.record import NetworkInfo, NodeRecord

NOW = 1_800_000_000.0
PEER, RELAY = b"p" * 20, b"r" * 20


def public(peer: bytes = PEER) -> NodeRecord:
    info = NetworkInfo(node_type="public", public_ip="192.0.2.1", public_port=30906)
    return NodeRecord(peer_id=peer.hex(), network_info=info)


def private(peer: bytes = PEER, relay: bytes = RELAY) -> NodeRecord:
    info = NetworkInfo(
        node_type="private",
        using_relay=True,
        connected_relay=relay.hex(),
        relay_session_id="x",
        relay_address="192.0.2.1:30906",
    )
    return NodeRecord(peer_id=peer.hex(), network_info=info)


def numbered(number: int) -> bytes:
    return number.to_bytes(20, "big")


@pytest.fixture
def evidence() -> Evidence:
    return Evidence()


def test_nothing_speaks_against_what_nobody_has_tried(evidence: Evidence) -> None:
    assert evidence.objection(public(), 1, NOW) == ""
    assert evidence.objection(private(), 1, NOW) == ""


def test_a_peer_is_not_offered_once_it_was_missed_twice(evidence: Evidence) -> None:
    for missed in range(1, SILENT_AFTER + 1):
        assert evidence.objection(public(), 1, NOW) == ""
        evidence.missed(PEER, 1)
        assert bool(evidence.objection(public(), 1, NOW)) is (missed == SILENT_AFTER)
    assert "nobody answered there, 2 times" in evidence.objection(public(), 1, NOW)
    assert evidence.objection(public(b"q" * 20), 1, NOW) == ""


def test_who_was_reached_is_offered_again(evidence: Evidence) -> None:
    for _ in range(SILENT_AFTER):
        evidence.missed(PEER, 1)
    evidence.reached(PEER)
    assert evidence.objection(public(), 1, NOW) == ""
    evidence.missed(PEER, 1)
    assert evidence.objection(public(), 1, NOW) == ""


def test_who_says_something_new_is_offered_again(evidence: Evidence) -> None:
    for _ in range(SILENT_AFTER):
        evidence.missed(PEER, 1)
    assert evidence.objection(public(), 2, NOW) == ""
    evidence.missed(PEER, 2)
    assert evidence.objection(public(), 2, NOW) == ""  # once only, where it says to be now
    evidence.missed(PEER, 2)
    assert evidence.objection(public(), 2, NOW)


def test_a_relay_counts_once_it_answered_and_for_the_life_of_its_sessions(
    evidence: Evidence,
) -> None:
    watched = evidence.watch(RELAY)
    assert watched is not None
    assert "has not answered yet" in evidence.objection(private(), 1, NOW)
    watched.answered_at, watched.attached = NOW, {PEER}
    assert evidence.objection(private(), 1, NOW) == ""
    assert evidence.objection(private(), 1, NOW + SESSION_LIFETIME) == ""
    late = evidence.objection(private(), 1, NOW + SESSION_LIFETIME + 1)
    assert "has not answered for 61 s" in late
    watched.answered_at = NOW + 50
    assert evidence.objection(private(), 1, NOW + SESSION_LIFETIME + 1) == ""


def test_whom_a_relay_does_not_hold_is_not_offered(evidence: Evidence) -> None:
    watched = evidence.watch(RELAY)
    assert watched is not None
    watched.answered_at, watched.attached = NOW, {b"q" * 20}
    assert "has no session for it" in evidence.objection(private(), 1, NOW)
    assert evidence.objection(public(), 1, NOW) == ""  # it needs none
    assert evidence.objection(private(b"q" * 20), 1, NOW) == ""


def test_a_relay_is_watched_once(evidence: Evidence) -> None:
    watched = evidence.watch(RELAY)
    assert evidence.watch(RELAY) is watched
    assert list(evidence.relays) == [RELAY]


def test_relays_that_there_are_not_do_not_drive_out_those_that_answer(evidence: Evidence) -> None:
    """Records may name any number of relays: those that never answered make room."""
    watched = evidence.watch(RELAY)
    assert watched is not None
    watched.answered_at, watched.attached = NOW, {PEER}
    for number in range(10_000):
        assert evidence.watch(numbered(number)) is not None
        assert len(evidence.relays) <= RELAYS_WATCHED
    assert evidence.relays[RELAY] is watched
    assert evidence.objection(private(), 1, NOW) == ""


def test_who_leads_over_a_relay_too_many_is_not_offered(evidence: Evidence) -> None:
    for number in range(RELAYS_WATCHED):
        watched = evidence.watch(numbered(number))
        assert watched is not None
        watched.answered_at = NOW
    assert evidence.watch(RELAY) is None
    assert "one more than can be asked" in evidence.objection(private(), 1, NOW)
    assert evidence.objection(public(), 1, NOW) == ""


def test_memory_for_silent_peers_is_bounded(evidence: Evidence) -> None:
    for number in range(SILENT_PEERS + 100):
        evidence.missed(numbered(number), 1)
    assert len(evidence._failed) == SILENT_PEERS
