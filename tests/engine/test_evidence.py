"""What attempts have shown beside what records say: on a clock that the test moves."""

import pytest

from dhtmeta.const import (
    RELAYS_FAILED,
    RELAYS_WATCHED,
    SESSION_LIFETIME,
    SILENT_AFTER,
    SILENT_PEERS,
)
from dhtmeta.engine.evidence import Evidence
from dhtmeta.values.record import NetworkInfo, NodeRecord

NOW = 1_800_000_000.0
PEER, RELAY = b"p" * 20, b"r" * 20


def public(peer: bytes = PEER) -> NodeRecord:
    info = NetworkInfo(node_type="public", public_ip="192.0.2.1", public_port=30906)
    return NodeRecord(peer_id=peer.hex(), network_info=info)


def private(peer: bytes = PEER, relay: bytes = RELAY, timestamp: float = 0) -> NodeRecord:
    info = NetworkInfo(
        node_type="private",
        using_relay=True,
        connected_relay=relay.hex(),
        relay_session_id="x",
        relay_address="192.0.2.1:30906",
    )
    return NodeRecord(peer_id=peer.hex(), timestamp=int(timestamp), network_info=info)


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
    """Records may name any number of relays: those asked in vain make room."""
    watched = evidence.watch(RELAY)
    assert watched is not None
    watched.answered_at, watched.attached = NOW, {PEER}
    for number in range(10_000):
        assert evidence.watch(numbered(number)) is not None
        evidence.unanswered(numbered(number), NOW)
        assert len(evidence.relays) <= RELAYS_WATCHED
    evidence.unanswered(RELAY, NOW)  # once, though it answers
    assert evidence.watch(PEER) is not None
    assert evidence.relays[RELAY] is watched
    assert evidence.objection(private(), 1, NOW) == ""


def test_a_relay_that_was_not_asked_yet_is_not_driven_out(evidence: Evidence) -> None:
    watched = evidence.watch(RELAY)
    for number in range(RELAYS_WATCHED):
        evidence.watch(numbered(number))
    assert evidence.relays[RELAY] is watched
    assert evidence.watch(PEER) is None
    evidence.unanswered(numbered(3), NOW)
    assert evidence.watch(PEER) is not None
    assert numbered(3) not in evidence.relays
    assert evidence.watch(numbered(3)) is None  # it was asked in vain, the others were not


def test_a_record_that_was_just_signed_counts_though_its_relay_is_one_too_many(
    evidence: Evidence,
) -> None:
    for number in range(RELAYS_WATCHED):
        evidence.watch(numbered(number))
    assert evidence.objection(private(timestamp=NOW), 1, NOW) == ""
    late = evidence.objection(private(timestamp=NOW), 1, NOW + SESSION_LIFETIME)
    assert "one more than can be asked" in late


def test_a_record_from_a_clock_ahead_counts_as_just_signed_only_since_it_was_heard(
    evidence: Evidence,
) -> None:
    evidence.watch(RELAY)
    evidence.heard(PEER, 1, NOW)
    ahead = private(timestamp=NOW + 250)
    assert evidence.objection(ahead, 1, NOW) == ""
    evidence.heard(PEER, 1, NOW + 50)  # once more: that shows nothing new
    assert evidence.objection(ahead, 1, NOW + SESSION_LIFETIME)
    assert evidence.objection(ahead, 1, NOW + 250 + 1)
    evidence.heard(PEER, 2, NOW + 100)
    assert evidence.objection(ahead, 2, NOW + 100) == ""
    evidence.heard(PEER, 3, NOW + 100)
    assert evidence.objection(private(timestamp=NOW), 3, NOW + 100)  # what it says itself is older


def test_a_relay_that_answered_before_the_clock_was_set_back_has_to_answer_again(
    evidence: Evidence,
) -> None:
    evidence.attached(RELAY, {PEER}, {PEER}, NOW)
    assert "has not answered for 7,200 s" in evidence.objection(private(), 1, NOW - 7200)
    evidence.unanswered(RELAY, NOW - 7200)
    assert "has not answered yet" in evidence.objection(private(), 1, NOW)
    evidence.attached(RELAY, {PEER}, {PEER}, NOW)
    assert evidence.objection(private(), 1, NOW) == ""


def test_who_was_not_asked_about_keeps_what_was_known(evidence: Evidence) -> None:
    other, gone = b"o" * 20, b"g" * 20
    evidence.attached(RELAY, {PEER, gone}, {PEER, gone}, NOW)
    evidence.attached(RELAY, {other, gone}, {other}, NOW)
    assert evidence.objection(private(), 1, NOW) == ""
    assert evidence.objection(private(other), 1, NOW) == ""
    assert "has no session for it" in evidence.objection(private(gone), 1, NOW)


def test_relays_asked_in_vain_are_forgiven_once_they_answer_or_it_was_our_own_network(
    evidence: Evidence,
) -> None:
    for _ in range(2):
        evidence.unanswered(RELAY, NOW)
        evidence.unanswered(PEER, NOW)
    assert evidence.in_vain(RELAY) == 2
    evidence.attached(RELAY, set(), set(), NOW)
    assert (evidence.in_vain(RELAY), evidence.in_vain(PEER)) == (0, 2)
    evidence.forgive()
    assert evidence.in_vain(PEER) == 0


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
        evidence.heard(numbered(number), 1, NOW)
        evidence.unanswered(numbered(number), NOW)
    assert len(evidence._failed) == len(evidence._heard) == SILENT_PEERS
    assert len(evidence._in_vain) == RELAYS_FAILED
