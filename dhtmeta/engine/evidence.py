"""What attempts to reach peers have shown, beside what their records say of them.

A record that was just signed shows that its owner is attached: a session lasts SESSION_LIFETIME
seconds. So does a relay's answer: then its sessions are over, unless it has answered again. A peer
who could not be reached twice is not offered until it was, or says something new. Peers and relays
that nobody has tried are judged by their records alone. Clocks may be set, and others' are ahead:
a time that is still to come shows nothing.
"""

from dataclasses import dataclass, field

from cachetools import LRUCache

from dhtmeta.const import (
    RELAYS_FAILED,
    RELAYS_WATCHED,
    SESSION_LIFETIME,
    SILENT_AFTER,
    SILENT_PEERS,
)
from dhtmeta.values.record import NodeRecord


@dataclass(slots=True)
class WatchedRelay:
    """A relay that is asked: when it last answered (Unix s), and who is attached to it (ids)."""

    answered_at: float | None = None
    attached: set[bytes] = field(default_factory=set)

    def is_current(self, now: float) -> bool:
        """Whether the sessions that it told of may still last."""
        return self.answered_at is not None and abs(now - self.answered_at) <= SESSION_LIFETIME


class Evidence:
    """Remembers what was tried. `now` is in Unix seconds; ids are 20 bytes."""

    def __init__(self) -> None:
        self.relays: dict[bytes, WatchedRelay] = {}
        self._failed: LRUCache[bytes, tuple[int, int]] = LRUCache(SILENT_PEERS)  # times, seq
        self._caught: LRUCache[bytes, bool] = LRUCache(SILENT_PEERS)
        self._heard: LRUCache[bytes, tuple[int, float]] = LRUCache(SILENT_PEERS)  # seq, when first
        self._in_vain: LRUCache[bytes, int] = LRUCache(RELAYS_FAILED)  # relay -> times in a row

    def reached(self, peer_id: bytes) -> None:
        """Note that a peer answered."""
        self._failed.pop(peer_id, None)

    def missed(self, peer_id: bytes, seq: int) -> None:
        """Note that a peer did not answer where its record of that seq says."""
        times, since = self._failed.get(peer_id, (0, seq))
        self._failed[peer_id] = (times + 1 if since == seq else 1, seq)

    def forgive(self) -> None:
        """Forget who did not answer: it was our own network."""
        self._failed.clear()
        self._in_vain.clear()

    def heard(self, peer_id: bytes, seq: int, now: float) -> None:
        """Note that a peer's record of that seq is here: it counts as signed by then."""
        if self._heard.get(peer_id, (-1, now))[0] != seq:
            self._heard[peer_id] = (seq, now)

    def attached(self, relay_id: bytes, asked: set[bytes], there: set[bytes], now: float) -> None:
        """Note which of the peers that a relay was asked about are attached to it.

        Of those who were not asked about, that is known which was before.
        """
        self._in_vain.pop(relay_id, None)
        watched = self.watch(relay_id)
        if watched is not None:
            watched.attached, watched.answered_at = (watched.attached - asked) | there, now
        for peer_id in asked - there:
            self._caught[peer_id] = True
        for peer_id in there:
            self._caught.pop(peer_id, None)

    def unanswered(self, relay_id: bytes, now: float) -> None:
        """Note that a relay was asked in vain."""
        self._in_vain[relay_id] = self.in_vain(relay_id) + 1
        watched = self.relays.get(relay_id)
        if watched is not None and watched.answered_at is not None and watched.answered_at > now:
            watched.answered_at = None  # our clock was set back: nobody knows when that was

    def in_vain(self, relay_id: bytes) -> int:
        """Return how often a relay was asked in vain since it last answered."""
        return self._in_vain.get(relay_id, 0)

    def watch(self, relay_id: bytes) -> WatchedRelay | None:
        """Have a relay count as asked from now on; None where too many are.

        Who never answered, and was asked in vain more often, makes room: records can name any
        number of relays there are not, and none of those drives out one not asked yet.
        """
        if relay_id not in self.relays and len(self.relays) >= RELAYS_WATCHED:
            silent = [one for one, watched in self.relays.items() if watched.answered_at is None]
            least = max(silent, key=self.in_vain, default=relay_id)
            if self.in_vain(least) <= self.in_vain(relay_id):
                return None
            del self.relays[least]
        return self.relays.setdefault(relay_id, WatchedRelay())

    def fresh_for(self, record: NodeRecord, seq: int, now: float) -> float:
        """Return for how long (s) a record shows by itself that its owner is attached.

        0.0 for whoever named a relay that had no session for it: only relays are believed then.
        """
        peer_id = bytes.fromhex(record.peer_id)
        if peer_id in self._caught:
            return 0.0
        of, heard_at = self._heard.get(peer_id, (seq, record.timestamp))
        age = now - (min(record.timestamp, heard_at) if of == seq else record.timestamp)
        return SESSION_LIFETIME - age if 0 <= age < SESSION_LIFETIME else 0.0

    def objection(self, record: NodeRecord, seq: int, now: float) -> str:
        """Say why a peer whose record looks well cannot be reached; "" where nothing speaks for it.

        `record` is a valid one, `seq` that of its item.
        """
        times, since = self._failed.get(bytes.fromhex(record.peer_id), (0, seq))
        if times >= SILENT_AFTER and since == seq:
            return f"nobody answered there, {times} times"
        if record.network_info.node_type != "private":
            return ""
        return self._against_relay(record, seq, now)

    def _against_relay(self, record: NodeRecord, seq: int, now: float) -> str:
        relay_id = bytes.fromhex(record.network_info.connected_relay)
        relay = self.relays.get(relay_id)
        peer_id = bytes.fromhex(record.peer_id)
        if relay is not None and relay.is_current(now) and peer_id in relay.attached:
            return ""
        if self.fresh_for(record, seq, now):
            return ""  # its owner held the session when this was signed
        if relay is None:
            full = len(self.relays) >= RELAYS_WATCHED
            return f"relay {relay_id.hex()} is one more than can be asked" if full else ""
        if relay.answered_at is None:
            return f"relay {relay_id.hex()} has not answered yet"
        if not relay.is_current(now):
            return (
                f"relay {relay_id.hex()} has not answered for {abs(now - relay.answered_at):,.0f} s"
            )
        return f"relay {relay_id.hex()} has no session for it"
